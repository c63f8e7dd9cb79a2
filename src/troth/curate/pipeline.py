"""Curation from end to end: documents are collected and cleaned, their claims judged and mended, all of it recorded.

Each stage works on parts that are done once (see `parts`), so a run that was killed goes on where it stood.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from troth.curate.balance.report import balance
from troth.curate.balance.viewpoints import lost_viewpoint
from troth.curate.collect import collect
from troth.curate.collect.part import collect_part
from troth.curate.collect.plan import check_sources, plan_collect
from troth.curate.collect.reader import Rejected
from troth.curate.document import Document
from troth.curate.duplicates.stage import duplicates_part, find_duplicates
from troth.curate.execute import Executor, run_stage
from troth.curate.filter.fit import check_examples, fit_quality
from troth.curate.filter.language import forget
from troth.curate.filter.stage import check_filters, filter_part
from troth.curate.integrate.feeds import fingerprint, stage_feeds
from troth.curate.integrate.ledger import reject_generation, write_generation
from troth.curate.integrate.lineage import traced
from troth.curate.integrate.publish import publish
from troth.curate.integrate.weight import publisher_weights
from troth.curate.memory import give_back_freed_memory, sweep
from troth.curate.parts import Parts
from troth.curate.records import GenerationRow
from troth.curate.refine.part import refine_part
from troth.curate.refine.policy import POLICY
from troth.curate.report import counts
from troth.curate.rows import write_whole
from troth.curate.validate.canaries import Canary, measure, objection
from troth.curate.validate.caveat import NO_DOCUMENT, ONE_PUBLISHER
from troth.curate.validate.examine import Examiner
from troth.curate.validate.fitted import Judge, calibrate_opinions, judge_cases
from troth.curate.validate.stages import (
    build_index,
    cases_part,
    cleaned_documents,
    examine_part,
    index_for_verifiers,
    judged_documents,
    neighbours_part,
    opinions_part,
    verdicts_part,
)
from troth.curate.validate.timelines import timelines
from troth.curate.validate.verifiers.build import refuse_incomplete
from troth.curate.validate.verifiers.entailment import Classifier
from troth.system import CurateTable, DataTable
from troth.system.garbage import left_out_of_searches
from troth.system.lock import held

_PART_BYTES = 16 << 20
"""Bytes of sources that a part holds; what a stage keeps of one part has to fit in memory for every worker."""
_TABLES = 3
"""Which tables stages leave to those after them: another number where a half-done run cannot be gone on with."""
_GATE = ("max_false_alarms", "max_viewpoint_loss")
"""Settings that only the end asks for: with other ones what is not published yet is decided anew."""


@dataclass(frozen=True)
class Curation:
    """What to curate into `out`, by which settings, as which generation; `say` is told what goes on."""

    sources: tuple[str, ...]
    out: Path
    settings: CurateTable
    generation: int = 1
    seed: int = 0
    python_bytes: int = 2_000_000
    say: Callable[[str], None] = lambda text: None


def curate(
    run: Curation, examiner: Callable[[list[Document]], Examiner] | None = None, classifier: Classifier | None = None
) -> dict[str, Any]:
    """Write `OUT/documents/` (Parquet), `OUT/ledger/` (Lance), a dataset card, `croissant.json`, `lineage.jsonl`,
    `data.toml` and, last, `OUT/report.json`, and return the report.

    `examiner` makes, from the documents whose claims are judged, the model that cross-examines them; `classifier` is
    the model of the verifier `entailment`. What is finished is not done again. Raises ValueError where another process
    is at work in `out`, where settings name what is not there, where `out` was begun with other sources or settings, or
    by a version whose half-done work this one cannot read, and where a part fails. A run that was refused may be called
    again with other limits.
    """
    _refuse_missing(run, classifier)
    give_back_freed_memory()
    with held(run.out, "curating into", patience=1.0), left_out_of_searches():
        _claim_folder(run)
        done = run.out / "report.json"
        if done.exists():
            return json.loads(done.read_text(encoding="utf-8"))
        parts = _cleaned(run)
        judge = _judged(run, parts, examiner, classifier)
        report: dict[str, Any] = json.loads(json.dumps(_refined(run, parts, judge)))
        _save(done, report)
        return report


def _refuse_missing(run: Curation, classifier: Classifier | None) -> None:
    """Before hours of work that could not be gone on with, for a folder keeps the settings that it was begun with."""
    check_filters(run.settings)
    check_examples(run.settings)
    refuse_incomplete(run.settings, classifier)
    if (run.out / "run.json").exists():
        return  # what is done is done, whatever became of its sources
    check_sources(run.sources, run.out)
    for key in ("references", "tables"):
        try:
            check_sources(getattr(run.settings, key), run.out)
        except ValueError as error:
            raise ValueError(f"curate.{key}: {error}") from error


def _claim_folder(run: Curation) -> None:
    """Settings that change no result, such as how many processes work, may change between runs."""
    own = {
        "sources": list(run.sources),
        "settings": run.settings.model_dump(mode="json", exclude={"executor", "workers"}),
        "generation": run.generation,
        "seed": run.seed,
    }
    path, done = run.out / "run.json", run.out / "report.json"
    if not path.exists():
        _save(path, own | {"tables": _TABLES})
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    gate = {name: getattr(run.settings, name) for name in _GATE}
    published = done.exists() and json.loads(done.read_text(encoding="utf-8"))["accepted"]
    if not published and (anew := known["settings"] | gate) != known["settings"]:
        done.unlink(missing_ok=True)
        known["settings"] = anew
        _save(path, known)
    for key, value in own.items():
        if known.get(key) != value:
            raise ValueError(f"{run.out}: was begun with other {_other(key, known.get(key), value)}; curate elsewhere")
    if known.get("tables") != _TABLES and not done.exists():
        raise ValueError(f"{run.out}: was begun by another version of Troth and not finished; curate elsewhere")


def _other(key: str, was: Any, now: Any) -> str:
    """What is other than it was, of settings only those that are."""
    if not (isinstance(was, dict) and isinstance(now, dict)):
        return f"{key} ({was!r}, now {now!r})"
    names = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    return ", ".join(f"curate.{name} ({was.get(name)!r}, now {now.get(name)!r})" for name in names)


def _stage(
    run: Curation, parts: int, name: str, work: Callable[[int], None], reads: Sequence[str], size: int = 0
) -> None:
    """Work on all parts of a stage that are not done, and record where its rows come from."""
    if all(Parts(run.out, name).is_done(part) for part in range(parts)):
        return
    sweep()  # what looked at the whole corpus before
    how = Executor(run.settings.executor, run.settings.workers)
    with traced(run.out, name, reads, () if reads else run.sources):
        run_stage(name, work, parts, run.out, how, total_bytes=size)


def _cleaned(run: Curation) -> int:
    """Collect, filter and deduplicate; the number of parts."""
    out, settings = run.out, run.settings
    plan = plan_collect(
        run.sources, out, python_bytes=run.python_bytes, part_bytes=_PART_BYTES, text_column=settings.text_column
    )
    numbers = range(plan.parts)
    stage = partial(_stage, run, plan.parts)
    stage("collect", partial(collect_part, out=out), (), plan.bytes)
    set_aside = sum(1 for _ in Parts(out, "collect").read_all(numbers, "rejected", Rejected))
    if set_aside:
        run.say(f"{set_aside:,} files or records set aside; `troth explain` and the ledger's table `rejected` say why")
    fit_quality(numbers, out, settings)
    stage("filter", partial(filter_part, out=out, settings=settings), ("collect",))
    find_duplicates(numbers, out, settings)
    stage("duplicates", partial(duplicates_part, out=out, settings=settings), ("filter",))
    _forget_languages(plan.parts)
    return plan.parts


def _forget_languages(parts: int) -> None:
    """Nothing below the stages that take most memory; a small run is faster with the model where it is."""
    if parts > 1:
        forget()


def _judged(
    run: Curation, parts: int, examiner: Callable[[list[Document]], Examiner] | None, classifier: Classifier | None
) -> Judge:
    """Find the claims and judge them."""
    out, settings = run.out, run.settings
    stage = partial(_stage, run, parts)
    run.say("looking for claims and evidence")
    if next(judged_documents(out, parts), None) is None:
        anything = next(cleaned_documents(out, range(parts)), None)
        run.say(ONE_PUBLISHER if anything else NO_DOCUMENT)
    timelines(out, parts, settings, run.generation, run.seed, run.say)
    build_index(out, parts, _references(run), run.generation)
    near = partial(neighbours_part, parts=parts, out=out, settings=settings)
    stage("neighbours", near, ("duplicates",))
    cases = partial(cases_part, parts=parts, out=out, settings=settings, seed=run.seed)
    stage("cases", cases, ("duplicates", "neighbours"))
    if examiner and not all(Parts(out, "answers").is_done(part) for part in range(parts)):
        asked = examiner(list(judged_documents(out, parts)))
        run.say("cross-examining")
        for part in range(parts):
            examine_part(part, out, asked)
    judge = judge_cases(out, parts, settings)
    index_for_verifiers(out, parts, settings, run.seed)
    if classifier:
        for part in range(parts):  # here, where the model is
            opinions_part(part, out, settings, classifier)
    stage("opinions", partial(opinions_part, out=out, settings=settings), ("cases",))
    calibrated = calibrate_opinions(out, parts, judge, settings)
    verdicts = partial(verdicts_part, out=out, settings=settings, judge=judge, calibrated=calibrated)
    stage("validate", partial(verdicts, generation=run.generation), ("cases", "opinions"))
    return judge


def _references(run: Curation) -> Iterator[Document]:
    """Reference collections: they testify and are not judged."""
    if run.settings.references:
        found = collect(DataTable(sources=list(run.settings.references)), run.settings.text_column)
        yield from found.documents


def _refined(run: Curation, parts: int, judge: Judge) -> dict[str, Any]:
    """Edit the documents, check what was done, and publish it, or say why not."""
    out, settings = run.out, run.settings
    errors = dict(zip(judge.publishers, judge.error.tolist(), strict=True))
    weights = publisher_weights(Counter(one.publisher for one in judged_documents(out, parts)), errors)
    work = partial(refine_part, out=out, settings=settings, weights=weights, generation=run.generation)
    _stage(run, parts, "refine", work, ("duplicates", "validate", "timelines"))
    found = measure(Parts(out, "validate").read_all(range(parts), "canaries", Canary), settings.canary_rate)
    balanced = balance(range(parts), out, "collect", "refine")
    _forget_languages(parts)
    report = counts(out, range(parts), judge, found) | {"weight_by_publisher": weights, "balance": balanced.as_json()}
    reason = objection(found, settings.max_false_alarms) or lost_viewpoint(
        balanced.retention, settings.max_viewpoint_loss
    )
    report |= {"accepted": not reason, "reason": reason}
    feeds = stage_feeds(out)
    row = GenerationRow(
        run.generation, fingerprint(feeds), json.dumps(asdict(found), sort_keys=True), not reason, POLICY, reason
    )
    if reason:
        reject_generation(out / "ledger", row)
        return report
    run.say("writing the ledger")
    sweep()
    with traced(out, "integrate", ("collect", "filter", "duplicates", "cases", "validate", "timelines", "refine")):
        write_generation(out / "ledger", row, feeds)
        _link_documents(out, parts)
        publish(out, report, run.generation, date.today().isoformat())
    return report


def _link_documents(out: Path, parts: int) -> None:
    """The curated documents, where `troth train` finds them."""
    folder = out / "documents"
    folder.mkdir(exist_ok=True)
    for part in range(parts):
        path = folder / f"{part:05d}.parquet"
        if not path.exists():
            os.link(Parts(out, "refine").file(part, "documents"), path)


def _save(path: Path, record: dict[str, Any]) -> None:
    write_whole(path, json.dumps(record, indent=2))
