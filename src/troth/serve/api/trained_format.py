"""How a model writes reasoning and calls of functions: as it was trained to, in the form of Hermes and Qwen.

<think>reasoning</think>, then text, then calls, each {"name", "arguments"} as JSON in <tool_call> tags. What gpt-oss
writes, in messages on channels, the engine tells in this form, and calls in XML (Qwen3-Coder) or between marks
(DeepSeek-V3, Kimi-K2, Mistral).
"""

import json
from typing import Any

from troth.model.chat_template import ChatTemplate
from troth.serve.engine.channels import CHANNEL, END, MESSAGE, START, has_channels
from troth.serve.engine.marked_calls import form_in
from troth.serve.engine.sampling_params import Form, Json, Reasoning, Tag, Told

THINK = "<think>"
THOUGHT = "</think>"
CALL = "<tool_call>"
CALL_NAME = '<tool_call>\n{"name": '
CALL_ARGUMENTS = ', "arguments": '
CALL_END = "}\n</tool_call>"
_CLOSING = f"\n{THOUGHT}\n\n"
FINAL = f"{CHANNEL}final{MESSAGE}"
"""What an answer of gpt-oss begins with that has no reasoning before it."""
_GPT_OSS_KNOWS = {"none": "low", "minimal": "low", "xhigh": "high"}
_ENDED = f"{END}{START}assistant"


def knows_reasoning(template: ChatTemplate) -> bool:
    """Whether a chat template writes reasoning in this form."""
    return THOUGHT in template.source or on_channels(template)


def on_channels(template: ChatTemplate) -> bool:
    """Whether answers are messages on channels, as gpt-oss's: its template and its tokenizer know them."""
    return CHANNEL in template.source and has_channels(template.tokenizer.special)


def form_of(template: ChatTemplate) -> Form | None:
    """How the models of a chat template write calls; None where they write none."""
    source = template.source
    if on_channels(template):
        return "channels" if "functions." in source else None
    if "<function=" in source and "<parameter=" in source:
        return "xml"
    return "json" if CALL_NAME.replace("\n", "\\n") in source or CALL_NAME in source else form_in(source)


def call_tag(name: str, arguments: Json) -> Tag:
    """A call of a function."""
    return Tag(name=name, begin=CALL_NAME + json.dumps(name) + CALL_ARGUMENTS, value=arguments, end=CALL_END)


def told(form: Form | None, calls: bool) -> Told | None:
    """How the engine is to tell an answer, with calls where functions may be called; None where it is in this form."""
    if form in (None, "json"):
        return None
    call = f"\n{CALL_NAME}" if form == "channels" else CALL_NAME
    return Told(
        form=form, thought=_CLOSING, call=call if calls else "", arguments=CALL_ARGUMENTS, call_end=CALL_END
    )  # fmt: skip


def reasoning(budget: int | None) -> Reasoning:
    """Reasoning that has begun and takes at most `budget` tokens."""
    return Reasoning(end=THOUGHT, closing=_CLOSING, budget=budget)


def reasoning_on_channels(budget: int | None, calls: bool) -> Reasoning:
    """The same of gpt-oss; what follows has to be a call, or an answer."""
    closing = f"{_ENDED}{CHANNEL}commentary to=functions." if calls else _ENDED + FINAL
    return Reasoning(end=THOUGHT, closing=closing, budget=budget)


def switches(effort: str | None, wanted: bool | None, template: ChatTemplate) -> dict[str, Any]:
    """What a template is told of an effort, if one is asked for, and whether reasoning is `wanted` (None leaves that to
    the template): in gpt-oss's words, or in Qwen's and DeepSeek's."""
    if on_channels(template):
        return {} if effort is None else {"reasoning_effort": _GPT_OSS_KNOWS.get(effort, effort)}
    told = {} if effort is None else {"reasoning_effort": effort}
    return told if wanted is None else told | {"enable_thinking": wanted, "thinking": wanted}
