"""Labelled pairs that nobody had to label: what the corpus says, and the same with one thing changed (after FactCC,
Kryscinski et al. 2020, and the counterfactual claims of VitaminC, Schuster et al. 2021).

The passage is the claim's own sentence, said again in other words, or another sentence that tells the same: one with
the same value and several of the same rare words. Changes are of five kinds: a number moved, a name put in another's
place, two names exchanged, a statement denied, a word turned into its opposite.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from troth.curate.document import Document
from troth.curate.validate.claims import name_words
from troth.curate.validate.sentences import sentences
from troth.curate.validate.values import Value, find_values
from troth.curate.validate.verifiers.words import opposites, words

_LEAST, _MOST = 6, 45
"""Words of a sentence worth saying again."""
_PER_DOCUMENT = 40
_NEIGHBOUR = 0.4
"""How often a passage has the sentence before, or after, the claim's own too."""
_RARE, _SHARED, _ALIKE, _SAME = 60, 2, 0.4, 0.9
"""Another sentence tells the same if it has the value and two more words that at most 60 sentences have, and shares
from 0.4 to 0.9 of the shorter one's words."""
_AUXILIARY = re.compile(r"\b(is|are|was|were|can|could|will|would|has|have|had|should|must)\b(?! (?:not|no|never)\b)")
_DENIED = re.compile(r"\b(is|are|was|were|can|could|will|would|has|have|had|should|must|did|does|do) (?:not|never) ")
_SAID_OTHERWISE = {
    "large": "big", "big": "large", "begin": "start", "began": "started", "start": "begin", "started": "began",
    "important": "significant", "significant": "important", "many": "numerous", "numerous": "many",
    "called": "known as", "because": "since",
    "also": "too", "usually": "generally", "generally": "usually", "often": "frequently",
    "frequently": "often", "about": "approximately", "approximately": "about", "however": "yet", "show": "demonstrate",
    "shows": "demonstrates", "contain": "include", "contains": "includes", "produce": "make", "produces": "makes",
    "use": "employ", "made": "created", "built": "constructed", "small": "little", "help": "aid",
    "helps": "aids", "obtain": "get", "rapidly": "quickly", "quickly": "rapidly", "near": "close to", "whole": "entire",
    "entire": "whole", "different": "distinct", "main": "principal", "common": "widespread", "ended": "finished",
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A claim, the passage to judge it by, whether this says so, what was changed, where the passage comes
    from ("same sentence", "other sentence"), and the document."""

    claim: str
    passage: str
    supported: bool
    change: str
    kind: str
    source: str


def contradictions(documents: Iterable[Document], random: np.random.Generator) -> Iterator[Pair]:
    """As many supported claims as contradicted ones, at most 40 of both from a document's own sentences and as many
    that other sentences tell. Holds all sentences: meant for some thousands of documents."""
    documents = list(documents)
    texts: list[str] = []
    owners: list[Document] = []
    for document in documents:
        if document.kind == "prose":
            found = [" ".join(sentence.text.split()) for sentence in sentences(document)]
            texts += found
            owners += [document] * len(found)
    capitals = name_words(documents)
    values = [find_values(text, capitals) for text in texts]
    places: dict[int, list[int]] = {}
    for i, owner in enumerate(owners):
        places.setdefault(id(owner), []).append(i)
    told = _told_again(texts, values)
    for own in places.values():
        good = [i for i in own if _LEAST <= len(texts[i].split()) <= _MOST and texts[i].endswith(".")]
        names = [value for i in own for value in values[i] if value.kind == "name"]
        for i in random.permutation(good)[:_PER_DOCUMENT]:
            around = [j for j in (i - 1, i + 1) if own[0] <= j <= own[-1]]
            near = [texts[j] for j in around if random.random() < _NEIGHBOUR]
            yield from _pairs(texts[i], " ".join([texts[i], *near]), None, names, owners[i].source, random)
        for i in [int(i) for i in random.permutation(good) if told.get(int(i))][:_PER_DOCUMENT]:
            j, value = told[i][random.integers(len(told[i]))]
            yield from _pairs(texts[i], texts[j], value, names, owners[i].source, random)


def _told_again(texts: list[str], values: list[list[Value]]) -> dict[int, list[tuple[int, Value]]]:
    """For sentences, others that tell the same of one of their values, with this value."""
    stems = [frozenset(word.stem for word in words(text) if not word.small) for text in texts]
    counts = Counter(stem for found in stems for stem in found)
    rare = [frozenset(stem for stem in found if counts[stem] <= _RARE) for found in stems]
    holding: dict[tuple[str, str], list[int]] = {}
    for i, found in enumerate(values):
        for key in {(value.kind, value.key) for value in found}:
            holding.setdefault(key, []).append(i)
    told: dict[int, list[tuple[int, Value]]] = {}
    for i, found in enumerate(values):
        for value in found:
            others = holding[value.kind, value.key]
            if len(others) > _RARE:
                continue
            own = frozenset(word.stem for word in words(value.text))
            for j in others:
                if texts[j] == texts[i] or len(texts[j].split()) > _MOST:
                    continue
                shared, fewer = (rare[i] & rare[j]) - own, min(len(stems[i]), len(stems[j]))
                if len(shared) >= _SHARED and _ALIKE * fewer <= len(stems[i] & stems[j]) <= _SAME * fewer:
                    told.setdefault(i, []).append((j, value))
    return told


def _pairs(
    text: str, passage: str, value: Value | None, names: list[Value], source: str, random: np.random.Generator
) -> Iterator[Pair]:
    """One supported and one contradicted claim; none where nothing can be changed. With a `value`, which the passage
    shares, it is this that is changed."""
    kind = "same sentence" if value is None else "other sentence"
    said = said_again(text, random)
    if value is not None:
        value = next((v for v in find_values(said) if v.text == value.text), None)
        if value is None:
            return
    changes = list(_CHANGES)
    random.shuffle(changes)
    for name, change in changes:
        wrong = change(said, value, names, random)
        if wrong and wrong != said and wrong not in passage:
            yield Pair(said_again(text, random), passage, True, "", kind, source)
            yield Pair(wrong, passage, False, name, kind, source)
            return


def said_again(text: str, random: np.random.Generator) -> str:
    """The same in other words: parts put elsewhere or left out, words replaced, numbers written otherwise."""
    text = re.sub(r" ?\([^()]*\)", "", text)
    opening = re.match(r"((?:In|On|At|By|During|After|Before|Since|From) [^,]{3,40}), (\w.*)\.$", text)
    if opening and random.random() < 0.7:
        rest = opening[2]
        text = f"{rest[0].upper()}{rest[1:]} {opening[1][0].lower()}{opening[1][1:]}."
    cut = re.match(r"(.{30,}?), (?:which|who|where|although|while|but|whereas|because|so) [^.]*\.$", text)
    if cut and random.random() < 0.6:
        text = f"{cut[1]}."
    text = re.sub(r"^(?:However|Moreover|Furthermore|Therefore|Thus|In addition|For example|Finally|Also), (\w)",
                  lambda match: match[1].upper(), text)  # fmt: skip
    return re.sub(
        r"\b[a-z]+\b", lambda m: _SAID_OTHERWISE.get(m.group(), m.group()) if random.random() < 0.5 else m.group(), text
    )


def move_number(text: str, value: Value | None, names: list[Value], random: np.random.Generator) -> str | None:
    """Another year, or another number of as many digits."""
    values = [v for v in find_values(text) if v.kind in ("year", "quantity") and v.text[0].isdigit()]
    if value is not None:
        values = [v for v in values if v.start == value.start]
    if not values:
        return None
    chosen = values[random.integers(len(values))]
    number = re.match(r"\d+(?:,\d{3})*(?:\.\d+)?", chosen.text)
    if number is None:
        return None
    digits = number.group().replace(",", "")
    if chosen.kind == "year":
        new = str(int(digits) + int(random.choice([-1, 1])) * int(random.integers(1, 40)))
    elif "." in digits:
        places = len(digits.partition(".")[2])
        new = f"{float(digits) * random.choice([0.4, 0.6, 1.5, 2.5]):.{places}f}"
    else:
        moved = max(1, round(int(digits) * random.choice([0.4, 0.6, 0.8, 1.3, 1.7, 2.5])))
        new = str(moved if moved != int(digits) else moved + 1)
        new = f"{int(new):,}" if "," in number.group() else new
    return text[: chosen.start] + new + text[chosen.start + len(number.group()) :]


def swap_name(text: str, value: Value | None, names: list[Value], random: np.random.Generator) -> str | None:
    """A name of the same document in another's place."""
    own = [v for v in find_values(text) if v.kind == "name"]
    own = [v for v in own if (v.start > 0 if value is None else v.start == value.start)]
    others = [v for v in names if v.text not in text and not any(part in text for part in v.text.split())]
    if not own or not others:
        return None
    chosen = own[random.integers(len(own))]
    return text[: chosen.start] + others[random.integers(len(others))].text + text[chosen.end :]


def exchange_names(text: str, value: Value | None, names: list[Value], random: np.random.Generator) -> str | None:
    """Two names of the sentence in each other's places, where they are no list."""
    own = [v for v in find_values(text) if v.kind == "name"]
    for a, b in pairwise(own):
        between = text[a.end : b.start]
        if len(between.split()) > 1 and not re.fullmatch(r"[\s,]*(?:and|or|,)*[\s,]*(?:the )?", between):
            return text[: a.start] + b.text + between + a.text + text[b.end :]
    return None


def deny(text: str, value: Value | None, names: list[Value], random: np.random.Generator) -> str | None:
    """A denial put in, or taken out."""
    if denied := _DENIED.search(text):
        return text[: denied.end(1)] + " " + text[denied.end() :]
    auxiliary = _AUXILIARY.search(text)
    return text[: auxiliary.end()] + " not" + text[auxiliary.end() :] if auxiliary else None


def turn_word(text: str, value: Value | None, names: list[Value], random: np.random.Generator) -> str | None:
    """A word turned into its opposite."""
    for match in re.finditer(r"\b[a-z]{3,}\b", text):
        known = sorted(opposites(match.group()))
        if known:
            return text[: match.start()] + known[random.integers(len(known))] + text[match.end() :]
    return None


_Change = Callable[[str, Value | None, list[Value], np.random.Generator], str | None]
_CHANGES: tuple[tuple[str, _Change], ...] = (
    ("number", move_number), ("number", move_number), ("name", swap_name), ("name", swap_name),
    ("exchanged", exchange_names), ("denied", deny), ("opposite", turn_word),
)  # fmt: skip
"""Values more often than the rest, which nearly every sentence lends itself to."""
