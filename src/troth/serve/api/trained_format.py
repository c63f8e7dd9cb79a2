"""How a model writes reasoning and calls of functions: as it was trained to, in the form of Hermes and Qwen.

<think>reasoning</think>, then text, then calls, each {"name", "arguments"} as JSON in <tool_call> tags. What gpt-oss
writes, in messages on channels, the engine tells in this form.
"""

import json
from typing import Any

from troth.model.chat_template import ChatTemplate
from troth.serve.engine.channels import CHANNEL, END, MESSAGE, START
from troth.serve.engine.sampling_params import Channels, Json, Reasoning, Tag

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
    """Whether answers are messages on channels, as gpt-oss's."""
    return CHANNEL in template.source


def knows_calls(template: ChatTemplate) -> bool:
    """Whether a chat template writes calls in this form."""
    if on_channels(template):
        return "functions." in template.source
    return CALL_NAME.replace("\n", "\\n") in template.source or CALL_NAME in template.source


def call_tag(name: str, arguments: Json) -> Tag:
    """A call of a function."""
    return Tag(name=name, begin=CALL_NAME + json.dumps(name) + CALL_ARGUMENTS, value=arguments, end=CALL_END)


def channels(calls: bool) -> Channels:
    """gpt-oss's messages in this form, calls among them where functions may be called."""
    return Channels(
        thought=_CLOSING, call=f"\n{CALL_NAME}" if calls else "", arguments=CALL_ARGUMENTS, call_end=CALL_END
    )


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
