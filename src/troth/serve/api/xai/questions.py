"""From xAI's request for a chat completion to the body of POST /v1/chat/completions."""

import json
from collections.abc import Sequence
from typing import Any

from xai_sdk.proto import chat_pb2

from troth.serve.api.errors import ApiError

_ROLES = {
    chat_pb2.ROLE_USER: "user", chat_pb2.ROLE_ASSISTANT: "assistant", chat_pb2.ROLE_SYSTEM: "system",
    chat_pb2.ROLE_DEVELOPER: "developer", chat_pb2.ROLE_TOOL: "tool",
}  # fmt: skip
_EFFORTS = {
    chat_pb2.EFFORT_NONE: "none", chat_pb2.EFFORT_LOW: "low", chat_pb2.EFFORT_MEDIUM: "medium",
    chat_pb2.EFFORT_HIGH: "high", chat_pb2.EFFORT_XHIGH: "xhigh",
}  # fmt: skip
_MODES = {
    chat_pb2.TOOL_MODE_AUTO: "auto", chat_pb2.TOOL_MODE_NONE: "none", chat_pb2.TOOL_MODE_REQUIRED: "required"
}  # fmt: skip
_SAME = ("n", "seed", "temperature", "top_p", "top_logprobs", "frequency_penalty", "presence_penalty")
# What would have to change the answer and cannot.
_UNKNOWN = {
    "previous_response_id": "send the whole conversation",
    "store_messages": "conversations are stored by POST /v1/responses, over HTTP",
    "agent_count": "one model answers",
    "guidelines": "put them into a system message",
}


def chat_body(request: chat_pb2.GetCompletionsRequest) -> dict[str, Any]:
    """The same question as JSON. Raises ApiError naming what cannot be asked here."""
    given = {field.name for field, _ in request.ListFields()}
    for name, instead in _UNKNOWN.items():
        if name in given:
            raise _refused(name, f"is not supported: {instead}")
    body: dict[str, Any] = {"model": request.model, "messages": _messages(request.messages)}
    body |= {name: getattr(request, name) for name in _SAME if request.HasField(name)}
    body |= {name: getattr(request, name) for name in ("user", "logprobs", "safety_identifier") if name in given}
    if request.HasField("max_tokens"):
        body["max_completion_tokens"] = request.max_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.HasField("parallel_tool_calls"):
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.HasField("reasoning_effort"):
        body["reasoning_effort"] = _named(_EFFORTS, request.reasoning_effort, "reasoning_effort")
    if request.HasField("search_parameters") and request.search_parameters.mode != chat_pb2.OFF_SEARCH_MODE:
        body["search_parameters"] = {}
    if request.tools:
        body["tools"] = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(request.tools)]
    if request.HasField("tool_choice"):
        body["tool_choice"] = _choice(request.tool_choice)
    if request.HasField("response_format"):
        body["response_format"] = _format(request.response_format)
    return body


def _messages(messages: Sequence[chat_pb2.Message]) -> list[dict[str, Any]]:
    """Results of calls that do not say of which belong to the calls before them, one after the other."""
    found = []
    unanswered: list[str] = []
    for place, message in enumerate(messages):
        role = _named(_ROLES, message.role, f"messages[{place}].role")
        if message.encrypted_content:
            raise _refused(f"messages[{place}].encrypted_content", "is not of this server, whose reasoning is plain")
        turn: dict[str, Any] = {"role": role}
        if message.content:
            turn["content"] = [_text(part, f"messages[{place}].content") for part in message.content]
        turn |= {name: getattr(message, name) for name in ("name", "reasoning_content") if getattr(message, name)}
        if message.tool_calls:
            turn["tool_calls"] = [
                {"id": call.id, "function": {"name": call.function.name, "arguments": call.function.arguments}}
                for call in message.tool_calls
            ]
            unanswered = [call.id for call in message.tool_calls]
        if role == "tool" and (call_id := message.tool_call_id or (unanswered[0] if unanswered else "")):
            turn["tool_call_id"] = call_id
            unanswered = [other for other in unanswered if other != call_id]
        found.append(turn)
    return found


def _text(part: chat_pb2.Content, place: str) -> dict[str, str]:
    if not part.HasField("text"):
        raise _refused(place, "has a picture or a file; this server reads text")
    return {"type": "text", "text": part.text}


def _tool(tool: chat_pb2.Tool, place: str) -> dict[str, Any]:
    if not tool.HasField("function"):
        raise _refused(place, f"is {tool.WhichOneof('tool')}; functions are the only tools here")
    function = tool.function
    given: dict[str, Any] = {"name": function.name, "strict": function.strict}
    if function.description:
        given["description"] = function.description
    if function.parameters:
        given["parameters"] = _object(function.parameters, f"{place}.function.parameters")
    return {"type": "function", "function": given}


def _choice(choice: chat_pb2.ToolChoice) -> Any:
    if choice.HasField("function_name"):
        return {"type": "function", "function": {"name": choice.function_name}}
    return _named(_MODES, choice.mode, "tool_choice.mode")


def _format(given: chat_pb2.ResponseFormat) -> dict[str, Any]:
    if given.format_type == chat_pb2.FORMAT_TYPE_JSON_SCHEMA:
        schema = _object(given.schema, "response_format.schema")
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    wanted_json = given.format_type == chat_pb2.FORMAT_TYPE_JSON_OBJECT
    return {"type": "json_object" if wanted_json else "text"}


def _object(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(place, f"is not JSON: {error}") from error


def _named(names: dict[Any, str], value: int, place: str) -> str:
    if value not in names:
        raise _refused(place, f"is {value}; known are {', '.join(f'{key} ({name})' for key, name in names.items())}")
    return names[value]


def _refused(place: str, says: str) -> ApiError:
    return ApiError(400, f"{place} {says}", place.partition("[")[0].partition(".")[0], "invalid_value")
