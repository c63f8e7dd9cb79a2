"""The parts of an answer are the same however its text is cut into outputs."""

import json

from hypothesis import given
from hypothesis import strategies as st

from troth.serve.api.reading import Reading
from troth.serve.engine.request import Output, SampledToken

CALL = '<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>'


def read(pieces: list[str], finish: str = "stop", **knows: bool) -> Reading:
    reading = Reading(**knows)
    for count, piece in enumerate(pieces, 1):
        last = count == len(pieces)
        reading.take(Output("r", piece, (SampledToken(count),), 5, count, 0, finish if last else None))
    return reading


def blocks(reading: Reading) -> list[tuple[str, str]]:
    return [(block.kind, block.text) for block in reading.blocks]


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(st.data())
def test_reasoning_text_and_calls_however_they_are_cut(data: st.DataObject):
    place = {"city": 'a "quoted" } brace {', "n": [1, {"deep": "</tool_call>"}]}
    text = "<think>\nIt asks <b>.\n</think>\n\nLet me < see.\n" + CALL % ("weather", json.dumps(place))
    text += "\n" + CALL % ("now", "{}")
    reading = read(data.draw(cut(text)), reasons=True, calls=True)
    assert blocks(reading) == [
        ("reasoning", "It asks <b>."), ("content", "Let me < see."), ("call", json.dumps(place)), ("call", "{}"),
    ]  # fmt: skip
    assert [call.name for call in reading.called] == ["weather", "now"]
    assert len({call.call_id for call in reading.called}) == 2
    assert reading.finish_reason == "tool_calls"


@given(st.data(), st.text("<think>/ \n\"{}ab"), st.booleans(), st.booleans())
def test_plain_text_is_kept_whole(data: st.DataObject, text: str, reasons: bool, calls: bool):
    if reasons and text.lstrip().startswith("<think>"):
        text = "a" + text
    assert read(data.draw(cut(text)), reasons=reasons, calls=calls).text("content") == text


def test_reasoning_is_counted_in_tokens_with_its_marks():
    begun = read(["so", " it", " is\n</think>", "\n\n", "42"], reasons=True, inside=True)
    assert blocks(begun) == [("reasoning", "so it is"), ("content", "42")]
    assert begun.reasoning_tokens == 3
    assert read(["<th", "ink>", "a", "</think>", "b"], reasons=True).reasoning_tokens == 4
    assert read(["<th", "ank>", "a"], reasons=True).reasoning_tokens == 0
    for end in ("", "\n</", "\n</think"):
        assert blocks(read(["still", end], "length", reasons=True, inside=True)) == [("reasoning", "still")]
    cut_short = read(["still", " thinking"], "length", reasons=True, inside=True)
    assert (blocks(cut_short), cut_short.reasoning_tokens) == ([("reasoning", "still thinking")], 2)


def test_a_call_cut_short_keeps_what_there_is():
    reading = read(['<tool_call>\n{"name": "f", "arguments": {"a": "b'], "length", calls=True)
    assert blocks(reading) == [("call", '{"a": "b')]
    assert reading.finish_reason == "length"


def test_a_call_that_is_cut_short_before_its_name_is_no_text():
    for end in ("<tool_call>", '<tool_call>\n{"na', '<tool_call>\n{"name": "wea'):
        assert blocks(read(["Let me see.", "\n", end], "length", calls=True)) == [("content", "Let me see.")]
        assert read(["Let me see.\n", end], "length").text("content") == "Let me see.\n" + end
