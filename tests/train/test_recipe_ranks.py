"""Over ranks, the balance loss, multi-token prediction, growing batches, families with parts of their own and adapters
are as in a single process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FORKED, WORKER = (Path(__file__).parent / f"{name}.py" for name in ("forked", "recipe_ranks"))
LOSSES = {"sequence_balance": 0.1, "mtp_weight": 0.3, "mtp_depth": 2}
AGAIN, KEPT = (LOSSES | {"activation_checkpointing": how} for how in ("full", "selective"))
GROWING = {"sequence_balance": 0.1, "batch_ramp": 0.7, "batch_ramp_start": 64}
PIPELINE = {"pp": 2, "micro_batches": 8}
ZERO_BUBBLE = {"schedule": "ZBVZeroBubble", "stages_per_rank": 2}
TIED = {"tie_word_embeddings": True}
PRE_NORM = {
    "num_shared_experts": 0, "router_score": "softmax", "attention_gate": False, "post_norms": False,
    "rope_layers": "all", "mup_enabled": False, "num_dense_layers": 0,
}  # fmt: skip
GPT_OSS = PRE_NORM | {
    "model_type": "gpt_oss", "qk_norm": "none", "attention_sinks": True, "biases": True, "swiglu_limit": 7.0,
    "global_attn_every_n_layers": 2,
}  # fmt: skip
OLMOE = PRE_NORM | {"model_type": "olmoe", "qk_norm": "width", "sliding_window": None}
DEEPSEEK = PRE_NORM | {
    "model_type": "deepseek_v3", "num_shared_experts": 1, "num_dense_layers": 1, "qk_norm": "none", "head_dim": 24,
    "sliding_window": None,
    "latent": {
        "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
    },
}  # fmt: skip
FAMILIES = [GPT_OSS, OLMOE, DEEPSEEK]
ADAPTERS = {"lora": {"rank": 4, "alpha": 8}}


def check(world, cases):
    """Each case is a recipe, a layout and what the network has of its own, and, with a fourth part, a step at which the
    last rank's gradients are no numbers."""
    names = "train", "parallel", "model", "poisoned"
    defaults = {"model": {}, "poisoned": None}
    job = [defaults | dict(zip(names, case, strict=False)) for case in cases]
    job.sort(key=lambda case: json.dumps([case["train"], case["model"]]))  # Each start has a recipe once alone.
    # Each layout leaves gloo some sixty threads, which wake a hundred times a second: ranks begin anew after a few.
    starts = [json.dumps(job[first : first + 4]) for first in range(0, len(job), 4)]
    command = [sys.executable, FORKED, str(world), WORKER, *(word for start in starts for word in ("--", start))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-5000:]


def test_each_dimension_alone_is_as_one_process():
    cases = [(LOSSES, {name: 2}) for name in ("dp_shard", "cp", "tp", "ep")]
    cases += [(AGAIN, {"cp": 2, "micro_batches": 2}), (GROWING, {"dp_shard": 2}), (GROWING, PIPELINE)]
    cases += [(LOSSES, PIPELINE, TIED), ({}, {"dp_shard": 2}, TIED), (LOSSES, PIPELINE | ZERO_BUBBLE, TIED)]
    check(2, [*cases, *poisoned({"dp_shard": 2, "ep": 2}, PIPELINE)])


def poisoned(*layouts):
    """What is no number on one rank is left out on all: weights, optimisers and the experts' biases stay, and what
    follows is as where one process left the step out."""
    return [(LOSSES, layout, {}, 2) for layout in layouts]


def test_tensor_parallel_families_and_adapters_are_as_one_process():
    """Sinks and biases; norms of queries over all heads; adapters that some ranks have a part of."""
    cases = [({}, GPT_OSS), ({}, OLMOE), (ADAPTERS, GPT_OSS), (ADAPTERS, {})]
    check(2, [(train, {"tp": 2}, model) for train, model in cases])


def test_what_selective_recomputation_keeps_is_as_one_process_where_fsdp_keeps_weights_for_another_micro_batch():
    check(4, [(KEPT, {"pp": 2, "micro_batches": 4, "dp_shard": 2, "ep": 2})])


@pytest.mark.slow
def test_what_is_no_number_on_one_rank_is_left_out_on_all():
    check(2, poisoned({"tp": 2}, {"cp": 2}, {"dp_replicate": 2}))
    check(4, poisoned({"pp": 2, "dp_shard": 2, "ep": 2, "micro_batches": 2}))


@pytest.mark.slow
def test_families_and_adapters_over_two_ranks_are_as_one_process():
    tensor = [(train, {"tp": 2, "micro_batches": 2}, model) for train in (AGAIN, ADAPTERS) for model in FAMILIES]
    pipeline = [(train, PIPELINE, model) for train in (LOSSES, ADAPTERS) for model in ({}, TIED, *FAMILIES)]
    experts = [(train, {"ep": 2}, model) for train in ({}, ADAPTERS) for model in FAMILIES]
    check(2, [*tensor, *pipeline, *experts, ({}, PIPELINE), (GROWING, PIPELINE, TIED)])


@pytest.mark.slow
@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model["model_type"])
def test_families_and_adapters_over_four_ranks_are_as_one_process(model):
    layouts = [
        {"tp": 2, "pp": 2, "micro_batches": 2}, {"tp": 2, "dp_replicate": 2}, {"tp": 2, "cp": 2, "ep": 2},
        {"tp": 2, "dp_shard": 2, "ep": 4}, {"tp": 2, "ep": 2, "etp": 2, "dp_shard": 2},
    ]  # fmt: skip
    check(4, [*(({}, layout, model) for layout in layouts), *((ADAPTERS, layout, model) for layout in layouts[::4])])


@pytest.mark.slow
def test_dimensions_together_are_as_one_process():
    layouts = [
        {"tp": 2, "ep": 2}, {"dp_shard": 2, "cp": 2}, {"cp": 2, "tp": 2, "ep": 4}, {"dp_replicate": 2, "ep": 2},
        {"tp": 2, "ep": 2, "etp": 2},
    ]  # fmt: skip
    interleaved = {"pp": 2, "micro_batches": 4, "schedule": "Interleaved1F1B", "stages_per_rank": 2, "dp_shard": 2}
    pipelines = [(GROWING, PIPELINE | {"cp": 2}), (GROWING, PIPELINE | {"tp": 2})]
    pipelines += [(GROWING | {"batch_ramp_start": 128}, interleaved)]
    pipelines += [(LOSSES, interleaved, {}), (LOSSES, interleaved, TIED), (AGAIN, interleaved, {})]
    pipelines += [(KEPT, interleaved, TIED)]
    pipelines += [(LOSSES, {"pp": 2, "micro_batches": 2, name: 2}, TIED) for name in ("dp_replicate", "cp", "tp")]
    pipelines += [(KEPT, {"pp": 2, "micro_batches": 2, name: 2}) for name in ("dp_replicate", "cp", "tp")]
    pipelines += [(LOSSES, {"pp": 4, "micro_batches": 4}, TIED)]
    check(4, [*((LOSSES, layout) for layout in layouts), *pipelines])


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["InterleavedZeroBubble", "ZBVZeroBubble"])
def test_zero_bubbles_are_as_one_process(schedule):
    layout = PIPELINE | {"micro_batches": 4, "schedule": schedule, "stages_per_rank": 2}
    check(2, [
        (GROWING, layout | {"micro_batches": 8}, TIED), (ADAPTERS, layout), (LOSSES | {"mtp_depth": 1}, layout, {}),
        (LOSSES, layout, TIED),
    ])  # fmt: skip
    spread = [layout | sizes for sizes in ({"dp_shard": 2, "ep": 2}, {"tp": 2}, {"dp_replicate": 2}, {"cp": 2})]
    if schedule.startswith("Interleaved"):
        check(4, [(LOSSES, sizes, TIED) for sizes in spread[:2]])
    else:
        cases = [(LOSSES, sizes, {}) for sizes in spread]
        check(4, [*cases, (ADAPTERS, spread[0]), (AGAIN, spread[0]), (LOSSES, spread[1], GPT_OSS)])
