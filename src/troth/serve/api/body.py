"""A request's body, or a part of it, as far as all have the same manners."""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema


def _fail_fast(schema: Any) -> None:
    """Have lists and mappings of a schema, at any depth, end at the first wrong item."""
    if isinstance(schema, dict):
        if schema.get("type") in ("list", "dict"):
            schema["fail_fast"] = True
        for part in schema.values():
            _fail_fast(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            _fail_fast(part)


class Body(BaseModel):
    """Unknown keys are refused. One whose value is null is as one left out, known or not: clients name what they do not
    ask for, too. What is needed cannot be null.

    Of a list or mapping the first wrong item is told and no other looked at, and of too many keys the first unknown:
    described at some 2 KB each, those of a body of 16 MiB would take all the memory there is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _fail_fast(handler.resolve_ref_schema(schema))
        return schema

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        fields = cls.__pydantic_fields__  # `model_fields` is four times as slow, and a body may have many objects.
        if len(given) > len(fields):
            known = {field.alias or name for name, field in fields.items()}
            unknown = [key for key in given if key not in known]
            given = {key: value for key, value in given.items() if key in known or key == unknown[0]}
        if None not in given.values():
            return given
        needed = {name for name, field in fields.items() if field.is_required()}
        return {key: value for key, value in given.items() if value is not None or key in needed}


def refusal_as_text(given: Any) -> Any:
    """A part of a message, before it is read: an earlier answer's refusal is text that the assistant said."""
    if isinstance(given, dict) and given.get("type") == "refusal" and given.keys() == {"type", "refusal"}:
        return {"type": "text", "text": given["refusal"]}
    return given
