"""Lists in pages, as OpenAI's API gives them: newest first, going on after an id."""

from collections.abc import Sequence
from typing import Any

from troth.serve.api.errors import ApiError


def page(items: Sequence[dict[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
    """At most `limit` of the items behind the one with id `after`. Raises ApiError where that is not among them."""
    start = 0
    if after is not None:
        places = [place for place, item in enumerate(items, 1) if item["id"] == after]
        if not places:
            raise ApiError(400, f"after: there is no {after}", "after", "invalid_value")
        start = places[0]
    shown = list(items[start : start + limit])
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": start + limit < len(items),
    }
