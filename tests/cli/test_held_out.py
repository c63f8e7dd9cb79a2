"""`troth train --held-out`: what a run does not learn from is reported by collection, or as chats, on screen and in its
folder."""

import json

import pytest

from troth.model.tokenizer import Tokenizer
from troth.train.shards import open_shards

SHAPE = [
    "data.weights={ documents = 1.0 }", "train.steps=4", "model.vocab_size=300", "model.hidden_size=32",
    "model.intermediate_size=48", "model.moe_intermediate_size=16", "model.num_dense_layers=1",
    "model.num_attention_heads=2", "model.num_key_value_heads=1", "model.head_dim=16", "model.num_experts=4",
    "model.sliding_window=32",
]  # fmt: skip
SETTINGS = [
    "train.precision=float32", "train.fill_in_middle=0", "train.sequence_length=64", "train.batch_tokens=256",
    "train.eval_every=2",
]  # fmt: skip
TEXT = "Dodoma is the capital of Tanzania. Abuja is the capital of Nigeria. All that glitters is not gold. "


@pytest.fixture
def files(tmp_path):
    def write(name, *records):
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        return tmp_path / name

    return write


@pytest.fixture
def train(run_here):
    def run(*arguments, settings=()):
        return run_here("train", *arguments, *(word for change in (*SETTINGS, *settings) for word in ("--set", change)))

    return run


def told_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: {name: line[name] for name in line if name.startswith("held_out")} for line in lines}


def test_of_documents_and_then_of_chats(files, train, tmp_path):
    documents = files("documents.jsonl", *[{"text": TEXT * 3}] * 5)
    news = files("news.jsonl", {"text": "Quito is the capital of Ecuador.", "collection": "news"})
    old = files("old.jsonl", {"text": "The early bird catches the worm.", "collection": "old"})
    run = tmp_path / "run"
    done = train(documents, "--held-out", news, "--held-out", old, "--out", run, settings=SHAPE)
    assert done.returncode == 0, done.stderr
    assert [list(found) for found in told_of(run).values()] == [
        ["held_out_loss", "held_out_loss/news", "held_out_loss/old"]
    ] * 2
    assert list(told_of(run)) == [2, 4]
    last = told_of(run)[4]
    line = (
        f"step 4/4  held-out loss {last['held_out_loss']:.3f} "
        f"(news {last['held_out_loss/news']:.3f}, old {last['held_out_loss/old']:.3f})"
    )  # fmt: skip
    assert line in done.stderr
    assert "held out: news " in done.stderr

    def chat(name, asked, said):
        return files(name, {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]})

    learned, looked_at = chat("chats.jsonl", "2 + 2?", "It is 4."), chat("others.jsonl", "3 + 3?", "It is 6.")
    start = "--from", run / "model", "--objective", "chat"
    done = train(learned, "--held-out", looked_at, *start, "--out", tmp_path / "tuned", settings=["train.steps=2"])
    assert done.returncode == 0, done.stderr
    assert list(told_of(tmp_path / "tuned")[2]) == ["held_out_loss"]
    assert "held out: 1 chats, 1 examples" in done.stderr


def test_what_cannot_be_looked_at_is_named_before_training(files, train, tmp_path):
    documents = files("documents.jsonl", *[{"text": TEXT * 3}] * 5)
    pairs = files("pairs.jsonl", {"prompt": "2 + 2 is", "chosen": " 4.", "rejected": " 5."})
    for source, told in ((tmp_path / "none.jsonl", "none.jsonl"), (pairs, "pairs.jsonl")):
        done = train(documents, "--held-out", source, "--out", tmp_path / "run", settings=SHAPE)
        assert (done.returncode, told in done.stderr.splitlines()[-1]) == (2, True), done.stderr
        assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_shards_are_written_of_both_and_may_be_named_in_their_place(files, train, tmp_path):
    documents = files("documents.jsonl", *[{"text": TEXT * 3}] * 5)
    others = files("others.jsonl", {"text": "Quito is the capital of Ecuador."})
    first = tmp_path / "first"
    done = train(documents, "--held-out", others, "--out", first, "--shards-only", "--json", settings=SHAPE)
    assert json.loads(done.stdout) == {"shards": str(first / "shards"), "held_out": str(first / "held_out")}
    second = tmp_path / "second"
    done = train(first / "shards", "--held-out", first / "held_out", "--out", second, settings=SHAPE)
    assert done.returncode == 0, done.stderr
    assert list(told_of(second)[4]) == ["held_out_loss"]


def test_a_share_is_learned_by_nobody_and_is_the_same_in_every_run(files, train, tmp_path):
    texts = [f"{TEXT} That was number {number}." for number in range(40)]
    documents = files("documents.jsonl", *({"text": text} for text in texts + texts[:10]))
    runs = [tmp_path / "first", tmp_path / "second"]
    for run in runs:
        done = train(documents, "--held-out", "0.25", "--out", run, "--shards-only", settings=SHAPE)
        assert done.returncode == 0, done.stderr
    tokenizer = Tokenizer.load(runs[0] / "tokenizer")
    learned, held_out = (texts_of(runs[0] / name, tokenizer) for name in ("shards", "held_out"))
    assert sorted(learned + held_out) == sorted(texts + texts[:10])
    assert not set(learned) & set(held_out)
    assert 3 < len(set(held_out)) < 20
    assert held_out == texts_of(runs[1] / "held_out", Tokenizer.load(runs[1] / "tokenizer"))
    (whole := tmp_path / "whole").mkdir()
    assert train(documents, "--out", whole, "--shards-only", settings=SHAPE).returncode == 0
    for named in (documents, whole / "shards"):
        done = train(named, "--held-out", "0.25", "--out", whole, settings=SHAPE)
        assert done.returncode == 2
        assert "--held-out 0.25: " in done.stderr.splitlines()[-1]
    done = train(documents, "--held-out", "0.25", "--held-out", documents, "--out", tmp_path / "no", settings=SHAPE)
    assert "expected sources, or one share above 0 and below 1" in done.stderr


def texts_of(folder, tokenizer):
    (collection,) = open_shards(folder).values()
    shard = collection.open(0)
    return [
        tokenizer.decode(shard.tokens[start:end][1:].tolist())
        for start, end in zip(shard.starts, shard.ends, strict=True)
    ]
