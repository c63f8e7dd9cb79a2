"""What XGrammar does not hold an answer to is refused of a strict schema, and nothing else is."""

import json
from typing import Any

import pytest
import xgrammar
from xgrammar.testing import _is_grammar_accept_string as accepts

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.grammar import Grammars
from troth.serve.engine.sampling_params import Grammar, Json
from troth.serve.engine.unenforced import unenforced

INTEGERS = {"type": "array", "items": {"type": "integer"}}
PAIR = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
NEEDS_A = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

# A schema, and a value that breaks it.
IGNORED = [
    (INTEGERS | {"uniqueItems": True}, [1, 1]),
    (INTEGERS | {"contains": {"const": 1}}, [2]),
    ({"type": ["string", "integer"], "not": {"type": "string"}}, "a"),
    (PAIR | {"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"a": 1}),
    (PAIR | {"dependentRequired": {"a": ["b"]}}, {"a": 1}),
    (PAIR | {"dependentSchemas": {"a": {"required": ["b"]}}}, {"a": 1}),
    (PAIR | {"unevaluatedProperties": False}, {"c": 1}),
    ({"type": "number", "multipleOf": 0.5}, 0.3),
    ({"type": "integer", "multipleOf": 3, "minimum": 3}, 4),
    ({"allOf": [NEEDS_A, {"type": "object", "required": ["b"]}]}, {"a": 1}),
    ({"$ref": "https://example.org/integer"}, "a"),
    ({"type": "string", "pattern": "^(?=b)[ab]$"}, "a"),
    ({"type": "string", "pattern": "^a+$", "maxLength": 3}, "aaaa"),
    ({"type": "string", "format": "email", "maxLength": 6}, "aaaaaa@b.co"),
]
HELD = [
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2, "uniqueItems": False}, [1]),
    ({"type": "integer", "multipleOf": 3}, 4),
    ({"type": "object", "minProperties": 2}, {"a": 1}),
    ({"type": "object", "propertyNames": {"pattern": "^a+$"}}, {"b": 1}),
    ({"type": "object", "patternProperties": {"^a+$": {"type": "integer"}}, "additionalProperties": False}, {"a": "x"}),
    ({"allOf": [NEEDS_A]}, {"b": 1}),
    ({"type": "string", "format": "uuid"}, "a"),
    ({"$defs": {"if": {"type": "integer"}}, "properties": {"not": {"$ref": "#/$defs/if"}}}, {"not": "a"}),
    ({"enum": [{"not": 1}, {"if": 2}]}, {"not": 2}),
]


def allowed(schema: dict[str, Any], value: Any) -> bool:
    grammar = xgrammar.Grammar.from_json_schema(json.dumps(schema), any_whitespace=False, strict_mode=False)
    return bool(accepts(grammar, json.dumps(value)))


@pytest.mark.parametrize(("schema", "value"), IGNORED, ids=lambda part: json.dumps(part)[:60])
def test_what_is_ignored_is_found(schema: dict[str, Any], value: Any):
    assert allowed(schema, value), "XGrammar enforces this now: take it from the list"
    assert unenforced(schema) is not None
    assert unenforced({"properties": {"x": {"items": {"anyOf": [{}, schema]}}}}).endswith("x/items/anyOf/1")


@pytest.mark.parametrize(("schema", "value"), HELD, ids=lambda part: json.dumps(part)[:60])
def test_what_is_enforced_is_let_through(schema: dict[str, Any], value: Any):
    assert not allowed(schema, value)
    assert unenforced(schema) is None


def test_a_strict_schema_is_refused_and_a_loose_one_compiled(tokenizer: Tokenizer):
    grammars = Grammars(tokenizer, [tokenizer.end_of_text])
    text = json.dumps({"type": "object", "properties": {"tags": INTEGERS | {"uniqueItems": True}}})
    assert grammars.compile(Grammar(value=Json(name="schema", schema_text=text)))
    with pytest.raises(
        ValueError, match=r"^schema: strict answers cannot be held to 'uniqueItems' at /properties/tags;"
    ):
        grammars.compile(Grammar(value=Json(name="schema", schema_text=text, strict=True)))
