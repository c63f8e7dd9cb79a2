"""Filters and deduplication beside datatrove's blocks, what comes through a second, and memory as the input grows.

    python bench/curate.py [--megabytes 40] [--grown 10] [--shared ../shared] [--json]
                           [--parts filters,duplicates,flow,claims,memory]

The corpus is that of `corpus`, of textbooks with copies and junk among them.

`filters`: Gopher's quality and repetition rules and FineWeb's, on the same documents in one process each. Both stop a
block at the first rule that is broken, as datatrove does. The agreement is the share of documents with the same
decision; words are split by our own rules there and by spaCy's blank English here, and by how much is reported too.
`duplicates`: MinHash deduplication, from documents to documents without their duplicates; datatrove's four blocks write
to a folder too. Its pairs share one of 14 bands of 8 hashes (a Jaccard likeness of about 0.72); ours share 0.72 of the
smaller text, confirmed on the texts. `flow`: collect, filter and deduplicate JSON lines with a process a core.
`claims`: what comes after these, from claims to verdicts. `memory`: the peaks of `troth curate` stage by stage, on the
corpus and on one `--grown` times as large.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from corpus import PART_BYTES, corpus, textbooks, write_corpus
from idle import warn_if_busy
from peaks import peaks

from troth.curate.collect.part import collect_part
from troth.curate.collect.plan import plan_collect
from troth.curate.document import Document
from troth.curate.duplicates.prints import PrintWriter
from troth.curate.duplicates.stage import duplicates_part, find_duplicates
from troth.curate.execute import run_stage
from troth.curate.filter.finding import Finding
from troth.curate.filter.fineweb import fineweb
from troth.curate.filter.gopher import quality
from troth.curate.filter.repetition import repetition
from troth.curate.filter.stage import filter_part
from troth.curate.filter.words import Words
from troth.curate.parts import Parts
from troth.curate.records import Decision
from troth.curate.validate.cases import Case
from troth.curate.validate.fitted import calibrate_opinions, judge_cases
from troth.curate.validate.stages import (
    build_index,
    cases_part,
    index_for_verifiers,
    neighbours_part,
    opinions_part,
    verdicts_part,
)
from troth.system import CurateTable

ROOT = Path(__file__).resolve().parents[1]
PEER = "datatrove 0.10.1"


def main() -> None:
    """Run, print tables, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=40)
    parser.add_argument("--grown", type=float, default=10, help="how many times as large the larger corpus is")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--parts", default="filters,duplicates,flow,claims,memory")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    books = textbooks(options.shared / "data")
    if not options.json:
        warn_if_busy()
    found: dict[str, Any] = {"cores": os.cpu_count(), "megabytes": options.megabytes}
    asked = options.parts.split(",")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if {"filters", "duplicates"} & set(asked):
            documents = list(corpus(books, options.megabytes))
            found["documents"] = len(documents)
            if "filters" in asked:
                found["filters"] = filters(documents)
            if "duplicates" in asked:
                found["duplicates"] = duplicates(documents, work)
            del documents
        if "flow" in asked:
            found["flow"] = flow(write_corpus(books, options.megabytes, work / "texts"), work / "flow")
        if "claims" in asked:
            found["claims"] = claims(books, options.megabytes, work / "claims")
        if "memory" in asked:
            found["memory"] = [
                memory(books, options.megabytes * times, work / "memory") for times in (1, options.grown)
            ]
    print(json.dumps(found, indent=2) if options.json else table(found))


def filters(documents: list[Document]) -> dict[str, Any]:
    """Three blocks of rules on each side."""
    from datatrove.data import Document as Theirs
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    blocks: dict[str, tuple[Callable[[Words], Iterable[Finding]], Any]] = {
        "gopher_quality": (quality, GopherQualityFilter()),
        "gopher_repetition": (repetition, GopherRepetitionFilter()),
        "fineweb": (fineweb, FineWebQualityFilter()),
    }
    size = sum(len(one.text.encode()) for one in documents) / 1e6
    for own, theirs in blocks.values():  # what is loaded once is not timed
        list(own(Words("One two. Three.")))
        theirs.filter(Theirs("One two. Three.", "0"))
    start = time.perf_counter()
    ours: list[list[str]] = []
    for document in documents:
        words = Words(document.text)
        ours.append([next((one.rule for one in own(words) if one.broken), "") for own, _ in blocks.values()])
    own_seconds = time.perf_counter() - start
    start = time.perf_counter()
    theirs_: list[list[str]] = []
    for document in documents:
        other = Theirs(document.text, document.source)
        answers = [block.filter(other) for _, block in blocks.values()]
        theirs_.append(["" if answer is True else answer[1] for answer in answers])
    peer_seconds = time.perf_counter() - start
    agreement = {
        name: _agreement([one[at] for one in ours], [one[at] for one in theirs_]) for at, name in enumerate(blocks)
    }
    agreement["kept_or_dropped"] = _agreement([_any(one) for one in ours], [_any(one) for one in theirs_])
    return {
        **_rates(size, own_seconds, peer_seconds), "agreement": agreement, "words": word_difference(documents[::20]),
        "dropped": sum(any(one) for one in ours),
    }  # fmt: skip


def _any(rules: list[str]) -> str:
    return "dropped" if any(rules) else ""


def _agreement(ours: list[str], theirs: list[str]) -> dict[str, Any]:
    same = sum(bool(a) == bool(b) for a, b in zip(ours, theirs, strict=True))
    pairs = Counter((a, b) for a, b in zip(ours, theirs, strict=True) if a or b)
    return {
        "same_decision": same / len(ours), "different": len(ours) - same,
        "rules": {f"{a or 'kept'} / {b or 'kept'}": count for (a, b), count in pairs.most_common()},
    }  # fmt: skip


def word_difference(documents: list[Document]) -> dict[str, float]:
    """How our words differ from spaCy's: their number, and the share of spaCy's that we split in another way."""
    from datatrove.utils.text import split_into_words

    ours = theirs = missing = 0
    for document in documents:
        words = Words(document.text)
        own = Counter(document.text[a:b] for a, b in zip(words.starts.tolist(), words.ends.tolist(), strict=True))
        other = Counter(split_into_words(document.text))
        ours, theirs = ours + own.total(), theirs + other.total()
        missing += (other - own).total()
    return {"number": ours / theirs, "split_otherwise": missing / theirs}


def duplicates(documents: list[Document], work: Path) -> dict[str, Any]:
    """Deduplication on each side."""
    from datatrove.data import Document as Theirs
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    size = sum(len(one.text.encode()) for one in documents) / 1e6
    settings = CurateTable(near_duplicate=0.72, repeated_in=0)
    start = time.perf_counter()
    parts = Parts(work / "ours", "filter")
    with PrintWriter(parts, 0) as prints:
        for document in documents:
            prints.add(document, Words(document.text))
    parts.write(0, "documents", Document, documents)
    find_duplicates([0], work / "ours", settings)
    duplicates_part(0, work / "ours", settings)
    own_seconds = time.perf_counter() - start
    kept = {one.source for one in Parts(work / "ours", "duplicates").read(0, "documents", Document)}

    start = time.perf_counter()
    config, home = MinhashConfig(), str(work / "theirs")
    others = [Theirs(one.text, one.source) for one in documents]
    MinhashDedupSignature(f"{home}/signatures", config).run(iter(others))
    for bucket in range(config.num_buckets):
        MinhashDedupBuckets(f"{home}/signatures", f"{home}/buckets", config=config).run(
            None, rank=bucket, world_size=config.num_buckets
        )
    MinhashDedupCluster(f"{home}/buckets", f"{home}/remove", config=config).run()
    theirs = {one.id for one in MinhashDedupFilter(f"{home}/remove").run(iter(others))}
    peer_seconds = time.perf_counter() - start
    number = {one.source: at for at, one in enumerate(documents)}
    gone = [{at for source, at in number.items() if source not in left} for left in (kept, theirs)]
    # Which of two alike stays is a matter of taste; how many of each cluster go is not.
    return {
        **_rates(size, own_seconds, peer_seconds), "dropped": len(gone[0]), "dropped_by_peer": len(gone[1]),
        "dropped_by_both": len(gone[0] & gone[1]),
        "documents_of_one_size": 1 - abs(len(gone[0]) - len(gone[1])) / len(documents),
    }  # fmt: skip


def _rates(size: float, own_seconds: float, peer_seconds: float) -> dict[str, float]:
    return {
        "mb_per_second": size / own_seconds, "peer_mb_per_second": size / peer_seconds,
        "ratio": peer_seconds / own_seconds,
    }  # fmt: skip


def flow(texts: Path, out: Path) -> dict[str, Any]:
    """From files to documents without junk and duplicates, with a process a core."""
    settings = CurateTable()
    start = time.perf_counter()
    plan = plan_collect([str(texts)], out, part_bytes=PART_BYTES)
    size = plan.bytes / 1e6
    run_stage("collect", partial(collect_part, out=out), plan.parts, out, shown=False)
    collected = time.perf_counter()
    run_stage("filter", partial(filter_part, out=out, settings=settings), plan.parts, out, shown=False)
    filtered = time.perf_counter()
    find_duplicates(range(plan.parts), out, settings)
    run_stage("duplicates", partial(duplicates_part, out=out, settings=settings), plan.parts, out, shown=False)
    end = time.perf_counter()
    rules = Counter(
        f"{one.stage}: {one.label}, {one.rule}"
        for stage in ("filter", "duplicates")
        for at in range(plan.parts)
        for one in Parts(out, stage).read(at, "decisions", Decision)
    )
    return {
        "mb_per_second": size / (end - start), "collect_mb_per_second": size / (collected - start),
        "filter_mb_per_second": size / (filtered - collected),
        "deduplicate_mb_per_second": size / (end - filtered), "decisions": dict(rules.most_common()),
    }  # fmt: skip


def claims(books: list[str], megabytes: float, out: Path) -> dict[str, Any]:
    """From cleaned documents of four publishers to claims, evidence, exact checks and verdicts, a process a core."""
    settings, count = CurateTable(), max(os.cpu_count() or 1, round(megabytes * 1e6 / PART_BYTES))
    documents = list(corpus(books, megabytes))
    size = sum(len(one.text.encode()) for one in documents) / 1e6
    for part in range(count):
        told = (replace(one, publisher=f"P{at % 4}") for at, one in enumerate(documents) if at % count == part)
        Parts(out, "duplicates").write(part, "documents", Document, told)
    del documents

    def run(name: str, work: Callable[..., None], **more: Any) -> float:
        start = time.perf_counter()
        run_stage(name, partial(work, out=out, settings=settings, **more), count, out, shown=False)
        return time.perf_counter() - start

    start = time.perf_counter()
    build_index(out, count, (), 1)
    seconds = {"index": time.perf_counter() - start}
    seconds["neighbours"] = run("neighbours", neighbours_part, parts=count)
    seconds["cases"] = run("cases", cases_part, parts=count, seed=0)
    start = time.perf_counter()
    judge = judge_cases(out, count, settings)
    index_for_verifiers(out, count, settings, 0)
    seconds["judge"] = time.perf_counter() - start
    seconds["opinions"] = run("opinions", opinions_part)
    calibrated = calibrate_opinions(out, count, judge, settings)
    seconds["verdicts"] = run("validate", verdicts_part, judge=judge, calibrated=calibrated, generation=1)
    cases = sum(1 for part in range(count) for _ in Parts(out, "cases").read(part, "cases", Case))
    return {"mb_per_second": size / sum(seconds.values()), "megabytes": size, "cases": cases, "seconds": seconds}


def memory(books: list[str], megabytes: float, work: Path) -> dict[str, Any]:
    """Peaks of the whole of `troth curate`, by stage."""
    texts = write_corpus(books, megabytes, work / "texts")
    start = time.perf_counter()
    found = peaks(texts, work / "out")
    seconds = time.perf_counter() - start
    shutil.rmtree(work)
    return {"megabytes": megabytes, "peak_mib": max(found.values()), "stages": found, "seconds": seconds}


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{found['megabytes']:g} MB, {found['cores']} cores"]
    for name in ("filters", "duplicates"):
        if name in found:
            row = found[name]
            lines.append(
                f"{name:<12} troth {row['mb_per_second']:7.2f} MB/s   {PEER} {row['peer_mb_per_second']:6.3f} MB/s"
                f"   {row['ratio']:6.1f}x"
            )
    if "filters" in found:
        for name, row in found["filters"]["agreement"].items():
            lines.append(f"  same decision, {name:<18} {row['same_decision']:7.2%}  ({row['different']} differ)")
            lines += [f"    {rules:<60} {count}" for rules, count in row["rules"].items()]
        words = found["filters"]["words"]
        share = f"{words['split_otherwise']:.2%} of these split otherwise"
        lines.append(f"  words: {words['number']:.4f} of spaCy's number; {share}")
    if "duplicates" in found:
        row = found["duplicates"]
        lines.append(
            f"  dropped {row['dropped']}, by the peer {row['dropped_by_peer']}, by both {row['dropped_by_both']}"
        )
    if "flow" in found:
        row = found["flow"]
        lines.append(
            f"flow         {row['mb_per_second']:.2f} MB/s (collect {row['collect_mb_per_second']:.2f}, filter "
            f"{row['filter_mb_per_second']:.2f}, deduplicate {row['deduplicate_mb_per_second']:.2f})"
        )
        lines += [f"    {rule:<60} {count}" for rule, count in row["decisions"].items()]
    if "claims" in found:
        row = found["claims"]
        stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in row["seconds"].items())
        lines.append(f"claims       {row['mb_per_second']:.2f} MB/s, {row['cases']:,} cases ({stages})")
    for row in found.get("memory", []):
        stages = ", ".join(f"{name} {peak:.0f}" for name, peak in row["stages"].items())
        lines.append(
            f"memory       {row['megabytes']:g} MB: {row['peak_mib']:.0f} MiB, {row['seconds']:.0f} s ({stages})"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
