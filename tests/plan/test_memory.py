"""The planner's memory is what a dry run of the training code counts, and near what was published of torchtitan."""

import pytest

from troth.plan.dimensions import Dimensions, network_named
from troth.plan.gpus import gpu_named
from troth.plan.memory import KINDS, least_recompute, memory_bytes, memory_parts
from troth.plan.run import Run, columns
from troth.system import lay_out, load_system
from troth.system.parallel import active_ranks
from troth.train.dry_run.run import dry_run, fresh_processes, run_rank

SHARES = {"none": 0.0, "selective": 0.1, "full": 1.0}


def cases(small):
    """Systems, ranks and what is changed, by what is special."""

    def batch(rows, length):
        return f"train.batch_tokens={rows * length}"

    wide = [f"model.{name}={size}" for name, size in (
        ("hidden_size", 1024), ("intermediate_size", 4096), ("moe_intermediate_size", 1024), ("num_hidden_layers", 4),
    )] + ["train.sequence_length=256"]  # fmt: skip
    nano = {
        "one rank": (1, []),
        "sharded": (4, [batch(16, 256)]),
        "experts, full": (4, [batch(16, 256), "parallel.ep=4", "train.activation_checkpointing=full"]),
        "tensors": (2, [batch(16, 256), "parallel.tp=2"]),
        "width": (4, [batch(256, 256), "parallel.tp=2", "model.qk_norm=width"]),
        "tokens ahead": (4, [batch(16, 256), "train.mtp_weight=0.1"]),
        "weights": (8, [*wide, batch(8, 256)]),
        "weights, dense": (8, [*wide, batch(8, 256), "model.num_dense_layers=4"]),
        "uneven experts": (12, [*wide, batch(12, 256), "model.num_experts=16", "parallel.ep=4"]),
        "two micro-batches": (16, [*wide, batch(16, 256), "parallel.pp=2", "parallel.micro_batches=2"]),
        "uneven stages": (6, [
            *wide, batch(12, 256), "model.num_hidden_layers=5", "parallel.pp=3", "parallel.micro_batches=6",
        ]),
    }  # fmt: skip
    mini = {
        "one rank": (1, []),
        "sharded": (4, [batch(16, 4096)]),
        "experts": (8, [batch(32, 4096), "parallel.ep=8"]),
        "selective": (8, [batch(32, 4096), "parallel.ep=8", "train.activation_checkpointing=selective"]),
        "full": (8, [batch(32, 4096), "parallel.ep=8", "train.activation_checkpointing=full"]),
        "micro-batches": (8, [batch(32, 4096), "parallel.ep=8", "parallel.micro_batches=4"]),
        "tensors": (4, [batch(16, 4096), "parallel.tp=4"]),
        "tensors and experts": (8, [batch(16, 4096), "parallel.tp=2", "parallel.ep=4"]),
        "contexts": (4, [batch(16, 4096), "parallel.cp=4"]),
        "pipeline": (8, [batch(32, 4096), "parallel.pp=4", "parallel.micro_batches=8"]),
        "tokens ahead": (8, [batch(32, 4096), "parallel.ep=8", "train.mtp_weight=0.1"]),
        "pipeline, tokens ahead": (8, [
            batch(32, 4096), "parallel.pp=4", "parallel.micro_batches=8", "train.mtp_weight=0.1",
        ]),
        "pipeline, tied": (8, [
            batch(32, 4096), "parallel.pp=4", "parallel.micro_batches=8", "model.tie_word_embeddings=true",
        ]),
        "copies": (16, [batch(64, 4096), "parallel.dp_replicate=4", "parallel.ep=4"]),
        "interleaved": (8, [
            batch(32, 4096), "parallel.pp=4", "parallel.micro_batches=8", "parallel.schedule=Interleaved1F1B",
            "parallel.stages_per_rank=2",
        ]),
        "all": (64, [
            batch(256, 4096), "parallel.pp=4", "parallel.tp=2", "parallel.cp=2", "parallel.ep=8",
            "parallel.dp_replicate=2", "parallel.micro_batches=8",
        ]),
    }  # fmt: skip
    if small:
        return [pytest.param("nano", *case, id=f"nano, {name}") for name, case in nano.items()]
    for name in mini.keys() - {"one rank", "experts"}:
        mini[name][1].append("model.num_hidden_layers=8")
    return [pytest.param("mini", *case, id=f"mini, {name}") for name, case in mini.items()]


def predicted(settings, layout):
    """Bytes by kind that the planner expects, without what is no tensor's."""
    train, p = settings.train, layout
    run = Run(
        Dimensions.of(settings.model), gpu_named("H100"), p.world, train.sequences, train.sequence_length,
        train.sequences // (p.rows_ranks * p.micro_batches), p.tp, p.pp, p.stages_per_rank, p.cp, p.ep, p.etp,
        p.dp_replicate, sharded=True, optimizer=train.optimizer, recompute=SHARES[train.activation_checkpointing],
        ahead=train.mtp_depth if train.mtp_weight else 0,
    )  # fmt: skip
    parts = memory_parts(columns([run]))
    return {kind: float(parts[kind][0]) for kind in KINDS if kind != "context"}


def agrees(system, world, changes):
    settings = load_system(system, ["train.precision=bf16", *changes])
    layout = lay_out(settings.parallel, settings.model, settings.train, active_ranks(settings.parallel, world))
    ranks = sorted({0, layout.pp // 2, layout.pp - 1})
    with fresh_processes(1) as pool:
        found = [
            pool.submit(run_rank, settings.model, settings.train, layout, "bf16", rank * (layout.world // layout.pp))
            for rank in ranks
        ]
        worst = max((one.result().peak for one in found), key=lambda peak: peak.bytes)
    as_counted(worst, settings, layout)


def as_counted(worst, settings, layout):
    parts = predicted(settings, layout)
    assert sum(parts.values()) == pytest.approx(worst.bytes, rel=0.03), (parts, worst)
    for kind in ("weights", "optimizer"):
        assert parts[kind] == pytest.approx(worst.by_kind[kind], rel=0.03), kind


@pytest.mark.parametrize(("system", "world", "changes"), cases(small=True))
def test_it_agrees_with_the_dry_run_of_nano(system, world, changes):
    agrees(system, world, changes)


@pytest.mark.slow
@pytest.mark.parametrize(("system", "world", "changes"), cases(small=False))
def test_it_agrees_with_the_dry_run_of_mini(system, world, changes):
    agrees(system, world, changes)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "world", "spares"), [("flagship", 400_000, 6_784), ("grok-1", 512, 0)])
def test_named_systems_fit_their_gpus_in_the_dry_run_and_as_planned(name, world, spares):
    system = load_system(name)
    report = dry_run(system.model, system.train, system.parallel, world)
    assert report.spares == spares
    assert report.worst.peak.bytes < 40e9  # Half of an H100's.
    assert {layer for rank in report.ranks for layer in rank.layers} >= {0, system.model.num_hidden_layers - 1}
    as_counted(report.worst.peak, system, report.layout)


def test_what_is_done_again_frees_memory_and_no_more_than_is_needed():
    shape = Dimensions.of(load_system("mini").model)
    runs = [
        Run(shape, gpu_named("H100"), 8, 8 * rows, 4096, rows, ep=8, sharded=True) for rows in (1, 8, 16, 32, 64)
    ]
    c = columns(runs)
    shares = least_recompute(c)
    assert shares[0] == 0
    assert all(shares[:-1] <= shares[1:])
    fits = memory_bytes(c.with_recompute(shares)) <= 0.9501 * c.gpu_memory
    assert all(fits | (shares == 1))


PIPELINED = {"tp": 8, "pp": 8, "micro_batch": 4, "recompute": 1.0}


@pytest.mark.parametrize(
    ("name", "world", "rows", "layout", "date", "published_gib"),
    [
        # benchmarks/llama3-8b_h200_202506_trainy-whitefiber.md: sequences of a rank, GiB.
        ("8B", 32, 2, {"micro_batch": 2, "recompute": 0.1}, 2025.46, 47.96),
        ("8B", 64, 2, {"micro_batch": 2, "recompute": 0.1}, 2025.46, 46.97),
        # benchmarks/llama3_h100_202412_torchtitan.md, tables 1 and 3 to 6; as many micro-batches as stages.
        ("8B", 8, 2, {"micro_batch": 2, "recompute": 0.1}, 2024.96, 76.8),
        ("8B", 128, 2, {"micro_batch": 2, "recompute": 0.1}, 2024.96, 61.8),
        ("70B", 256, 16, {"tp": 8, "micro_batch": 16, "recompute": 1.0}, 2024.96, 71.9),
        ("405B", 512, 32, PIPELINED, 2024.96, 82.5),
        ("405B", 512, 32, PIPELINED | {"vpp": 2}, 2024.96, 72.7),
        ("405B", 512, 8, PIPELINED | {"micro_batch": 1, "length": 32768}, 2024.96, 75.3),
        ("405B", 512, 8, PIPELINED | {"micro_batch": 1, "length": 131072, "cp": 4}, 2024.96, 77.1),
        ("405B", 512, 8, PIPELINED | {"micro_batch": 1, "length": 262144, "cp": 8}, 2024.96, 84.9),
    ],
)
def test_it_is_near_what_torchtitan_has_published(name, world, rows, layout, date, published_gib):
    ranks = world // (layout.get("tp", 1) * layout.get("pp", 1) * layout.get("cp", 1))
    run = Run(
        network_named(f"Llama 3.1 {name}"), gpu_named("H200"), world, rows * ranks, **{"length": 8192} | layout,
        sharded=True, optimizer="adamw", precision="float8", date=date, stack="torchtitan",
    )  # fmt: skip
    assert float(memory_bytes(columns([run]))[0]) == pytest.approx(published_gib * 2**30, rel=0.1)
