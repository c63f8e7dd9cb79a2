"""Log-probabilities as the two endpoints write them."""

from collections.abc import Iterable

from troth.model.tokenizer import Tokenizer
from troth.serve.api.openai_answers import (
    ChatLogprobs,
    CompletionLogprobs,
    PromptLogprob,
    PromptLogprobs,
    TokenLogprob,
    TopLogprob,
)
from troth.serve.engine.request import SampledToken


class TokenTexts:
    """The spelling and the bytes of single tokens."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._special = {token: text for text, token in tokenizer.special.items() if text not in tokenizer.visible}

    def bytes(self, token: int) -> bytes | None:
        """None for special tokens, which stand for no text."""
        return None if token in self._special else self._tokenizer.decode_bytes([token])

    def text(self, token: int) -> str:
        """Parts of a character show as the replacement character."""
        return self._special.get(token) or self._tokenizer.decode([token])


def chat_logprobs(tokens: Iterable[SampledToken], texts: TokenTexts) -> ChatLogprobs | None:
    """None where they were not asked for."""
    content = []
    for token in tokens:
        if token.logprob is None:
            return None
        top = [TopLogprob(**_entry(other, logprob, texts)) for other, logprob in token.top]
        content.append(TokenLogprob(**_entry(token.id, token.logprob, texts), top_logprobs=top))
    return ChatLogprobs(content=content, refusal=None)


def completion_logprobs(tokens: Iterable[SampledToken], texts: TokenTexts, offset: int) -> CompletionLogprobs | None:
    """None where they were not asked for. `offset` is the length of the text before these tokens. Of a prompt's first
    token, which follows nothing, they are null."""
    tokens = list(tokens)
    if not tokens or tokens[-1].logprob is None:
        return None
    found = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
    for token in tokens:
        text = texts.text(token.id)
        found.tokens.append(text)
        found.token_logprobs.append(token.logprob)
        top = {texts.text(other): logprob for other, logprob in token.top}
        found.top_logprobs.append(None if token.logprob is None else top)
        found.text_offset.append(offset)
        offset += len(text)
    return found


def prompt_logprobs(tokens: Iterable[SampledToken], texts: TokenTexts) -> PromptLogprobs:
    """Of each token of a prompt, itself first."""

    def entry(token: int, logprob: float, rank: int) -> dict[int, PromptLogprob]:
        return {token: PromptLogprob(logprob=logprob, rank=rank, decoded_token=texts.text(token))}

    found: PromptLogprobs = []
    for token in tokens:
        if token.logprob is None or token.rank is None:
            found.append(None)
            continue
        entries = entry(token.id, token.logprob, token.rank)
        for rank, (other, logprob) in enumerate(token.top, 1):
            if other != token.id:
                entries |= entry(other, logprob, rank)
        found.append(entries)
    return found


def _entry(token: int, logprob: float, texts: TokenTexts) -> dict:
    data = texts.bytes(token)
    return {"token": texts.text(token), "logprob": logprob, "bytes": None if data is None else list(data)}
