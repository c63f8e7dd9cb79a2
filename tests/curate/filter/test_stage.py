"""The stage `filter` on parts: what is kept, why the rest went, and the learned judge."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from troth.curate.document import Document
from troth.curate.duplicates.prints import read_prints
from troth.curate.filter.document import Aids, filter_document
from troth.curate.filter.fit import fit_quality
from troth.curate.filter.quality import features, load, train
from troth.curate.filter.stage import filter_part, quality_folder
from troth.curate.filter.words import Words
from troth.curate.parts import Parts
from troth.curate.records import Decision
from troth.system import CurateTable

NOUNS = ["heart", "river", "engine", "treaty", "cell", "harbour", "planet", "reed", "valley", "letter", "court"]
VERBS = ["moves", "holds", "changes", "carries", "needs", "meets", "follows", "keeps", "joins", "leaves"]


def prose(seed: int, sentences: int = 12) -> str:
    draw = random.Random(seed)
    said = [
        f"The {draw.choice(NOUNS)} of the {draw.choice(NOUNS)} {draw.choice(VERBS)} what a {draw.choice(NOUNS)} "
        f"{draw.choice(VERBS)} in the {draw.choice(NOUNS)}, and that is {draw.choice(['early', 'late', 'rare'])}."
        for _ in range(sentences)
    ]
    return "\n\n".join(" ".join(said[at : at + 4]) for at in range(0, sentences, 4))


def spam(seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(f"buy {draw.choice(['cheap', 'free'])} {draw.choice(NOUNS)} now" for _ in range(40))


def collect(out, documents, part=0):
    Parts(out, "collect").write(part, "documents", Document, documents)
    Parts(out, "collect").finish(part)


def outcome(out, part=0):
    parts = Parts(out, "filter")
    kept = list(parts.read(part, "documents", Document))
    return kept, {one.subject: one for one in parts.read(part, "decisions", Decision) if one.text}


def test_a_part_is_filtered_once(tmp_path):
    documents = [Document(f"good{n}", "c", prose(n)) for n in range(4)]
    documents += [Document("spam", "c", spam(1)), Document("code", "c", "x = 1\n" * 40, kind="code")]
    documents.append(Document("mail", "c", f"{prose(9)}\n\nWrite to jane@harbour.org if the wheel moves."))
    collect(tmp_path, documents)
    filter_part(0, tmp_path, CurateTable())
    kept, decisions = outcome(tmp_path)
    assert [one.source for one in kept] == ["good0", "good1", "good2", "good3", "code", "mail"]
    assert kept[0].language == "en"
    assert kept[5].text.endswith("Write to <EMAIL> if the wheel moves.")
    assert decisions["spam"].label == "dropped"
    assert decisions["spam"].text == spam(1)
    assert decisions["spam"].value > decisions["spam"].limit
    assert decisions["mail"].label == "changed"
    assert "jane" not in decisions["mail"].text
    assert len(read_prints(Parts(tmp_path, "filter"), 0)) == 6
    written = Parts(tmp_path, "filter").file(0, "documents").stat().st_mtime_ns
    filter_part(0, tmp_path, CurateTable(rules="published"))
    assert Parts(tmp_path, "filter").file(0, "documents").stat().st_mtime_ns == written


@pytest.mark.parametrize(("rules", "kept"), [("lenient", True), ("none", True), ("published", False)])
def test_published_rules_are_the_stricter_ones(tmp_path, rules, kept):
    few = prose(1, sentences=4)
    collect(tmp_path, [Document("short", "c", few)])
    filter_part(0, tmp_path, CurateTable(rules=rules))
    assert bool(outcome(tmp_path)[0]) is kept


def test_languages_are_a_choice(tmp_path):
    german = "Das Herz ist ein Muskel, der das Blut durch den Körper pumpt und dabei nie ruht. " * 6
    collect(tmp_path, [Document("de", "c", german), Document("en", "c", prose(1))])
    filter_part(0, tmp_path, CurateTable(languages=["de"], rules="none"))
    kept, decisions = outcome(tmp_path)
    assert [(one.source, one.language) for one in kept] == [("de", "de")]
    assert (decisions["en"].rule, decisions["en"].limit) == ("language", 0.5)


def test_the_language_of_a_short_text_is_not_asked(tmp_path):
    short = [Document(f"{n}", "c", text) for n, text in enumerate(("Goma: 144,124 people.", "Das Herz ruht nie."))]
    collect(tmp_path, short)
    filter_part(0, tmp_path, CurateTable(rules="none"))
    assert [one.source for one in outcome(tmp_path)[0]] == ["0", "1"]


def test_a_language_that_nobody_can_tell_is_named(tmp_path):
    collect(tmp_path, [])
    with pytest.raises(ValueError, match=r"curate\.languages: cannot tell zz"):
        filter_part(0, tmp_path, CurateTable(languages=["zz"]))


def test_the_judge_learns_from_what_rules_say(tmp_path):
    documents = [Document(f"g{n}", "c", prose(n)) for n in range(80)]
    documents += [Document(f"s{n}", "c", spam(n)) for n in range(80)]
    asked = CurateTable(quality_below=0.3)
    collect(tmp_path, documents[::2])
    collect(tmp_path, documents[1::2], part=1)
    fit_quality([0, 1], tmp_path, asked)
    model = load(quality_folder(tmp_path))
    assert model.auc > 0.95
    unseen = [model.probability(features(Words(text))) for text in (prose(1000), spam(1000))]
    assert unseen[0] > 0.7
    assert unseen[1] < 0.3
    hidden = "\n\n".join(["buy the cheap wheel now", *[f"free heart now, buy the cheap {n} now" for n in NOUNS * 2]])
    collect(tmp_path, [Document("h", "c", hidden)], part=2)
    filter_part(2, tmp_path, asked.model_copy(update={"rules": "none"}))
    assert outcome(tmp_path, 2)[1]["h"].rule == "learned_quality"


def test_the_judge_learns_from_folders(tmp_path):
    for kind, write in (("good", prose), ("bad", spam)):
        (tmp_path / "examples" / kind).mkdir(parents=True)
        for n in range(60):
            (tmp_path / "examples" / kind / f"{n}.txt").write_text(write(n))
    fit_quality([], tmp_path, CurateTable(quality_below=0.5, quality_examples=str(tmp_path / "examples")))
    assert load(quality_folder(tmp_path)).examples == 120


def test_too_few_examples_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="50 good and 50 bad"):
        train([features(Words("one"))], [features(Words("two"))], 0)
    with pytest.raises(ValueError, match=r"quality_examples: no folder"):
        fit_quality([], tmp_path, CurateTable(quality_below=0.5, quality_examples=str(tmp_path / "none")))


@settings(max_examples=80, deadline=None)
@given(
    st.text(st.sampled_from("ab1 .,\n-…•#@“🙂é中\t"), max_size=300) | st.text(max_size=100),
    st.sampled_from(["lenient", "published", "none"]),
    st.sampled_from(["prose", "code", "table", "facts"]),
)
def test_any_text_is_kept_or_explained(text, rules, kind):
    asked = CurateTable(rules=rules, min_words=2, loaded_above=0.5, languages=[])
    filtered = filter_document(Document("a", "b", text, kind=kind), asked, Aids())
    assert filtered.document is not None or filtered.decisions[-1].label == "dropped"
    if filtered.document and not filtered.decisions:
        assert filtered.document.text == text
