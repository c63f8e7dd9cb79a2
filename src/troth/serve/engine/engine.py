"""The engine's synchronous core: add requests, step, collect what each step gave."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter

import torch

from troth.model.decoder import Decoder
from troth.model.ends import configured_ends, default_ends
from troth.model.families.configs import read_config
from troth.model.families.weights import StoredDecoder, stated_dtype
from troth.model.mtp import MTP, load_mtp
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.block_pool import BlockPool
from troth.serve.engine.block_tables import BlockTables, sliding_blocks
from troth.serve.engine.channels import ends_on_channels
from troth.serve.engine.computing import drafter_for, drawer_for, runner_for, stored_dtype
from troth.serve.engine.cpu.runner import CpuRunner
from troth.serve.engine.drafts import guess
from troth.serve.engine.drawing import Drawing
from troth.serve.engine.grammar import Grammars
from troth.serve.engine.guide import Guide
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.pace import Pace
from troth.serve.engine.packed_weights import packed_kind
from troth.serve.engine.ranks import LeadingRunner, Ranks, split
from troth.serve.engine.rehearsal import Rehearsals
from troth.serve.engine.request import EngineStats, Output, PromptTooLong, Request, RequestFailed
from troth.serve.engine.routing import first_choices
from troth.serve.engine.runner import Runner
from troth.serve.engine.sampling_params import SamplingParams
from troth.serve.engine.scheduler import Chunk, Scheduler
from troth.serve.engine.sequence import Sequence
from troth.serve.engine.teller import teller_of
from troth.serve.engine.unwanted import Unwanted
from troth.system.serve import ServeTable

BLOCK_SIZE = 16


class Engine:
    """One model, one cache, many requests. Not thread-safe: see `EngineThread`.

    `end_tokens` are the ids at which a text ends; without them, the tokenizer's end of text and end of turn. `mtp` are
    the modules that guess tokens with serve.speculate="mtp", `adapters` the folders of LoRA adapters by the names that
    requests call them; with `ranks` each keeps a part of the model, and rank 0 is asked. Layers of the model that are
    `stored` yet are read one by one as they are packed or split. Raises ValueError where these do not fit the model or
    each other, `cache_tokens` is less than one block, or the tokenizer knows more tokens than
    the model.
    """

    def __init__(
        self, model: Decoder, tokenizer: Tokenizer, table: ServeTable, end_tokens: Iterable[int] | None = None,
        mtp: MTP | None = None, adapters: Mapping[str, Path] | None = None, ranks: Ranks | None = None,
        stored: StoredDecoder | None = None,
    ):  # fmt: skip
        blocks = table.cache_tokens // BLOCK_SIZE
        if blocks < 1:
            raise ValueError(f"serve.cache_tokens={table.cache_tokens}: at least {BLOCK_SIZE} are needed")
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the model only {model.config.vocab_size}"
            )
        weight = model.embed_tokens.weight
        self.model = model
        self.tokenizer = tokenizer
        positions, room = model.config.max_position_embeddings, blocks * BLOCK_SIZE
        self.context = min(positions, room, table.max_model_len or positions)
        self._limits = f"the model has {positions} positions, the cache {room}"
        if table.max_model_len is not None:
            self._limits += f", serve.max_model_len is {table.max_model_len}"
        sliding = 0
        if model.config.slides:
            sliding = sliding_blocks(blocks, BLOCK_SIZE, model.config.window, table.max_batch, table.max_step_tokens)
        guesses = table.speculate == "mtp"
        if guesses and mtp is None:
            raise ValueError("serve.speculate='mtp': no mtp/ folder is beside the weights; 'ngram' needs none")
        if ranks is not None and (guesses or adapters or table.deterministic):
            raise ValueError("adapters, serve.speculate='mtp' and serve.deterministic are served by one process only")
        kept = model.config if ranks is None else split(model, ranks, stored)
        self.cache = KVCache(
            kept, blocks, sliding, BLOCK_SIZE, weight.dtype, weight.device, int(guesses), table.kv_cache_dtype
        )
        self.tables = BlockTables(
            BlockPool(blocks), BlockPool(sliding) if sliding else None, BLOCK_SIZE, model.config.window
        )
        self.adapters = Adapters(model, adapters or {})
        runner = runner_for(model, self.cache, table, self.adapters, self.context, ranks is None, stored)
        self.runner: Runner = runner if ranks is None or ranks.rank else LeadingRunner(runner)
        self.drafter = drafter_for(runner, model, self.cache, table, mtp, tokenizer.vocab_size)
        self.scheduler = Scheduler(self.tables, table.max_batch, table.max_step_tokens, Pace(table.max_step_ms / 1000))
        self._sequences: dict[str, Sequence] = {}
        self._prefilled_tokens = 0
        ends = frozenset(default_ends(tokenizer) if end_tokens is None else end_tokens)
        self._end_tokens = ends_on_channels(ends, tokenizer.special)
        self.drawing = Drawing(tokenizer, self._end_tokens, drawer_for(runner))
        self._grammars = Grammars(tokenizer, self._end_tokens)
        self._rehearsals = Rehearsals(tokenizer, self._end_tokens)

    @classmethod
    def from_folder(
        cls, folder: Path, table: ServeTable, device: str | None = None, dtype: torch.dtype | None = None,
        adapters: Mapping[str, Path] | None = None, ranks: Ranks | None = None,
    ) -> "Engine":  # fmt: skip
        """Load a Hugging Face folder, on a GPU where there is one; `dtype` goes before serve.weights.

        Raises ValueError naming the folder, file, key or tensor that is missing or wrong.
        """
        folder = Path(folder)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        config = read_config(folder)
        dtype = dtype or stored_dtype(config, stated_dtype(folder), table, device)
        tokenizer = Tokenizer.load(folder)
        stored = StoredDecoder(folder, dtype, device)
        ends = {*default_ends(tokenizer), *configured_ends(folder)}
        mtp = load_mtp(folder, dtype, device) if table.speculate == "mtp" else None
        engine = cls(stored.model, tokenizer, table, ends, mtp, adapters, ranks, stored)
        engine.release()
        return engine

    def check(self, request: Request) -> None:
        """Raise ValueError where a request can never be served: a prompt empty, too long, or of unknown tokens, or a
        grammar that is none. Quick where `prepare` came before."""
        length, size = len(request.prompt), self.tokenizer.vocab_size
        if length == 0:
            raise ValueError("the prompt is empty: at least 1 token is needed")
        if length >= self.context:
            # Clients know the case by the words of Anthropic's and OpenAI's servers, which stand at the end.
            raise PromptTooLong(
                f"the prompt has {length} tokens, but at most {self.context - 1} fit: {self._limits}, and one is "
                "needed for the answer "
                f"(prompt is too long; this model's maximum context length is {self.context} tokens)"
            )
        if request.adapter is not None and request.adapter not in self.adapters.names:
            known = ", ".join(self.adapters.names) or "none"
            raise ValueError(f"adapter {request.adapter} is unknown: there are {known}")
        params = request.params
        named = *params.logit_bias, *params.stop_token_ids, *params.allowed_token_ids
        for token in (min(request.prompt), max(request.prompt), *named):
            if not 0 <= token < size:
                raise ValueError(f"token {token} is unknown: ids go from 0 to {size - 1}")
        self.prepare(params)

    async def rehearse(self, params: SamplingParams) -> None:
        """Try the grammar of a request to come in another process. Raises ValueError naming what is wrong in it, also
        where it would take long to compile or to follow."""
        if params.grammar is not None and not self._grammars.knows(params.grammar):
            await self._rehearsals(params.grammar)

    def prepare(self, params: SamplingParams) -> None:
        """Compile the grammar of a request to come, from any thread. Raises ValueError naming what is wrong in it."""
        if params.grammar is not None:
            self._grammars.compile(params.grammar)

    def add(self, request: Request) -> str:
        """Queue a request and return its id. Raises ValueError as `check` does, or where the id is in use."""
        self.check(request)
        if request.id in self._sequences:
            raise ValueError(f"request {request.id} is already at work")
        wanted = request.params.max_tokens
        most = self.context if wanted is None else min(self.context, len(request.prompt) + wanted)
        guide = Guide.of(request.params, self.tokenizer, self._end_tokens, self._grammars)
        unwanted, teller = Unwanted.of(request.params, self.tokenizer), teller_of(request, self.tokenizer)
        sequence = Sequence(request, most, guide, unwanted, teller)
        self._sequences[request.id] = sequence
        self.scheduler.add(sequence)
        return request.id

    def cancel(self, request_id: str) -> bool:
        """Drop a request and free its blocks at once; False where it is finished or unknown."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return False
        self.scheduler.remove(sequence)
        return True

    @property
    def has_work(self) -> bool:
        """Whether a request is unfinished."""
        return bool(self._sequences)

    @property
    def cache_tokens(self) -> int:
        """Tokens that the cache holds, over all sequences."""
        return self.tables.full.blocks * BLOCK_SIZE

    @property
    def weights(self) -> tuple[str, int]:
        """The kind of the weights that steps read, and their bytes."""
        if isinstance(self.runner, CpuRunner):
            packed = self.runner.weights
            kind = packed.kind if packed.experts == packed.kind else f"{packed.kind}, experts {packed.experts}"
            return kind, packed.arena.bytes
        tensors = (*self.model.parameters(), *self.model.buffers())
        kind = packed_kind(self.model) or str(self.cache.dtype).removeprefix("torch.")
        return kind, sum(tensor.nbytes for tensor in tensors)

    @property
    def kv_cache_dtype(self) -> str:
        """In what keys and values are kept."""
        return str(self.cache.dtype).removeprefix("torch.") if self.cache.kind == "auto" else self.cache.kind

    def release(self) -> None:
        """Give up the weights as they were loaded, where steps read packed ones."""
        if isinstance(self.runner, CpuRunner):
            self.model.to("meta")
            self.adapters.release()

    @property
    def stats(self) -> EngineStats:
        """Counts of this moment."""
        scheduler, pool = self.scheduler, self.tables.full
        pending = (sequence.pending for sequence in (*scheduler.running, *scheduler.waiting))
        return EngineStats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            blocks=pool.blocks,
            free_blocks=pool.free,
            block_size=BLOCK_SIZE,
            pending_tokens=sum(tokens for tokens in pending if tokens > 1),
            prefilled_tokens=self._prefilled_tokens,
            preemptions=scheduler.preemptions,
            drafted=self.drawing.drafted,
            accepted=self.drawing.accepted,
        )

    @torch.inference_mode()
    def step(self) -> list[Output]:
        """One forward pass over chunks of prompts and the last tokens of running texts; what became certain by it."""
        scheduled = self.scheduler.schedule()
        pooled = self._pool([chunk for chunk in scheduled if chunk.sequence.request.pooled])
        chunks = [chunk for chunk in scheduled if not chunk.sequence.request.pooled]
        if not chunks:
            return pooled
        began = perf_counter()
        decoding = sum(chunk.sequence.pending == 1 for chunk in chunks)
        prompt_tokens = sum(chunk.count for chunk in chunks if chunk.sequence.pending > 1)
        wanted: list[int] = []
        row = 0
        for chunk in chunks:
            wanted += range(row, row + chunk.scored)
            row += chunk.count
            wanted += range(row - chunk.samples, row)
        # Rows of the embedding beyond the tokenizer have no text.
        watched = any(chunk.sequence.params.experts for chunk in chunks if chunk.samples)
        watch: AbstractContextManager[list[torch.Tensor]] = (
            first_choices(self.model, wanted) if watched else nullcontext([])
        )
        with watch as chosen:
            logits_WV = self.runner.run(chunks, wanted)[:, : self.tokenizer.vocab_size]
        experts_WL = torch.stack(chosen, dim=1).tolist() if chosen else []
        outputs, right = self.drawing.draw(chunks, logits_WV, experts_WL)
        finished = [output.request_id for output in outputs if output.finish_reason is not None]
        if self.drafter is not None:
            guess(self.drafter, chunks, right, finished)
        self._computed(chunks, right)
        for request_id in finished:
            self.cancel(request_id)
        if wanted:  # Without, a GPU may still be at work.
            self.scheduler.pace.observe(prompt_tokens, decoding, perf_counter() - began)
        return pooled + outputs

    def generate(self, requests: Iterable[Request]) -> list[list[Output]]:
        """Run requests to their ends, beside whatever else is at work, and return the outputs of each. Raises
        RequestFailed, and drops the others, where one has a fault of its own."""
        collected: dict[str, list[Output]] = {self.add(request): [] for request in requests}
        open_ids = set(collected)
        while open_ids:
            for output in self.step():
                if output.request_id in collected:
                    collected[output.request_id].append(output)
                    if output.finish_reason is not None:
                        open_ids.remove(output.request_id)
                    if output.failure is not None:
                        for request_id in open_ids:
                            self.cancel(request_id)
                        raise RequestFailed(output.failure)
        return list(collected.values())

    def _computed(self, chunks: Iterable[Chunk], counts: Iterable[int]) -> None:
        for chunk, count in zip(chunks, counts, strict=True):
            self._prefilled_tokens += count if chunk.start < chunk.sequence.prompt_tokens else 0
            self.scheduler.computed(chunk, count)

    def _pool(self, chunks: list[Chunk]) -> list[Output]:
        """The part of a step that embeddings are made from."""
        if not chunks:
            return []
        states = self.runner.hidden(chunks).split([chunk.count for chunk in chunks])
        ended = [chunk.sequence for chunk in chunks if chunk.samples]
        for chunk, h_TD in zip(chunks, states, strict=True):
            chunk.sequence.pool(h_TD, chunk.start)
        self._computed(chunks, (chunk.count for chunk in chunks))
        for sequence in ended:
            self.cancel(sequence.request.id)
        return [sequence.embedding() for sequence in ended]
