"""DPO is its formula, and pairs share places of neighbouring rows."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from troth.model.attention import packed_attention
from troth.model.chat_template import ChatTemplate, conversation_template
from troth.model.decoder import Decoder
from troth.model.initialise import initialise
from troth.train.examples import Examples, tokenise_preferences
from troth.train.log_probs import token_log_probs
from troth.train.preference import Preferences, answer_log_probs, dpo_loss

LINES = [
    {"prompt": f"{i} and {i}", "chosen": f" make {2 * i}." + " Yes." * (i % 4), "rejected": " make 7, I guess."}
    for i in range(10)
] + [
    {
        "prompt": [{"role": "user", "content": f"What is {i}?"}],
        "chosen": [{"role": "assistant", "content": "A number.", "reasoning_content": "Easy."}],
        "rejected": [{"role": "assistant", "content": "No idea."}],
    }
    for i in range(5)
]


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("preferences")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    template = ChatTemplate(conversation_template(), tokenizer)
    counts = tokenise_preferences([str(folder / "pairs.jsonl")], template, tokenizer, folder / "tokens")
    assert (counts["pairs"], counts["examples"]) == (15, 30)
    return folder / "tokens"


@pytest.fixture
def preferences(folder, tokenizer):
    def build(**changes):
        settings = {"time": 128, "seed": 0, "padding": tokenizer.end_of_text} | changes
        return Preferences(Examples(folder), **settings)

    return build


@pytest.fixture(scope="module")
def model(tiny):
    model = initialise(
        Decoder(tiny.model_copy(update={"max_position_embeddings": 256})), 0
    )
    for moe in model.moe_layers():
        torch.nn.init.normal_(moe.router.gate.weight, std=0.2, generator=torch.Generator().manual_seed(1))
    return model


def log_probs(model, batch):
    inputs, targets, documents = map(torch.from_numpy, (batch.inputs, batch.targets, batch.documents))
    h = model(inputs, packed_attention(model.config, documents))
    found = token_log_probs(h.flatten(0, 1), model.lm_head.weight, targets.flatten()).view_as(targets)
    return answer_log_probs(found, documents, batch.pairs.shape[1])


def one_by_one(model, examples, i):
    """The log-probability of an answer alone, plainly."""
    ids = torch.from_numpy(examples.tokens[examples.starts[i] : examples.ends[i]].astype(np.int64))
    answer = torch.from_numpy(examples.answers[examples.starts[i] : examples.ends[i]].copy())
    scores = model.logits(model(ids[None, :-1]))[0].log_softmax(-1)
    return scores.gather(1, ids[1:, None])[answer[1:]].sum()


def test_answers_have_the_log_probabilities_that_they_have_alone(preferences, model, folder):
    examples, seen = Examples(folder), set()
    for batch in preferences().in_turn(4):
        found = log_probs(model, batch)
        for row, number in np.argwhere(batch.pairs >= 0):
            pair = int(batch.pairs[row, number])
            seen.add(pair)
            for side in (0, 1):
                alone = one_by_one(model, examples, 2 * pair + side)
                torch.testing.assert_close(found[row, number, side], alone, atol=1e-3, rtol=1e-5)
    assert seen == set(range(15))


def test_an_epoch_has_every_pair_once_and_only_seed_and_row_decide(preferences):
    found, again = preferences(), preferences()
    rows = found.epoch_rows
    epochs = [
        [found.rows(at, at + 2).pairs for at in range(epoch * rows, epoch * rows + rows, 2)] for epoch in range(4)
    ]
    for epoch in epochs:
        assert sorted(pair for pairs in epoch for pair in pairs[pairs >= 0]) == list(range(15))
    assert len({np.concatenate([pairs.flatten() for pairs in epoch]).tobytes() for epoch in epochs}) > 1
    assert np.array_equal(again.rows(rows, rows + 2).inputs, found.rows(rows, rows + 2).inputs)


def test_long_answers_are_cut_and_counted(preferences, folder):
    lengths = (np.diff(np.fromfile(folder / "ends", dtype=np.int64), prepend=0) - 1).reshape(-1, 2).max(1)
    short = preferences(time=32)
    assert short.cut == (lengths > 32).sum() > 0
    assert short.epoch_rows > preferences().epoch_rows
    assert all((batch.pairs < 15).all() for batch in short.in_turn(4))
    with pytest.raises(ValueError, match="no pair has answers that begin so early"):
        preferences(time=2)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_the_loss_is_the_papers(label_smoothing):
    generator = torch.Generator().manual_seed(0)
    policy = torch.randn(6, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    beta = 0.3
    ratio = (policy[:, 0] - policy[:, 1]) - (reference[:, 0] - reference[:, 1])
    plain = -logsigmoid(beta * ratio) * (1 - label_smoothing) - logsigmoid(-beta * ratio) * label_smoothing
    loss, rewards = dpo_loss(policy, reference, beta, label_smoothing)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(rewards, beta * (policy - reference).detach())
    assert torch.autograd.gradcheck(lambda p: dpo_loss(p, reference, beta, label_smoothing)[0], policy)
