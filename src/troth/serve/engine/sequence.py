"""A request at work: its tokens so far, how many of them the cache has seen, and where."""

import array
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from troth.serve.engine.guide import Guide
from troth.serve.engine.penalties import Penalties
from troth.serve.engine.request import FinishReason, Output, Request, SampledToken
from troth.serve.engine.teller import Teller
from troth.serve.engine.text_stream import TextStream
from troth.serve.engine.unwanted import Unwanted


class Sequence:
    """`tokens` are prompt and output; the keys and values of the first `computed` are in the cache, in `blocks` and,
    for layers with a window, `sliding_blocks` from `first_sliding` on (see `block_tables`).

    `order` is its place among others, `queued` the time (of `perf_counter`) since which it waits for its next token,
    `most_tokens` where it ends by length. `cached_tokens` of the prompt were found
    in the cache at first admission, at the time (of `monotonic`) `admitted`. `drafts` are guesses of the next tokens.
    A `guide` says what may come next, where not everything may, and `unwanted` what should not; `told` changes how
    the text is told. What went wrong in it, if anything, is its `fault`.
    """

    def __init__(
        self, request: Request, most_tokens: int, guide: Guide | None = None, unwanted: Unwanted | None = None,
        told: Teller | None = None,
    ):  # fmt: skip
        params = request.params
        self.request = request
        self.params = params
        self.guide = guide
        self.unwanted = unwanted
        self.told = told
        self.tokens = list(request.prompt)
        self.prompt_tokens = len(request.prompt)
        self.most_tokens = most_tokens
        self.computed = 0
        self.blocks: list[int] = []
        self.sliding_blocks: list[int] = []
        self.first_sliding = 0
        self.order = (request.priority, 0)
        self.queued = 0.0
        self.drafts: list[int] = []
        self.cached_tokens: int | None = None
        self.admitted = 0.0
        self.penalties = Penalties.of(params, request.prompt)
        grammar = params.grammar
        self.text = TextStream(
            () if grammar is not None and grammar.forced else params.stop, params.include_stop_str_in_output,
            (grammar.trigger, grammar.tags[0].end) if grammar is not None and grammar.tags else None,
        )  # fmt: skip
        # Of the first token nothing is known: it follows nothing.
        self.scored = [SampledToken(request.prompt[0])]
        self.pooled_D: torch.Tensor | None = None
        self.generator = torch.Generator()
        if params.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(params.seed)
        self.fault: Exception | None = None
        self._keys: list[bytes] = []

    @contextmanager
    def own_fault(self) -> Iterator[None]:
        """Around what only concerns this sequence: an error there is its `fault`, and ends no step."""
        try:
            yield
        except Exception as error:
            self.fault = self.fault or error

    @property
    def scores_prompt(self) -> bool:
        """Whether log-probabilities of the prompt's tokens are wanted."""
        return self.params.scored is not None

    @property
    def changes_scores(self) -> bool:
        """Whether scores are changed before its next token is drawn."""
        some = self.penalties is not None or self.guide is not None or self.unwanted is not None
        return some or self.output_tokens < self.params.min_tokens

    @property
    def pending(self) -> int:
        """Tokens whose keys and values are still to be computed; one while decoding."""
        return len(self.tokens) - self.computed

    @property
    def output_tokens(self) -> int:
        """Tokens that were generated."""
        return len(self.tokens) - self.prompt_tokens

    def keys(self, blocks: int, block_size: int) -> list[bytes]:
        """Digests of the first `blocks` full blocks of tokens, each chained to the one before, the first to the name of
        the adapter, for keys and values depend on all of these, and to the salt."""
        while len(self._keys) < blocks:
            start = len(self._keys) * block_size
            first = f"{self.request.adapter or ''}\0{self.request.salt}".encode()
            before = self._keys[-1] if self._keys else first
            tokens = array.array("q", self.tokens[start : start + block_size]).tobytes()
            self._keys.append(hashlib.blake2b(before + tokens, digest_size=16).digest())
        return self._keys[:blocks]

    def pool(self, h_TD: torch.Tensor, start: int) -> None:
        """Add the hidden states of tokens from position `start` on to what an embedding is the mean of."""
        sum_D = h_TD.double().sum(0)  # in float32 the last bit would depend on how the prompt was cut
        self.pooled_D = sum_D if start == 0 or self.pooled_D is None else self.pooled_D + sum_D

    def embedding(self) -> Output:
        """The one output of a pooled request, whose prompt has been computed."""
        assert self.pooled_D is not None
        return Output(
            request_id=self.request.id,
            text="",
            tokens=(),
            prompt_tokens=self.prompt_tokens,
            output_tokens=0,
            cached_tokens=0,
            admitted=self.admitted,
            finish_reason="stop",
            embedding=tuple((self.pooled_D / self.prompt_tokens).float().tolist()),
        )

    def append(self, token: SampledToken, data: bytes, ends: bool) -> Output:
        """Take a sampled token with the bytes that it adds to the text; `ends` says that it ends it."""
        self.tokens.append(token.id)
        if self.penalties is not None:
            self.penalties.append(token.id)
        if self.told is not None:
            data = self.told.take(token.id, data)
        text = self.text.push(data, may_stop=self.output_tokens > self.params.min_tokens)
        if self.guide is not None:
            self.guide.take(token.id, data)
        reason: FinishReason | None = None
        stop_reason: str | int | None = self.text.stopped
        complete = self.guide is not None and self.guide.complete
        if self.text.stopped is not None or complete or ends:
            reason = "stop"
            if stop_reason is None and token.id in self.params.stop_token_ids:
                stop_reason = token.id
        elif len(self.tokens) >= self.most_tokens or (self.guide is not None and self.guide.stuck):
            reason = "length"
        if reason is not None:
            text += (self.text.push(self.told.close()) if self.told is not None else "") + self.text.close()
        return Output(
            request_id=self.request.id,
            text=text,
            tokens=(token,),
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens or 0,
            admitted=self.admitted,
            finish_reason=reason,
            stop_reason=stop_reason,
        )
