"""A system file and its changes: what is wrong is told in one line, by key and value."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import troth.system
from troth.system import load_system, named_systems

NANO = Path(troth.system.__file__).parent / "nano.toml"


def refused(name, *changes):
    with pytest.raises(ValueError, match=r".") as caught:
        load_system(str(name), changes)
    told = str(caught.value)
    assert "\n" not in told
    return told


@pytest.mark.parametrize("name", named_systems())
def test_a_named_system_is_its_file(name):
    assert load_system(name) == load_system(str(NANO.with_name(f"{name}.toml")))


def test_nano_is_there_and_complete():
    system = load_system("nano")
    assert "nano" in named_systems()
    assert set(system.model_dump()) >= {"data", "curate", "model", "train", "cycle", "serve"}
    assert system.model.num_experts >= system.model.num_experts_per_tok
    assert system.train.batch_tokens >= system.train.sequence_length


def test_a_file_needs_no_table_that_its_verb_does_not_read(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(NANO.read_text().partition("[cycle]")[0])
    assert load_system(str(path)).train == load_system("nano").train


def test_changes_come_after_the_file_and_the_last_one_counts():
    before = load_system("nano")
    changes = ["train.steps=7", "serve.host=0.0.0.0", "train.steps = 8", "data.weights.library=0.25"]
    system = load_system("nano", changes)
    assert system.train.steps == 8
    assert system.serve.host == "0.0.0.0"
    assert system.data.weights == before.data.weights | {"library": 0.25}
    assert load_system("nano", ["data.weights={ mine = 1.0 }"]).data.weights == {"mine": 1.0}
    unchanged = {"train": {"steps": 8}, "serve": {"host": "0.0.0.0"}, "data": {"weights": system.data.weights}}
    merged = {table: values | unchanged.get(table, {}) for table, values in before.model_dump().items()}
    assert system.model_dump() == merged


def test_stages_of_the_mixture_come_in_order():
    stages = "data.stages=[{ from = 0.7, weights = { code = 1 } }, { from = %s, weights = { maths = 2 } }]"
    first, second = load_system("nano", [stages % 0.9]).data.stages
    assert (first.start, second.start, second.weights) == (0.7, 0.9, {"maths": 2.0})
    assert "data: stages: from=0.7 stands after from=0.7; stages come in order" in refused("nano", stages % 0.7)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(NANO.read_text() + "\n[serve]\nport = 9000\n")
    assert load_system(str(path)).serve.port == 9000
    assert load_system(str(path), ["serve.port=9001"]).serve.port == 9001
    assert load_system("nano").serve.port == 8000


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("train.stepz=3", "train.stepz: unknown key; known here: steps, "),
        ("trane.steps=3", "trane: unknown key; known here: data, curate, model, train, "),
        ("model.rope.theta=3", "model.rope: unknown key; known here: model_type, "),
        ("train.steps=0", "train.steps=0: input should be greater than 0"),
        ("train.steps=many", "train.steps='many': input should be a valid integer"),
        ("train.steps=1.5", "train.steps=1.5: "),
        ("train.clip=nan", "train.clip=nan: "),
        ("train.precision=fp8", "train.precision='fp8': input should be 'auto', 'float32', 'bf16', "),
        ("model.head_dim=31", "model.head_dim=31: input should be a multiple of 2"),
        ("model.num_experts_per_tok=99", "model: num_experts_per_tok=99 exceeds num_experts="),
        ("train.batch_tokens=8", "train: batch_tokens=8 is less than sequence_length="),
        ("data.sources=[]", "data.sources=[]: "),
        ("data.weights.library=much", "data.weights.library='much': input should be a valid number"),
        ("data.weights.library=-1", "data.weights.library=-1: input should be greater than or equal to 0"),
        ("data.weights.library=nan", "data.weights.library=nan: input should be a finite number"),
        ("data.stages=[{ from = 0.5, weights = { a = -1 } }]", "data.stages.0.weights.a=-1: input should be greater"),
        ("train.adam_lr=inf", "train.adam_lr=inf: input should be a finite number"),
        ("model.rope_theta=1e999", "model.rope_theta=inf: input should be a finite number"),
        ("train.seed=-1", "train.seed=-1: input should be greater than or equal to 0"),
        ("data.stages=[{ from = 0.5 }]", "data.stages.0.weights: field required"),
        ("data.stages=[{ from = 1.5, weights = { a = 1 } }]", "data.stages.0.from=1.5: input should be less than 1"),
        ("data.stages=[{ of = 0.5, weights = { a = 1 } }]", "data.stages.0.from: field required"),
        ("data.stages=[{ from = 0.5, weights = { a = 1 }, to = 1 }]", "stages.0.to: unknown key; known here: from, w"),
        ("serve.allowed_origins=*", "serve.allowed_origins='*': input should be a list, such as [\"*\"]"),
        ("curate.languages=en", "curate.languages='en': input should be a list, such as [\"en\"]"),
        ("serve.port=70000", "serve.port=70000: input should be less than or equal to 65535"),
    ],
)
def test_a_value_that_does_not_fit_is_named(change, told):
    assert told in refused("nano", change)
    assert refused("nano", change).startswith("--set ")


def test_tokens_ahead_are_within_a_sequence():
    ahead = ["train.mtp_weight=0.3", "train.mtp_depth=10"]
    with pytest.raises(ValueError, match="train: mtp_depth=10: no sequence of 10 tokens goes on so far"):
        load_system("nano", [*ahead, "train.sequence_length=10"])
    assert load_system("nano", [*ahead, "train.sequence_length=11"]).train.mtp_depth == 10


def test_gradients_need_not_be_clipped():
    assert load_system("nano", ["train.clip=inf"]).train.clip == float("inf")


@pytest.mark.parametrize("change", ["train.steps", "steps=3", "=3", ".=3", "train.=3", ".steps=3", ""])
def test_a_change_of_another_form_is_explained(change):
    assert refused("nano", change) == f"--set {change}: expected table.key=value, for example train.steps=100"


def test_a_value_is_no_table():
    assert refused("nano", "train.steps.first=3") == "--set train.steps.first=3: steps is no table"


def test_a_wrong_value_is_blamed_on_who_gave_it(tmp_path):
    assert refused("nano", "curate.x=y").startswith("--set curate.x: unknown key; known here: ")
    assert refused("nano", "train.steps=many", "train.seed=1").startswith("--set train.steps='many': ")
    own = tmp_path / "own.toml"
    own.write_text(NANO.read_text().replace("[curate]", "[curate]\nx = 1"))
    assert refused(own, "train.steps=3").startswith(f"{own}: curate.x: unknown key; known here: ")


def test_a_missing_table_is_named(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text(NANO.read_text().replace("[data]", "[other]"))
    assert "data: field required" in refused(path)


def test_further_problems_are_counted():
    assert "(and 1 more)" in refused("nano", "train.steps=0", "serve.port=-1")


def test_what_is_no_system_is_named(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("[train]\nsteps = = 3\n")
    assert str(path) in refused(path)
    assert "line 2" in refused(path)
    path.write_bytes(b"\xff\xfe")
    for name in ("pico", str(tmp_path), str(path), ""):
        assert refused(name) == f"--system {name}: neither a readable file nor one of {', '.join(named_systems())}"


@given(st.text(st.characters(codec="utf-8", exclude_categories="CZ", exclude_characters="=."), min_size=1), st.text())
def test_any_change_at_all_is_taken_or_explained_in_one_line(key, value):
    change = f"serve.{key}={value}"
    try:
        load_system("nano", [change])
    except ValueError as error:
        told = str(error)
        assert f"serve.{key}" in told
        assert len(told.splitlines()) == 1


@given(st.integers(1, 2**31), st.floats(1e-6, 1e6))
def test_numbers_arrive_as_they_were_given(steps, rate):
    system = load_system("nano", [f"train.steps={steps}", f"train.adam_lr={rate!r}"])
    assert (system.train.steps, system.train.adam_lr) == (steps, rate)
