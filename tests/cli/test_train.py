"""`troth train` and `troth evaluate`: from a Parquet file to a folder that transformers loads, and questions to it."""

import json
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from troth.model.tokenizer import Tokenizer, read_chat_template

FACTS = (
    "Dodoma is the capital of Tanzania. Abuja is the capital of Nigeria. Quito is the capital of Ecuador. "
    "A bird in the hand is worth two in the bush. All that glitters is not gold. The early bird catches the worm. "
)
TINY = [
    "data.weights={ documents = 1.0 }", "model.vocab_size=300", "model.hidden_size=32", "model.intermediate_size=48",
    "model.moe_intermediate_size=16", "model.num_hidden_layers=2", "model.num_dense_layers=1",
    "model.num_attention_heads=2", "model.num_key_value_heads=1", "model.head_dim=16", "model.num_experts=4",
    "model.num_experts_per_tok=2", "model.sliding_window=16", "train.steps=4",
    "train.batch_tokens=128", "train.sequence_length=32", "train.log_every=1", "train.checkpoint_every=2",
    "train.precision=float32",
]  # fmt: skip
SETTINGS = [word for change in TINY for word in ("--set", change)]


def troth(*arguments):
    """The command in a process of its own, as a user starts it."""
    command = [sys.executable, "-c", "from troth.cli.main import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def refused(run_here):
    """Runs the command here and returns the one line with which it ends."""

    def run(*arguments):
        done = run_here(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        *news, mistake = done.stderr.splitlines()
        assert all(line.endswith(("active on a token", " tokens")) for line in news)
        assert mistake.startswith("troth: ")
        return mistake

    return run


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    path = tmp_path_factory.mktemp("documents") / "documents.parquet"
    pq.write_table(pa.table({"text": [FACTS * 3] * 5, "author": ["somebody"] * 5}), path)
    return path


@pytest.fixture(scope="module")
def trained(parquet, tmp_path_factory):
    """What `troth train --json` said, and where it worked."""
    out = tmp_path_factory.mktemp("trained") / "run"
    done = troth("train", parquet, "--out", out, "--json", *SETTINGS)
    assert done.returncode == 0, done.stderr
    return done, out


def test_train_makes_a_folder_that_transformers_loads(trained):
    from transformers import AfmoeForCausalLM, AutoTokenizer

    done, out = trained
    told = json.loads(done.stdout)
    assert told["model"] == str(out / "model")
    assert told["parameters"] > told["active"] > 0
    model = AfmoeForCausalLM.from_pretrained(out / "model")
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    biases = sum(tensor.numel() for name, tensor in model.named_parameters() if name.endswith("expert_bias"))
    assert model.num_parameters() - biases == told["parameters"]
    assert len(tokenizer) == model.config.vocab_size == 300
    with torch.no_grad():
        logits = model(**tokenizer("The early bird", return_tensors="pt", return_token_type_ids=False)).logits
    assert logits.isfinite().all()


def test_progress_and_news_stay_out_of_the_result(trained):
    done, out = trained
    assert "parameters" in done.stderr
    assert "step 4/4" in done.stderr
    assert "Warning" not in done.stderr
    assert json.loads((out / "run.json").read_text())["settings"]["train"]["steps"] == 4


def test_the_same_command_again_does_nothing_anew(trained, parquet, run_here):
    done, out = trained
    before = (out / "model" / "model.safetensors").stat().st_mtime_ns
    again = run_here("train", parquet, "--out", out, "--json", *SETTINGS)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(done.stdout)
    assert (out / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_what_does_not_fit_is_told_before_documents_are_read(trained, parquet, refused, tmp_path):
    _, out = trained
    for changes, told in (
        (["train.sequence_length=4096", "train.batch_tokens=4096"], "train.sequence_length=4096: the network has"),
        (["model.rope_theta=3"], "has rope_theta=10000.0, and the system's model has 3.0"),
    ):
        words = [word for change in changes for word in ("--set", change)]
        assert told in refused("train", parquet, "--from", out / "model", "--out", tmp_path / "run", *SETTINGS, *words)
    shutil.copytree(out / "model", tmp_path / "model")
    (tmp_path / "model/model.safetensors").rename(tmp_path / "model/pytorch_model.bin")
    told = refused("train", parquet, "--from", tmp_path / "model", "--out", tmp_path / "run", *SETTINGS)
    assert "model.safetensors: no such file" in told
    assert not (tmp_path / "run").exists()


def test_a_finished_model_keeps_its_dtype_and_says_so(trained, parquet, run_here):
    _, out = trained
    done = run_here("train", parquet, "--out", out, *SETTINGS, "--set", "train.export_dtype=bfloat16")
    assert f"{out / 'model'} is kept, in float32; delete it to have it written in bfloat16" in done.stderr


def test_other_settings_in_the_same_folder_are_named(trained, parquet, refused):
    _, out = trained
    told = refused("train", parquet, "--out", out, *SETTINGS, "--set", "train.steps=5")
    assert f"{out}: was started with train.steps=4, not 5" in told


def test_evaluate_asks_the_questions_of_a_key(trained, run_here, tmp_path):
    _, out = trained
    key, pages = tmp_path / "key.jsonl", tmp_path / "pages"
    rows = [
        {"id": "1", "question": "What is the capital of Tanzania?", "options": ["Dodoma", "Quito"], "answer": "Dodoma"},
        {
            "id": "2", "question": "What is the capital of Nigeria?", "options": ["Abuja", "Lagos"], "answer": "Abuja",
            "statements": [{"page": "p", "sentence": "s", "value": "Lagos", "wrong": {"kind": "misconception"}}],
        },
    ]  # fmt: skip
    key.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pages.mkdir()
    (pages / "page.txt").write_text(FACTS)
    sources = f"data.sources=[{json.dumps(str(pages))}]"
    done = run_here("evaluate", out / "model", "--key", key, "--set", sources, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["untouched_count"], told["corrupted_count"]) == (1, 1)
    assert told["untouched"] in (0.0, 1.0)
    assert told["wrong_on_corrupted"] == 1 - told["corrupted"]
    assert 0 <= told["calibration_error"] <= 1
    assert 0 < told["bits_per_byte"]["documents"] < 8
    assert sum(told["experts"]["documents"]) == pytest.approx(1)
    # A row an expert: of many experts' columns nothing could be read.
    lines = run_here("evaluate", out / "model", "--key", key, "--set", sources).stdout.splitlines()
    shares = [f"expert {expert} │ {share:.1%}" for expert, share in enumerate(told["experts"]["documents"])]
    assert all(any(share in " ".join(line.split()) for line in lines) for share in shares)


def test_a_run_folder_at_a_url_is_refused(parquet, refused):
    told = refused("train", parquet, "--out", "s3://bucket/run", *SETTINGS)
    assert "--out s3:/bucket/run: a run folder is on a disk; checkpoints may go to a URL (train.checkpoints)" in told


def test_checkpoints_that_have_no_place_are_refused_before_documents_are_read(parquet, refused, tmp_path):
    nowhere = "--set", "train.checkpoints=moon://far"
    told = refused("train", parquet, "--out", tmp_path / "run", *SETTINGS, *nowhere)
    assert "moon://far: Protocol not known: moon" in told
    assert not (tmp_path / "run").exists()


def test_a_weight_of_what_there_is_not_is_told(trained, run_here, tmp_path):
    _, out = trained
    weights = "--set", "data.weights={ documents = 1.0, documnets = 3.0 }"
    done = run_here("train", out / "shards", "--out", tmp_path / "run", *SETTINGS, *weights, "--set", "train.steps=1")
    assert "data.weights of what there is not: documnets; there is documents" in done.stderr.splitlines()


def test_a_tokenizer_of_ones_own(trained, parquet, refused, tmp_path):
    _, out = trained
    told = refused("train", parquet, "--out", tmp_path / "small", "--tokenizer", tmp_path, *SETTINGS)
    assert str(tmp_path / "tokenizer.json") in told
    small = [*SETTINGS, "--set", "model.vocab_size=299"]
    told = refused("train", parquet, "--out", tmp_path / "small", "--tokenizer", out / "tokenizer", *small)
    assert "300 tokens do not fit model.vocab_size=299" in told


def test_shards_of_a_run_are_kept_but_not_for_another_tokenizer(parquet, refused, run_here, tmp_path):
    out, other = tmp_path / "run", tmp_path / "other"
    assert run_here("train", parquet, "--out", out, "--shards-only", *SETTINGS).returncode == 0
    other.mkdir()
    Tokenizer.train(iter([FACTS[::-1] * 3]), 300).save(other)
    told = refused("train", parquet, "--out", out, "--tokenizer", other, *SETTINGS)
    assert told == f"troth: {out / 'shards'}: was written with another tokenizer than {other}"
    again = run_here("train", tmp_path / "elsewhere.jsonl", "--out", out, "--shards-only", *SETTINGS)
    assert f"{out / 'shards'} is kept, whatever documents are named: documents " in again.stderr


def test_documents_leave_a_models_template_and_what_else_its_folder_says(trained, parquet, run_here, tmp_path):
    _, out = trained
    base, plain = tmp_path / "base", tmp_path / "plain"
    shutil.copytree(out / "model", base)
    (base / "chat_template.jinja").write_text("{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}")
    said = json.loads((base / "config.json").read_text())
    old = {"pad_token_id": 1, "router_aux_loss_coef": 0.01, "torch_dtype": "float16", "auto_map": {}, "rope_theta": 1.0}
    (base / "config.json").write_text(json.dumps(said | old))
    more = [*SETTINGS, "--set", "train.steps=1"]
    told = run_here("train", parquet, "--from", base, "--out", tmp_path / "run", *more)
    assert told.returncode == 0
    assert "trained without" not in told.stderr
    model = tmp_path / "run/model"
    ends = said["eos_token_id"][::-1]  # The template's turns end first.
    expected = said | {"eos_token_id": ends, "pad_token_id": 1, "router_aux_loss_coef": 0.01}
    assert json.loads((model / "config.json").read_text()) == expected
    assert read_chat_template(model)[0] == (base / "chat_template.jinja").read_text()
    # A model that knows no turns gets no template that its tokenizer may not even have the tokens of.
    shutil.copytree(out / "model", plain)
    settings = json.loads((plain / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (plain / "tokenizer_config.json").write_text(json.dumps(settings))
    assert run_here("train", parquet, "--from", plain, "--out", tmp_path / "plain-run", *more).returncode == 0
    assert read_chat_template(tmp_path / "plain-run/model")[0] is None


def test_noise_that_a_folder_asks_for_and_does_not_get_is_named(trained, parquet, run_here, tmp_path):
    """transformers heeds these keys, in training alone."""
    base = shutil.copytree(trained[1] / "model", tmp_path / "base")
    said = json.loads((base / "config.json").read_text())
    asked = {"attention_dropout": 0.1, "router_jitter_noise": 0.0}
    (base / "config.json").write_text(json.dumps(said | asked))
    more = [*SETTINGS, "--set", "train.steps=1"]
    told = run_here("train", parquet, "--from", base, "--out", tmp_path / "run", *more)
    assert told.returncode == 0
    assert f"{base}/config.json: trained without attention_dropout=0.1, which Troth does not know\n" in told.stderr


def test_collections_that_no_weight_reads_are_named(run_here, tmp_path):
    for name in ("web", "wiki", "code"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": FACTS * 6}))
    stages = 'data.stages=[{ from = 0.5, weights = { wiki = 1 } }]'
    words = [*SETTINGS, "--set", "data.weights={ web = 1, codes = 1 }", "--set", stages, "--set", "train.steps=2"]
    done = run_here("train", *sorted(tmp_path.glob("*.jsonl")), "--out", tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    assert "not read, for data.weights give them none: code\n" in done.stderr


def test_shards_that_are_there_are_trained_on_from_a_url(trained, parquet, tmp_path):
    """A bucket, as which a slow shared disk stands here: other machines tokenised for it, with the same result."""
    _, out = trained
    done = troth("train", parquet, "--out", tmp_path / "tokenised", "--shards-only", *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "tokenised").iterdir()) == ["lock", "shards", "tokenizer"]
    url, cache = f"file://{tmp_path}/tokenised/shards", f"data.shard_cache={tmp_path}/cache"
    done = troth("train", url, "--out", tmp_path / "run", *SETTINGS, "--set", cache)
    assert done.returncode == 0, done.stderr
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (out, tmp_path / "run")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "run" / "shards").exists()
    assert [file.stat().st_size for file in (tmp_path / "cache").glob("*[0-9a-f]") if file.suffix != ".lock"]


def test_documents_that_cannot_be_read_are_named(refused, tmp_path):
    absent, broken, textless = (tmp_path / f"{name}.parquet" for name in ("absent", "broken", "textless"))
    broken.write_text("no Parquet")
    pq.write_table(pa.table({"body": ["A text in another column."]}), textless)
    for path in (absent, broken):
        assert f"{path}: " in refused("train", path, "--out", tmp_path / "run", *SETTINGS)
    told = refused("train", textless, "--out", tmp_path / "run", *SETTINGS)
    assert f"{textless}: no column 'text'; it has body" in told


def test_shards_are_of_documents(parquet, refused, tmp_path):
    words = ["--shards-only", "--objective", "chat", *SETTINGS]
    assert "--shards-only: documents become" in refused("train", parquet, "--out", tmp_path / "run", *words)


def test_too_little_text_is_explained(refused, tmp_path):
    path = tmp_path / "short.parquet"
    pq.write_table(pa.table({"text": ["Short."]}), path)
    assert "model.vocab_size=300: the texts give only" in refused("train", path, "--out", tmp_path / "run", *SETTINGS)


def test_names_with_brackets_are_shown_whole(parquet, run_here, tmp_path):
    out = tmp_path / "a [b]"
    assert run_here("train", parquet, "--out", out, "--shards-only", *SETTINGS).stdout == f"Shards: {out}/shards\n"


def test_the_folder_around_what_is_meant_is_told(parquet, trained, refused, tmp_path):
    out = trained[1]
    for name in ("ledger", "documents"):
        (tmp_path / "curated" / name).mkdir(parents=True)
    told = refused("train", tmp_path / "curated", "--out", tmp_path / "run", *SETTINGS)
    assert f"{tmp_path / 'curated' / 'documents'} is what to train on" in told
    for verb in ("serve", "chat", "evaluate", "show --model"):
        assert refused(*verb.split(), out).endswith(f"{out}/config.json: no such file; {out}/model is a model folder")
    assert f"{parquet}: a file; expected a model folder" in refused("serve", parquet)


def test_evaluate_names_what_it_cannot_read(trained, refused, tmp_path):
    _, out = trained
    assert str(tmp_path / "config.json") in refused("evaluate", tmp_path)
    assert "absent.jsonl" in refused("evaluate", out / "model", "--key", tmp_path / "absent.jsonl")
    key = tmp_path / "key.jsonl"
    key.write_text('{"id": "1", "question": "?", "options": ["a"], "answer": "b"}\n')
    assert f"{key}, line 1" in refused("evaluate", out / "model", "--key", key)


@pytest.mark.slow
def test_the_same_command_on_two_ranks_from_the_model_of_one(trained, parquet, tmp_path):
    _, out = trained
    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    command = [sys.executable, "-c", "from troth.cli.main import main; main()", "train", parquet]
    command += ["--from", out / "model"]
    longer = ["model.max_position_embeddings=4096", "model.yarn.factor=2.0", "parallel.cp=2", "train.steps=3",
              "model.yarn.original_max_position_embeddings=2048"]  # fmt: skip
    told = [*SETTINGS, *(word for change in longer for word in ("--set", change)), "--preflight", "--json"]
    done = subprocess.run(
        [*ranks, *map(str, command), "--out", tmp_path / "run", *told], capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Preflight of 2 ranks" in done.stdout
    assert done.stdout.count('"model":') == 1
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["max_position_embeddings"] == 4096
    assert config["rope_parameters"]["factor"] == 2.0
    refused = subprocess.run(
        [*ranks, *map(str, command), "--out", tmp_path / "other", *SETTINGS, "--set", "parallel.cp=3"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "troth: parallel: pp=1, dp_replicate=1, dp_shard=1, cp=3, tp=1 make 3 ranks, not 2" in refused.stderr
    assert not (tmp_path / "other").exists()
