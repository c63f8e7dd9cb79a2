"""How often training reads a document: by the word of its publisher.

What a publisher says weighs by the log-odds that it is right, as in truth discovery (Dawid & Skene 1979), so that where
two disagree and neither can be shown wrong, the one that errs less is heard more.
"""

import math
from collections.abc import Mapping

_LEAST, _MOST = 2 / 3, 3 / 2


def publisher_weights(documents: Mapping[str, int], publisher_error: Mapping[str, float]) -> dict[str, float]:
    """The weight of each publisher's documents, from their shares of wrong claims (0 to 1, both excluded) and how many
    documents each has.

    An average document has weight 1, and none less than two thirds or more than one and a half of that, so that what
    only a careless publisher says is still learned. A publisher that nothing is known of gets none.
    """
    errors = {who: publisher_error[who] for who in documents if who in publisher_error}
    odds = {who: math.log((1 - error) / error) for who, error in errors.items()}
    count = sum(documents[who] for who in odds)
    mean = sum(documents[who] * max(0.0, own) for who, own in odds.items()) / max(1, count)
    if mean <= 0:
        return {}
    return {who: min(_MOST, max(_LEAST, own / mean)) for who, own in odds.items()}
