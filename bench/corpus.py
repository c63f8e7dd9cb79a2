"""A corpus of any size for measuring: the OpenStax textbooks of `shared/data`, replicated.

A tenth are exact copies, a fifth near ones (paragraphs left out, a frame added), a tenth junk of five kinds, the rest
with their longer words exchanged for others of the same length, which are new texts of the same statistics.
"""

import json
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from troth.curate.collect.part import collect_part
from troth.curate.collect.plan import plan_collect
from troth.curate.document import Document
from troth.curate.parts import Parts

PART_BYTES = 8_000_000
"""Text of one part of the flow."""


def textbooks(data: Path) -> list[str]:
    """Texts of the pages of all textbooks. Raises SystemExit where there are none."""
    folders = sorted(data.glob("openstax_*/contents"))
    if not folders:
        sys.exit(f"{data}: no openstax_*/contents; name the folder above data with --shared")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for part in range(plan_collect([str(one) for one in folders], out).parts):
            collect_part(part, out)
        found = [one for part in range(100) for one in Parts(out, "collect").read(part, "documents", Document)]
    return [one.text for one in sorted(found, key=lambda one: one.source) if len(one.text) > 500]


def corpus(books: list[str], megabytes: float) -> Iterator[Document]:
    """Documents of so many million characters, always the same."""
    draw = random.Random(0)
    pages = list(books)
    long_words = sorted({word for page in pages for word in re.findall(r"[a-z]{5,}", page)})
    size = number = 0
    while size < megabytes * 1e6:
        at = number % len(pages)
        if at == 0:
            exchange = exchanged(long_words, draw) if number else {}
        kind = draw.random()
        text = pages[at]
        if kind < 0.1:
            text = junk(draw, long_words)
        elif kind < 0.3 and number >= len(pages):
            paragraphs = text.split("\n\n")
            left = [one for one in paragraphs if draw.random() < 0.9]
            text = "\n\n".join([f"Reprinted for the {draw.choice(long_words)} reader.", *left])
        elif kind < 0.9 or number < len(pages):
            text = reworded(text, exchange)
        yield Document(f"{number:06d}", "documents", text)
        size, number = size + len(text), number + 1


def exchanged(words: list[str], draw: random.Random) -> dict[str, str]:
    """Each word and another one of its length."""
    found: dict[str, str] = {}
    for length in {len(word) for word in words}:
        same = [word for word in words if len(word) == length]
        found.update(zip(same, draw.sample(same, len(same)), strict=True))
    return found


def reworded(text: str, exchange: dict[str, str]) -> str:
    """The text with words exchanged."""
    return re.sub(r"[a-z]{5,}", lambda found: exchange.get(found[0], found[0]), text)


def junk(draw: random.Random, words: list[str]) -> str:
    """A page of no use, of one of five kinds."""
    some = draw.sample(words, 30)
    match draw.randrange(5):
        case 0:
            return "\n".join(f"- {' '.join(draw.choices(some, k=3))}" for _ in range(draw.randint(5, 80)))
        case 1:
            return " ".join(f"buy cheap {some[0]} now" for _ in range(draw.randint(5, 200)))
        case 2:
            return " ".join(str(draw.randint(0, 9999)) for _ in range(draw.randint(20, 400)))
        case 3:
            line = f"Read more about {some[0]} and the {some[1]} that we have with you."
            return "\n\n".join([line] * draw.randint(3, 60))
        case _:
            return " ".join(f"{word}..." for word in draw.choices(some, k=draw.randint(10, 120)))


def write_corpus(books: list[str], megabytes: float, folder: Path) -> Path:
    """The corpus as files of JSON lines, of about PART_BYTES each, told by four publishers."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written = 0
    for number, document in enumerate(corpus(books, megabytes)):
        name = f"{int(written / PART_BYTES):04d}.jsonl"
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"text": document.text, "publisher": f"P{number % 4}"}) + "\n")
        written += len(document.text)
    return folder
