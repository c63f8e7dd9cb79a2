"""Plans of training: layouts that training accepts, and what is said of them."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from troth.cli.main import app
from troth.plan.calibration import Calibration
from troth.plan.clouds import clouds
from troth.plan.failures import failure_rate
from troth.plan.gpus import gpu_named
from troth.plan.layouts import best_layouts, parallel_table, rules_of
from troth.plan.page.words import system_tables
from troth.plan.run import columns
from troth.plan.step import step_time
from troth.plan.training import TrainingPlan, base_run, plan_training
from troth.system import load_system
from troth.system.parallel import ParallelTable, lay_out


def planned(name: str, gpus: int, tokens: float = 1e12, gpu: str = "h100", **fixed: int) -> TrainingPlan:
    system = load_system(name)
    base = base_run(system, name, gpu_named(gpu), gpus, system.train.batch_tokens)
    return plan_training(system, name, base, tokens, clouds(), failure_rate("llama3"), 3, fixed)


@pytest.fixture(scope="module")
def flagship() -> TrainingPlan:
    return planned("flagship", 400_000, 3e13)


def test_400000_gpus_have_hot_spares_and_an_honest_range(flagship: TrainingPlan) -> None:
    assert flagship.best.run.world + flagship.spares == 400_000
    assert flagship.extrapolated
    low, high = flagship.seconds
    assert low < flagship.best.seconds < high
    small = planned("grok-1", 512)
    assert not small.extrapolated
    assert small.seconds[1] / small.best.seconds < high / flagship.best.seconds


def test_a_fixed_batch_costs_a_large_machine_more(flagship: TrainingPlan) -> None:
    assert flagship.fewer is not None
    assert flagship.fewer.run.sequences == flagship.best.run.sequences
    assert flagship.fewer.mfu > 1.5 * flagship.best.mfu
    assert flagship.critical.low < flagship.critical.high


def test_at_that_scale_only_replica_groups_go_on(flagship: TrainingPlan) -> None:
    goodputs = flagship.goodputs
    assert flagship.strategy == "replica groups"
    assert goodputs["restart the world"].of_paid < goodputs["hot spares"].of_paid < goodputs["replica groups"].of_paid
    tokens = flagship.best.tokens_per_second * goodputs["replica groups"].share * (1 - flagship.corruption)
    assert flagship.duration.days == pytest.approx(3e13 / tokens / 86400)


def test_replica_groups_are_what_the_tables_say_of_them(flagship: TrainingPlan) -> None:
    text = system_tables(flagship)
    assert "dp_replicate = 1 and replica_groups = 1024, each group of 384 ranks" in text
    system = load_system("flagship")
    groups = ParallelTable(**tomllib.loads(text)["parallel"] | {"dp_replicate": 1, "replica_groups": 1024})
    assert lay_out(groups, system.model, system.train, 384).rows_ranks == flagship.best.run.dp
    assert "replica_groups = 1\n\n" in system_tables(planned("mini", 8))


def test_a_simulation_of_failures_agrees_with_the_formulas() -> None:
    system = load_system("flagship")
    base = base_run(system, "flagship", gpu_named("h100"), 24_576, system.train.batch_tokens)
    plan = plan_training(system, "flagship", base, 1e12, clouds(), failure_rate("rsc-1"), 1, simulations=20_000)
    for name, found in plan.goodputs.items():
        simulated = plan.simulated[name]
        assert found.share == pytest.approx(simulated.share, abs=4 * simulated.error + 1e-3), name
    assert 0 < plan.corruption < 0.01
    assert plan.straggling == pytest.approx(1.1, abs=1e-3)


@pytest.mark.parametrize(("name", "gpus"), [("mini", 8), ("grok-1", 512), ("flagship", 8192)])
def test_training_accepts_the_layouts_and_none_is_faster(name: str, gpus: int) -> None:
    system = load_system(name)
    plan = planned(name, gpus)
    for one in plan.candidates:
        lay_out(one.table, system.model, system.train, one.run.world)
        assert sum(one.parts.values()) == pytest.approx(one.seconds)
        assert sum(one.memory.values()) < plan.gpu.memory
        assert 0 < one.mfu < 1
    assert [one.seconds for one in plan.candidates] == sorted(one.seconds for one in plan.candidates)


def test_the_flagships_own_layout_is_no_better_than_what_is_found(flagship: TrainingPlan) -> None:
    own = load_system("flagship").parallel
    run = replace(flagship.best.run, pp=own.pp, vpp=own.stages_per_rank, dp_replicate=own.dp_replicate, cp=own.cp,
                  tp=own.tp, ep=own.ep, world=393_216, micro_batch=1, recompute=0.0)  # fmt: skip
    assert parallel_table(run).model_dump() == own.model_dump()
    assert flagship.best.seconds <= step_time(columns([run]), Calibration()).seconds[0]


def test_a_layout_is_listed_once_with_as_little_recomputation_as_fits(flagship: TrainingPlan) -> None:
    runs = [replace(one.run, recompute=0.0) for one in flagship.candidates]
    assert len(set(runs)) == len(runs)


def test_given_sizes_are_kept_and_what_fits_nowhere_is_told() -> None:
    assert all(one.run.tp == 4 for one in planned("grok-1", 512, tp=4).candidates)
    with pytest.raises(ValueError, match=r"fits into no layout of up to 8 GPUs h100: the smallest holds \d+ GB a GPU"):
        planned("flagship", 8)
    system = load_system("mini")
    run = base_run(system, "mini", gpu_named("h100"), 1, system.train.batch_tokens)
    with pytest.raises(ValueError, match="no layout of up to 1 GPUs"):
        best_layouts(run, rules_of(system.model, system.train), 1, Calibration(), fixed={"tp": 2})


@pytest.mark.parametrize(("name", "gpu"), [("grok-2", "b200"), ("grok-1", "a100-40")])
def test_more_gpus_are_never_slower(name: str, gpu: str) -> None:
    system = load_system(name)

    def seconds(gpus: int) -> float:
        base = base_run(system, name, gpu_named(gpu), gpus, system.train.batch_tokens)
        return best_layouts(base, rules_of(system.model, system.train), 1, Calibration()).seconds[0]

    times = [seconds(gpus) for gpus in (1024, 4096, 50_000, 400_000)]
    assert times == sorted(times, reverse=True)  # the batch is a limit: then some are spares, and none make it worse


@pytest.mark.parametrize("gpus", [16_384, 400_000])
def test_the_flagships_whole_context_keeps_a_machine_busy(gpus: int) -> None:
    # 756 sequences, of which few numbers are left where ranks that share an expert out must divide its width.
    system = load_system("flagship", ["train.sequence_length=133120", "train.batch_tokens=100638720"])
    base = base_run(system, "flagship", gpu_named("h100"), gpus, system.train.batch_tokens)
    run = best_layouts(base, rules_of(system.model, system.train), 1, Calibration()).runs[0]
    assert run.world > 0.9 * gpus
    lay_out(parallel_table(run), system.model, system.train, run.world)


def test_widths_that_training_refuses_take_no_places_of_others() -> None:
    # 1,000 sequences: most widths leave ranks of a copy that do not share out the parts of Grok-1's 8 experts.
    system = load_system("grok-1", ["train.batch_tokens=8192000"])
    base = base_run(system, "grok-1", gpu_named("a100"), 9999, system.train.batch_tokens)
    run = best_layouts(base, rules_of(system.model, system.train), 1, Calibration()).runs[0]
    lay_out(parallel_table(run), system.model, system.train, run.world)


def test_tensor_parallelism_divides_sequences() -> None:
    # 14 heads over 7 ranks would fit, but 256 tokens do not go up in 7.
    system = load_system("nano", ["model.num_attention_heads=14", "model.num_key_value_heads=7"])
    base = base_run(system, "nano", gpu_named("h100"), 7, system.train.batch_tokens)
    with pytest.raises(ValueError, match="with tp=7 divides the network"):
        best_layouts(base, rules_of(system.model, system.train), 1, Calibration(), fixed={"tp": 7})


def test_8_bits_are_taken_where_they_are_faster_and_allowed() -> None:
    def precisions(gpu: str, **train: str) -> set[str]:
        system = load_system("grok-2", [f"train.{name}={value}" for name, value in train.items()])
        base = base_run(system, "grok-2", gpu_named(gpu), 512, system.train.batch_tokens)
        found = best_layouts(base, rules_of(system.model, system.train), 3, Calibration())
        return {run.precision for run in found.runs}

    assert precisions("h100") == {"float8"}
    assert precisions("a100") == {"bf16"}  # which has none
    assert precisions("h100", precision="bf16") == {"bf16"}


def test_tied_embeddings_and_multi_token_prediction_go_in_pipelines() -> None:
    system = load_system("grok-1", ["train.mtp_weight=0.1"])
    assert system.model.tie_word_embeddings
    base = base_run(system, "grok-1", gpu_named("h100"), 512, system.train.batch_tokens)
    found = best_layouts(base, rules_of(system.model, system.train), 2, Calibration(), fixed={"pp": 4})
    for run in found.runs:
        lay_out(parallel_table(run), system.model, system.train, run.world)


def test_experts_are_parted_where_a_rank_has_one() -> None:
    runs = [one.run for one in planned("grok-1", 512).candidates]
    assert {run.etp for run in runs} <= {1, *(run.tp for run in runs)}
    assert all(run.etp == 1 or run.ep == run.dimensions.experts for run in runs)
    assert all(one.run.etp == 1 for one in planned("grok-1", 512, etp=1).candidates)


def test_the_command_prints_a_table_that_training_reads(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plan", "train", "--system", "grok-1", "--gpus", "512", "--tokens", "1T"])
    assert done.exit_code == 0, done.output
    tables = tomllib.loads(done.output[done.output.index("[parallel]") :])
    changes = [f"{table}.{key}={json.dumps(value)}" for table in tables for key, value in tables[table].items()]
    system = load_system("grok-1", changes)
    lay_out(system.parallel, system.model, system.train, 512)


def test_the_command_for_programs(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text("[oci.shapes.'BM.GPU.H100.8'.rent]\non_demand = 8.0\n")
    words = ["--system", "mini", "--gpus", "8", "--set", "parallel.ep=2", "--prices", str(prices), "--json"]
    done = CliRunner().invoke(app, ["plan", "train", *words])
    assert done.exit_code == 0, done.output
    plan = json.loads(done.output)
    assert {one["table"]["ep"] for one in plan["candidates"]} == {2}
    assert min(offer["dollars_per_gpu_hour"] or 99 for offer in plan["offers"] if offer["cloud"] == "oci") < 1.1


def test_a_clouds_network_is_reckoned_with(tmp_path: Path) -> None:
    def plan(*words: str) -> dict[str, Any]:
        system = ["--system", "flagship", "--gpus", "24576", "--set", "parallel.ep=384", "--top", "1"]
        done = CliRunner().invoke(app, ["plan", "train", *system, *words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.output)["candidates"][0] | {"offers": json.loads(done.output)["offers"]}

    thin = tmp_path / "thin.toml"
    thin.write_text("[azure.shapes.ND96isr_H100_v5.network]\npod = 256\noversubscription = 7\n")
    anywhere, azure = plan(), plan("--cloud", "azure:ND96isr_H100_v5")
    thinner = plan("--cloud", "azure:ND96isr_H100_v5", "--prices", str(thin))
    assert azure["seconds"] == anywhere["seconds"]  # a full fat tree
    assert thinner["seconds"] > 1.05 * azure["seconds"]
    assert thinner["parts"]["expert traffic"] > 2 * azure["parts"]["expert traffic"]
    assert {offer["shape"] for offer in azure["offers"]} == {"ND96isr_H100_v5"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpus", "8", "--gpu", "h10"], "GPU h10: unknown; known are"),
        (["--gpus", "8", "--tokens", "-3"], "--tokens -3: expected a number above 0"),
        (["--gpus", "8", "--global-batch-tokens", "5000"], "--global-batch-tokens 5,000: no multiple of 4,096 tokens"),
        (["--gpus", "8", "--global-batch-tokens", "1e400"], "--global-batch-tokens 1e400: expected a number above 0"),
        (["--gpus", "8", "--precision", "float2"], "precision float2: h100 has"),
        (["--gpus", "8", "--precision", "float4", "--gpu", "b200"], "precision float4: a plan is for bf16 or float8"),
        (["--gpus", "8", "--set", "train.precision=float32"], "precision float32: a plan is for bf16 or float8"),
        (["--gpus", "2", "--set", "parallel.pp=4"], "no layout of up to 2 GPUs with pp=4 divides the network"),
        (["--gpus", "8", "--cloud", "azure"], "--cloud azure: azure has the shapes ND96asr_v4"),
        (["--gpus", "8", "--cloud", "oci:BM.GPU.H100.8", "--gpu", "h200"], "--gpu h200: --cloud oci:BM.GPU.H100.8 "),
        (["--gpus", "8", "--failures", "mine"], "failure rate mine: unknown"),
        (["--gpus", "8", "--set", "parallel.dp_shard=4"], "--set parallel.dp_shard=4: a plan finds this size itself"),
    ],
)
def test_nonsense_gets_one_line(words: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["plan", "train", "--system", "mini", *words])
    assert isinstance(done.exception, ValueError)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
