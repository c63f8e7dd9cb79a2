"""A sample of documents that does not grow with the corpus and does not depend on its order: those whose hashes come
first (bottom-k sampling, Cohen and Kaplan 2007).
"""

import hashlib
import heapq
from collections.abc import Iterable

from troth.curate.document import Document

HEAD = 4000
"""Characters of a document that its topic and its viewpoint are read from."""


def sample(documents: Iterable[Document], size: int) -> list[str]:
    """The heads of at most `size` different texts of prose, in the order of their hashes."""
    heap: list[tuple[int, str]] = []
    taken: set[int] = set()
    for document in documents:
        if document.kind != "prose":
            continue
        head = document.text[:HEAD]
        place = -int.from_bytes(hashlib.blake2b(head.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        if place in taken or (len(heap) == size and place < heap[0][0]):
            continue
        taken.add(place)
        if len(heap) < size:
            heapq.heappush(heap, (place, head))
        else:
            taken.discard(heapq.heappushpop(heap, (place, head))[0])
    return [head for _, head in sorted(heap, reverse=True)]
