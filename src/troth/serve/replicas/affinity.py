"""Which requests should meet in one replica: those whose prompts begin alike, for its prefix cache."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Long enough to tell most system prompts apart, short enough that requests sharing one agree.
PREFIX = 1024


def affinity(headers: Mapping[bytes, bytes], body: bytes) -> str:
    """The same text for requests that belong together: the conversation id that a client gives (xAI's `x-grok-conv-id`
    header, OpenAI's `prompt_cache_key`), else a digest of the prompt's beginning; empty where there is no prompt."""
    if conversation := headers.get(b"x-grok-conv-id"):
        return conversation.decode("latin-1")
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):  # A replica tells what is wrong.
        return ""
    if not isinstance(request, dict):
        return ""
    if isinstance(key := request.get("prompt_cache_key"), str) and key:
        return key.encode(errors="replace").decode()  # JSON can spell half of a surrogate pair.
    beginning = [request.get("instructions"), request.get("system"), _beginning(request)]
    if not any(beginning):
        return ""
    text = json.dumps([request.get("model"), *beginning])[:PREFIX]
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _beginning(request: Mapping[str, Any]) -> Any:
    """What later turns of a conversation repeat: its messages up to the first of the user, or a prompt's text."""
    turns = request.get("messages") or request.get("input") or request.get("prompt")
    if not isinstance(turns, list):
        return turns
    for place, turn in enumerate(turns):
        if isinstance(turn, dict) and turn.get("role") == "user":
            return turns[: place + 1]
    return turns[:PREFIX]
