"""Models that cross-examine the corpus, each trained on the pages that it does not judge."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from troth.curate.document import Document
from troth.curate.validate.examine import Cloze, Examiner
from troth.evaluate.score import Scorer
from troth.model.families.weights import load_weights
from troth.model.tokenizer import Tokenizer
from troth.system import System
from troth.train.job import documents_job
from troth.train.metrics import Metrics
from troth.train.shards import write_shards
from troth.train.trainer import train

Reporter = Callable[[str], AbstractContextManager[Callable[[Metrics], None]]]
"""Shows one training run, of the name it is given, for as long as it is entered."""


def fold_of(source: str, folds: int) -> int:
    """The fold whose examiner judges a document; it follows from the document's source alone."""
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:4], "big") % folds


@dataclass(frozen=True)
class FoldExaminers:
    """Asks about a document the examiner that never saw it (an `Examiner` for curation)."""

    scorers: tuple[Scorer, ...]

    def ask(self, clozes: Sequence[Cloze]) -> list[list[float]]:
        """Log-probabilities of each cloze's options; the same blank is asked once, whatever its options."""
        folds = [fold_of(cloze.source, len(self.scorers)) for cloze in clozes]
        options: dict[tuple[int, str, str], dict[str, float]] = {}
        for fold, cloze in zip(folds, clozes, strict=True):
            options.setdefault((fold, cloze.prefix, cloze.suffix), {}).update(dict.fromkeys(cloze.options, 0.0))
        for fold, scorer in enumerate(self.scorers):
            blanks = [blank for blank in options if blank[0] == fold]
            answers = scorer.fill([(prefix, suffix, [*options[fold, prefix, suffix]]) for _, prefix, suffix in blanks])
            for blank, scores in zip(blanks, answers, strict=True):
                options[blank] = dict(zip(options[blank], scores, strict=True))
        return [
            [options[fold, cloze.prefix, cloze.suffix][option] for option in cloze.options]
            for fold, cloze in zip(folds, clozes, strict=True)
        ]


def examiners_for(system: System, folder: Path, reporter: Reporter) -> Callable[[list[Document]], Examiner]:
    """What makes examiners of the documents that it is given, with a tokenizer of their own."""

    def make(documents: list[Document]) -> Examiner:
        tokenizer = Tokenizer.train((d.text for d in documents), system.model.vocab_size)
        whole = system.model_copy(update={"data": system.data.model_copy(update={"weights": {}})})
        return train_examiners(documents, tokenizer, whole, folder, reporter)

    return make


def train_examiners(
    documents: list[Document], tokenizer: Tokenizer, system: System, folder: Path, reporter: Reporter
) -> FoldExaminers:
    """One model a fold, trained for `cycle.examiner_steps` on the other folds' documents; goes on where it stopped."""
    folds = system.cycle.folds
    settings = system.train.model_copy(update={"steps": system.cycle.examiner_steps})
    scorers = []
    for fold in range(folds):
        home = folder / f"fold-{fold}"
        if not (home / "shards" / "shards.json").exists():
            kept = [(d.collection, d.text) for d in documents if fold_of(d.source, folds) != fold]
            write_shards(kept, tokenizer, home / "shards")
        with reporter(f"examiner {fold + 1} of {folds}") as report:
            job = documents_job(system.model, settings, system.data.weights, tokenizer, home / "shards")
            model = train(job, home / "run", report)
        scorers.append(Scorer(load_weights(model), tokenizer))
    return FoldExaminers(tuple(scorers))
