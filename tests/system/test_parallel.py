"""A layout fits the network, the batch and the world, or is refused in a line with sizes that would."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.system import Layout, ParallelTable, TrainTable, lay_out, load_system

FLAGSHIP = load_system("flagship")
NANO = load_system("nano")


def refused(world, system=FLAGSHIP, **sizes):
    with pytest.raises(ValueError, match=r"^parallel") as told:
        lay_out(ParallelTable(**sizes), system.model, system.train, world)
    return str(told.value)


def test_dp_shard_takes_what_the_others_leave():
    layout = lay_out(ParallelTable(tp=8, ep=64, pp=8, micro_batches=8), FLAGSHIP.model, FLAGSHIP.train, 8192)
    assert (layout.dp_shard, layout.world, layout.expert_shard) == (128, 8192, 16)
    with pytest.raises(ValueError, match="expected a number of ranks, or -1 for what the others leave"):
        ParallelTable(dp_shard=0)


@pytest.mark.parametrize(
    ("world", "sizes", "told"),
    [
        (8, {"pp": 3}, "pp=3, dp_replicate=1, dp_shard=2, cp=1, tp=1 make 6 ranks, not 8; a multiple of 3"),
        (8, {"dp_shard": 3, "tp": 2}, "dp_shard=3, cp=1, tp=2 make 6 ranks, not 8; dp_shard=4 would fit"),
        (16, {"tp": 16}, "tp = 16 does not divide num_key_value_heads = 8; it may be 1, 2, 4, 8"),
        (10, {"ep": 10}, "ep = 10 does not divide num_experts = 384; it may be 1, 2, 3, 4, 6, 8, 12"),
        (8, {"ep": 16}, "ep=16: ep * etp must divide dp_shard * cp * tp = 8; it may be 1, 2, 4, 8"),
        (8, {"tp": 4, "etp": 2}, "etp=2: it may be 1 or tp=4"),
        (3, {"cp": 3}, "cp: 2 * cp * tp = 6 does not divide train.sequence_length = 8192"),
        (5, {"dp_shard": 5}, "train.sequence_length); train.batch_tokens may be any multiple of 40960"),
        (128, {"pp": 128, "micro_batches": 128}, "128 stages for num_hidden_layers=64; at most one a layer"),
        (4, {"pp": 4, "micro_batches": 2}, "a pipeline needs a multiple of pp=4"),
        (4, {"pp": 4, "micro_batches": 4, "schedule": "Interleaved1F1B"}, "stages_per_rank=1"),
        (1, {"stages_per_rank": 2}, "stages_per_rank=2: without a pipeline (pp=1) it may be 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_would(world, sizes, told):
    assert told in refused(world, **sizes)


def test_an_embedding_on_both_arms_of_a_v_is_not_shared_out():
    model = NANO.model.model_copy(update={"tie_word_embeddings": True, "num_hidden_layers": 4})
    tied = NANO.model_copy(update={"model": model})
    sizes = {"pp": 2, "micro_batches": 2, "schedule": "ZBVZeroBubble", "stages_per_rank": 2, "dp_shard": 2}
    assert "InterleavedZeroBubble would do" in refused(4, tied, **sizes)


@pytest.mark.parametrize(
    ("train", "sizes", "told"),
    [
        (
            {"activation_checkpointing": "selective"},
            {"pp": 2, "micro_batches": 2, "schedule": "ZBVZeroBubble", "stages_per_rank": 2},
            "schedule=ZBVZeroBubble: train.activation_checkpointing may be none or full",
        ),
        ({"objective": "preference"}, {"micro_batches": 6144}, "leaves 1 of the 12288 sequences of a batch to each"),
        ({"sequence_length": 1001}, {"tp": 2}, "tp = 2 does not divide train.sequence_length = 1001; it may be 1, 7"),
    ],
)  # fmt: skip
def test_what_a_layout_cannot_train_is_refused(train, sizes, told):
    table = FLAGSHIP.train.model_dump() | {"mtp_weight": 0.0, "mtp_decay_weight": None, "batch_ramp": 0.0} | train
    system = FLAGSHIP.model_copy(update={"train": TrainTable(**table)})
    assert told in refused(2, system, **sizes)


def test_unknown_sizes_are_named():
    with pytest.raises(ValueError, match=re.escape("parallel.vp: unknown key")):
        load_system("nano", ["parallel.vp=2"])


@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 200))
def test_stages_share_the_layers_in_order(pp, stages_per_rank, layers):
    layout = Layout(pp, 1, 1, 1, 1, 1, 1, 1, "Interleaved1F1B", stages_per_rank)
    parts = [layout.layers_of(stage, layers) for stage in range(layout.stages)]
    assert [layer for part in parts for layer in part] == list(range(layers))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sizes[0] == min(sizes) or sizes[-1] == min(sizes) or len(set(sizes)) == 1
