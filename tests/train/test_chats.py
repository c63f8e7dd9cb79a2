"""Chats in rows: each a document of its own, loss on answers only, every chat once an epoch, nothing lost unseen."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from troth.model.attention import packed_attention
from troth.model.chat_template import ChatTemplate, conversation_template
from troth.model.decoder import Decoder
from troth.model.initialise import initialise
from troth.train.chats import Chats
from troth.train.examples import Examples, fingerprint, kept_examples, tokenise_chats
from troth.train.loss import next_token_loss
from troth.train.packing import Order, pack


def chat(i):
    turns = []
    for turn in range(1 + i % 3):
        turns += [{"role": "user", "content": f"Is {i} + {turn} large?"}]
        turns += [{"role": "assistant", "content": f"It is {i + turn}." + " No." * (i % 5)}]
    return {"messages": turns}


@pytest.fixture(scope="module")
def template(tokenizer):
    return ChatTemplate(conversation_template(), tokenizer)


@pytest.fixture(scope="module")
def folder(template, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chats")
    files = [folder / "one.jsonl", folder / "two.jsonl"]
    for path, numbers in zip(files, (range(20), range(20, 40)), strict=True):
        path.write_text("".join(json.dumps(chat(i)) + "\n" for i in numbers))
    counts = tokenise_chats([*map(str, files)], template, tokenizer, folder / "tokens")
    assert counts["chats"] == counts["examples"] == 40
    assert 0 < counts["answer_tokens"] < counts["tokens"]
    return folder / "tokens"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_leaves_nothing_that_counts_as_examples(template, tokenizer, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(chat(1)))
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens/examples.json.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        tokenise_chats([str(tmp_path / "a.jsonl")], template, tokenizer, tmp_path / "tokens")
    assert kept_examples(tmp_path / "tokens", {}) is None


def test_a_completion_is_learned_and_its_prompt_is_not(template, tokenizer, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "The sky is", "completion": " blue."}))
    counts = tokenise_chats([str(tmp_path / "a.jsonl")], template, tokenizer, tmp_path / "tokens")
    after = tokenizer.encode(" blue.")
    before = [tokenizer.begin_of_text, *tokenizer.encode("The sky is")]
    assert counts == {"chats": 1, "examples": 1, "tokens": len(before + after) + 1, "answer_tokens": len(after) + 1}
    examples = Examples(tmp_path / "tokens")
    assert examples.tokens.tolist() == [*before, *after, tokenizer.end_of_text]
    assert examples.answers.tolist() == [False] * len(before) + [True] * (len(after) + 1)


@pytest.fixture
def batches(folder, tokenizer):
    def build(**changes):
        settings = {"time": 160, "seed": 0, "padding": tokenizer.end_of_text} | changes
        return Chats(Examples(folder), **settings)

    return build


def documents(batch):
    """Inputs and targets of every document that carries loss."""
    for row in range(len(batch.inputs)):
        for number in range(batch.documents[row].max() + 1):
            here = batch.documents[row] == number
            if (batch.targets[row, here] >= 0).any():
                yield batch.inputs[row, here].tolist(), batch.targets[row, here].tolist()


def test_a_row_holds_whole_chats_with_loss_on_their_answers(batches, template, tokenizer):
    expected = {}
    for i in range(40):
        messages = chat(i)["messages"]
        (example,) = template.examples(messages, range(1, len(messages), 2))
        targets = [i if answer else -100 for i, answer in zip(example.ids, example.answer, strict=True)]
        expected[tuple(example.ids[:-1])] = targets[1:]
    seen = []
    chats = batches()
    for row in range(chats.epoch_rows):
        batch = chats.rows(row, row + 1)
        assert batch.inputs.shape == batch.targets.shape == batch.documents.shape == (1, 160)
        for inputs, targets in documents(batch):
            assert expected[tuple(inputs)] == targets
            seen.append(tuple(inputs))
    assert sorted(seen) == sorted(expected)  # an epoch is every chat once
    assert (chats.cut, chats.lost) == (0, 0)
    assert chats.filled > 0.85


def test_rows_depend_on_seed_and_number_only(batches):
    chats, again, other = batches(), batches(), batches(seed=1)
    rows = chats.epoch_rows
    for row in reversed(range(2 * rows)):
        assert np.array_equal(chats.rows(row, row + 1).inputs, again.rows(row, row + 1).inputs)
    first, second = chats.rows(0, rows).inputs, chats.rows(rows, 2 * rows).inputs
    assert not np.array_equal(first, other.rows(0, rows).inputs)
    assert not np.array_equal(first, second)  # shuffled anew
    assert sorted(first.tolist()) == sorted(second.tolist())


def test_long_chats_are_cut_and_counted(batches, folder):
    lengths = np.diff(np.fromfile(folder / "ends", dtype=np.int64), prepend=0) - 1
    chats = batches(time=48)
    assert chats.cut == (lengths > 48).sum() > 0
    assert chats.lost == 0
    tight = batches(time=20)
    assert tight.lost == (np.fromfile(folder / "firsts", dtype=np.int64) > 20).sum()
    assert tight.rows(0, tight.epoch_rows).inputs.shape == (tight.epoch_rows, 20)
    with pytest.raises(ValueError, match=r"train\.sequence_length=5: no chat has an answer that begins so early"):
        batches(time=5)


def test_what_was_learned_is_said_when_asked(tmp_path, template, tokenizer, tiny):
    """Trained on packed rows, a network answers the prompts that serving would make of the same questions."""
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
    messages = [
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "4", "reasoning_content": "The tool says so."},
    ]
    other = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in (messages, other)))
    tokenise_chats([str(tmp_path / "chats.jsonl")], template, tokenizer, tmp_path / "tokens")
    chats = Chats(Examples(tmp_path / "tokens"), time=192, seed=0, padding=tokenizer.end_of_text)
    model = initialise(
        Decoder(tiny.model_copy(update={"max_position_embeddings": 256})), 0
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(80):
        batch = chats.rows(2 * step, 2 * step + 2)
        inputs, targets, documents = map(torch.from_numpy, (batch.inputs, batch.targets, batch.documents))
        h = model(inputs, packed_attention(model.config, documents))
        next_token_loss(h.flatten(0, 1), model.lm_head.weight, targets.flatten(), 0.0).backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def answer(messages):
        ids = template.encode(messages)
        asked = len(ids)
        while ids[-1] != tokenizer.special["<|end|>"] and len(ids) < asked + 100:
            ids.append(int(model.logits(model(torch.tensor([ids])))[0, -1].argmax()))
        return tokenizer.decode(ids[asked:])

    assert answer(other[:1]) == "Hello!<|end|>"
    called = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 2}}\n</tool_call><|end|>'
    assert answer(messages[:1]) == called
    assert answer(messages[:3]) == "<think>\nThe tool says so.\n</think>\n\n4<|end|>"


def test_what_the_template_refuses_is_named_by_file_and_line(tmp_path, tokenizer):
    refusing = ChatTemplate("{{ raise_exception('no') if messages | length > 3 else '<|user|>x' }}", tokenizer)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(chat(i)) + "\n" for i in (1, 1)))
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: the chat template"):
        tokenise_chats([str(tmp_path / "a.jsonl")], refusing, tokenizer, tmp_path / "out")
    with pytest.raises(ValueError, match="no tokenised examples"):
        Examples(tmp_path / "out")
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="nothing to learn in it"):
        tokenise_chats([str(tmp_path / "a.jsonl")], refusing, tokenizer, tmp_path / "out")


@pytest.mark.parametrize("name", ["examples.json", "tokens", "answers", "ends", "firsts"])
def test_damaged_examples_are_named(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path / "tokens")
    with (tmp_path / "tokens" / name).open("r+b") as file:
        file.truncate(8)
    for read in (Examples, lambda path: kept_examples(path, {})):
        with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'tokens'}: no tokenised examples")):
            read(tmp_path / "tokens")


def test_a_fingerprint_is_of_contents_and_their_order(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"1")
    b.write_bytes(b"2")
    assert len({fingerprint([a, b]), fingerprint([b, a]), fingerprint([a]), fingerprint([a, a])}) == 4


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(50, 64))
def test_rows_hold_everything_once_and_no_two_would_fit_into_one(lengths, size):
    rows = pack(np.array(lengths, dtype=np.int64), size)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    sums = sorted(sum(lengths[i] for i in row) for row in rows)
    assert all(total <= size for total in sums)
    assert len(sums) < 2 or sums[0] + sums[1] > size or sums[0] == 0


def test_an_order_has_every_row_once_an_epoch():
    order = Order(7, seed=3)
    epochs = [[order[epoch * 7 + i] for i in range(7)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
