"""Chats and preferences as rows (`sources`), in the forms that TRL, Axolotl and OpenAI's fine-tuning read.

A chat is `{"messages": [{"role", "content", …}, …], "tools": […]}`, ShareGPT's `{"conversations": [{"from", "value"},
…]}`, Alpaca's `{"instruction", "input", "output", "history"}`, or `{"prompt", "completion"}`; a preference `{"prompt",
"chosen", "rejected"}`. What these two have are lists of messages or all plain text. Without `prompt` what both answers
begin with is it, or Alpaca's instruction; lists may also begin with a prompt that stands beside them. A text `system`
beside messages is their first, if none is among them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from troth.train.chat_messages import checked_list, checked_messages, checked_text
from troth.train.sources import Wanted, every_row, read_rows

_FORMS = "messages", "conversations", "completion", "output"
_BESIDE = "system", "tools", "chat_template_kwargs"
_ALPACA = "instruction", "input", "history"
_SHAREGPT = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "observation": "tool", "function_response": "tool"
}  # fmt: skip
"""Its roles that are called otherwise."""
_LINE = dict[str, Any]


@dataclass(frozen=True)
class Chat:
    """Messages as a chat template takes them, the places of those that are to be learned, and what else the template
    is given."""

    messages: list[dict[str, Any]]
    answers: tuple[int, ...]
    tools: list[dict[str, Any]] | None = None
    variables: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Completion:
    """A prompt with its continuation, which is to be learned."""

    prompt: str
    text: str


@dataclass(frozen=True)
class TextPair:
    """A prompt with the continuation that is preferred and the one that is not."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class ChatPair:
    """Two chats that begin alike."""

    chosen: Chat
    rejected: Chat


def read_chats(
    sources: Sequence[str], last_only: bool = False, wanted: Wanted = every_row
) -> Iterator[tuple[str, Chat | Completion]]:
    """The `wanted` chats of files, folders and URLs as `read_rows` takes them, each with its place for messages; all
    turns of the assistant are to be learned but those of `weight` 0 and of a prompt, or with `last_only` the last of
    these.

    Raises ValueError naming file, line or row and what is wrong there.
    """
    for row in read_rows(sources, ("|".join(_FORMS),), ("prompt", *_ALPACA, *_BESIDE), wanted):
        try:
            yield row.place, _chat_or_completion(row.values, last_only)
        except ValueError as error:
            raise ValueError(f"{row.place}: {error}") from error


def read_preferences(
    sources: Sequence[str], wanted: Wanted = every_row
) -> Iterator[tuple[str, TextPair | ChatPair]]:
    """The `wanted` preferences of files, folders and URLs as `read_rows` takes them, each with its place for messages.

    Raises ValueError naming file, line or row and what is wrong there.
    """
    for row in read_rows(sources, ("chosen", "rejected"), ("prompt", *_ALPACA, *_BESIDE), wanted):
        try:
            yield row.place, _preference(row.values)
        except ValueError as error:
            raise ValueError(f"{row.place}: {error}") from error


def _chat_or_completion(line: _LINE, last_only: bool) -> Chat | Completion:
    forms = [name for name in _FORMS if name in line]
    form = next((name for name in forms if line[name] is not None), forms[0])
    if form == "completion":
        return _completion(line, last_only)
    if form == "output":
        if not (answer := checked_text(line["output"], "output")):
            raise ValueError("output: no text")
        line, form = line | {"messages": [*_instruction(line), {"role": "assistant", "content": answer}]}, "messages"
    return _chat(line, form, last_only)


def _chat(line: _LINE, name: str, last_only: bool) -> Chat:
    turns = line[name]
    if name == "conversations" and isinstance(turns, list):
        turns = [_as_message(turn, f"{name}[{i}]") for i, turn in enumerate(turns)]
    messages = checked_messages(turns, name)
    before = _system(line, messages)
    answers = [
        len(before) + i
        for i, (message, given) in enumerate(zip(messages, turns, strict=True))
        if message["role"] == "assistant" and _weight(given, f"{name}[{i}]")
    ]
    if not answers:
        raise ValueError(f"{name}: no turn of the assistant to learn")
    return Chat([*before, *messages], tuple(answers[-1:] if last_only else answers), _tools(line), _variables(line))


def _completion(line: _LINE, last_only: bool) -> Chat | Completion:
    prompt, completion = line.get("prompt"), line["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return Completion(prompt, completion)
    if not (isinstance(prompt, list) and isinstance(completion, list)):
        raise ValueError("prompt and completion are neither both text nor both lists of messages")
    before = [turn if not isinstance(turn, dict) else turn | {"weight": 0} for turn in prompt]
    return _chat(line | {"messages": before + completion}, "messages", last_only)


def _instruction(line: _LINE) -> list[dict[str, Any]]:
    """The turns before an answer in Alpaca's form, with LLaMA-Factory's `history` of earlier ones."""
    turns: list[dict[str, Any]] = []
    for i, turn in enumerate(checked_list(line.get("history") or [], "history")):
        if not (isinstance(turn, list) and len(turn) == 2):
            raise ValueError(f"history[{i}]: not an instruction and its answer")
        turns += [{"role": role, "content": text} for role, text in zip(("user", "assistant"), turn, strict=True)]
    asked = [checked_text(line.get(name) or "", name) for name in ("instruction", "input")]
    if not any(asked):
        raise ValueError("instruction: missing beside an answer")
    return [*turns, {"role": "user", "content": "\n".join(filter(None, asked))}]


def _preference(line: _LINE) -> TextPair | ChatPair:
    chosen, rejected, prompt = line["chosen"], line["rejected"], line.get("prompt")
    if prompt is None and line.get("instruction") and isinstance(chosen, str) and isinstance(rejected, str):
        prompt = _instruction(line)
        chosen, rejected = ([{"role": "assistant", "content": text}] for text in (chosen, rejected))
    kinds = {type(part) for part in (chosen, rejected, *([] if prompt is None else [prompt]))}
    if kinds == {str}:
        if prompt is None:
            shared = _shared(chosen, rejected)
            # A space belongs to the word behind it.
            shared -= shared > 0 and chosen[shared - 1] == " "
            prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if chosen == rejected:
            raise ValueError("chosen and rejected are the same")
        return TextPair(prompt, chosen, rejected)
    if {type(chosen), type(rejected)} != {list} or not isinstance(prompt, list | str | None):
        raise ValueError("prompt, chosen and rejected are neither all text nor all lists of messages")
    good, bad = checked_messages(chosen, "chosen"), checked_messages(rejected, "rejected")
    if good == bad:
        raise ValueError("chosen and rejected are the same")
    alike = good[: _shared(good, bad)]
    if isinstance(prompt, str) and not alike:
        raise ValueError("prompt: text, where chosen and rejected are messages that do not begin with it")
    before = checked_messages(prompt, "prompt") if isinstance(prompt, list) else alike
    # Many files (UltraFeedback) have both a prompt and whole chats that begin with it.
    if before and alike[: len(before)] == before:
        good, bad = good[len(before) :], bad[len(before) :]
    before = [*_system(line, [*before, *good]), *before]
    chats = []
    for name, messages in (("chosen", good), ("rejected", bad)):
        answers = [len(before) + i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if not answers:
            raise ValueError(f"{name}: no turn of the assistant behind the prompt")
        chats.append(Chat([*before, *messages], tuple(answers), _tools(line), _variables(line)))
    return ChatPair(*chats)


def _shared(one: str | list[Any], other: str | list[Any]) -> int:
    """How long the common beginning is."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _system(line: _LINE, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The message that a text `system` beside a chat is, unless the chat has one."""
    text = line.get("system")
    if not isinstance(text, str) or not text or any(message["role"] == "system" for message in messages):
        return []
    return [{"role": "system", "content": text}]


def _as_message(turn: Any, name: str) -> Any:
    """A turn of ShareGPT's as a message; others as they are."""
    if not isinstance(turn, dict) or "from" not in turn:
        return turn
    role, content = turn["from"], turn.get("value")
    rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
    if role == "function_call":
        try:
            calls = json.loads(content) if isinstance(content, str) else content
        except ValueError as error:
            raise ValueError(f"{name}: a call that is not JSON ({error})") from error
        return {"role": "assistant", "tool_calls": calls if isinstance(calls, list) else [calls]} | rest
    return {"role": _SHAREGPT.get(role, role) if isinstance(role, str) else role, "content": content} | rest


def _tools(line: _LINE) -> list[dict[str, Any]] | None:
    """Functions as JSON schemas, or as JSON text, which tables may hold them as."""
    tools = line.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise ValueError(f"tools: not JSON ({error})") from error
    if not tools:
        return None
    for i, tool in enumerate(checked_list(tools, "tools")):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError(f"tools[{i}]: not a function with a name")
    return list(tools)


def _variables(line: _LINE) -> dict[str, Any]:
    variables = line.get("chat_template_kwargs") or {}
    if not isinstance(variables, dict):
        raise ValueError("chat_template_kwargs: not an object")
    return variables


def _weight(given: dict[str, Any], name: str) -> bool:
    weight = given.get("weight", 1)
    if weight not in (0, 1, None):
        raise ValueError(f"{name}: weight={weight!r}; expected 0 or 1")
    return weight != 0
