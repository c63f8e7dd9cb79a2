"""What stands between the same few words elsewhere, and which names fit between two words."""

from pathlib import Path

import numpy as np

from troth.curate.validate import company
from troth.curate.validate import phrases as phrases_module
from troth.curate.validate.company import Company, CompanyWriter
from troth.curate.validate.mapped import Maps
from troth.curate.validate.phrases import Phrases, PhraseWriter, key_of
from troth.curate.validate.values import Value, find_values

WORDS = "council harbour market school theatre choir guild".split()  # noqa: SIM905


def name(text: str, called: str) -> Value:
    return next(value for value in find_values(text) if value.text == called)


def everybody(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(len(at), bool), at


def test_pages_that_have_the_same_words_beside_a_value_say_what_belongs_there(tmp_path):
    pages = [
        "Water leaves by the loop of Henle.",
        "Salt enters the loop of Henle slowly.",
        "In Peru a loop of Rome ends.",
    ]
    writer = PhraseWriter(tmp_path / "phrases")
    for at, text in enumerate(pages):
        writer.add(at, text, find_values(text), source=at)
    writer.close()
    claim = "Both limbs of the loop of Sumatra are thin."
    spoken = Phrases(tmp_path / "phrases", Maps()).elsewhere(claim, name(claim, "Sumatra"), everybody)
    henle, rome = key_of(name(pages[0], "Henle")), key_of(name(pages[2], "Rome"))
    assert spoken.share == {henle: 2 / 4, rome: 1 / 4}
    assert sorted(spoken.at) == [0, 1, 2]


def test_a_name_fits_where_its_own_company_stands_and_its_own_place_does_not_count(tmp_path):
    texts = [f"They met in {land} again." for land in ("Peru", "Peru", "Chad")] + ["It was said by Fleming, twice."] * 2
    writer = CompanyWriter(tmp_path / "company")
    for text in texts:
        writer.add(text, find_values(text))
    writer.close()
    company = Company(tmp_path / "company", Maps())
    peru, fleming, chad = name(texts[0], "Peru"), name(texts[3], "Fleming"), name(texts[2], "Chad")
    fits = company.fits(texts[2], chad, [peru, fleming, chad], own="chad")
    assert fits[0] > 0 > fits[1]
    assert fits[2] == 0  # it is met nowhere else


def test_what_is_written_piece_by_piece_is_the_same_as_at_once(tmp_path, monkeypatch):
    lines = [f"In {1900 + n % 7} the {word} of Port {word.title()} met {n} times." for n, word in enumerate(WORDS * 6)]

    def written(folder: Path) -> dict[str, bytes]:
        phrases, met = PhraseWriter(folder / "phrases"), CompanyWriter(folder / "company")
        for at, line in enumerate(lines):
            values = find_values(line)
            phrases.add(at, line, values, at % 5)
            met.add(line, values)
        phrases.close()
        met.close()
        return {one.name: one.read_bytes() for one in folder.glob("*/*.bin")}

    at_once = written(tmp_path / "once")
    for module in (company, phrases_module):
        monkeypatch.setattr(module, "_TOGETHER", 16)
    assert written(tmp_path / "pieces") == at_once
    assert all(at_once.values())


def test_maps_let_go_are_read_again(tmp_path):
    numbers = np.arange(100_000)
    numbers.tofile(tmp_path / "numbers.bin")
    (tmp_path / "none.bin").touch()
    maps = Maps()
    mapped, nothing = maps.array(tmp_path / "numbers.bin", np.int64), maps.array(tmp_path / "none.bin", np.int64)
    before = int(mapped.sum())
    maps.let_go()
    assert (int(mapped.sum()), len(nothing)) == (before, 0) == (int(numbers.sum()), 0)
