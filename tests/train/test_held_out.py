"""What is held out is looked at as each text is alone, and changes nothing of what a run learns."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from troth.model.chat_template import ChatTemplate
from troth.model.families.weights import load_weights
from troth.train.batches import Windows
from troth.train.examples import Examples, tokenise_chats, tokenise_preferences
from troth.train.shards import open_shards, write_shards
from troth.train.trainer import train
from troth.train.tuning import chats_job, preferences_job

NEWS = "A watched pot never boils. ", "Time and tide wait for no man, and 2 wrongs do not make a right. " * 3
OLD = "Too many cooks spoil the broth. "
CHATS = [
    {"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": f"{i + 1}." + "!" * (i % 7)}]}
    for i in range(8)
]
PAIRS = [{"prompt": f"{i} is", "chosen": f" {i}." + " Yes." * (i % 3), "rejected": " 7, perhaps"} for i in range(8)]


@pytest.fixture(scope="module")
def held_out(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("held-out")
    write_shards([*(("news", text) for text in NEWS), ("old", OLD)], tokenizer, folder)
    return folder


def figures(run):
    """By step, what was reported of what is held out."""
    reports = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    told = {r["step"]: {name: value for name, value in r.items() if name.startswith("held_out")} for r in reports}
    return {step: found for step, found in told.items() if found}


def losses_alone(model, ids, time):
    """Of each token of a text behind its first, in the windows that it is read in."""
    parts = [ids[at : at + time + 1] for at in range(0, len(ids) - 1, time)]
    return torch.cat([
        cross_entropy(model.logits(model(torch.tensor([part[:-1]])))[0], torch.tensor(part[1:]), reduction="none")
        for part in parts
    ])  # fmt: skip


@pytest.mark.parametrize("time", [5, 16, 1000])
def test_windows_ask_for_every_token_but_the_first_of_documents_once(held_out, tokenizer, time):
    windows = Windows(open_shards(held_out)["news"], tokenizer.end_of_text, time)
    read = windows.rows(0, windows.epoch_rows)
    wanted = sorted(token for text in NEWS for token in tokenizer.encode(text))
    assert sorted(read.targets[read.targets >= 0].tolist()) == wanted
    again = [windows.rows(row, row + 1).targets for row in range(windows.epoch_rows)]
    assert np.array_equal(np.concatenate(again), read.targets)


def test_the_loss_is_that_of_the_finished_model_and_of_each_collection(
    run_training, recipe, held_out, tokenizer, tiny, tmp_path
):  # fmt: skip
    """Of the collection of one short text, which one window holds, as the model gives it plainly."""
    settings = recipe(steps=5, eval_every=2, log_every=3, z_loss=1e-3, mtp_weight=0.3)
    run_training(tmp_path, settings, held_out=held_out)
    found = figures(tmp_path)
    assert list(found) == [2, 4, 5]
    model = load_weights(tmp_path / "model")
    with torch.no_grad():
        alone = losses_alone(model, [tokenizer.begin_of_text, *tokenizer.encode(OLD)], settings.sequence_length)
    last = found[5]
    assert last["held_out_loss/old"] == pytest.approx(float(alone.mean()), rel=1e-5)
    sizes = {"news": sum(len(tokenizer.encode(text)) for text in NEWS), "old": len(alone)}
    mean = sum(last[f"held_out_loss/{name}"] * size for name, size in sizes.items()) / sum(sizes.values())
    assert last["held_out_loss"] == pytest.approx(mean, rel=1e-9)


def test_it_changes_nothing_of_what_is_learned(run_training, recipe, held_out, tmp_path):
    settings = recipe(steps=6, eval_every=2)
    run_training(tmp_path / "without", settings)
    run_training(tmp_path / "with", settings, held_out=held_out)
    ours, theirs = ((tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("with", "without"))
    assert ours == theirs
    kept = [json.loads(line)["load_entropy"] for line in (tmp_path / "with" / "metrics.jsonl").open()]
    assert kept == [json.loads(line)["load_entropy"] for line in (tmp_path / "without" / "metrics.jsonl").open()]


def test_a_run_may_go_on_with_other_texts_held_out(run_training, recipe, held_out, shards, tmp_path):
    """And its record says which they were."""
    seen = []

    def stop(metrics):
        seen.append(metrics)
        if metrics.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(tmp_path, recipe(steps=6, eval_every=2), stop, held_out=held_out)
    run_training(tmp_path, recipe(steps=6, eval_every=3), held_out=shards)
    assert list(figures(tmp_path)) == [2, 6]
    history = json.loads((tmp_path / "run.json").read_text())["history"]
    assert [list(entry["held_out"]) for entry in history] == [["news", "old"], ["pages", "prose"]]


def test_of_chats_it_is_that_of_the_answers(run_training, recipe, tiny, tokenizer, tmp_path):
    base, template = _base_and_template(run_training, recipe, tokenizer, tmp_path)
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in CHATS))
    tokenise_chats([str(tmp_path / "chats.jsonl")], template, tokenizer, tmp_path / "chats")
    settings = recipe(steps=2, objective="chat", sequence_length=64, eval_every=1)
    job = chats_job(tiny, settings, tokenizer, tmp_path / "chats", base, template, tmp_path / "chats")
    train(job, tmp_path / "run", lambda metrics: None)
    model, examples = load_weights(tmp_path / "run" / "model"), Examples(tmp_path / "chats")
    losses = []
    for start, end in zip(examples.starts, examples.ends, strict=True):
        ids, answer = examples.tokens[start:end].tolist(), torch.from_numpy(examples.answers[start:end].copy())
        with torch.no_grad():
            losses.append(losses_alone(model, ids, 64)[answer[1:]])
    found = figures(tmp_path / "run")
    assert list(found) == [1, 2]
    assert found[2] == {"held_out_loss": pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)}


def test_of_preferences_it_is_how_they_compare_with_the_model_that_was_started_from(
    run_training, recipe, tiny, tokenizer, tmp_path
):  # fmt: skip
    base, template = _base_and_template(run_training, recipe, tokenizer, tmp_path)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in PAIRS))
    tokenise_preferences([str(tmp_path / "pairs.jsonl")], template, tokenizer, tmp_path / "pairs")
    settings = recipe(steps=3, objective="preference", sequence_length=64, eval_every=1, adam_lr=0.01)
    job = preferences_job(tiny, settings, tokenizer, tmp_path / "pairs", base, template, tmp_path / "pairs")
    train(job, tmp_path / "run", lambda metrics: None)
    examples = Examples(tmp_path / "pairs")

    def answers(model):
        found = []
        for start, end in zip(examples.starts, examples.ends, strict=True):
            ids, answer = examples.tokens[start:end].tolist(), torch.from_numpy(examples.answers[start:end].copy())
            with torch.no_grad():
                found.append(-losses_alone(model, ids, 64)[answer[1:]].sum())
        return torch.stack(found).view(-1, 2)

    tuned, started = (answers(load_weights(folder)) for folder in (tmp_path / "run" / "model", base))
    rewards = settings.preference.beta * (tuned - started)
    margin = rewards[:, 0] - rewards[:, 1]
    found = figures(tmp_path / "run")[3]
    assert found["held_out_loss"] == pytest.approx(float(torch.nn.functional.softplus(-margin).mean()), abs=1e-4)
    assert found["held_out_margin"] == pytest.approx(float(margin.mean()), abs=1e-4)
    assert found["held_out_accuracy"] == pytest.approx(float((margin > 0).double().mean()))


def _base_and_template(run_training, recipe, tokenizer, tmp_path):
    base = run_training(tmp_path / "base", recipe(steps=1))
    return base, ChatTemplate.for_tuning(base, tokenizer)
