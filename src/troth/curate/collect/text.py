"""Clean paragraphs from raw text: stray characters, and lines that were wrapped to a fixed width."""

import re
import unicodedata

_INVISIBLE: dict[int, str | None] = dict.fromkeys([*range(0x20), 0x7F, 0xAD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF])
_INVISIBLE.update({ord("\n"): "\n", ord("\t"): "\t", 0xA0: " ", 0x202F: " ", 0x2028: "\n", 0x2029: "\n\n"})
_NEWLINE = re.compile(r"\r\n?|\f|\x0b|\x85")
_ODD = re.compile(f"[{''.join(re.escape(chr(one)) for one in {*_INVISIBLE, 0x85} - {0x09, 0x0A})}]")
_GAP = re.compile(r"\n{3,}")
_ITEM = re.compile(r"\s*(?:[-*+•‣·–]|\(?\d{1,3}[.)])\s+\S")
_BULLET = re.compile(r"^\s*[-*+•‣·–]\s+")
_NARROWEST, _WIDEST = 30, 200


def clean(text: str) -> str:
    """The same words in Unicode NFC, without invisible characters, trailing blanks, or more than one empty line."""
    if _ODD.search(text):
        text = _NEWLINE.sub("\n", text).translate(_INVISIBLE)
    text = unicodedata.normalize("NFC", text)
    text = "\n".join([line.rstrip() for line in text.split("\n")])
    return (_GAP.sub("\n\n", text) if "\n\n\n" in text else text).strip("\n")


def unwrap(text: str) -> str:
    """Join lines that a fixed width broke, so that each paragraph is one line, with an empty line between two.

    A line clearly shorter than the page is wide ends its paragraph (a heading, the last line of a paragraph), and
    list items stay apart. Text that is too narrow or too wide to have been wrapped keeps its lines as paragraphs.
    """
    text = clean(text)
    lengths = sorted(len(line) for line in text.split("\n") if line)
    if not lengths:
        return ""
    width = lengths[len(lengths) * 9 // 10]
    wrapped = _NARROWEST <= width <= _WIDEST
    paragraphs: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        last = ""
        for line in block.split("\n"):
            full = len(last) >= 0.6 * width or last.endswith("-")
            continues = wrapped and full and not _ITEM.match(line)
            words = _BULLET.sub("", line).strip()
            if continues and paragraphs:
                paragraphs[-1] = _join(paragraphs[-1], words, text)
            elif words:
                paragraphs.append(words)
            last = line
    return "\n\n".join(re.sub(r"\s+", " ", paragraph) for paragraph in paragraphs)


def _join(start: str, end: str, text: str) -> str:
    """A hyphen at the end of a line goes where the text also writes the word in one piece, and stays otherwise."""
    broken = re.search(r"(\w+)-$", start)
    rest = re.match(r"[^\W\d_]+", end)
    if not broken or not rest or not rest.group().islower():
        return f"{start} {end}"
    if re.search(rf"\b{broken.group(1)}{rest.group()}\b", text):
        return start[:-1] + end
    return start + end
