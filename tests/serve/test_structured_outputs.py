"""Texts held to a choice, a regular expression, a grammar or a schema, in chats and completions, as vLLM's clients
ask for them."""

import json
import re
from typing import Any

import openai
import pytest

NUMBERED = 'root ::= line{2}\nline ::= [1-9] ". " ("bird" | "bush") "\\n"'
FORMS: list[tuple[dict[str, Any], str]] = [
    ({"choice": ["yes", "no", 'perhaps "so"\n']}, r'yes|no|perhaps "so"\n'),
    ({"regex": r"(\d{3}-){2}[A-F]{1,9}é?\."}, r"(\d{3}-){2}[A-F]{1,9}é?\."),
    ({"grammar": NUMBERED}, r"([1-9]\. (bird|bush)\n){2}"),
    ({"json": {"enum": ["here", 7]}}, r'"here"|7'),
    ({"json": json.dumps({"const": [1]})}, r"\[1\]"),
]


def chat(client: openai.OpenAI, form: dict[str, Any], **more: Any) -> str:
    return client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Is it?"}], extra_body={"structured_outputs": form} | more
    ).choices[0].message.content or ""  # fmt: skip


@pytest.mark.parametrize(("form", "expected"), FORMS, ids=["choice", "regex", "grammar", "json", "json text"])
def test_a_random_model_says_what_it_may(client: openai.OpenAI, form: dict[str, Any], expected: str):
    for seed in range(4):
        assert re.fullmatch(expected, chat(client, form, seed=seed, temperature=2))
        completed = client.completions.create(
            model="tiny", prompt="Is it?", seed=seed, max_tokens=100, extra_body={"structured_outputs": form}
        ).choices[0]
        assert re.fullmatch(expected, completed.text)
        assert completed.finish_reason == "stop"


def test_completions_have_formats_as_chats_have_them(client: openai.OpenAI):
    schema = {"type": "object", "properties": {"place": {"enum": ["hand", "bush"]}}, "required": ["place"]}
    form = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": schema}}
    asked = {"model": "tiny", "prompt": "Where is it?", "max_tokens": 100, "temperature": 2}
    choice = client.completions.create(**asked, extra_body={"response_format": form}).choices[0]
    assert json.loads(choice.text)["place"] in ("hand", "bush")
    assert choice.finish_reason == "stop"
    with pytest.raises(openai.BadRequestError, match="only one of structured_outputs and response_format"):
        client.completions.create(
            **asked, extra_body={"response_format": form, "structured_outputs": {"json_object": True}}
        )


def test_any_object(client: openai.OpenAI):
    assert chat(client, {"json_object": True}, max_tokens=20).startswith("{")


def test_who_asks_by_older_names_is_told_the_new_one(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError, match=r'guided_regex; it is "structured_outputs": \{"regex": ...\}'):
        client.completions.create(model="tiny", prompt="A", extra_body={"guided_regex": "a"})


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"regex": "(a"}, "structured_outputs.regex: Regex parsing error at position 3"),
        ({"grammar": 'start ::= "a"'}, 'structured_outputs.grammar: .*root rule with name "root" is not found'),
        ({"grammar": 'root ::= root "a"'}, "structured_outputs.grammar: no token of the model begins a text"),
        ({"regex": "a" * 40_001}, "has 40,001 characters"),
        ({"regex": "a", "choice": ["a"]}, "exactly one of json, json_object, regex, choice and grammar"),
        ({}, "not 0"),
        ({"choice": []}, "at least 1 item"),
    ],
)
def test_what_is_wrong_is_named(client: openai.OpenAI, form: dict[str, Any], problem: str):
    with pytest.raises(openai.BadRequestError, match=problem):
        chat(client, form)
    with pytest.raises(openai.BadRequestError, match=problem):
        client.completions.create(model="tiny", prompt="A", extra_body={"structured_outputs": form})


def test_one_form_is_enough(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError, match="only one of structured_outputs and response_format"):
        chat(client, {"choice": ["a"]}, response_format={"type": "json_object"})
