"""The proof of the parallel dimensions: over any layout of ranks, a run has the losses, gradient norms and expert loads
of a single process, and ends with its weights."""

import pytest
import torch

from troth.model.families.weights import load_weights
from troth.model.mtp import load_mtp

from .conftest import case, deviation, reports

ALONE_ON_TWO = [
    {"dp_replicate": 2},
    {"dp_shard": 2},
    {"cp": 2},
    {"tp": 2},
    {"ep": 2},
    {"pp": 2, "micro_batches": 4},
]
SCHEDULES_ON_TWO = [
    {"pp": 2, "micro_batches": 4, "schedule": "Interleaved1F1B", "stages_per_rank": 2},
    {"pp": 2, "micro_batches": 4, "schedule": "InterleavedZeroBubble", "stages_per_rank": 2},
    {"pp": 2, "micro_batches": 4, "schedule": "ZBVZeroBubble", "stages_per_rank": 2},
    {"dp_shard": 2, "micro_batches": 2},
]
TOGETHER_ON_FOUR = [
    {"dp_shard": 4, "ep": 2},
    {"dp_shard": 2, "pp": 2, "micro_batches": 2},
    {"tp": 2, "ep": 2, "dp_shard": 2},
    {"cp": 2, "dp_shard": 2},
]
MORE_ON_FOUR = [
    {"dp_replicate": 2, "dp_shard": 2, "ep": 2},
    {"tp": 2, "ep": 2, "etp": 2, "dp_shard": 2},
    {"cp": 2, "tp": 2, "ep": 4},
    {"cp": 2, "pp": 2, "micro_batches": 2},
    {"tp": 2, "pp": 2, "micro_batches": 2},
    {"dp_shard": 2, "ep": 2, "pp": 2, "micro_batches": 4, "schedule": "ZBVZeroBubble", "stages_per_rank": 2},
]
TOGETHER_ON_EIGHT = [{"pp": 2, "ep": 2, "dp_shard": 4, "micro_batches": 2}]
MORE_ON_EIGHT = [
    {"pp": 2, "ep": 2, "dp_replicate": 2, "dp_shard": 2, "micro_batches": 2},
    {"dp_shard": 2, "cp": 2, "tp": 2, "ep": 2},
]


@pytest.fixture(scope="module")
def alone(small, run_training, held_out, tmp_path_factory):
    """`alone(settings)` is the run of one process, of the small network or another."""
    runs = {}

    def run(settings, model=small):
        key = settings.model_dump_json(), model.model_dump_json()
        if key not in runs:
            runs[key] = tmp_path_factory.mktemp("alone")
            run_training(runs[key], settings, model=model, held_out=held_out)
        return runs[key]

    return run


def check(world, layouts, settings, bound, alone, over_ranks, small, folder, more=()):
    """Trains over these layouts, and what else there is to train in the same processes."""
    runs = [folder / str(number) for number in range(len(layouts))]
    cases = [case(run, small, settings, layout) for run, layout in zip(runs, layouts, strict=True)]
    over_ranks(world, [*cases, *more])
    expected = load_weights(alone(settings) / "model").state_dict()
    for run, layout in zip(runs, layouts, strict=True):
        assert deviation(run, alone(settings)) < bound, layout
        for name, tensor in load_weights(run / "model").state_dict().items():
            torch.testing.assert_close(tensor, expected[name], atol=100 * bound, rtol=0, msg=f"{layout}: {name}")


def test_each_dimension_alone_is_as_one_process(alone, over_ranks, small, proof, tmp_path):
    """And multi-token prediction is exported from ranks, of a pipeline over a head that is the embedding too: one start
    of processes for all."""
    predicts = proof(steps=6, mtp_weight=0.3, batch_ramp=0.7, batch_ramp_start=4 * 32)
    tied = small.model_copy(update={"tie_word_embeddings": True})
    others = [(tmp_path / "tp", small, {"tp": 2}), (tmp_path / "pp", tied, {"pp": 2, "micro_batches": 12})]
    more = [case(run, model, predicts, layout) for run, model, layout in others]
    check(2, ALONE_ON_TWO + SCHEDULES_ON_TWO, proof(steps=6), 1e-9, alone, over_ranks, small, tmp_path, more)
    for run, model, _ in others:
        assert deviation(run, alone(predicts, model)) < 1e-9
        for load in (load_weights, load_mtp):
            expected, found = (load(folder / "model").state_dict() for folder in (alone(predicts, model), run))
            for name, tensor in expected.items():
                torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0, msg=name)


@pytest.mark.slow
def test_over_twenty_steps_too(alone, over_ranks, small, proof, tmp_path):
    check(2, ALONE_ON_TWO, proof(), 1e-9, alone, over_ranks, small, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("world", "layouts", "more"), [
    (4, TOGETHER_ON_FOUR, MORE_ON_FOUR), (8, TOGETHER_ON_EIGHT, MORE_ON_EIGHT),
])  # fmt: skip
def test_dimensions_together_are_as_one_process(alone, over_ranks, small, proof, tmp_path, world, layouts, more):
    check(world, layouts, proof(), 1e-9, alone, over_ranks, small, tmp_path / "twenty")
    check(world, more, proof(steps=6), 1e-9, alone, over_ranks, small, tmp_path / "six")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "layouts"), [(2, ALONE_ON_TWO), (4, TOGETHER_ON_FOUR), (8, TOGETHER_ON_EIGHT)]
)
def test_in_float32_too(alone, over_ranks, small, proof, tmp_path, world, layouts):
    """With grouped products, and rounding that differs with the order of sums."""
    gentle = proof(precision="float32", muon_lr=0.004, adam_lr=5e-4)
    check(world, layouts, gentle, 1e-4, alone, over_ranks, small, tmp_path)


@pytest.mark.slow
def test_in_float8_each_rank_scales_what_it_has(alone, over_ranks, small, proof, tmp_path):
    """So the rounding differs, and no more than that."""
    settings = proof(precision="float8", muon_lr=0.004, adam_lr=5e-4)
    layouts = [{"dp_shard": 2}, {"tp": 2}, {"cp": 2}, {"pp": 2, "micro_batches": 4}]
    over_ranks(2, [case(tmp_path / str(n), small, settings, layout) for n, layout in enumerate(layouts)])
    expected = [report["loss"] for report in reports(alone(settings))]
    for n, layout in enumerate(layouts):
        found = [report["loss"] for report in reports(tmp_path / str(n))]
        assert found == pytest.approx(expected, rel=3e-3), layout
