"""What a request adds to the scores of tokens: penalties on those that were there before, and its bias."""

from array import array

import numpy as np
import torch

from troth.serve.engine.sampling_params import SamplingParams


class Penalties:
    """Grows with a text by a few bytes a token, so that a step does not look at all of the text again."""

    def __init__(self, params: SamplingParams, prompt: tuple[int, ...]):
        self._params = params
        # Distinct tokens in the order in which they came: of prompt and output, and of the output with their number.
        self._seen = dict.fromkeys(prompt) if params.repetition_penalty != 1 else {}
        self._seen_ids = array("q", self._seen)
        self._places: dict[int, int] = {}
        self._output_ids, self._counts = array("q"), array("f")
        self._biased_ids = np.array(list(params.logit_bias), dtype=np.int64)
        self._bias = np.array(list(params.logit_bias.values()), dtype=np.float32)

    @classmethod
    def of(cls, params: SamplingParams, prompt: tuple[int, ...]) -> "Penalties | None":
        """None where a request has none."""
        penalised = params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty
        return cls(params, prompt) if penalised or params.logit_bias else None

    def append(self, token: int) -> None:
        """Take a token that was generated."""
        if self._params.repetition_penalty != 1 and token not in self._seen:
            self._seen[token] = None
            self._seen_ids.append(token)
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._output_ids):
            self._output_ids.append(token)
            self._counts.append(0)
        self._counts[place] += 1

    def apply(self, logits_V: torch.Tensor) -> None:
        """Change a row of scores, float32 [vocabulary], in place."""
        params = self._params

        def there(numbers: array | np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.array(numbers)).to(logits_V.device)

        if self._seen_ids:
            ids, by = there(self._seen_ids), params.repetition_penalty
            before = logits_V[ids]
            logits_V[ids] = torch.where(before > 0, before / by, before * by)
        if (params.presence_penalty or params.frequency_penalty) and self._output_ids:
            by_count = params.frequency_penalty * there(self._counts)
            logits_V[there(self._output_ids)] -= params.presence_penalty + by_count
        if len(self._bias):
            logits_V[there(self._biased_ids)] += there(self._bias)
