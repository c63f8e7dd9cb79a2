"""Which tokens a row holds: decided by seed and row alone, each token once an epoch, each collection by its share."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from troth.model.tokenizer import Tokenizer
from troth.system import Stage
from troth.train.batches import Batch, Batches
from troth.train.shards import ShardWriter, open_shards, write_shards
from troth.train.stream import Stream

few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def batches(tokenizer, shards):
    """`batches(seed=1)` over prose and pages."""

    def build(weights=None, time=16, fill_in_middle=0.5, seed=0, **more):
        return Batches(
            open_shards(shards), weights or {"prose": 0.5, "pages": 0.5}, tokenizer,
            time=time, fill_in_middle=fill_in_middle, seed=seed, **more,
        )  # fmt: skip

    return build


def same(one, other):
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in ("inputs", "targets", "documents"))


@few
@given(st.integers(0, 9), st.lists(st.integers(0, 300), min_size=1, max_size=6))
def test_a_batch_follows_from_seed_and_step_whatever_was_read_before(batches, seed, steps):
    used = batches(seed=seed)
    for step in steps:
        assert same(used.rows(step, step + 4), batches(seed=seed).rows(step, step + 4))
    first = slice(steps[0], steps[0] + 4)
    assert not same(used.rows(first.start, first.stop), batches(seed=seed + 1).rows(first.start, first.stop))


@few
@given(st.integers(0, 10**12), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_any_ranks_read_the_same_rows(batches, first, parts):
    """However a step's rows are split, and however far the run is, a rank reads its own as one rank reads all."""
    whole = batches().rows(first, first + sum(parts))
    at = first
    for rank, part in enumerate(parts):
        own = batches().rows(at, at + part)
        here = slice(at - first, at - first + part)
        assert same(own, Batch(whole.inputs[here], whole.targets[here], whole.documents[here])), rank
        at += part


def test_another_collection_leaves_the_order_of_the_first_as_it_was(batches):
    """A stream hangs on seed, name and files, so that of a mixture only the turns change."""
    alone = batches({"prose": 1.0}, fill_in_middle=0).rows(0, 20)
    mixed = batches({"prose": 0.5, "pages": 0.5}, fill_in_middle=0).rows(0, 40)
    kept = {row.tobytes() for row in alone.inputs}
    assert sum(row.tobytes() in kept for row in mixed.inputs) >= 19


def windows(batches, count, end_of_text):
    """The stream behind the batches of one collection, window by window."""
    batch = batches.rows(0, count)
    for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
        last = targets[-1] if targets[-1] >= 0 else end_of_text
        assert np.array_equal(np.where(targets[:-1] >= 0, targets[:-1], end_of_text), inputs[1:])
        yield [*inputs.tolist(), int(last)]


@few
@given(st.lists(st.text(max_size=40), min_size=1, max_size=12, unique=True), st.integers(2, 30))
def test_every_token_is_read_once_an_epoch(tokenizer, tmp_path_factory, texts, time):
    folder = tmp_path_factory.mktemp("shards")
    sizes = write_shards((("all", text) for text in texts), tokenizer, folder)
    documents = [[tokenizer.end_of_text, *tokenizer.encode(text)] for text in texts]
    assert sizes == {"all": sum(map(len, documents))}
    batches = Batches(open_shards(folder), {}, tokenizer, time=time, fill_in_middle=0, seed=3)
    epochs = 3
    needed = -(-epochs * sizes["all"] // (time + 1))
    stream = [token for window in windows(batches, needed, tokenizer.end_of_text) for token in window]
    for epoch in range(epochs):
        read = stream[epoch * sizes["all"] : (epoch + 1) * sizes["all"]]
        starts = [i for i, token in enumerate(read) if token == tokenizer.end_of_text]
        assert starts[0] == 0
        pieces = [read[i:j] for i, j in zip(starts, [*starts[1:], len(read)], strict=True)]
        assert sorted(pieces) == sorted(documents)


@pytest.mark.parametrize("published", ["mixtral"], indirect=True)
def test_documents_begin_and_end_with_the_marks_that_their_tokenizer_was_published_with(published, tmp_path):
    words = Tokenizer.load(published[1])
    begin, end = words.special["<s>"], words.special["</s>"]
    write_shards([("all", "One text."), ("all", "Another.")], words, tmp_path)
    shards = open_shards(tmp_path)
    batch = Batches(shards, {}, words, time=shards["all"].size - 1, fill_in_middle=0, seed=0).rows(0, 1)
    starts = [place for place, token in enumerate(batch.inputs[0]) if token == begin]
    assert len(starts) == 2
    assert batch.targets[0][-1] == batch.targets[0][starts[1] - 2] == end, "where texts end is learned"
    assert batch.targets[0][starts[1] - 1] == -100
    assert np.array_equal(batch.documents[0], np.cumsum(batch.inputs[0] == begin))
    told = json.loads((tmp_path / "shards.json").read_text())
    assert told.pop("begin") == begin
    (tmp_path / "shards.json").write_text(json.dumps(told))
    assert Batches(open_shards(tmp_path), {}, words, time=8, fill_in_middle=0, seed=0).begin == end, "as before"


def test_every_epoch_has_its_own_order(tokenizer, tmp_path):
    write_shards((("all", str(number)) for number in range(10, 60)), tokenizer, tmp_path)
    batches = Batches(open_shards(tmp_path), {}, tokenizer, time=149, fill_in_middle=0, seed=0)
    first, second = (batches.rows(step, step + 1).inputs[0].tolist() for step in (0, 1))
    assert first != second
    assert first != sorted(first)


@few
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 8), st.integers(1, 20))
def test_shares_hold(tokenizer, tmp_path_factory, parts, sequences, steps):
    """Every batch has its size, and after any number of steps each collection has had its share, give or take a few."""
    names = [f"c{digit}" for digit in range(len(parts))]
    folder = tmp_path_factory.mktemp("shards")
    write_shards(((name, name[1] * 300) for name in names), tokenizer, folder)
    weights = {name: part / 7 for name, part in zip(names, parts, strict=True)}
    batches = Batches(open_shards(folder), weights, tokenizer, time=4, fill_in_middle=0, seed=0)
    rows = dict.fromkeys(names, 0)
    for step in range(steps):
        batch = batches.rows(step * sequences, (step + 1) * sequences)
        assert batch.inputs.shape == batch.targets.shape == batch.documents.shape == (sequences, 4)
        for row in batch.inputs:
            rows["c" + tokenizer.decode(row[row != tokenizer.end_of_text])[0]] += 1
    for name, part in zip(names, parts, strict=True):
        assert abs(rows[name] - steps * sequences * part / sum(parts)) <= len(parts)


def test_targets_are_the_next_tokens_and_documents_are_numbered(batches, tokenizer):
    batch = batches(fill_in_middle=0, time=400).rows(20, 24)
    starts = batch.inputs == tokenizer.end_of_text
    assert starts.any()
    assert np.array_equal(np.diff(batch.documents, axis=1), starts[:, 1:].astype(int))
    assert np.array_equal(batch.targets[:, :-1] == -100, starts[:, 1:])
    assert (batch.targets[:, :-1] == batch.inputs[:, 1:])[~starts[:, 1:]].all()


def test_a_weight_of_nothing_reads_nothing_and_weights_of_none_of_them_leave_it_to_the_sizes(batches, tokenizer):
    only_prose = batches({"prose": 1.0, "pages": 0.0}, time=64, fill_in_middle=0)
    text = "".join(tokenizer.decode(row) for row in only_prose.rows(0, 4).inputs)
    assert "bird" in text
    assert "def " not in text
    by_size = batches({"elsewhere": 1.0}, fill_in_middle=0)
    assert sorted(by_size.streams) == ["pages", "prose"]


@few
@given(st.integers(1, 400), st.integers(0, 3))
def test_every_token_is_read_once_an_epoch_of_many_files(tokenizer, tmp_path_factory, documents, seed):
    """Files are shuffled, and the documents of every few; none is lost between them."""
    folder = tmp_path_factory.mktemp("shards")
    random = np.random.default_rng(seed)
    writer = ShardWriter(folder, tokenizer.vocab_size, tokenizer.end_of_text, file_bytes=64)
    for number in range(documents):
        ids = np.array([tokenizer.end_of_text, *random.integers(0, 256, number % 13)])
        writer.add("all", ids, [len(ids)], [1.0])
    size = writer.close()["all"]
    stream = Stream(open_shards(folder)["all"], seed)
    assert len(stream.collection.files) >= size // 32
    epochs = np.empty((2, size), dtype=np.int64)
    stream.read(0, epochs.reshape(-1))
    whole = sorted(
        token for file in range(len(stream.collection.files)) for token in stream.collection.open(file).tokens
    )
    assert all(sorted(epoch) == whole for epoch in epochs.tolist())
    middle = np.empty(size, dtype=np.int64)
    stream.read(size // 2, middle)
    assert np.array_equal(middle, epochs.reshape(-1)[size // 2 : size // 2 + size])


def test_an_epoch_reads_a_document_as_often_as_its_weight_says(tokenizer, tmp_path):
    weights = {"alpha ": 0.5, "beta ": 1.0, "gamma ": 1.5}
    sizes = write_shards((("all", text * 20, weight) for text, weight in weights.items()), tokenizer, tmp_path)
    stream = Stream(open_shards(tmp_path)["all"], seed=0)
    tokens = np.empty(stream.epoch_tokens, dtype=np.int64)
    stream.read(0, tokens)
    text = tokenizer.decode(tokens)
    assert [text.count(word) for word in weights] == [20, 40, 60]
    assert sizes["all"] < stream.epoch_tokens == pytest.approx(2 * sizes["all"], rel=0.2)


def test_stages_change_the_mixture_and_each_collection_goes_on(batches):
    stages = [Stage(**{"from": 0.5, "weights": {"pages": 1.0}})]
    staged = batches({"prose": 1.0}, fill_in_middle=0, rows=20, stages=stages).rows(0, 20)
    prose = batches({"prose": 1.0}, fill_in_middle=0).rows(0, 10)
    pages = batches({"pages": 1.0}, fill_in_middle=0).rows(0, 10)
    assert np.array_equal(staged.inputs, np.concatenate([prose.inputs, pages.inputs]))
