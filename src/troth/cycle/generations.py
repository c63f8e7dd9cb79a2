"""One turn of the cycle: generation 0 learns the raw documents, curation mends them, generation 1 learns the result."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from troth.curate.collect import collect
from troth.curate.document import Document
from troth.curate.integrate.ledger import read_table
from troth.curate.pipeline import Curation, curate
from troth.curate.rows import read_rows, write_rows
from troth.curate.validate.examine import Examiner
from troth.cycle.examiners import Reporter, train_examiners
from troth.evaluate.curation import score_corrections
from troth.evaluate.questions import Question, ask, truthfulness
from troth.evaluate.routing import expert_shares
from troth.evaluate.score import Scorer, bits_per_byte
from troth.evaluate.texts import sample_by_kind
from troth.model.families.weights import load_weights
from troth.model.tokenizer import Tokenizer
from troth.system import System
from troth.train.job import documents_job
from troth.train.mixture import sample
from troth.train.run import save_record
from troth.train.shards import write_shards
from troth.train.trainer import train

HELD_OUT = 40
"""Every so-manieth document of a single publisher is kept from training, to measure bits per byte."""


@dataclass(frozen=True)
class Cycle:
    """Where a cycle writes, what it runs with, and whom it tells how far it is."""

    system: System
    out: Path
    say: Callable[[str], None]
    reporter: Reporter


def run_cycle(cycle: Cycle, questions: list[Question]) -> dict[str, Any]:
    """Collect, train generation 0, curate, train generation 1, measure both; return (and write) the scores.

    Every finished part is kept and not done again. `out/best` points at the model that answered more truthfully.
    Raises ValueError where `out` belongs to another system.
    """
    _claim_folder(cycle)
    documents, held_out = _collected(cycle)
    tokenizer = _tokenizer(cycle, documents)
    _train_generation(cycle, 0, documents, tokenizer)
    _curate(cycle, cycle.out / "curated", tokenizer)
    _train_generation(cycle, 1, _curated(cycle), tokenizer)
    return _measured(cycle, questions, documents, held_out, tokenizer)


def _curate(cycle: Cycle, out: Path, tokenizer: Tokenizer) -> None:
    """Curate what generation 0 learned from. Raises ValueError where the gate does not let the result pass."""
    system = cycle.system

    def examiners(documents: list[Document]) -> Examiner:
        return train_examiners(documents, tokenizer, system, cycle.out / "examiners", cycle.reporter)

    source = str(cycle.out / "raw" / "documents.parquet")
    run = Curation((source,), out, system.curate, generation=1, seed=system.train.seed, say=cycle.say)
    report = curate(run, examiners)
    if not report["accepted"]:
        raise ValueError(f"{out}: not integrated: {report['reason']}")


def _curated(cycle: Cycle) -> list[Document]:
    files = sorted((cycle.out / "curated" / "documents").glob("*.parquet"))
    return [document for file in files for document in read_rows(file, Document)]


def _claim_folder(cycle: Cycle) -> None:
    path = cycle.out / "system.json"
    own = cycle.system.model_dump(exclude={"serve"})
    if path.exists():
        if json.loads(path.read_text()) != json.loads(json.dumps(own)):
            raise ValueError(f"{cycle.out}: holds a cycle of another system or other settings; use another --out")
        return
    cycle.out.mkdir(parents=True, exist_ok=True)
    save_record(path, own)


def _collected(cycle: Cycle) -> tuple[list[Document], list[Document]]:
    """Documents to learn from, and those kept back. Only what a single publisher says is kept back, as elsewhere
    every statement counts as evidence."""
    folder = cycle.out / "raw"
    if not (folder / "documents.parquet").exists():
        cycle.say("collecting documents")
        found = collect(cycle.system.data)
        for rejected in found.rejected:
            cycle.say(f"set aside {rejected.source}: {rejected.reason}")
        back = [d.collection == "python-prose" and int(d.sha, 16) % HELD_OUT == 0 for d in found.documents]
        held_out = [document for document, kept in zip(found.documents, back, strict=True) if kept]
        write_rows(folder / "held-out.parquet", Document, held_out)
        rest = [document for document, kept in zip(found.documents, back, strict=True) if not kept]
        write_rows(folder / "documents.parquet", Document, rest)
    learned, kept_back = (list(read_rows(folder / f"{name}.parquet", Document)) for name in ("documents", "held-out"))
    return learned, kept_back


def _tokenizer(cycle: Cycle, documents: list[Document]) -> Tokenizer:
    folder = cycle.out / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        cycle.say(f"training a tokenizer of {cycle.system.model.vocab_size} tokens")
        folder.mkdir(parents=True, exist_ok=True)
        texts = sample(((d.collection, d.text) for d in documents), cycle.system.data.weights)
        Tokenizer.train(texts, cycle.system.model.vocab_size).save(folder)
    return Tokenizer.load(folder)


def _train_generation(cycle: Cycle, generation: int, documents: list[Document], tokenizer: Tokenizer) -> None:
    home = cycle.out / f"gen-{generation}"
    if not (home / "shards" / "shards.json").exists():
        write_shards(((d.collection, d.text, d.weight) for d in documents), tokenizer, home / "shards")
    with cycle.reporter(f"generation {generation}") as report:
        system = cycle.system
        job = documents_job(system.model, system.train, system.data.weights, tokenizer, home / "shards", system=system)
        train(job, home / "run", report)


def _measured(
    cycle: Cycle, questions: list[Question], documents: list[Document], held_out: list[Document], tokenizer: Tokenizer
) -> dict[str, Any]:
    cycle.say("measuring both generations on held-out questions")
    kinds = sample_by_kind((document.collection, document.text) for document in documents)
    scores: dict[str, Any] = {"generations": []}
    for generation in (0, 1):
        model = load_weights(cycle.out / f"gen-{generation}" / "run" / "model")
        answers = ask(Scorer(model, tokenizer), questions)
        result = asdict(truthfulness(answers))
        result["bits_per_byte"] = bits_per_byte(model, tokenizer, [d.text for d in held_out]) if held_out else None
        result["answers"] = {a.question.id: [a.chosen, round(a.confidence, 4)] for a in answers}
        shares = expert_shares(model, tokenizer, kinds)
        result["experts"] = {kind: share.tolist() for kind, share in shares.items()}
        scores["generations"].append(result)
    ledger = cycle.out / "curated" / "ledger"
    pages = {document.source for document in _curated(cycle)}
    scores["curation"] = asdict(score_corrections(questions, read_table(ledger, "corrections"), pages))
    scores["curation_report"] = json.loads((cycle.out / "curated" / "report.json").read_text())
    before, after = scores["generations"]
    better = int(after["wrong_on_corrupted"] <= before["wrong_on_corrupted"])
    scores["best"] = better
    save_record(cycle.out / "scores.json", scores)
    _point(cycle.out / "best", Path(f"gen-{better}") / "run" / "model")
    return scores


def _point(link: Path, target: Path) -> None:
    fresh = link.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target, target_is_directory=True)
    os.replace(fresh, link)
