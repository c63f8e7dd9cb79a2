"""`troth train --objective`: chats are learned and said, preferences move answers apart, adapters are a folder."""

import json
import shutil
import sys

import pytest
import torch
import torch.distributed.checkpoint
from safetensors.torch import load_file

from troth.cli.main import main
from troth.model.adapters import load_adapters
from troth.model.chat_template import ChatTemplate
from troth.model.families.weights import load_weights
from troth.model.tokenizer import Tokenizer

CHATS = [("What is 2 + 2?", "It is 4."), ("Who sailed in 1492?", "Columbus did."), ("Is all gold?", "No.")]
SHAPE = [
    "data.weights={ documents = 1.0 }", "train.steps=60", "model.vocab_size=300",
    "model.hidden_size=32", "model.intermediate_size=48", "model.moe_intermediate_size=16",
    "model.num_dense_layers=1", "model.num_attention_heads=2", "model.num_key_value_heads=1", "model.head_dim=16",
    "model.num_experts=4", "model.sliding_window=32",
]  # fmt: skip
SETTINGS = [
    "train.precision=float32", "train.fill_in_middle=0", "train.log_every=1", "train.sequence_length=64",
    "train.batch_tokens=256", "train.muon_lr=0.01", "train.adam_lr=0.01",
    "train.checkpoint_every=5",
]  # fmt: skip


@pytest.fixture
def troth(monkeypatch, capsys):
    """Runs `troth train` here and returns what it said, to whom; `settings` are what `--set` changes."""

    def run(*arguments, settings=(), code=0, verb="train"):
        changes = [word for change in (*SETTINGS, *settings) for word in ("--set", change)] if verb == "train" else []
        monkeypatch.setattr(sys, "argv", ["troth", verb, *map(str, arguments), *changes])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert ended.value.code == code, told.err
        return told

    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Files of chats and preferences, and a small model of a few documents."""
    home = tmp_path_factory.mktemp("tuning")
    chats = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in CHATS
    ]
    pairs = [{"prompt": asked, "chosen": f" {said}", "rejected": " I do not know."} for asked, said in CHATS]
    for name, lines in (("chats", chats), ("pairs", pairs), ("documents", [{"text": json.dumps(chats) * 4}] * 5)):
        (home / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return home


@pytest.fixture
def base(home, troth):
    out = home / "base"
    if not (out / "model").exists():
        troth(home / "documents.jsonl", "--out", out, settings=SHAPE)
    return out / "model"


def reports(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@torch.no_grad()
def answer(model, folder, question):
    """What a network says, greedily, asked as its folder's template asks."""
    tokenizer = Tokenizer.load(folder)
    ids = ChatTemplate.from_folder(folder, tokenizer).encode([{"role": "user", "content": question}])
    asked = len(ids)
    while ids[-1] != tokenizer.special["<|end|>"] and len(ids) < asked + 40:
        ids.append(int(model.logits(model(torch.tensor([ids])))[0, -1].argmax()))
    return tokenizer.decode(ids[asked:])


def test_chats_are_learned_and_said(home, base, troth, tmp_path):
    told = troth(
        home / "chats.jsonl", "--from", base, "--objective", "chat", "--out", tmp_path, settings=["train.epochs=80"]
    )
    assert "3 chats, 3 examples" in told.err
    found = reports(tmp_path)
    assert len(found) == 40  # 2 rows an epoch in batches of 4
    assert found[-1]["loss"] < 0.1 < found[0]["loss"]
    for asked, said in CHATS:
        assert answer(load_weights(tmp_path / "model"), tmp_path / "model", asked) == f"{said}<|end|>"


def test_adapters_are_learned_and_are_the_merged_model(home, base, troth, tmp_path):
    changes = ["train.steps=60", "train.lora.rank=8", "train.adam_lr=0.03"]
    told = troth(home / "chats.jsonl", "--from", base, "--objective", "chat", "--out", tmp_path, settings=changes)
    assert told.out == f"Model: {tmp_path}/model\n"
    assert reports(tmp_path)[-1]["loss"] < reports(tmp_path)[0]["loss"] / 3
    adapted, merged = load_weights(base), load_weights(tmp_path / "model")
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    load_adapters(adapted, tmp_path / "adapters")
    tokens = torch.arange(3, 43)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(tokens), adapted(tokens), atol=1e-3, rtol=1e-3)
    for name, tensor in merged.state_dict().items():
        frozen = not name.endswith("_proj.weight") and "experts" not in name.rsplit(".", 2)[-2]
        assert torch.equal(tensor, before[name]) or not frozen, name


def test_adapters_of_a_run_are_exported_before_its_end_and_merged(home, base, troth, tmp_path):
    run, changes = tmp_path / "run", ["train.steps=12", "train.lora.rank=8", "train.adam_lr=0.03"]
    troth(home / "chats.jsonl", "--from", base, "--objective", "chat", "--out", run, settings=changes)
    told = troth(run, "--adapters", tmp_path / "last", verb="export")
    assert told.out == f"{tmp_path}/last: adapters after 12 steps\n"
    released, said = tmp_path / "released", json.loads((base / "config.json").read_text())
    shutil.copytree(base, released)
    beside = {"auto_map": {"AutoConfig": "configuration.Config"}, "num_nextn_predict_layers": 1}
    (released / "config.json").write_text(json.dumps(said | beside | {"bos_token_id": 1}))
    told = troth(released, "--merge", tmp_path / "last", "--out", tmp_path / "merged", "--json", verb="export")
    # Neither code nor further layers are taken along.
    assert json.loads((tmp_path / "merged" / "config.json").read_text()) == said | {"bos_token_id": 1}
    assert "layers.1.mlp.experts" in json.loads(told.out)["parts"]
    expected = load_weights(run / "model").state_dict()
    for name, tensor in load_weights(tmp_path / "merged").state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert (tmp_path / "merged" / "tokenizer.json").exists()
    shutil.rmtree(run / "model")  # As if it had not ended.
    shutil.rmtree(run / "checkpoints" / "step-000000012")
    assert json.loads(troth(run, "--adapters", tmp_path / "now", "--json", verb="export").out)["step"] == 10
    now, last = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("now", "last"))
    assert now.keys() == last.keys()
    assert all(0 < (now[name] - last[name]).abs().max() < 0.1 for name in now)
    shutil.rmtree(run / "checkpoints")
    for words, mistake in [
        ([run, "--adapters", tmp_path / "x"], f"{run}: has no checkpoint yet"),
        ([base.parent, "--adapters", tmp_path / "x"], f"{base.parent}: learns whole weights, not adapters"),
        ([base, "--adapters", tmp_path / "x"], f"{base}/run.json: not the record of a run"),
        ([base, "--merge", run, "--out", tmp_path / "x"], f"{run}/adapter_config.json: not a LoRA configuration"),
        ([base, "--merge", tmp_path / "now", "--out", run], f"{run}: exists already"),
        ([base], "export: expected one of --gguf FILE, --adapters DIR, --merge ADAPTERS with --out DIR"),
    ]:
        assert mistake in troth(*words, verb="export", code=2).err
        assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("adapted", [False, True])
def test_preferences_move_answers_apart(home, base, troth, tmp_path, adapted):
    # A batch of five rows has two for each of two pairs.
    changes = ["train.steps=12", "train.preference.beta=0.2", "train.batch_tokens=320", "train.keep_checkpoints=3"]
    changes += ["train.lora.rank=4"] if adapted else []
    told = troth(home / "pairs.jsonl", "--from", base, "--objective", "preference", "--out", tmp_path, settings=changes)
    assert "3 pairs" in told.err
    assert "accuracy 100%" in told.err
    found = reports(tmp_path)
    assert found[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # log(2): the two are one still
    assert found[-1]["margin"] > found[2]["margin"] > 0
    assert found[-1]["accuracy"] == 1
    # Killed before the end and started again, it ends as it did.
    ended = (tmp_path / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "model")
    *_, kept, last = checkpoints = sorted((tmp_path / "checkpoints").iterdir())
    assert [path.name for path in checkpoints] == ["step-000000005", "step-000000010", "step-000000012"]
    shutil.rmtree(last)
    shutil.rmtree(kept)
    troth(home / "pairs.jsonl", "--from", base, "--objective", "preference", "--out", tmp_path, settings=changes)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == ended
    # With adapters, no checkpoint has the weights that do not learn.
    names = torch.distributed.checkpoint.FileSystemReader(kept).read_metadata()
    assert adapted == all(".lora_" in name for name in names.state_dict_metadata if name.startswith("model."))


def test_examples_are_kept_but_not_for_other_settings(home, base, troth, tmp_path):
    out, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(base, other)
    (other / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")

    def tune(start=base, objective="chat", code=2, settings=()):
        words = home / "chats.jsonl", "--from", start, "--objective", objective, "--out", out
        return troth(*words, settings=["train.steps=1", *settings], code=code).err

    tune(settings=["train.sequence_length=5"])
    for told, changed in {
        "answers": tune(settings=["train.answers=last"]),
        "objective": tune(objective="preference"),
        "chat template": tune(start=other),
    }.items():
        assert f"{out / 'examples'}: was tokenised with another {told}; delete it, or name another --out" in changed
    assert f"{out / 'examples'} is kept, whatever files are named: 3 examples" in tune(code=0)


@pytest.mark.parametrize(
    ("words", "changes", "told"),
    [
        (["--objective", "chat"], [], "train.objective='chat': a model is tuned; name its folder (--from)"),
        (["--objective", "chats"], [], "train.objective='chats': input should be 'documents', 'chat' or 'preference'"),
        (["--from", "{base}", "--objective", "chat"], ["train.lora.patterns=['wq']"], "'wq' fits none of down_proj"),
        (["--from", "{base}", "--objective", "chat"], ["train.lora.ranks=2"], "known here: rank, alpha, patterns"),
        (["--from", "{base}", "--objective", "chat"], ["train.sequence_length=5"], "no chat has an answer that begins"),
        (["--from", "{base}", "--objective", "preference"], [], "chats.jsonl, line 1: no 'chosen'; it has messages"),
        (
            ["--from", "{base}", "--objective", "preference"], ["parallel.micro_batches=4"],
            "leaves 1 of the 4 sequences of a batch to each, and the answers of a pair stay together",
        ),
        (
            ["--from", "{base}", "--objective", "preference"], ["train.batch_tokens=65", "train.sequence_length=64"],
            "train: batch_tokens=65 is less than 2 * sequence_length=128: each answer of a pair has a row",
        ),
        ([], ["train.epochs=2"], "epochs=2.0: for objective chat or preference"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(home, base, troth, tmp_path, words, changes, told):
    words = [word.format(base=base) for word in words]
    said = troth(home / "chats.jsonl", *words, "--out", tmp_path / "run", settings=changes, code=2)
    assert told in said.err.splitlines()[-1]
    assert not (tmp_path / "run" / "model").exists()
