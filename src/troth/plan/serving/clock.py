"""The roofline's times as look-ups, quick enough for a simulation that asks for thousands of steps."""

import numpy as np

from troth.plan.serving.roofline import Roofline

_MOST = 1 << 16
"""Tokens of a step that have an entry of their own; longer steps go on at the last slope."""


class Clock:
    """Seconds of a step from its sequences, their contexts and its prompts. Contexts are added up: windows are taken to
    leave of each what they leave of a mean `context`, and of what a prompt's tokens see, what they leave of `seen`."""

    def __init__(self, found: Roofline, context: float, seen: float):
        self.found = found
        tokens = np.unique(np.concatenate([np.arange(1024.0), np.geomspace(1024, _MOST, 256).round()]))
        every = np.arange(_MOST + 1.0)
        dense, experts = found.dense(tokens), found.experts(tokens) * (tokens > 0)
        self._experts = np.interp(every, tokens, experts).tolist()
        self._dense = np.interp(every, tokens, dense).tolist()
        self._head = found.head(every[:4096]).tolist()
        self._exchange = np.interp(every, tokens, found.exchange(tokens, dense + experts)).tolist()
        self.groups = found.shape.groups
        self._per_context = float(found.decode_attention(np.array(1.0), context)) / context
        self._per_pair = float(found.prompt_attention(1.0, seen)) / max(seen, 1.0)
        self._overhead, self._per_sequence = found.overhead, found.efficiency.sequence

    def seconds(self, decoding: int, contexts: float, prompt: int = 0, most: int = 0, pairs: float = 0.0) -> float:
        """A step that decodes `decoding` sequences with `contexts` tokens in all, and computes `prompt` tokens of
        prompts; the group that has most of these computes `most`, which see `pairs` tokens in all."""
        each = -(-decoding // min(self.groups, max(1, decoding)))
        return (
            _at(self._dense, each + most) + _at(self._experts, decoding + prompt) + _at(self._exchange, each + most)
            + _at(self._head, each) + contexts * self._per_context + pairs * self._per_pair + self._overhead
            + decoding * self._per_sequence
        )  # fmt: skip

    def prompt_budget(self, decoding: int, contexts: float, seconds: float) -> int:
        """How many prompt tokens each group may compute in a step of so many seconds beside those that decode, as the
        engine's pace finds it from the time of a token."""
        alone = self.seconds(decoding, contexts)
        tried = 1024
        per_token = (self.seconds(decoding, contexts, tried * self.groups, tried) - alone) / tried
        return max(16, int((seconds - alone) / per_token))


def _at(table: list[float], tokens: int) -> float:
    last = len(table) - 1
    if tokens <= last:
        return table[tokens]
    return table[last] + (table[last] - table[last // 2]) / (last - last // 2) * (tokens - last)
