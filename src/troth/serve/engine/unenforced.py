"""What a JSON schema asks for that XGrammar 0.2 compiles into nothing: found, so that a strict schema is not half kept.

The list was made by compiling each keyword of JSON Schema 2020-12 and trying a value that breaks it.
"""

import re
from collections.abc import Iterator
from typing import Any

_IGNORED = frozenset({
    "contains", "minContains", "maxContains", "not", "if", "dependentRequired", "dependentSchemas", "dependencies",
    "unevaluatedItems", "unevaluatedProperties",
})  # fmt: skip
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
_IN_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_ALONE = ("items", "additionalProperties", "propertyNames")
_LENGTHS = ("minLength", "maxLength")
_RANGES = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def unenforced(schema: Any) -> str | None:
    """The first thing, with its place in the schema, that an answer would not be held to; None where there is none."""
    return next(_found(schema, ""), None)


def _found(schema: Any, place: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    for said in _here(schema):
        yield f"{said} at {place or 'the top'}"
    for key in _BY_NAME:
        if isinstance(named := schema.get(key), dict):
            for name, inner in named.items():
                yield from _found(inner, f"{place}/{key}/{name}")
    for key in _IN_LISTS:
        if isinstance(several := schema.get(key), list):
            for index, inner in enumerate(several):
                yield from _found(inner, f"{place}/{key}/{index}")
    for key in _ALONE:
        yield from _found(schema.get(key), f"{place}/{key}")


def _here(schema: dict[str, Any]) -> Iterator[str]:
    yield from (f"'{key}'" for key in schema if key in _IGNORED)
    if schema.get("uniqueItems") is True:
        yield "'uniqueItems'"
    if "multipleOf" in schema and (schema.get("type") != "integer" or any(key in schema for key in _RANGES)):
        yield "'multipleOf' of other than integers, or beside a range"
    if isinstance(several := schema.get("allOf"), list) and len(several) > 1:
        yield "'allOf' of several"
    if isinstance(target := schema.get("$ref"), str) and not target.startswith("#"):
        yield f"'$ref' to {target!r}"
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and re.search(r"\(\?<?[=!]", pattern):
        yield f"what 'pattern' {pattern!r} looks ahead or back for"
    if ("pattern" in schema or "format" in schema) and any(key in schema for key in _LENGTHS):
        yield "a length beside 'pattern' or 'format'"
