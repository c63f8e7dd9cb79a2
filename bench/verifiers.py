"""How well the offline verifiers judge claims with given evidence, beside published figures.

    python bench/verifiers.py [--data ../shared/data] [--pages 400] [--save trained.npz] [--json]

First table: balanced accuracy on contradictions that curation generates from textbook pages of which the trained
verifier saw none; the lexical baseline has the limit that suits the training pages best. Second table: balanced
accuracy on Fool Me Twice and FEVER-Symmetric (dev parts, gold evidence), by five-fold cross-validation only: rows about
one page (or one group of symmetric pairs) stay in one fold, and whatever is fitted to labels, a limit included, is
fitted on the other four. Third table, a note: CREAK without any evidence, where a verifier can only learn how false
claims are worded. Balanced accuracies in percent.

Published: LLM-AggreFact (2404.10774 and its leaderboard: mean over eleven other sets, evidence given); BERT on the
first version of FEVER-Symmetric, trained on FEVER (1908.05267, mean of five runs in the authors' repository). They are
other models on other rows, and tell the order of magnitude.
"""

import argparse
import json
import re
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from idle import warn_if_busy

from troth.curate.document import Document
from troth.curate.validate.calibrate import calibrate, combine, logit
from troth.curate.validate.verifiers.contradictions import Pair, contradictions
from troth.curate.validate.verifiers.lexical import lexical_score
from troth.curate.validate.verifiers.linear import Rows, fit
from troth.curate.validate.verifiers.pairs import BUCKETS, features
from troth.curate.validate.verifiers.trained import TrainedVerifier, train_verifier

FOLDS, RIDGE, GENERATED_ROWS, GENERATED_WEIGHT = 5, 10.0, 6000, 0.05
PUBLISHED = [
    ("LLM-AggreFact", "Bespoke-MiniCheck-7B", 77.4),
    ("LLM-AggreFact", "GPT-4o", 75.9),
    ("LLM-AggreFact", "MiniCheck, 0.4B", 75.6),
    ("FEVER-Symmetric v0.1", "BERT-base trained on FEVER", 57.46),
    ("FEVER-Symmetric v0.1", "the same, re-weighted", 61.62),
]


@dataclass(frozen=True)
class Row:
    """A labelled claim with its evidence; rows of one group are kept together."""

    claim: str
    evidence: str
    true: bool
    group: str


def main() -> None:
    """Run, print tables, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data")
    parser.add_argument("--pages", type=int, default=400, help="textbook pages that contradictions are made from")
    parser.add_argument("--save", type=Path, help="keep the verifier that was trained on generated contradictions")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"--data {options.data}: no such folder")
    warn_if_busy()
    trained, made, generated = generate(options.data, options.pages)
    if options.save:
        trained.save(options.save)
    sets = {"Fool Me Twice": fool_me_twice(options.data), "FEVER-Symmetric": fever_symmetric(options.data)}
    given = [figures for name, rows in sets.items() for figures in cross_validate(name, rows, trained, made)]
    creak = without_evidence(options.data)
    published = [{"set": name, "model": model, "balanced_accuracy": value} for name, model, value in PUBLISHED]
    if options.json:
        figures = {"generated": generated, "given_evidence": given, "creak": creak, "published": published}
        print(json.dumps(figures, indent=2))
        return
    show("Generated contradictions, unseen pages", generated)
    show("Claims with given evidence, five-fold cross-validation", given)
    show("CREAK dev, claims alone, trained on its train part", creak)
    show("Published", published)


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    print(f"\n{title}")
    cells = [[f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    names = list(rows[0])
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    for line in [names, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def balanced(said: np.ndarray, true: np.ndarray) -> float:
    """The mean of the shares of true and of false claims that are told as such, in percent."""
    return float(said[true].mean() + (~said[~true]).mean()) * 50


def best_limit(scores: np.ndarray, true: np.ndarray) -> float:
    """The limit between scores that tells these rows best."""
    limits = np.quantile(scores, np.linspace(0.02, 0.98, 97))
    return float(max(limits, key=lambda limit: balanced(scores > limit, true)))


def fold_of(group: str) -> int:
    return zlib.crc32(group.encode()) % FOLDS


def textbook_pages(data: Path, count: int) -> list[Document]:
    """Pages of the textbooks without their markup, the same ones every time."""
    files = sorted(data.glob("openstax_*/contents/*.md"), key=lambda file: zlib.crc32(file.name.encode()))
    pages = []
    for file in files[:count]:
        text = re.sub(r"<[^>]+>|\{[^}]*\}|!\[[^\]]*\]\([^)]*\)", " ", file.read_text(encoding="utf-8"))
        pages.append(Document(file.name, "textbooks", re.sub(r"\[([^\]]*)\]\([^)]*\)|[#*]", r"\1", text)))
    return pages


def generate(data: Path, count: int) -> tuple[TrainedVerifier, list[Pair], list[dict[str, Any]]]:
    """A verifier trained on four fifths of the pages, its training pairs, and figures on the last fifth."""
    pages = textbook_pages(data, count)
    seen = [page for page in pages if fold_of(page.source)]
    held = [page for page in pages if not fold_of(page.source)]
    # Apart, so that no passage of an unseen page was in training.
    made = list(contradictions(seen, np.random.default_rng(0)))
    tests = list(contradictions(held, np.random.default_rng(1)))
    start = time.perf_counter()
    trained = train_verifier(made)
    seconds = time.perf_counter() - start
    limit = best_limit(
        np.array([lexical_score(pair.claim, pair.passage) for pair in made]),
        np.array([pair.supported for pair in made]),
    )
    true = np.array([pair.supported for pair in tests])
    said = {
        "lexical": np.array([lexical_score(pair.claim, pair.passage) for pair in tests]) > limit,
        "trained": np.array([trained.score(pair.claim, pair.passage) for pair in tests]) > 0,
    }
    figures = []
    for name, answers in said.items():
        row: dict[str, Any] = {"verifier": name, "claims": len(tests), "balanced_accuracy": balanced(answers, true)}
        for kind in ("same sentence", "other sentence"):
            chosen = np.array([pair.kind == kind for pair in tests])
            row[kind] = balanced(answers[chosen], true[chosen])
        for change in ("number", "name", "exchanged", "denied", "opposite"):
            chosen = np.array([pair.change == change for pair in tests])
            row[f"{change} found"] = float((~answers[chosen]).mean() * 100)
        row["training pairs"] = len(made) if name == "trained" else 0
        row["seconds"] = seconds if name == "trained" else 0.0
        figures.append(row)
    return trained, made, figures


def fool_me_twice(data: Path) -> list[Row]:
    """Claims of players with the sentences that they marked; grouped by Wikipedia page."""
    rows = []
    for line in (data / "fool_me_twice/dataset/dev.jsonl").read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        evidence = " ".join(sentence["text"] for sentence in one["gold_evidence"])
        rows.append(Row(one["text"], evidence, one["label"] == "SUPPORTS", one["wikipedia_page"]))
    return rows


def fever_symmetric(data: Path) -> list[Row]:
    """Claims in groups of four: each claim with evidence for it and against it, and its contrary likewise."""
    rows = []
    path = data / "fever_symmetric/symmetric_v0.2/fever_symmetric_dev.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        group = re.sub(r"000000[234]$", "", one["id"])
        rows.append(Row(one["claim"], one["evidence"], one["label"] == "SUPPORTS", group))
    return rows


def cross_validate(name: str, rows: list[Row], trained: TrainedVerifier, made: list[Pair]) -> list[dict[str, Any]]:
    """Balanced accuracy of each verifier; whatever is fitted, is fitted on the other folds."""
    true = np.array([row.true for row in rows])
    folds = np.array([fold_of(row.group) for row in rows])
    seen = [features(row.claim, row.evidence) for row in rows]
    more = [features(pair.claim, pair.passage) for pair in made[:GENERATED_ROWS]]
    more_true = np.array([pair.supported for pair in made[:GENERATED_ROWS]], dtype=float)
    lexical = np.array([lexical_score(row.claim, row.evidence) for row in rows])
    generated = np.array([trained.score(row.claim, row.evidence) for row in rows])

    def learn(train: np.ndarray, with_generated: bool) -> Callable[[np.ndarray], np.ndarray]:
        examples, labels = [seen[i] for i in np.flatnonzero(train)], true[train].astype(float)
        weights = np.ones(len(labels))
        if with_generated:
            examples, labels = examples + more, np.append(labels, more_true)
            weights = np.append(weights, np.full(len(more), GENERATED_WEIGHT))
        theta = fit(Rows.of(examples), labels, BUCKETS, RIDGE, weights)
        return lambda chosen: Rows.of([seen[i] for i in np.flatnonzero(chosen)]).scores(theta)

    said = {kind: np.zeros(len(rows), dtype=bool) for kind in ("lexical", "generated", "folds", "both", "combined")}
    for fold in range(FOLDS):
        test, train = folds == fold, folds != fold
        for kind, scores in (("lexical", lexical), ("generated", generated)):
            said[kind][test] = scores[test] > best_limit(scores[train], true[train])
        said["folds"][test] = learn(train, False)(test) > 0
        both = learn(train, True)
        said["both"][test] = both(test) > 0
        # What the third opinion is worth shows only on rows that it was not fitted to: a fold within the others.
        inner = train & (folds == (fold + 1) % FOLDS)
        third = learn(train & ~inner, True)
        opinions = {"lexical": lexical, "generated": generated}
        fitted = {kind: calibrate(scores[inner], true[inner])[0] for kind, scores in opinions.items()}
        fitted["third"] = calibrate(third(inner), true[inner])[0]

        def told(chosen: np.ndarray, third=third, fitted=fitted, opinions=opinions) -> list[dict[str, float]]:
            raw = {kind: scores[chosen] for kind, scores in opinions.items()} | {"third": third(chosen)}
            return [{k: fitted[k](raw[k][i]) for k in raw} for i in range(int(chosen.sum()))]

        together = combine(told(inner), true[inner])
        said["combined"][test] = [logit(together.probability(one)) > 0 for one in told(test)]
    names = {
        "lexical": "lexical", "generated": "trained on generated contradictions", "folds": "trained on the other folds",
        "both": "trained on both", "combined": "lexical and trained, calibrated and combined",
    }  # fmt: skip
    return [
        {"set": name, "verifier": names[kind], "claims": len(rows), "balanced_accuracy": balanced(answers, true)}
        for kind, answers in said.items()
    ]


def without_evidence(data: Path) -> list[dict[str, Any]]:
    """CREAK's claims without evidence: trained on its train part, scored on its dev part."""
    parts = {}
    for part in ("train", "dev"):
        lines = (data / f"creak/data/creak/{part}.json").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        true = np.array([row["label"] == "true" for row in rows])
        parts[part] = [features(row["sentence"], "") for row in rows], true
    theta = fit(Rows.of(parts["train"][0]), parts["train"][1].astype(float), BUCKETS, RIDGE)
    seen, true = parts["dev"]
    said = Rows.of(seen).scores(theta) > 0
    return [{"verifier": "trained, no evidence", "claims": len(true), "balanced_accuracy": balanced(said, true)}]


if __name__ == "__main__":
    main()
