"""The plan of a collection: files in a fixed order, in parts of about one size, the same when a run goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from troth.curate.collect import Rejected, collect_part, plan_collect
from troth.curate.collect.plan import planned
from troth.curate.document import Document
from troth.curate.parts import Parts

TEXT = "A page that says one thing. " * 40


def write(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(TEXT)
    return root


def collected(out: Path, parts: int) -> tuple[list[Document], list[Rejected]]:
    stage = Parts(out, "collect")
    for part in reversed(range(parts)):
        collect_part(part, out)
    return (
        [one for part in range(parts) for one in stage.read(part, "documents", Document)],
        [one for part in range(parts) for one in stage.read(part, "rejected", Rejected)],
    )


steps = st.sampled_from(["a", "b", "a-b", "a.b", "B", "ä", "0"])
names = st.lists(st.lists(steps, min_size=1, max_size=3), max_size=12)


@settings(max_examples=40, deadline=None)
@given(names)
def test_files_come_in_the_order_of_their_paths(tmp_path_factory, paths):
    folder = tmp_path_factory.mktemp("files")
    written = sorted({"/".join(path) + ".txt" for path in paths})
    write(folder / "in", written)
    (folder / "in").mkdir(exist_ok=True)
    plan = plan_collect([str(folder / "in")], folder / "out", part_bytes=40_000)
    items = [item for part in range(plan.parts) for item in planned(folder / "out", part)]
    assert [item.source for item in items] == written
    assert plan.files == len(written)
    assert plan.bytes == sum(plan.part_bytes) == len(written) * len(TEXT)


def test_parts_are_read_in_any_order_and_their_documents_know_where_they_come_from(tmp_path):
    source = write(tmp_path / "in", [f"{number}.txt" for number in range(5)])
    os.utime(source / "0.txt", (1_600_000_000, 1_600_000_000))
    (source / "LICENSE.txt").write_text("Creative Commons Attribution 4.0 International")
    plan = plan_collect([str(source)], tmp_path / "out", part_bytes=40_000)
    documents, rejected = collected(tmp_path / "out", plan.parts)
    assert plan.parts == 3
    assert rejected == []
    assert [document.source for document in documents][:5] == [f"{number}.txt" for number in range(5)]
    first = documents[0]
    assert (first.retrieved, first.licence, first.publisher) == ("2020-09-13", "CC-BY-4.0", "0")
    assert first.encoding == "utf-8"


def test_a_plan_holds_when_a_run_goes_on_and_changes_are_named(tmp_path):
    source, out = write(tmp_path / "in", ["a.txt", "b.txt"]), tmp_path / "out"
    plan = plan_collect([str(source)], out)
    assert plan_collect([str(source)], out) == plan
    with pytest.raises(ValueError, match="begun with other settings of its sources"):
        plan_collect([str(source)], out, part_bytes=1)
    (source / "c.txt").write_text(TEXT)
    with pytest.raises(ValueError, match=r"sources are other than when it was begun, from c\.txt on"):
        plan_collect([str(source)], out)
    (source / "c.txt").unlink()
    (source / "b.txt").write_text(TEXT + "And more.")
    with pytest.raises(ValueError, match=r"b\.txt changed since it was begun"):
        plan_collect([str(source)], out)
    with pytest.raises(ValueError, match=r"b\.txt changed since the collection was begun"):
        collect_part(0, out)
    (source / "b.txt").unlink()
    with pytest.raises(ValueError, match=r"b\.txt is gone since the collection was begun"):
        collect_part(0, out)
    assert not Parts(out, "collect").is_done(0)


def test_results_that_lie_in_their_source_are_not_read(tmp_path):
    (tmp_path / "notes.txt").write_text("The bridge opened in 1931, and a train crossed it on the same day.")
    plan = plan_collect([str(tmp_path)], tmp_path / "out")
    collect_part(0, tmp_path / "out")
    assert plan_collect([str(tmp_path)], tmp_path / "out") == plan
    assert plan.files == 1
    (tmp_path / "run/raw").mkdir(parents=True)
    (tmp_path / "run/raw/notes.txt").write_text("A source may lie where the results go.")
    assert plan_collect([str(tmp_path / "run/raw")], tmp_path / "run").files == 1


def test_files_of_the_same_name_in_two_sources(tmp_path):
    one, two, three = (write(tmp_path / name, [f"{name}.txt", "x/page.txt"]) for name in ("one", "two", "three"))
    (three / "x" / "page.txt").unlink()
    plan = plan_collect([str(one), str(two), str(three), str(one)], tmp_path / "out")
    items = [item.source for item in planned(tmp_path / "out", 0)]
    assert plan.files == 5
    assert items == ["one.txt", "x/page.txt", f"{two}/two.txt", f"{two}/x/page.txt", "three.txt"]
    assert [path.name for path in (tmp_path / "out/work/collect").iterdir()] == ["plan.parquet"]


def test_links_and_pipes(tmp_path):
    source = write(tmp_path / "in", ["a.txt", "folder/b.txt"])
    (source / "to-file.txt").symlink_to(source / "a.txt")
    (source / "to-folder").symlink_to(source / "folder")
    (source / "to-nothing.txt").symlink_to(source / "nothing")
    os.mkfifo(source / "pipe.txt")
    plan = plan_collect([str(source)], tmp_path / "out")
    documents, rejected = collected(tmp_path / "out", plan.parts)
    assert [document.source for document in documents] == ["a.txt", "folder/b.txt", "to-file.txt"]
    assert [one.source for one in rejected] == ["to-nothing.txt"]


def test_a_linked_folder_is_read_once(tmp_path):
    source, elsewhere = write(tmp_path / "in", ["a.txt"]), write(tmp_path / "elsewhere", ["b.txt", "deep/c.txt"])
    (source / "linked").symlink_to(elsewhere)
    (source / "twice").symlink_to(elsewhere / "deep")
    (elsewhere / "back").symlink_to(source)
    plan = plan_collect([str(source)], tmp_path / "out")
    documents, rejected = collected(tmp_path / "out", plan.parts)
    assert [document.source for document in documents] == ["a.txt", "linked/b.txt", "linked/deep/c.txt"]
    assert [document.publisher for document in documents] == ["a", "linked", "linked"]
    assert rejected == []


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["", " ", "x" * 9, "word " * 300, "é" * 50]), min_size=1, max_size=60),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_large_file_of_lines_is_shared_out_and_nothing_is_lost_or_doubled(tmp_path_factory, texts, encoding):
    folder = tmp_path_factory.mktemp("files")
    (folder / "in").mkdir()
    lines = [json.dumps({"text": f"{number} {text}"}) if text.strip() else text for number, text in enumerate(texts)]
    (folder / "in" / "big.jsonl").write_text("\n".join(lines), encoding=encoding)
    plan = plan_collect([str(folder / "in")], folder / "out", part_bytes=500)
    documents, rejected = collected(folder / "out", plan.parts)
    assert rejected == []
    assert [one.text for one in documents] == [
        f"{number} {text}".rstrip() for number, text in enumerate(texts) if text.strip()
    ]
    assert len({one.source for one in documents}) == len(documents)
    assert plan.files == 1


@pytest.mark.parametrize("column", ["text", "words"])
def test_a_large_parquet_file_is_shared_out_by_row_groups(tmp_path, column):
    rows = [f"{number} {'word ' * 50}" for number in range(100)]
    (tmp_path / "in").mkdir()
    pq.write_table(
        pa.table({column: rows}), tmp_path / "in" / "big.parquet", row_group_size=10, compression="none",
        use_dictionary=False,
    )  # fmt: skip
    plan = plan_collect([str(tmp_path / "in")], tmp_path / "out", part_bytes=8_000)
    documents, _ = collected(tmp_path / "out", plan.parts)
    assert plan.parts == 5
    assert "\n".join(one.text for one in documents).replace("words: ", "") == "\n".join(map(str.rstrip, rows))
    assert len({one.source for one in documents}) == len(documents)
    if column == "text":
        assert [one.source for one in documents] == [f"big.parquet#{number}" for number in range(100)]


def test_memory_stays_flat_as_a_file_grows(tmp_path):
    program = """
import resource, sys
from pathlib import Path
from troth.curate.collect import collect_part, plan_collect
source, out = Path(sys.argv[1]), Path(sys.argv[2])
plan = plan_collect([str(source)], out, part_bytes=1 << 40)
collect_part(0, out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""
    used = []
    for times in (2, 20):
        source = tmp_path / f"{times}.jsonl"
        with source.open("w") as file:
            for _ in range(times * 500):
                file.write(json.dumps({"text": TEXT * 5}) + "\n")
        command = [sys.executable, "-c", program, str(source), str(tmp_path / f"out-{times}")]
        used.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert used[1] < used[0] + 120, f"MB at 5 and 50 MB of input: {used}"
