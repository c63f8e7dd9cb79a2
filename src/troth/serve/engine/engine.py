"""The engine's synchronous core: add requests, step, collect what each step gave."""

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from troth.model.decoder import Decoder
from troth.model.families.weights import load_weights
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.block_pool import BlockPool
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.request import EngineStats, Output, Request, SampledToken
from troth.serve.engine.routing import first_choices
from troth.serve.engine.runner import Runner, TorchRunner
from troth.serve.engine.sampler import sample
from troth.serve.engine.scheduler import Scheduler
from troth.serve.engine.sequence import Sequence
from troth.system.serve import ServeTable

BLOCK_SIZE = 16
END_OF_TURN = "<|end|>"


class Engine:
    """One model, one cache, many requests. Not thread-safe: see `EngineThread`.

    `end_tokens` are the ids at which a text ends; without them, the tokenizer's end of text and end of turn.
    Raises ValueError where `cache_tokens` is less than one block or the tokenizer knows more tokens than the model.
    """

    def __init__(
        self, model: Decoder, tokenizer: Tokenizer, table: ServeTable, end_tokens: Iterable[int] | None = None
    ):
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
        self.context = min(model.config.max_position_embeddings, blocks * BLOCK_SIZE)
        self.cache = KVCache(model.config, blocks, BLOCK_SIZE, weight.dtype, weight.device)
        self.runner: Runner = TorchRunner(model, self.cache)
        self.scheduler = Scheduler(BlockPool(blocks), BLOCK_SIZE, table.max_batch, table.max_step_tokens)
        self._sequences: dict[str, Sequence] = {}
        self._prefilled_tokens = 0
        self._end_tokens = frozenset(_default_ends(tokenizer) if end_tokens is None else end_tokens)
        self._special = frozenset(tokenizer.special.values())

    @classmethod
    def from_folder(
        cls, folder: Path, table: ServeTable, device: str | None = None, dtype: torch.dtype | None = None
    ) -> "Engine":
        """Load a Hugging Face folder, on a GPU in bfloat16 where there is one, else on the CPU in float32.

        Raises ValueError naming the folder, file, key or tensor that is missing or wrong.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
        tokenizer = Tokenizer.load(folder)
        model = load_weights(folder, dtype, device)
        ends = _default_ends(tokenizer) | _configured_ends(folder)
        return cls(model, tokenizer, table, ends)

    def check(self, request: Request) -> None:
        """Raise ValueError where a request can never be served: a prompt empty, too long, or of unknown tokens."""
        length, size = len(request.prompt), self.tokenizer.vocab_size
        if length == 0:
            raise ValueError("the prompt is empty: at least 1 token is needed")
        if length >= self.context:
            raise ValueError(
                f"the prompt has {length} tokens, but at most {self.context - 1} fit: the model has "
                f"{self.model.config.max_position_embeddings} positions, the cache "
                f"{self.scheduler.pool.blocks * BLOCK_SIZE}, and one is needed for the answer"
            )
        for token in (min(request.prompt), max(request.prompt), *request.params.logit_bias):
            if not 0 <= token < size:
                raise ValueError(f"token {token} is unknown: ids go from 0 to {size - 1}")

    def add(self, request: Request) -> str:
        """Queue a request and return its id. Raises ValueError as `check` does, or where the id is in use."""
        self.check(request)
        if request.id in self._sequences:
            raise ValueError(f"request {request.id} is already at work")
        wanted = request.params.max_tokens
        most = self.context if wanted is None else min(self.context, len(request.prompt) + wanted)
        sequence = Sequence(request, most)
        self._sequences[request.id] = sequence
        self.scheduler.waiting.append(sequence)
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
    def stats(self) -> EngineStats:
        """Counts of this moment."""
        scheduler, pool = self.scheduler, self.scheduler.pool
        pending = (sequence.pending for sequence in (*scheduler.running, *scheduler.waiting))
        return EngineStats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            blocks=pool.blocks,
            free_blocks=pool.free,
            block_size=scheduler.block_size,
            pending_tokens=sum(tokens for tokens in pending if tokens > 1),
            prefilled_tokens=self._prefilled_tokens,
            preemptions=scheduler.preemptions,
        )

    @torch.inference_mode()
    def step(self) -> list[Output]:
        """One forward pass over chunks of prompts and the last tokens of running texts; what became certain by it."""
        chunks = self.scheduler.schedule()
        if not chunks:
            return []
        row, rows, sequences = -1, [], []
        for chunk in chunks:
            row += chunk.count
            if chunk.samples:
                rows.append(row)
                sequences.append(chunk.sequence)
        watched = any(sequence.params.experts for sequence in sequences)
        watch: AbstractContextManager[list[torch.Tensor]] = (
            first_choices(self.model, rows) if watched else nullcontext([])
        )
        with watch as chosen:
            logits_SV = self.runner.run(chunks, rows)
        for chunk in chunks:
            self._prefilled_tokens += chunk.count if chunk.start < chunk.sequence.prompt_tokens else 0
            self.scheduler.computed(chunk)
        if not rows:
            return []
        # Rows of the embedding beyond the tokenizer have no text.
        sampled = sample(logits_SV[:, : self.tokenizer.vocab_size], sequences)
        if watched and chosen:
            experts = torch.stack(chosen, dim=1).tolist()
            sampled = [
                replace(token, experts=tuple(layers)) if sequence.params.experts else token
                for token, sequence, layers in zip(sampled, sequences, experts, strict=True)
            ]
        return [self._advance(sequence, token) for sequence, token in zip(sequences, sampled, strict=True)]

    def generate(self, requests: Iterable[Request]) -> list[list[Output]]:
        """Run requests to their ends, beside whatever else is at work, and return the outputs of each."""
        collected: dict[str, list[Output]] = {self.add(request): [] for request in requests}
        open_ids = set(collected)
        while open_ids:
            for output in self.step():
                if output.request_id in collected:
                    collected[output.request_id].append(output)
                    if output.finish_reason is not None:
                        open_ids.remove(output.request_id)
        return list(collected.values())

    def forget_prefixes(self) -> None:
        """Share nothing computed so far with later requests; to be called when weights change, between requests."""
        self.scheduler.pool.forget()

    def _advance(self, sequence: Sequence, token: SampledToken) -> Output:
        data = b"" if token.id in self._special else self.tokenizer.decode_bytes([token.id])
        output = sequence.append(token, data, token.id in self._end_tokens)
        if output.finish_reason is not None:
            self.cancel(sequence.request.id)
        return output


def _default_ends(tokenizer: Tokenizer) -> set[int]:
    return {tokenizer.end_of_text} | {tokenizer.special[text] for text in (END_OF_TURN,) if text in tokenizer.special}


def _configured_ends(folder: Path) -> set[int]:
    """The `eos_token_id` of config.json and generation_config.json, a number or a list in each."""
    ends: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            ends |= set(found) if isinstance(found, list) else {found} - {None}
    return ends
