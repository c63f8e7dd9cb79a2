"""What is asked in any dialect, and how the engine is asked it: prompt, grammar, reasoning."""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from troth.serve.api import trained_format as form
from troth.serve.api.errors import ApiError, first_key
from troth.serve.api.reading import Reading
from troth.serve.api.served import Served, encoded
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import Form, Grammar, Json, Pattern, Reasoning, SamplingParams, Told

# Tokens of reasoning, where they are not more than half of the answer.
_BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24576}


@dataclass(frozen=True)
class Tool:
    """A function that may be called; `arguments.name` is its place in the request."""

    name: str
    description: str | None
    parameters: dict[str, Any]
    arguments: Json


@dataclass(frozen=True)
class Question:
    """`messages` as the chat template takes them. A `choice` of required may be of the tool that is `named`; `value` is
    what the answer has to be. `effort` None leaves it to the model whether it reasons; `budget`, in tokens, goes
    before what follows from `effort`, and so do `variables` of the template. An answer that `goes_on` goes on from the
    last message, which is the assistant's. Of a prompt the last tokens are kept that `truncate` says, as
    `Served.last_tokens` has it; one that `forgets` is without the oldest messages where it would leave no room for an
    answer. `param` is what the dialect calls the messages."""

    messages: list[dict[str, Any]]
    param: str
    tools: tuple[Tool, ...] = ()
    choice: Literal["none", "auto", "required"] = "auto"
    named: str | None = None
    several: bool = True
    value: Json | Pattern | None = None
    effort: str | None = None
    budget: int | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    goes_on: bool = False
    truncate: int | None = None
    forgets: bool = False


@dataclass(frozen=True)
class Prompt:
    """Token ids, and what the engine and the reader of the answer have to know beside them."""

    ids: tuple[int, ...]
    grammar: Grammar | None
    reasoning: Reasoning | None
    reasons: bool
    calls: bool
    told: Told | None

    def reading(self) -> Reading:
        """A reader of one answer."""
        return Reading(reasons=self.reasons, inside=self.reasoning is not None, calls=self.calls)

    def request(self, params: SamplingParams, adapter: str | None, priority: int = 0, salt: str = "") -> Request:
        """One request to the engine."""
        held = {"grammar": self.grammar, "reasoning": self.reasoning, "told": self.told}
        guided = params.model_copy(update=held)
        return Request(self.ids, guided, priority=priority, adapter=adapter, salt=salt)


def tool(place: str, name: str, description: str | None, parameters: dict[str, Any] | None, strict: bool) -> Tool:
    """A tool whose arguments are described at `place` of the request. Raises ApiError where they are no object."""
    parameters = {"type": "object", "properties": {}} if parameters is None else {"type": "object"} | parameters
    if parameters["type"] != "object":
        raise ApiError(
            400, f"{place}: the type of arguments is 'object', not {parameters['type']!r}", first_key(place),
            "invalid_value",
        )
    return Tool(name, description, parameters, Json(name=place, schema_text=json.dumps(parameters), strict=strict))


async def prompt(served: Served, question: Question, max_tokens: int | None) -> Prompt:
    """The question in the engine's terms, its grammar compiled. `max_tokens` is the limit of the answer.

    Raises ApiError for what this model's template or the grammar compiler does not take.
    """
    template = served.template
    if template is None:
        raise ApiError(400, f"{served.model_id} has no chat template; use /v1/completions", question.param)
    offered = () if question.choice == "none" else question.tools
    calls_form = form.form_of(template)
    names = Counter(tool.name for tool in question.tools)
    if twice := next((name for name, times in names.items() if times > 1), None):
        raise ApiError(400, f"tools: two functions are called {twice!r}", "tools", "invalid_value")
    if question.tools and calls_form is None:
        raise ApiError(400, f"tools: {served.model_id} was not trained to call functions", "tools", "unsupported_value")
    on_channels = form.on_channels(template)
    functions = [_function(tool, described=on_channels) for tool in offered]
    wanted = None if question.effort is None else question.effort != "none"
    wanted = wanted if question.budget is None else True
    variables = form.switches(question.effort, wanted, template) | dict(question.variables)

    max_tokens = max_tokens or served.most_tokens
    room = served.context - min(max_tokens or served.context // 8, served.context // 2)

    def ids_of(messages: list[dict[str, Any]]) -> list[int]:
        return template.encode(messages, functions, question.goes_on, **variables)

    def fitting() -> list[int]:
        ids = ids_of(question.messages)
        if question.forgets and len(ids) > room:
            shorter = _shorter(question.messages)
            place = bisect_left(shorter, True, key=lambda messages: len(ids_of(messages)) <= room)
            ids = ids_of(shorter[min(place, len(shorter) - 1)])
        return ids

    try:
        ids = await encoded(sum(len(message.get("content") or "") for message in question.messages), fitting)
    except ValueError as error:
        raise ApiError(400, str(error), question.param, "invalid_value") from error
    ids = served.last_tokens(ids, question.truncate, max_tokens)
    grammar = _grammar(question, offered, "json" if on_channels or not offered else calls_form or "json")
    reasons = form.knows_reasoning(template)
    reasoning = None
    if reasons and not question.goes_on:
        begins, begun = _beginning(served, ids, on_channels, wanted, bool(offered))
        ids += served.tokenizer.encode_special(begins)
        if begun:
            room = served.context - len(ids)
            budget = _budget(question, min(max_tokens or room, room))
            forced = question.choice == "required"
            reasoning = form.reasoning_on_channels(budget, forced) if on_channels else form.reasoning(budget)
            if on_channels and grammar is not None:
                grammar = grammar.model_copy(update={"form": "channels"})
    await served.prepare(grammar)
    told = form.told("channels" if on_channels else calls_form, bool(offered)) if offered or on_channels else None
    return Prompt(tuple(ids), grammar, reasoning, reasons, bool(offered), told)


def call_message(name: str, arguments: str, call_id: str | None) -> Mapping[str, Any]:
    """An earlier call as templates take it: with its arguments as an object."""
    try:
        given: Any = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        given = arguments  # cut short by a limit of tokens: shown as it was
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": given}}


def _beginning(
    served: Served, ids: list[int], on_channels: bool, wanted: bool | None, offered: bool
) -> tuple[str, bool]:  # fmt: skip
    """What the answer to a prompt is made to begin with, and whether it then is inside of reasoning."""
    if on_channels:
        at_once = wanted is False and not offered
        return (form.FINAL, False) if at_once else ("", True)
    written = served.tokenizer.decode(ids[-8:]).rstrip()
    if written.endswith(form.THINK):
        return "", True
    return (form.THINK + "\n", True) if wanted and not written.endswith(form.THOUGHT) else ("", False)


def _shorter(messages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """A conversation with fewer and fewer of its oldest messages, behind the instructions that it begins with. As
    templates want it, it then begins with a user's, or, where there is none any more, not with a call's result."""
    first = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    last_user = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=first)
    begins = [
        i for i, message in enumerate(messages[first:], first)
        if message["role"] == "user" or (i > last_user and message["role"] != "tool")
    ]  # fmt: skip
    return [messages[:first] + messages[i:] for i in begins or [first]]


def _grammar(question: Question, offered: tuple[Tool, ...], calls_form: Form) -> Grammar | None:
    called = [tool for tool in offered if question.named in (None, tool.name)]
    forced = question.choice == "required"
    if forced and not called:
        lacking = "there are no tools to call" if question.named is None else f"no tool is called {question.named!r}"
        raise ApiError(400, f"tool_choice: {lacking}", "tool_choice", "invalid_value")
    tags = tuple(form.call_tag(tool.name, tool.arguments) for tool in called)
    if not tags and question.value is None:
        return None
    value = None if forced else question.value
    return Grammar(value=value, tags=tags, trigger=form.CALL, forced=forced, several=question.several, form=calls_form)


def _budget(question: Question, most: int) -> int:
    half = max(1, most // 2)
    wanted = question.budget or _BUDGETS.get(question.effort or "")
    return half if wanted is None else min(wanted, half)


def _function(tool: Tool, described: bool) -> dict[str, Any]:
    """A tool as templates take it, with a description if it has one or all have to be `described`."""
    told = {"description": tool.description or ""} if tool.description is not None or described else {}
    return {"type": "function", "function": {"name": tool.name, **told, "parameters": tool.parameters}}
