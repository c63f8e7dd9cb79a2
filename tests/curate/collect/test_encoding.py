"""From bytes to text: what a mark or the file says, UTF-8, a detector, and Windows-1252 for the rest."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.curate.collect.encoding import decode, lines

RUSSIAN = "Москва является столицей страны, и население города составляет двенадцать миллионов человек. "
GREEK = "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας και μία από τις παλαιότερες πόλεις του κόσμου. "
JAPANESE = "東京は日本の首都であり、世界最大の都市の一つである。ひらがなとカタカナを使います。"
FRENCH = "Le président a été élu, et les élèves étaient à l'école où ils apprenaient tout l'été. "


@pytest.mark.parametrize(
    ("text", "encoding", "told"),
    [
        (FRENCH, "utf-8", "utf-8"), (FRENCH, "utf-8-sig", "utf-8"), (FRENCH, "utf-16", "utf-16"),
        (FRENCH, "cp1252", "cp1252"), (FRENCH * 9, "cp1252", "cp1252"), (RUSSIAN, "koi8-r", "koi8_r"),
        (RUSSIAN, "cp1251", "cp1251"), (GREEK, "cp1253", "cp1253"), (JAPANESE, "shift_jis", "cp932"),
    ],
)  # fmt: skip
def test_encodings_are_told(text, encoding, told):
    assert decode(text.encode(encoding)) == (text, told)


def test_what_is_declared_counts_where_the_bytes_agree():
    assert decode("Łódź".encode("iso-8859-2"), "ISO-8859-2") == ("Łódź", "iso8859-2")
    assert decode("Łódź".encode(), "ascii") == ("Łódź", "utf-8")
    assert decode("Łódź".encode(), "no-such-thing") == ("Łódź", "utf-8")
    with pytest.raises(ValueError, match="UTF-8"):
        decode(b"\0\1\2\xff")


text = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=300)


@given(text, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_lines_are_those_that_were_written(written, encoding):
    stream = io.BufferedReader(io.BytesIO(written.encode(encoding)))
    if written.startswith("\ufeff") and encoding == "utf-8":
        written = written[1:]
    assert "".join(line for line, _ in lines(stream)) == written


def test_a_file_of_lines_keeps_one_fallback():
    stream = io.BufferedReader(io.BytesIO(f"{RUSSIAN}\nДа\n".encode("cp1251") + b"plain\n\0\n"))
    found = list(lines(stream))
    assert found[:3] == [(f"{RUSSIAN}\n", "cp1251"), ("Да\n", "cp1251"), ("plain\n", "utf-8")]
    assert found[3][1] == ""


@pytest.mark.parametrize("text", [FRENCH, RUSSIAN, JAPANESE])
def test_utf_8_with_a_broken_character_stays_utf_8(text):
    data = text.rstrip().encode()
    middle = len(data) // 2
    assert decode(data + "é".encode()[:1]) == (text.rstrip() + "\ufffd", "utf-8")
    found, encoding = decode(data[:middle] + b"\xff" + data[middle:])
    assert (encoding, found[:20]) == ("utf-8", text[:20])
    stream = io.BufferedReader(io.BytesIO(data + b"\xff\n" + data + b"\n"))
    assert list(lines(stream)) == [(text.rstrip() + "\ufffd\n", "utf-8"), (text.rstrip() + "\n", "utf-8")]
    with pytest.raises(ValueError, match="NUL"):
        decode(data + b"\0")
