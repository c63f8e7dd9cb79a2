"""Streamed text never shows half a character nor a piece of a stop string."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from troth.serve.engine.text_stream import TextStream


def stream(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    texts = TextStream(stop)
    shown = [texts.push(piece) for piece in pieces]
    return [*shown, texts.close()], texts.stopped is not None


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


def test_half_a_character_waits_for_the_other_half():
    assert stream([b"a\xc3", b"\xa9", b"\xf0\x9f", b"\x99\x82!"]) == (["a", "é", "", "🙂!", ""], False)


def test_an_unfinished_character_at_the_end_is_dropped():
    assert stream([b"ok\xf0\x9f"]) == (["ok", ""], False)


def test_a_possible_stop_string_is_held_until_it_is_certain():
    assert stream([b"one END", b" of it"], ("END.",)) == (["one ", "END of it", ""], False)
    assert stream([b"one EN", b"D. two"], ("END.",)) == (["one ", "", ""], True)
    assert stream([b"one END"], ("END.",)) == (["one ", "END"], False)


@given(st.text("ab"), st.text("ab"))
def test_no_stop_string_begins_in_what_may_not_stop(before: str, after: str):
    texts = TextStream(("ab",))
    assert texts.push(before.encode(), may_stop=False) == before
    shown = texts.push(after.encode()) + texts.close()
    assert (shown, texts.stopped) == (after.partition("ab")[0], "ab" if "ab" in after else None)


@given(st.text(), st.lists(st.integers(0, 5)))
def test_pieces_make_the_whole_text(text: str, sizes: list[int]):
    shown, _ = stream(cut(text.encode(), sizes))
    assert "".join(shown) == text


@given(st.text("abc"), st.lists(st.integers(1, 4)), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1))
def test_text_ends_before_the_first_stop_string_of_its_pieces(text: str, sizes: list[int], stops: list[str]):
    shown, stopped = stream(cut(text.encode(), sizes), tuple(stops))
    assert stopped == any(stop in text for stop in stops)
    joined = "".join(shown)
    assert text.startswith(joined)
    assert not any(stop in joined for stop in stops)
    if not stopped:
        assert joined == text


@given(st.binary())
def test_no_bytes_break_it(data: bytes):
    whole = "".join(stream([bytes([byte]) for byte in data])[0])
    assert data.decode("utf-8", errors="replace").startswith(whole)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_what_is_to_stay_whole_is_not_cut(size: int):
    """Stop strings count before it and behind it, not in it and not across its marks."""
    text = "see: [a. b]. [c]d. e"
    texts = TextStream((". ", "e[", "]d"), whole=("[", "]"))
    shown = "".join(texts.push(text[i : i + size].encode()) for i in range(0, len(text), size)) + texts.close()
    assert (shown, texts.stopped) == ("see: [a. b]", ". ")
    texts = TextStream(("]d", "d. "), whole=("[", "]"))
    shown = "".join(texts.push(text[i : i + size].encode()) for i in range(0, len(text), size)) + texts.close()
    assert (shown, texts.stopped) == ("see: [a. b]. [c]", "d. ")
