"""Fine-tuning over ranks: chats, preferences and adapters have the losses, norms and figures of a single process."""

import json

import pytest
import torch
from safetensors.torch import load_file

from troth.model.chat_template import ChatTemplate, conversation_template
from troth.model.families.weights import load_weights
from troth.train.examples import tokenise_chats, tokenise_preferences
from troth.train.parallel.ranks import ALONE
from troth.train.trainer import train
from troth.train.tuning import chats_job, preferences_job

from .conftest import case, deviation, reports

CHATS = [
    {"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": f"{i + 1}." + "!" * (i % 7)}]}
    for i in range(30)
]
PAIRS = [{"prompt": f"{i} is", "chosen": f" {i}." + " Yes." * (i % 3), "rejected": " 7, perhaps"} for i in range(30)]
LORA = {"rank": 4, "alpha": 8.0}
QUICK = [{"ep": 2}, {"cp": 2}, {"pp": 2, "micro_batches": 4}]
ON_TWO = [
    {"dp_replicate": 2}, {"dp_shard": 2, "micro_batches": 2}, {"tp": 2},
    {"pp": 2, "micro_batches": 4, "schedule": "Interleaved1F1B", "stages_per_rank": 2},
    {"pp": 2, "micro_batches": 4, "schedule": "ZBVZeroBubble", "stages_per_rank": 2},
]  # fmt: skip
ON_FOUR = [
    {"dp_shard": 4}, {"dp_shard": 2, "pp": 2, "micro_batches": 2}, {"cp": 2, "dp_shard": 2}, {"dp_shard": 4, "ep": 2},
    {"dp_replicate": 2, "dp_shard": 2, "ep": 2},
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tokenizer, tmp_path_factory):
    """Tokenised chats and preferences, by the name of the objective."""
    home = tmp_path_factory.mktemp("examples")
    template = ChatTemplate(conversation_template(), tokenizer)
    for name, lines, write in (("chat", CHATS, tokenise_chats), ("preference", PAIRS, tokenise_preferences)):
        (home / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        write([str(home / f"{name}.jsonl")], template, tokenizer, home / name)
    return home


@pytest.fixture(scope="module")
def base(run_training, proof, small, tmp_path_factory):
    """A model to start from."""
    return run_training(tmp_path_factory.mktemp("base"), proof(steps=5, precision="float32"), model=small)


@pytest.fixture(scope="module")
def check(folders, base, proof, small, tokenizer, over_ranks, tmp_path_factory):
    """`check(world, (layouts, objective, changes), ...)` compares runs over these layouts with one alone, which is in
    the folder that it returns for each; all are trained after one start of the ranks."""

    def alone_and_cases(layouts, objective, changes):
        settings = proof(objective=objective, steps=4, adam_lr=0.01, **changes)
        home = tmp_path_factory.mktemp(objective)
        template = ChatTemplate.for_tuning(base, tokenizer)
        of = chats_job if objective == "chat" else preferences_job
        examples = folders / objective
        train(of(small, settings, tokenizer, examples, base, template, examples), home / "alone", print, ALONE)
        more = {"start": str(base), "examples": str(folders / objective)}
        return home, [case(home / str(n), small, settings, layout, **more) for n, layout in enumerate(layouts)]

    def compare(home, layouts, objective):
        expected = load_weights(home / "alone" / "model").state_dict()
        for run, layout in ((home / str(n), layout) for n, layout in enumerate(layouts)):
            assert deviation(run, home / "alone") < 1e-9, layout
            # At first margins are zero but for rounding, which then decides who is ahead.
            for ours, theirs in zip(reports(run)[1:], reports(home / "alone")[1:], strict=True):
                for key in (key for key in ours if key.endswith(("margin", "accuracy", "chosen_reward"))):
                    assert ours[key] == pytest.approx(theirs[key], abs=1e-9), layout
            for name, tensor in load_weights(run / "model").state_dict().items():
                torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=0, msg=f"{layout}: {name}")

    def check(world, *parts):
        homes, cases = zip(*(alone_and_cases(*part) for part in parts), strict=True)
        over_ranks(world, [one for some in cases for one in some])
        for home, (layouts, objective, _) in zip(homes, parts, strict=True):
            compare(home, layouts, objective)
        return homes

    return check


def test_preferences_and_adapters(check):
    preference = {"preference": {"beta": 0.5, "label_smoothing": 0.1}}
    with_lora = [{"ep": 2}, {"tp": 2}], "chat", {"lora": LORA}
    preferences, adapters = check(2, (QUICK, "preference", preference), with_lora)
    found = reports(preferences / "alone")
    assert found[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert found[0]["margin"] == pytest.approx(0, abs=1e-9)
    assert found[-1]["margin"] > 0.1
    *ours, theirs = (
        load_file(adapters / run / "adapters" / "adapter_model.safetensors") for run in ("0", "1", "alone")
    )  # fmt: skip
    for found in ours:
        assert found.keys() == theirs.keys()
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, theirs[name], atol=1e-6, rtol=0, msg=name)
    assert any(tensor.any() for name, tensor in theirs.items() if "lora_B" in name)


@pytest.mark.slow
def test_on_two_ranks(check):
    check(
        2,
        ([{"dp_shard": 2}, {"pp": 2, "micro_batches": 4}], "chat", {}),
        (ON_TWO, "preference", {"preference": {"beta": 0.5}}),
        ([{"dp_replicate": 2}, {"cp": 2}, {"pp": 2, "micro_batches": 4}, {"tp": 2}], "preference", {"lora": LORA}),
    )


@pytest.mark.slow
def test_on_four_ranks(check):
    check(
        4,
        (ON_FOUR, "preference", {"preference": {"beta": 0.5}}),
        (ON_FOUR, "chat", {"lora": LORA}),
        (ON_FOUR, "preference", {"lora": LORA}),
    )
