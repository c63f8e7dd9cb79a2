"""Runs that several tests of the planner start from."""

from troth.plan.dimensions import network_named
from troth.plan.gpus import gpu_named
from troth.plan.run import Run


def megascale(gpus: int) -> Run:
    """GPT-3 175B as MegaScale trained it on A100s: 6,144 sequences a step, tensor 8, pipeline 8 in 6 parts each."""
    gpt = network_named("GPT-3 175B")
    assert gpt
    return Run(gpt, gpu_named("a100"), gpus, 6144, 2048, tp=8, pp=8, vpp=6, etp=8, stack="fused", date=2023.8)


def mixtral(**changes: object) -> Run:
    """Mixtral-8x22B on 128 H100s."""
    network = network_named("Mixtral-8x22B")
    assert network
    layout = {"tp": 2, "pp": 8, "vpp": 7, "ep": 8, "stack": "fused", "date": 2025.6} | changes
    return Run(network, gpu_named("h100"), 128, 256, 4096, **layout)  # type: ignore[arg-type]
