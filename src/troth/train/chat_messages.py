"""The messages of a chat, checked, as chat templates take them."""

import json
from typing import Any

_ROLES = "system", "user", "assistant", "tool"
_REASONING = "reasoning_content", "reasoning", "thinking"
_KNOWN = ("role", "content", "name", "tool_calls", "tool_call_id", "weight", *_REASONING)


def checked_messages(value: Any, name: str) -> list[dict[str, Any]]:
    """A list of messages, which errors call `name`. Raises ValueError saying which is wrong, and how."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name}: not a list of messages")
    return [_message(message, f"{name}[{i}]") for i, message in enumerate(value)]


def _message(given: Any, name: str) -> dict[str, Any]:
    """A message with text as `content`, reasoning as `reasoning_content` and arguments of calls as objects."""
    if not isinstance(given, dict):
        raise ValueError(f"{name}: not an object")
    given = {key: value for key, value in given.items() if value is not None}
    if unknown := sorted(given.keys() - _KNOWN):
        raise ValueError(f"{name}: unknown key {unknown[0]!r}; known are {', '.join(_KNOWN)}")
    # OpenAI renamed `system` to `developer`; templates know the first.
    role = {"developer": "system"}.get(given.get("role", ""), given.get("role"))
    if role not in _ROLES:
        raise ValueError(f"{name}: role={role!r}; expected one of {', '.join(_ROLES)}")
    message = {"role": role, "content": checked_text(given.get("content", ""), f"{name}.content")}
    if role != "assistant":
        if "content" not in given:
            raise ValueError(f"{name}: a {role} message needs content")
        if "tool_calls" in given:
            raise ValueError(f"{name}: tool_calls in a {role} message; only the assistant calls")
    message |= {key: checked_text(given[key], f"{name}.{key}") for key in ("name", "tool_call_id") if key in given}
    reasoning = [checked_text(given[key], f"{name}.{key}") for key in _REASONING if key in given]
    if reasoning:
        message["reasoning_content"] = reasoning[0]
    elif role == "assistant" and message["content"].lstrip().startswith("<think>"):
        inside, end, after = message["content"].lstrip().removeprefix("<think>").partition("</think>")
        if not end:
            raise ValueError(f"{name}.content: <think> without </think>")
        message |= {"reasoning_content": inside.strip("\n"), "content": after.lstrip("\n")}
    if given.get("tool_calls"):
        message["tool_calls"] = [
            _call(call, f"{name}.tool_calls[{i}]") for i, call in enumerate(checked_list(given["tool_calls"], name))
        ]
    if role == "assistant" and not (message["content"] or message.get("tool_calls")):
        raise ValueError(f"{name}: an assistant message without content or tool_calls")
    return message


def _call(call: Any, name: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError(f"{name}: not a call of a function by its name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as error:
            raise ValueError(f"{name}: arguments are not JSON ({error})") from error
    if not isinstance(arguments, dict):
        raise ValueError(f"{name}: arguments are not an object")
    kept = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return kept | {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def checked_list(value: Any, name: str) -> list[Any]:
    """Raises ValueError where it is none."""
    if not isinstance(value, list):
        raise ValueError(f"{name}: not a list")
    return value


def checked_text(value: Any, name: str) -> str:
    """Text, or a list of pieces of text as one. Raises ValueError where it is neither."""
    if isinstance(value, list):
        pieces = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in value]
        if all(isinstance(piece, str) for piece in pieces):
            return "".join(str(piece) for piece in pieces)
    if not isinstance(value, str):
        raise ValueError(f"{name}: not text")
    return value
