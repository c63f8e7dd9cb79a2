import pytest

from troth.curate.collect import collect
from troth.curate.collect.library import library_pages
from troth.system import DataTable


def test_paths_and_python_in_the_order_given(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "page.txt").write_text(f"This is page {name}.")
    (tmp_path / "two" / "bad.jsonl").write_text("{")
    paths = [str(tmp_path / name) for name in ("one", "two")]
    found = collect(DataTable(sources=[*paths, "python", paths[0]], max_python_bytes=20_000))
    assert [d.text for d in found.documents[:2]] == ["This is page one.", "This is page two."]
    assert [d.source for d in found.documents[:2]] == ["page.txt", f"{paths[1]}/page.txt"]
    assert {d.collection for d in found.documents} == {"documents", "python-prose", "python-code", "python-facts"}
    assert [one.source for one in found.rejected] == [f"{paths[1]}/bad.jsonl#0"]


def test_a_document_that_names_no_publisher_has_its_folder_or_file_as_one(tmp_path):
    pages = "alice/one.txt", "alice/more/two.txt", "bob.txt", "carol.html"
    for name in pages:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("<meta name=publisher content=Gazette><p>News." if "html" in name else "Text.")
    found = collect(DataTable(sources=[str(tmp_path)])).documents
    told = {one.source: one.publisher for one in found}
    assert told == dict(zip(pages, ("alice", "alice", "bob", "Gazette"), strict=True))


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(ValueError, match="no-such-folder"):
        collect(DataTable(sources=[str(tmp_path / "no-such-folder")]))


def test_the_shipped_pages_are_found_or_their_absence_is_explained():
    try:
        pages = library_pages()
    except ValueError as error:
        explained = str(error)
        assert "data.sources" in explained
    else:
        found = collect(DataTable(sources=["library"]))
        assert pages.is_dir()
        assert {d.collection for d in found.documents} == {"library"}
