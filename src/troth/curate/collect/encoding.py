"""From bytes to text: UTF-8, what a byte order mark or the file itself declares, what charset-normalizer detects, and
Windows-1252 where nothing says more. UTF-8 with a few broken characters, as where it was cut, stays UTF-8."""

import codecs
import io
from collections.abc import Iterator

from charset_normalizer import from_bytes

_MARKS = [
    (codecs.BOM_UTF8, "utf-8-sig", "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "utf-16"),
]
_IN_USE = [
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "iso8859_2", "koi8_r", "koi8_u",
    "cp874", "cp932", "euc_jp", "gb18030", "big5", "cp949",
]  # fmt: skip
_ENOUGH = 32
"""Bytes beyond ASCII from which on a detector knows more than that most such files are Windows-1252."""
_SAMPLE = 1 << 16
_BEYOND_ASCII = bytes(range(128, 256))
_LONGEST = 64 << 20


def decode(data: bytes, declared: str = "") -> tuple[str, str]:
    """Text of a file and the encoding that it was decoded from. `declared` is what the file says of itself; it counts
    where the bytes agree. Raises ValueError for what is no text."""
    for mark, codec, name in _MARKS:
        if data.startswith(mark):
            return data.decode(codec), name
    for encoding in filter(None, (declared, "utf-8")):
        try:
            return _text(data, encoding), codecs.lookup(encoding).name
        except (LookupError, UnicodeError):
            continue
    try:
        if _is_damaged_utf_8(data):
            return _text(data, "utf-8", "replace"), "utf-8"
        encoding = _detected(data)
        return _text(data, encoding), encoding
    except UnicodeError:
        raise ValueError(_no_text(data)) from None


def lines(stream: io.BufferedReader) -> Iterator[tuple[str, str]]:
    """Lines with their ends, and the encoding of each. A line that is no text, or longer than 64 MB, comes with an
    empty encoding, and what is wrong with it in its place. Memory holds one line."""
    head = stream.peek(_SAMPLE)[:_SAMPLE]
    codec = next((codec for mark, codec, _ in _MARKS if head.startswith(mark)), "")
    if codec in ("utf-16", "utf-32"):
        text = io.TextIOWrapper(stream, codec, newline="\n")
        try:
            yield from ((line, codec) for line in text)
        finally:
            text.detach()
        return
    if codec:
        stream.read(len(codecs.BOM_UTF8))
    fallback = ""
    while line := stream.readline(_LONGEST):
        if len(line) == _LONGEST and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(_LONGEST)
            yield f"a line longer than {_LONGEST >> 20} MB", ""
            continue
        try:
            yield _text(line, "utf-8"), "utf-8"
        except UnicodeError:
            try:
                if _is_damaged_utf_8(line):
                    yield _text(line, "utf-8", "replace"), "utf-8"
                    continue
                fallback = fallback or _detected(head if not head.isascii() else line)
                yield _text(line, fallback), fallback
            except UnicodeError:
                yield _no_text(line), ""


def _text(data: bytes, encoding: str, errors: str = "strict") -> str:
    text = data.decode(encoding, errors)
    if "\0" in text:
        raise UnicodeError("NUL")
    return text


def _no_text(data: bytes) -> str:
    nul = "; it has NUL characters, as files that are no text have" if b"\0" in data else ""
    return f"neither UTF-8 nor Windows-1252 text{nul}"


def _is_damaged_utf_8(data: bytes) -> bool:
    """Whether of the characters beyond ASCII that bytes would be in UTF-8 at least twice as many are whole as are
    broken: in other encodings hardly any are whole."""
    text = data.decode(errors="replace")
    broken = text.count("\ufffd")
    whole = len(text) - len(data.translate(None, _BEYOND_ASCII)) - broken
    return whole >= 2 * broken


def _detected(data: bytes) -> str:
    beyond = data.translate(None, bytes(range(128)))
    if len(beyond) < _ENOUGH:
        return "cp1252"
    # The sample begins where text beyond ASCII does, for a long English preface tells nothing.
    start = data.find(beyond[:1])
    sample = data[max(0, start - 200) : start + _SAMPLE]
    found = list(from_bytes(sample, cp_isolation=_IN_USE, enable_fallback=False))
    # Alphabets are told apart well, code pages of Latin letters are not: the commonest wins unless it is the worse one.
    usual = next((one for one in found if one.encoding == "cp1252"), None)
    alike = usual is not None and (usual.chaos, usual.coherence) == (found[0].chaos, found[0].coherence)
    return found[0].encoding if found and not alike else "cp1252"
