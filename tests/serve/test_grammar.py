"""What a grammar lets a random model say, and how reasoning before it ends."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.initialise import initialise
from troth.model.tokenizer import SPECIAL, Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.grammar import Grammars
from troth.serve.engine.guide import Guide
from troth.serve.engine.request import Output, Request
from troth.serve.engine.sampling_params import Grammar, Json, Pattern, Reasoning, SamplingParams, Tag
from troth.system.serve import ServeTable

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "born": {"enum": ["here", "elsewhere"]},
        "likes": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "born", "likes"],
    "additionalProperties": False,
}
THINK = Reasoning(end="</think>", closing="\n</think>\n\n", budget=10)


@pytest.fixture(scope="module")
def engine(make_engine: Callable[..., Engine]) -> Engine:
    return make_engine()


def of_schema(schema: dict[str, Any], **changes: Any) -> Grammar:
    return Grammar(value=Json(name="schema", schema_text=json.dumps(schema), **changes))


def say(engine: Engine, grammar: Grammar | None, **params: Any) -> tuple[str, list[Output]]:
    prompt = tuple(engine.tokenizer.encode("A bird in"))
    [outputs] = engine.generate([Request(prompt, SamplingParams(grammar=grammar, **params))])
    return "".join(output.text for output in outputs), outputs


def say_many(engine: Engine, grammar: Grammar, **params: Any) -> list[str]:
    prompt = tuple(engine.tokenizer.encode("A bird in"))
    each = [SamplingParams(grammar=grammar, seed=seed, temperature=3, **params) for seed in range(12)]
    outputs = engine.generate([Request(prompt, params) for params in each])
    return ["".join(output.text for output in found) for found in outputs]


def test_random_models_write_json_of_the_schema(engine: Engine):
    prompt = tuple(engine.tokenizer.encode("A bird in"))
    grammar = of_schema(PERSON)
    params = [SamplingParams(grammar=grammar, seed=i, temperature=2, ignore_eos=i % 2 == 0) for i in range(8)]
    for outputs in engine.generate([Request(prompt, each) for each in params]):
        text = "".join(output.text for output in outputs)
        jsonschema.validate(json.loads(text), PERSON)
        assert outputs[-1].finish_reason == "stop"
        between = re.sub(r'"(?:\\.|[^"\\])*"', '""', text)
        assert not re.search(r"\s\s|[^\S ]", between), "one space behind , and : is all white space"


def test_rows_of_a_batch_follow_their_own_grammars(engine: Engine):
    grammars = [of_schema({"const": "yes"}), None, of_schema({"type": "boolean"}), of_schema(PERSON)]
    prompt = tuple(engine.tokenizer.encode("Practice makes"))
    requests = [Request(prompt, SamplingParams(grammar=g, seed=3, max_tokens=200 if g else 20)) for g in grammars]
    texts = ["".join(output.text for output in outputs) for outputs in engine.generate(requests)]
    assert json.loads(texts[0]) == "yes"
    assert json.loads(texts[2]) in (True, False)
    jsonschema.validate(json.loads(texts[3]), PERSON)
    [alone] = engine.generate([Request(prompt, SamplingParams(seed=3, max_tokens=20))])
    assert texts[1] == "".join(output.text for output in alone)


def test_forced_tags_and_free_ones(engine: Engine):
    value = Json(name="arguments", schema_text=json.dumps({"type": "object", "properties": {}}), strict=True)
    tags = tuple(Tag(name=name, begin=f"<call>{name} ", value=value, end="</call>") for name in ("one", "two"))
    calls = {"<call>one {}</call>", "<call>two {}</call>"}
    assert set(say_many(engine, Grammar(tags=tags, forced=True, several=False))) == calls
    several = [text.split("\n") for text in say_many(engine, Grammar(tags=tags, forced=True))]
    assert {call for each in several for call in each} == calls
    assert max(map(len, several)) > 1
    either = of_schema({"type": "null"}).model_copy(update={"tags": tags, "several": False})
    assert {"null"} < set(say_many(engine, either)) <= {"null", *calls}
    free = say_many(engine, Grammar(tags=tags, trigger="<call>"), max_tokens=30)
    assert all(free)
    assert not any("<call>" in text for text in free)


def test_reasoning_ends_at_its_budget_and_then_the_grammar_holds(engine: Engine):
    text, outputs = say(engine, of_schema({"type": "boolean"}), reasoning=THINK, seed=2)
    assert text.split("\n</think>\n\n")[1] in ("true", "false")
    assert outputs[-1].finish_reason == "stop"
    thinking = next(i for i in range(len(outputs)) if "</think>" in "".join(o.text for o in outputs[: i + 1]))
    closing = len(engine.tokenizer.encode("\n</think>\n\n"))
    assert thinking < THINK.budget + closing
    free, outputs = say(engine, None, reasoning=THINK, seed=2, max_tokens=60, ignore_eos=True)
    assert free.index("\n</think>\n\n") <= 10 * max(map(len, engine.tokenizer.ranks))
    assert len(outputs) == 60


def test_a_text_that_its_grammar_leads_nowhere_is_cut_short(engine: Engine):
    """As by length. One way of many is a dead end, which a rehearsal may miss."""
    dead = Grammar(value=Pattern(name="grammar", grammar=r'root ::= [a-y]{200} | "zz" [^\u0000-\U0010ffff]'))
    for reasoning in (None, THINK):
        text, outputs = say(
            engine, dead, temperature=0, logit_bias={engine.tokenizer.encode("z")[0]: 100.0}, reasoning=reasoning
        )
        assert text.endswith("zz")
        assert outputs[-1].finish_reason == "length"
    assert not engine.has_work


def test_behind_reasoning_a_text_has_its_fewest_tokens(engine: Engine):
    end = engine.tokenizer.end_of_text
    _, outputs = say(engine, None, temperature=0, logit_bias={end: 100.0}, reasoning=THINK, min_tokens=40)
    assert [token.id == end for output in outputs for token in output.tokens] == [False] * 40 + [True]
    stop = {"logit_bias": {7: 100.0}, "stop_token_ids": (7,)}
    _, outputs = say(engine, None, temperature=0, reasoning=THINK, min_tokens=4, **stop)
    assert [token.id == 7 for output in outputs for token in output.tokens] == [False] * 4 + [True]


def test_nothing_comes_between_the_end_of_reasoning_and_the_grammar(tokenizer: Tokenizer):
    """The model ends its reasoning itself, before the budget."""
    grammars = Grammars(tokenizer, [tokenizer.end_of_text])
    guide = Guide(tokenizer, [tokenizer.end_of_text], THINK, grammars.matcher(of_schema({"type": "boolean"})))
    said: list[int] = tokenizer.encode("so</think")

    def allowed() -> list[int]:
        logits_V = torch.zeros(tokenizer.vocab_size)
        guide.mask(logits_V)
        return torch.isfinite(logits_V).nonzero()[:, 0].tolist()

    for token in said:
        assert tokenizer.end_of_text not in allowed(), "the text cannot end before what the grammar asks for"
        guide.take(token, tokenizer.decode_bytes([token]))
    while len(choice := allowed()) == 1:
        guide.take(choice[0], tokenizer.decode_bytes(choice))
        said += choice
    assert tokenizer.decode(said) == "so</think>\n\n"
    assert {tokenizer.decode([token])[0] for token in choice} == {"t", "f"}
    assert not guide.complete
    for token in [*tokenizer.encode("true"), tokenizer.end_of_text]:
        guide.take(token, tokenizer.decode_bytes([token]))
    assert guide.complete


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ('{"type": "wizard"}', 'Unsupported type "wizard"'),
        ('{"$ref": "#/nowhere"}', "nowhere"),
        ('{"type": "string", "pattern": "(["}', "Unclosed"),
        ("{", "syntax error"),
        ('{"const": "' + "a" * 50_000 + '"}', "at most 40,000"),
        ('{"items": ' * 70 + "{}" + "}" * 70, "71 levels deep"),
    ],
)
def test_what_is_no_schema_is_named(engine: Engine, schema: str, says: str):
    grammar = Grammar(value=Json(name="response_format.schema", schema_text=schema))
    for refuse in (engine.prepare, lambda params: engine.check(Request((1,), params))):
        with pytest.raises(ValueError, match=r"^response_format.schema: ") as error:
            refuse(SamplingParams(grammar=grammar))
        assert says in str(error.value)
        assert ".cc" not in str(error.value)
        assert len(str(error.value)) < 300


def test_a_grammar_that_no_token_may_begin_is_refused(tokenizer: Tokenizer):
    braces = [i for i in range(tokenizer.vocab_size) if tokenizer.decode_bytes([i]).startswith(b"{")]
    grammars = Grammars(tokenizer, [tokenizer.end_of_text, *braces])
    with pytest.raises(ValueError, match=r"^response_format\.schema: no token of the model begins a text"):
        grammars.compile(Grammar(value=Json(name="response_format.schema", schema_text='{"type": "object"}')))


def test_tokens_that_readers_see_are_part_of_the_text(tokenizer: Tokenizer, config: ModelConfig, tmp_path: Path):
    """Qwen has tokens of their own for these marks."""
    marks = ("<think>", "</think>", "<tool_call>", "</tool_call>")
    Tokenizer(tokenizer.ranks, [*SPECIAL, *marks], marks).save(tmp_path)
    qwen = Tokenizer.load(tmp_path)
    assert qwen.visible == set(marks)
    model = initialise(Decoder(config.model_copy(update={"vocab_size": qwen.vocab_size})), 5)
    engine = Engine(model, qwen, ServeTable(cache_tokens=512))
    begun = {qwen.special["<think>"]: 100, qwen.special["<|user|>"]: 100}
    [outputs] = engine.generate([Request((1, 2), SamplingParams(logit_bias=begun, max_tokens=8, seed=1))])
    assert set("".join(output.text for output in outputs).split("<think>")) == {""}
    value = Json(name="arguments", schema_text=json.dumps({"type": "object", "properties": {}}), strict=True)
    tag = Tag(name="one", begin="<tool_call>", value=value, end="</tool_call>")
    call = Grammar(tags=(tag,), forced=True, several=False)
    [outputs] = engine.generate([Request((1, 2), SamplingParams(grammar=call, seed=1, logit_bias={
        qwen.special[mark]: 100 for mark in marks
    }))])  # fmt: skip
    assert "".join(output.text for output in outputs) == "<tool_call>{}</tool_call>"
    assert outputs[0].tokens[0].id == qwen.special["<tool_call>"]


def test_the_cache_of_compiled_grammars_is_bounded(tokenizer: Tokenizer):
    grammars = Grammars(tokenizer, [tokenizer.end_of_text], cache_bytes=100_000)
    many = [of_schema({"type": "object", "properties": {f"key_{i}": {"type": "string"}}}) for i in range(40)]
    compiled = [grammars.compile(grammar) for grammar in many]
    assert sum(each.memory_size_bytes for each in compiled) > 200_000
    assert grammars.cached_bytes <= 100_000
    assert grammars.compile(many[-1]) is compiled[-1]
    assert grammars.compile(many[0]) is not compiled[0]
