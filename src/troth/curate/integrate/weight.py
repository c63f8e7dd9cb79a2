"""How often training reads a document: by the word of its publisher.

What a publisher says weighs by the log-odds that it is right, as in truth discovery (Dawid & Skene 1979), so that where
two disagree and neither can be shown wrong, the one that errs less is heard more.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from troth.curate.document import Document

_LEAST, _MOST = 2 / 3, 3 / 2


def weigh_documents(documents: Sequence[Document], publisher_error: Mapping[str, float]) -> list[Document]:
    """The documents with weights from their publishers' shares of wrong claims (0 to 1, both excluded).

    An average document has weight 1, and none less than two thirds or more than one and a half of that, so that what
    only a careless publisher says is still learned; documents of a publisher that nothing is known of keep theirs.
    """
    odds = {who: math.log((1 - error) / error) for who, error in publisher_error.items()}
    known = [max(0.0, odds[d.publisher]) for d in documents if d.publisher in odds]
    mean = sum(known) / len(known) if known else 0.0
    if mean <= 0:
        return list(documents)
    return [
        replace(d, weight=min(_MOST, max(_LEAST, odds[d.publisher] / mean))) if d.publisher in odds else d
        for d in documents
    ]
