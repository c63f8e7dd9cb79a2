"""Documents to shards and back: here, at a URL through a cache, whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import time

import fsspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from troth.train.shards import open_shards, write_shards
from troth.train.stream import Stream

MEMORY = fsspec.filesystem("memory")
few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def texts_of(collection, tokenizer):
    """The documents of a collection, file by file."""
    for number in range(len(collection.files)):
        shard = collection.open(number)
        for start, end in zip(shard.starts, shard.ends, strict=True):
            assert shard.tokens[start] == tokenizer.end_of_text
            yield tokenizer.decode(shard.tokens[start + 1 : end])


def numbered(count):
    return [f"Document {number} of {count}." for number in range(count)]


@few
@given(st.lists(st.tuples(st.sampled_from(["a", "b/c", ".."]), st.text(max_size=60)), min_size=1, max_size=20))
def test_shards_are_the_documents_one_after_another(tokenizer, tmp_path_factory, documents):
    folder = tmp_path_factory.mktemp("shards")
    sizes = write_shards(documents, tokenizer, folder)
    found = open_shards(folder)
    assert {name: list(texts_of(collection, tokenizer)) for name, collection in found.items()} == {
        name: [text for other, text in documents if other == name] for name in sizes
    }
    assert {name: collection.size for name, collection in found.items()} == sizes
    assert found[documents[0][0]].dtype == np.uint16


def test_a_large_collection_is_several_files(tokenizer, tmp_path):
    texts = numbered(20_000)
    heard = []
    report = lambda documents, tokens: heard.append((documents, tokens))  # noqa: E731
    sizes = write_shards((("all", text) for text in texts), tokenizer, tmp_path, report, file_bytes=200_000)
    collection = open_shards(tmp_path)["all"]
    assert len(collection.files) > 2
    assert all(file.tokens * 2 <= 200_000 for file in collection.files)
    assert list(texts_of(collection, tokenizer)) == texts
    assert heard == sorted(heard)
    assert heard[-1] == (20_000, sizes["all"])


def test_half_of_a_surrogate_pair_is_no_obstacle(tokenizer, tmp_path):
    write_shards([("all", "a\ud800b")], tokenizer, tmp_path)
    assert list(texts_of(open_shards(tmp_path)["all"], tokenizer)) == ["a\ufffdb"]


def test_documents_are_not_held(tokenizer, tmp_path):
    """While documents come, those before them are on disk, but for a few in hand."""

    def documents():
        for number in range(60):
            if number == 50:
                assert sum(file.stat().st_size for file in tmp_path.glob("*.tokens")) > 50_000
            yield "all", "river " * 10_000

    write_shards(documents(), tokenizer, tmp_path)


def test_shards_that_were_not_finished_are_named(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        open_shards(tmp_path)


def test_no_documents_are_no_shards(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="no documents"):
        write_shards([], tokenizer, tmp_path)
    with pytest.raises(ValueError, match="no token shards"):
        open_shards(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from troth.model.tokenizer import Tokenizer
from troth.train.shards import write_shards

def documents():
    for number in range(100):
        yield "all", "river " * 10_000
    os.kill(os.getpid(), signal.SIGKILL)

write_shards(documents(), Tokenizer.load(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_over_finished_shards_it_leaves_nothing_that_looks_finished(tokenizer, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(tmp_path / "tokenizer")
    folder = tmp_path / "shards"
    write_shards([("all", "an earlier text"), ("old", "another")], tokenizer, folder)
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "tokenizer", folder], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(folder.glob("*.tokens"))
    with pytest.raises(ValueError, match="no token shards"):
        open_shards(folder)
    write_shards([("all", "a new text")], tokenizer, folder)
    assert list(texts_of(open_shards(folder)["all"], tokenizer)) == ["a new text"]
    assert len(list(folder.glob("*.tokens"))) == 1


def test_a_file_that_was_cut_off_is_named(tokenizer, tmp_path):
    write_shards([("all", "some text")], tokenizer, tmp_path)
    (file,) = tmp_path.glob("*.tokens")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{file.name}: has \d+ bytes, not \d+"):
        open_shards(tmp_path)["all"].open(0)


@pytest.fixture(scope="module")
def local(tokenizer, tmp_path_factory):
    """A folder of shards in 30 files."""
    folder = tmp_path_factory.mktemp("local")
    write_shards((("all", f"{text} {'la ' * 4_000}") for text in numbered(600)), tokenizer, folder, file_bytes=200_000)
    return folder


@pytest.fixture
def url(local, tmp_path):
    """The same in a bucket."""
    bucket = f"memory://{tmp_path.name}/shards"
    for file in local.iterdir():
        MEMORY.pipe(f"{bucket}/{file.name}", file.read_bytes())
    yield bucket
    if MEMORY.exists(bucket):
        MEMORY.rm(bucket, recursive=True)


def read_all(collection):
    stream = Stream(collection, seed=0)
    tokens = np.empty(stream.epoch_tokens, dtype=np.int64)
    for at in range(0, len(tokens), 10_000):
        stream.read(at, tokens[at : at + 10_000])
    return tokens


def kept_bytes(cache):
    return sum(file.stat().st_size for file in cache.iterdir())


def test_shards_at_a_url_are_read_through_a_bounded_cache(url, local, tmp_path):
    here, cache = open_shards(local)["all"], tmp_path / "cache"
    whole = sum(file.bytes for file in here.files)
    limit = 10 * max(file.bytes for file in here.files)
    assert limit < whole / 2
    there = open_shards(url, cache, limit)["all"]
    assert np.array_equal(read_all(there), read_all(here))
    for future in list(there.store.coming.values()):
        future.result()  # What comes ahead for the next epoch has come.
    assert 0 < kept_bytes(cache) <= limit


def test_files_come_before_they_are_asked_for(url, tmp_path):
    there = open_shards(url, tmp_path / "cache")["all"]
    Stream(there, seed=0).read(0, np.empty(100, dtype=np.int64))
    deadline = time.monotonic() + 20
    while len([*(tmp_path / "cache").glob("*[0-9a-f]")]) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    kept = [file for file in (tmp_path / "cache").iterdir() if not file.suffix]
    assert len(kept) == 8  # the group that is read, and the next


def test_what_is_in_the_cache_is_not_fetched_again(url, tmp_path):
    first = read_all(open_shards(url, tmp_path / "cache")["all"])
    again = open_shards(url, tmp_path / "cache")["all"]
    MEMORY.rm(url, recursive=True)
    assert np.array_equal(read_all(again), first)


@pytest.mark.parametrize(
    ("harm", "told"),
    [(lambda data: data[:-8], "damaged"), (lambda data: b"\xff" + data[1:], "damaged"), (None, "fetched")],
)
def test_a_damaged_or_missing_file_at_a_url_is_named(url, local, tmp_path, harm, told):
    name = f"{url}/all-00003.tokens"
    if harm:
        MEMORY.pipe(name, harm(MEMORY.cat(name)))
    else:
        MEMORY.rm(name)
    with pytest.raises(ValueError, match=rf"{name}: .*{told}"):
        read_all(open_shards(url, tmp_path / "cache")["all"])
    own = open_shards(local)["all"].files[3].sha256
    assert [file.name for file in (tmp_path / "cache").glob(f"{own}*")] == [f"{own}.lock"]


def test_a_cache_that_is_missing_or_too_small_is_explained(url, tmp_path):
    with pytest.raises(ValueError, match="need a local folder as cache"):
        open_shards(url)
    with pytest.raises(ValueError, match=r"cache of 1,000 bytes is too small .* it needs [\d,]{9}"):
        open_shards(url, tmp_path / "cache", 1_000)


READER = """
import sys
from pathlib import Path
import numpy as np
from troth.train.shards import open_shards
from troth.train.stream import Stream

url, cache, limit = sys.argv[1:]
stream = Stream(open_shards(url, Path(cache), int(limit))["all"], seed=0)
tokens = np.empty(stream.epoch_tokens, dtype=np.int64)
stream.read(0, tokens)
print(tokens.sum())
"""


def test_processes_share_a_cache(local, tmp_path):
    """What one is fetching the others wait for; what one drops for want of room the others fetch again."""
    cache, limit = tmp_path / "cache", 10 * max(file.bytes for file in open_shards(local)["all"].files)
    cache.mkdir()
    (cache / f"{'0' * 64}.partial").write_bytes(b"left by a process that was killed")
    command = [sys.executable, "-c", READER, f"file://{local}", str(cache), str(limit)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [reader.communicate(timeout=120)[0] for reader in readers]
    assert [int(sum_) for sum_ in told] == [read_all(open_shards(local)["all"]).sum()] * 3
    assert kept_bytes(cache) <= limit
    open_shards(f"file://{local}", cache, limit)
    assert not list(cache.glob("*.partial"))  # Neither the old one nor one that a reader had begun when it ended.


def test_the_index_says_what_is_there(local):
    index = json.loads((local / "shards.json").read_text())
    files = index["collections"]["all"]["files"]
    assert {file["name"] for file in files} == {file.name for file in local.glob("*.tokens")}
    assert sum(file["documents"] for file in files) == 600
