"""What stands between the same few words elsewhere, and which names fit between two words."""

import numpy as np

from troth.curate.validate.company import Company, CompanyWriter
from troth.curate.validate.mapped import Maps
from troth.curate.validate.phrases import Phrases, PhraseWriter, key_of
from troth.curate.validate.values import Value, find_values


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
