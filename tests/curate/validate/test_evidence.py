"""Who testifies to a claim: sentences of other publishers and other pages, but never of another subject."""

import numpy as np
import pytest

from troth.curate.document import Document
from troth.curate.validate.build_store import build_store
from troth.curate.validate.candidates import candidates
from troth.curate.validate.claims import find_claims, name_words
from troth.curate.validate.evidence import Evidence
from troth.curate.validate.fitted import wrong_share
from troth.curate.validate.nature import is_checkworthy
from troth.curate.validate.neighbours import Place, write_neighbours
from troth.curate.validate.sentences import sentences
from troth.curate.validate.store import Store
from troth.curate.validate.subjects import SubjectRow, beside, names_subject, subject_at

SAYS = "The river there is 310 kilometres long."
FILLER = " ".join(f"The {word} of it is told elsewhere." for word in ("origin", "middle", "depth", "course", "end"))


def page(source: str, text: str, publisher: str, published: str = "2020") -> Document:
    return Document(source, "documents", f"{text} {FILLER}", publisher=publisher, published=published)


def witnesses(folder, documents: list[Document], subjects: dict[str, str]):
    """What testifies to the claim that the first document opens with; `subjects` are those of the first sentences."""
    rows = {
        one.source: [SubjectRow(one.source, 0, len(SAYS), subjects[one.source])] if one.source in subjects else []
        for one in documents
    }
    size = build_store(((one, 0, rows[one.source]) for one in documents), set(), folder / "store")
    store = Store(folder / "store")
    write_neighbours(store, 0, size, 8, folder / "near.bin")
    evidence = Evidence(store, [folder / "near.bin"], 8)
    first = documents[0]
    claim = next(one for one in find_claims(first, set()) if one.value.kind == "quantity")
    place = Place(first.source, claim.sentence.start, first.publisher, first.published)
    found = evidence.witnesses(evidence.around(claim.sentence.text, place, subjects.get(first.source, "")), claim.value)
    return claim, sorted(found, key=lambda one: -one.likeness)


OURS = page("a", SAYS, "A")
THEIRS = page("b", SAYS.replace("310", "420"), "B")


@pytest.mark.parametrize(
    ("subjects", "heard"),
    [({}, True), ({"a": "tiber"}, True), ({"a": "tiber", "b": "tiber"}, True), ({"a": "tiber", "b": "po"}, False)],
)
def test_sentences_of_another_subject_say_nothing_of_this_one(tmp_path, subjects, heard):
    _, found = witnesses(tmp_path, [OURS, THEIRS], subjects)
    assert ("420 kilometres" in [one.value.text for one in found]) is heard


def test_other_pages_of_a_publisher_speak_each_for_itself_but_not_its_older_ones(tmp_path):
    again = [page("c", SAYS.replace("310", "420"), "A"), page("d", SAYS.replace("310", "420"), "A")]
    older = page("e", SAYS.replace("310", "530"), "A", "2011")
    claim, found = witnesses(tmp_path, [OURS, THEIRS, *again, older], {})
    stated, rival, *_ = candidates(claim, found)
    assert not stated.witnesses
    assert sorted(one.sentence.speaker.source for _, one in rival.voices) == ["b", "c", "d"]
    assert "530 kilometres" not in [one.value.text for one in found]


def test_what_sentences_share_is_summed_exactly_and_a_sentence_is_found_where_it_stands(tmp_path):
    documents = [OURS, THEIRS, page("c", "Its delta lies near Ostia, a port since 335 BC.", "C")]
    size = build_store(((one, 0, []) for one in documents), set(), tmp_path)
    store = Store(tmp_path)
    words = store.stem(SAYS)
    bags = store.bags(np.arange(size))
    shared, whole = store.shared(words, bags), bags.whole
    every = [store.get(at) for at in range(size)]
    assert shared.tolist() == [store.weight(words & one.stems) for one in every]
    assert whole.tolist() == [store.weight(one.stems) for one in every]
    assert [store.number_of(one.text, one.speaker.source, one.start) for one in every] == list(range(size))
    assert store.number_of("Another sentence.", "a", 0) is None
    assert store.number_of(SAYS, "nowhere", 0) is None


def test_a_witness_says_whether_it_has_the_claims_other_values_and_counts_by_that(tmp_path):
    first = "The Kiel Canal, which links seas, is 98 kilometres long."
    others = [first.replace("98", "61"), first.replace("Kiel", "Suez").replace("98", "193")]
    pages = [page(name, text, name) for name, text in zip("abc", [first, *others], strict=True)]
    claim, found = witnesses(tmp_path, pages, {})
    assert {one.value.text: (one.agrees, one.apart) for one in found} == {
        "61 kilometres": (1.0, 0.0), "193 kilometres": (0.0, 1.0),
    }  # fmt: skip
    assert [one.text for one in candidates(claim, found)] == ["98 kilometres", "61 kilometres", "193 kilometres"]


def test_a_sentence_that_shares_nothing_but_the_value_confirms_nothing(tmp_path):
    pages = [page("a", SAYS, "A"), Document("b", "documents", "Halle has 310 kilometres.", publisher="B")]
    _, found = witnesses(tmp_path, pages, {})
    assert not found


def test_each_document_has_its_rows_beside_it_and_a_stray_row_is_named():
    documents = [Document(name, "documents", "Text.") for name in "abc"]
    row = SubjectRow("b", 0, 4, "rome")
    assert [(one.source, rows) for one, rows in beside(documents, [row])] == [("a", []), ("b", [row]), ("c", [])]
    with pytest.raises(ValueError, match="z: has rows"):
        list(beside(documents, [SubjectRow("z", 0, 4, "rome")]))


def test_a_sentence_has_a_subject_where_it_has_one_only():
    rows = [SubjectRow("a", 0, 10, "rome 2020"), SubjectRow("a", 10, 20, "oslo 2020")]
    assert subject_at(rows, 2, 8) == "rome 2020"
    assert subject_at(rows, 2, 12) == ""
    assert subject_at(rows, 20, 30) == ""
    assert names_subject("rome 2020", "Rome")
    assert not names_subject("", "Rome")


def test_bytes_of_a_sentence_are_those_of_the_whole_text():
    document = Document("a", "documents", "Über Köln. Nach Düren.")
    second = list(sentences(document))[1]
    start, end = second.bytes
    assert document.text.encode()[start:end].decode() == second.text == "Nach Düren."


def test_a_word_is_a_name_where_it_is_mostly_written_with_a_capital():
    texts = "The bones of Lucy lie here.", "A bone is hard, and a bone heals.", "See the Bone and the bone of Lucy."
    assert name_words([Document(str(n), "documents", text) for n, text in enumerate(texts)]) == {"Lucy"}


@pytest.mark.parametrize("text", ["The Nervous System", "Water, 180 L, 179 L", "What is a bone?", "See Figure 3."])
def test_headings_rows_questions_and_addresses_state_nothing_to_look_up(text):
    assert not is_checkworthy(text)
    assert is_checkworthy("The femur is the longest bone.")


@pytest.mark.parametrize("wrong", [0.02, 0.1])
def test_the_share_of_wrong_claims_is_found_though_most_cannot_be_told(wrong):
    random = np.random.default_rng(0)

    def judged(is_wrong):
        return np.where(is_wrong & (random.random(len(is_wrong)) < 0.6), 0.05, 0.97)

    known = judged(np.zeros(5000, bool))
    stated = np.concatenate([judged(random.random(5000) < wrong), np.full(5000, 0.97)])
    share = wrong_share(stated, known, judged(np.ones(500, bool)), 0.15)
    assert share == pytest.approx(wrong, rel=0.2)
