"""Why a run's verdicts mean little, in one line: what it had to judge, and whether it could be measured on that."""

_FEWEST = 20
"""Planted errors below which nothing can be said of verdicts: the interval of what was caught is 40% wide."""
NO_DOCUMENT = "no document is left, so there is no claim to judge; `troth explain DOCUMENT` tells which rule dropped it"
ONE_PUBLISHER = (
    "no collection has two publishers who could contradict each other, so no claim in it is judged; "
    "name them in the documents, or give each a folder of its own"
)
NO_CLAIM = "no sentence states a year, a date, a quantity or a name that could be judged, so there are no claims"


def caveat(documents: int, judged: bool, claims: int, planted: int) -> str:
    """Empty where verdicts mean something. `judged` says whether any of the documents are, `planted` on how many
    planted errors they were measured."""
    if not documents:
        return NO_DOCUMENT
    if not judged:
        return ONE_PUBLISHER
    if not claims:
        return NO_CLAIM
    if planted < _FEWEST:
        return (
            f"verdicts mean little here: {planted} of the errors planted to measure them were kept for that, and fewer "
            f"than {_FEWEST} tell nothing; an error is planted where two publishers say the same in sentences alike"
        )
    return ""
