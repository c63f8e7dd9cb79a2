"""How a model writes reasoning and calls of functions: as it was trained to, in the form of Hermes and Qwen.

<think>reasoning</think>, then text, then calls, each {"name", "arguments"} as JSON in <tool_call> tags.
"""

from typing import Any

from troth.model.chat_template import ChatTemplate
from troth.serve.engine.sampling_params import Json, Reasoning, Tag

THINK = "<think>"
THOUGHT = "</think>"
CALL = "<tool_call>"
CALL_NAME = '<tool_call>\n{"name": '
CALL_ARGUMENTS = ', "arguments": '
CALL_END = "}\n</tool_call>"


def knows_reasoning(template: ChatTemplate) -> bool:
    """Whether a chat template writes reasoning in this form."""
    return THOUGHT in template.source


def knows_calls(template: ChatTemplate) -> bool:
    """Whether a chat template writes calls in this form."""
    return CALL_NAME.replace("\n", "\\n") in template.source or CALL_NAME in template.source


def call_tag(name_text: str, arguments: Json) -> Tag:
    """A call of the function whose name, as JSON, is `name_text`."""
    return Tag(begin=CALL_NAME + name_text + CALL_ARGUMENTS, value=arguments, end=CALL_END)


def reasoning(budget: int | None) -> Reasoning:
    """Reasoning that has begun and takes at most `budget` tokens."""
    return Reasoning(end=THOUGHT, closing=f"\n{THOUGHT}\n\n", budget=budget)


def switches(effort: str | None) -> dict[str, Any]:
    """What templates are told of the effort, each in its own words."""
    return {"reasoning_effort": effort} | ({"enable_thinking": False} if effort == "none" else {})
