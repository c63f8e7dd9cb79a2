"""Cases as arrays, as the judge weighs them: their features, and the products of every two that say how strong the
witnesses of a candidate are, for what is both alike and said in the same words is surer than either makes it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from troth.curate.validate.candidates import CANDIDATES, FEATURES, STRENGTHS, examined
from troth.curate.validate.cases import Answers
from troth.curate.validate.judge import Voices

_ONE, _OTHER = np.triu_indices(STRENGTHS.stop - STRENGTHS.start)
WEIGHED = len(FEATURES) + len(_ONE)
"""Features and products, K."""


class Weighed(Protocol):
    """What the judge needs to know of a case."""

    @property
    def kind(self) -> str: ...

    @property
    def publisher(self) -> str: ...

    @property
    def texts(self) -> tuple[str, ...]: ...

    @property
    def features(self) -> bytes: ...

    @property
    def candidate(self) -> tuple[int, ...]: ...

    @property
    def voice(self) -> tuple[str, ...]: ...

    @property
    def word(self) -> tuple[float, ...]: ...


def stacked(answered: Sequence[tuple[Weighed, Answers]]) -> tuple[np.ndarray, np.ndarray]:
    """The features of cases and their products [N, C, K], with the examiner's opinion where it was asked, and which
    candidates there are [N, C]; "none of these" always is."""
    x_NCK = np.frombuffer(b"".join(case.features for case, _ in answered)).reshape(-1, CANDIDATES, len(FEATURES)).copy()
    for x_CK, (case, answers) in zip(x_NCK, answered, strict=True):
        if answers.log_probs:
            x_CK[:] = examined(x_CK, case.kind != "name", answers.log_probs, answers.priors)
    there_N = np.array([len(case.texts) for case, _ in answered], int)
    mask_NC = np.arange(CANDIDATES) < there_N[:, None]
    mask_NC[:, -1] = True
    strong_NCS = x_NCK[..., STRENGTHS]
    return np.concatenate([x_NCK, strong_NCS[..., _ONE] * strong_NCS[..., _OTHER]], axis=-1), mask_NC


def voices_of(cases: Sequence[Weighed], numbers: dict[str, int]) -> Voices:
    """Who states what in cases; `numbers` are those of the publishers."""
    return Voices(
        np.repeat(np.arange(len(cases)), np.array([len(case.word) for case in cases], int)),
        np.array([one for case in cases for one in case.candidate], int),
        np.array([numbers[who] for case in cases for who in case.voice], int),
        np.array([one for case in cases for one in case.word], float),
    )
