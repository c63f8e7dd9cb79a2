"""Which tokens a step reads: decided by seed and step alone, each token once an epoch, each collection by its share."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from troth.train.batches import Batches
from troth.train.shards import open_shards, write_shards

few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def batches(tokenizer, shards):
    """`batches(seed=1)` over prose and code."""

    def build(weights=None, sequences=4, time=16, fill_in_middle=0.5, seed=0):
        return Batches(
            open_shards(shards), weights or {"prose": 0.5, "code": 0.5}, tokenizer,
            sequences=sequences, time=time, fill_in_middle=fill_in_middle, seed=seed,
        )  # fmt: skip

    return build


def same(one, other):
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in ("inputs", "targets", "documents"))


@few
@given(st.integers(0, 9), st.lists(st.integers(0, 300), min_size=1, max_size=6))
def test_a_batch_follows_from_seed_and_step_whatever_was_read_before(batches, seed, steps):
    used = batches(seed=seed)
    for step in steps:
        assert same(used[step], batches(seed=seed)[step])
    assert not same(used[steps[0]], batches(seed=seed + 1)[steps[0]])


def windows(batches, count, end_of_text):
    """The stream behind the batches of one collection, window by window."""
    step = 0
    while count > 0:
        batch = batches[step]
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
            last = targets[-1] if targets[-1] >= 0 else end_of_text
            assert np.array_equal(np.where(targets[:-1] >= 0, targets[:-1], end_of_text), inputs[1:])
            if count > 0:
                yield [*inputs.tolist(), int(last)]
            count -= 1
        step += 1


@few
@given(st.lists(st.text(max_size=40), min_size=1, max_size=12, unique=True), st.integers(2, 30), st.integers(1, 3))
def test_every_token_is_read_once_an_epoch(tokenizer, tmp_path_factory, texts, time, sequences):
    folder = tmp_path_factory.mktemp("shards")
    sizes = write_shards((("all", text) for text in texts), tokenizer, folder)
    documents = [[tokenizer.end_of_text, *tokenizer.encode(text)] for text in texts]
    assert sizes == {"all": sum(map(len, documents))}
    batches = Batches(
        open_shards(folder), {}, tokenizer, sequences=sequences, time=time, fill_in_middle=0, seed=3
    )
    epochs = 3
    needed = -(-epochs * sizes["all"] // (time + 1))
    stream = [token for window in windows(batches, needed, tokenizer.end_of_text) for token in window]
    for epoch in range(epochs):
        read = stream[epoch * sizes["all"] : (epoch + 1) * sizes["all"]]
        starts = [i for i, token in enumerate(read) if token == tokenizer.end_of_text]
        assert starts[0] == 0
        pieces = [read[i:j] for i, j in zip(starts, [*starts[1:], len(read)], strict=True)]
        assert sorted(pieces) == sorted(documents)


def test_every_epoch_has_its_own_order(tokenizer, tmp_path):
    write_shards((("all", str(number)) for number in range(10, 60)), tokenizer, tmp_path)
    batches = Batches(open_shards(tmp_path), {}, tokenizer, sequences=1, time=149, fill_in_middle=0, seed=0)
    first, second = (batches[step].inputs[0].tolist() for step in (0, 1))
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
    batches = Batches(open_shards(folder), weights, tokenizer, sequences=sequences, time=4, fill_in_middle=0, seed=0)
    rows = dict.fromkeys(names, 0)
    for step in range(steps):
        batch = batches[step]
        assert batch.inputs.shape == batch.targets.shape == batch.documents.shape == (sequences, 4)
        for row in batch.inputs:
            rows["c" + tokenizer.decode(row[row != tokenizer.end_of_text])[0]] += 1
    for name, part in zip(names, parts, strict=True):
        assert abs(rows[name] - steps * sequences * part / sum(parts)) <= len(parts)


def test_targets_are_the_next_tokens_and_documents_are_numbered(batches, tokenizer):
    batch = batches(fill_in_middle=0, time=400)[5]
    starts = batch.inputs == tokenizer.end_of_text
    assert starts.any()
    assert np.array_equal(np.diff(batch.documents, axis=1), starts[:, 1:].astype(int))
    assert np.array_equal(batch.targets[:, :-1] == -100, starts[:, 1:])
    assert (batch.targets[:, :-1] == batch.inputs[:, 1:])[~starts[:, 1:]].all()


def test_a_weight_of_nothing_reads_nothing_and_weights_of_none_of_them_leave_it_to_the_sizes(batches, tokenizer):
    only_prose = batches({"prose": 1.0, "code": 0.0}, time=64, fill_in_middle=0)
    text = "".join(tokenizer.decode(row) for row in only_prose[0].inputs)
    assert "bird" in text
    assert "def " not in text
    by_size = batches({"elsewhere": 1.0}, fill_in_middle=0)
    assert by_size.names == ["code", "prose"]
    sizes = [len(by_size.shards[name].tokens) for name in by_size.names]
    assert np.allclose(by_size.share, np.array(sizes) / sum(sizes))


def test_shards_that_were_not_finished_are_named(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        open_shards(tmp_path)


@pytest.mark.parametrize("documents", [1, 600])
def test_shards_are_the_documents_one_after_another(tokenizer, tmp_path, documents):
    texts = [f"Document {number} of {documents}." for number in range(documents)]
    write_shards((("all", text) for text in texts), tokenizer, tmp_path)
    shard = open_shards(tmp_path)["all"]
    read = [shard.tokens[start:end] for start, end in zip(shard.starts, shard.ends, strict=True)]
    assert all(part[0] == tokenizer.end_of_text for part in read)
    assert [tokenizer.decode(part[1:]) for part in read] == texts
    assert json.loads((Path(tmp_path) / "shards.json").read_text())["dtype"] == "uint16"


def test_an_epoch_reads_a_document_as_often_as_its_weight_says(tokenizer, tmp_path):
    weights = {"alpha ": 0.5, "beta ": 1.0, "gamma ": 1.5}
    sizes = write_shards((("all", text * 20, weight) for text, weight in weights.items()), tokenizer, tmp_path)
    shard = open_shards(tmp_path)["all"]
    time = 16
    batches = Batches({"all": shard}, {"all": 1.0}, tokenizer, sequences=1, time=time, fill_in_middle=0.0, seed=0)
    epochs = 10 * shard.epoch_tokens // (time + 1)
    text = tokenizer.decode(token for row in windows(batches, epochs, tokenizer.end_of_text) for token in row)
    counts = [text.count(word.strip()) / 200 for word in weights]
    assert counts == pytest.approx([1, 2, 3], abs=0.1)
    assert sizes["all"] < shard.epoch_tokens == pytest.approx(2 * sizes["all"], rel=0.2)
