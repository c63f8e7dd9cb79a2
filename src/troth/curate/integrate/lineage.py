"""lineage.jsonl: what each stage of a curation read and wrote, as OpenLineage run events (spec 2-0-2), one a line.

Lines are only ever added. A run that is killed leaves a START without an end; going on is a run of its own.
"""

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lance
import pyarrow.parquet as pq

_SPEC = "https://openlineage.io/spec"
_PRODUCER = "urn:troth:curate"
_FACETS = {
    "schema": "1-2-0/SchemaDatasetFacet", "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "inputStatistics": "1-0-0/InputStatisticsInputDatasetFacet", "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
}  # fmt: skip


@contextmanager
def traced(out: Path, stage: str, reads: Sequence[str] = (), sources: Sequence[str] = ()) -> Iterator[None]:
    """Around the work of a stage: START, then COMPLETE with all tables that it read and wrote, or FAIL with the error.

    `reads` names earlier stages, `sources` what comes from outside. What the stage `integrate` wrote are the tables of
    the ledger and the curated documents.
    """
    path = out / "lineage.jsonl"
    run = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{out.resolve().as_uri()}/{stage}/{_starts(path, stage)}"))
    inputs = [*map(_source, sources)]
    inputs += [_parts(out, name, table, "input") for name in reads for table in _names(out, name)]
    _append(path, _event("START", run, stage, inputs, []))
    try:
        yield
    except BaseException as error:
        message = {"message": f"{type(error).__name__}: {error}", "programmingLanguage": "Python"}
        _append(path, _event("FAIL", run, stage, inputs, [], {"errorMessage": _facet("errorMessage", message)}))
        raise
    outputs = [_parts(out, stage, name, "output") for name in _names(out, stage)]
    if stage == "integrate":
        outputs += [_ledger(file) for file in sorted((out / "ledger").glob("*.lance"))]
        outputs += [_files(out / "documents", sorted((out / "documents").glob("*.parquet")), "output")]
    _append(path, _event("COMPLETE", run, stage, inputs, outputs))


def _event(
    kind: str, run: str, stage: str, inputs: list[Any], outputs: list[Any], facets: dict[str, Any] | None = None
) -> dict[str, Any]:
    about = {"processingType": "BATCH", "integration": "TROTH", "jobType": "STAGE"}
    return {
        "eventType": kind,
        "eventTime": datetime.now(UTC).isoformat(),
        "run": {"runId": run, "facets": facets or {}},
        "job": {"namespace": "troth", "name": f"curate.{stage}", "facets": {"jobType": _facet("jobType", about)}},
        "inputs": inputs,
        "outputs": outputs,
        "producer": _PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
    }


def _facet(name: str, about: dict[str, Any]) -> dict[str, Any]:
    place = _FACETS[name]
    kind = place.partition("/")[2]
    return {"_producer": _PRODUCER, "_schemaURL": f"{_SPEC}/facets/{place}.json#/$defs/{kind}", **about}


def _source(name: str) -> dict[str, Any]:
    """A source outside: a URL by its scheme and host, anything else as a path."""
    scheme, mark, rest = name.partition("://")
    if mark:
        host, _, path = rest.partition("/")
        return {"namespace": f"{scheme}://{host}", "name": path or "/", "facets": {}}
    return {"namespace": "file", "name": str(Path(name).resolve()) if Path(name).exists() else name, "facets": {}}


def _names(out: Path, stage: str) -> list[str]:
    return sorted({file.name.split(".")[1] for file in (out / "work" / stage).glob("*.*.parquet")})


def _parts(out: Path, stage: str, name: str, side: str) -> dict[str, Any]:
    folder = out / "work" / stage
    return _files(folder / name, sorted(folder.glob(f"*.{name}.parquet")), side)


def _files(place: Path, files: Sequence[Path], side: str) -> dict[str, Any]:
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    fields = pq.read_schema(files[0]) if files else []
    return _dataset(place, fields, rows, sum(file.stat().st_size for file in files), side)


def _ledger(folder: Path) -> dict[str, Any]:
    data = lance.dataset(str(folder))
    size = sum(file.stat().st_size for file in (folder / "data").glob("*"))
    return _dataset(folder, data.schema, data.count_rows(), size, "output")


def _dataset(place: Path, fields: Any, rows: int, size: int, side: str) -> dict[str, Any]:
    named = [{"name": field.name, "type": str(field.type)} for field in fields]
    counts = _facet(f"{side}Statistics", {"rowCount": rows, "size": size})
    return {
        "namespace": "file", "name": str(place.resolve()), "facets": {"schema": _facet("schema", {"fields": named})},
        f"{side}Facets": {f"{side}Statistics": counts},
    }  # fmt: skip


def _starts(path: Path, stage: str) -> int:
    """How often the stage was begun before."""
    if not path.exists():
        return 0
    begun = f'"name": "curate.{stage}"'
    with path.open(encoding="utf-8") as lines:
        return sum('"eventType": "START"' in line and begun in line for line in lines)


def _append(path: Path, event: dict[str, Any]) -> None:
    """Add one line; what a killed run left of its last one goes first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        tail = _torn(file, size)
        if tail:
            file.truncate(size - tail)
        file.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _torn(file: Any, size: int) -> int:
    """Bytes after the last line break."""
    at = size
    while at > 0:
        start = max(0, at - 4096)
        file.seek(start)
        found = file.read(at - start).rfind(b"\n")
        if found >= 0:
            return int(size - (start + found + 1))
        at = start
    return size
