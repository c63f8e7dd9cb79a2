"""What ranks measure of themselves, and which of them are told to be slow."""

import io
import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from troth.train.health.preflight import Figures, Preflight, Probe, run_preflight

USUAL = Figures(400e12, 3e12, 300e9, 40e9, 30e-6, 60e-6)


def fleet(ranks, **changed):
    """`fleet(4, rank2={"matrix": 1e12})` has one rank that differs."""
    figures = [USUAL._replace(**changed.get(f"rank{rank}", {})) for rank in range(ranks)]
    return Preflight([Probe(rank, f"node-{rank // 8}", own) for rank, own in enumerate(figures)])


def shown(preflight):
    from rich.console import Console

    console = Console(file=io.StringIO(), width=120)
    console.print(preflight.table())
    return console.file.getvalue()


def test_slow_ranks_are_named_with_host_and_figure():
    preflight = fleet(16, rank3={"matrix": 200e12}, rank9={"all_to_all_latency": 100e-6}, rank12={"memory": 2.9e12})
    assert preflight.warnings() == [
        "rank 3 on node-0: matrix 200 TFLOP/s, the fleet's median is 400 TFLOP/s",
        "rank 9 on node-1: all to all latency 100 us, the fleet's median is 60 us",
    ]
    assert preflight.median == USUAL


@given(st.lists(st.floats(1, 100), min_size=1, max_size=20), st.floats(0.5, 0.99))
def test_slow_is_below_a_share_of_the_median(rates, share):
    preflight = Preflight([Probe(rank, "host", USUAL._replace(matrix=rate)) for rank, rate in enumerate(rates)])
    slow = {probe.rank for probe, _ in preflight.slow(share)}
    assert slow == {rank for rank, rate in enumerate(rates) if rate / preflight.median.matrix < share}


def test_a_table_has_a_row_a_rank_or_of_very_many_the_slow_ones():
    few = shown(fleet(4, rank2={"matrix": 1e12}))
    assert re.findall(r"│ (\S+) +│ node", few) == ["0", "1", "2", "3"]
    assert "1,000 GFLOP/s" in few
    many = shown(fleet(400, rank257={"memory": 1e12}))
    assert re.findall(r"│ (\S+) +│ node", many) == ["257"]
    assert "Preflight of 400 ranks, of which 1 are slow" in many
    assert "median" in many


def test_one_process_measures_itself():
    preflight = run_preflight(torch.float32, torch.device("cpu"))
    matrix, memory, *collectives = preflight.median
    assert 1e8 < matrix < 1e14
    assert 1e8 < memory < 1e13
    assert all(math.isnan(figure) for figure in collectives)
    assert preflight.warnings() == []
    assert " - " in shown(preflight)


MEASURE = """
import os, sys
import torch, torch.distributed as dist
from troth.train.health.preflight import run_preflight

dist.init_process_group("gloo")
half = [dist.new_group([0]), dist.new_group([1, 2])][min(1, dist.get_rank())]
preflight = run_preflight(torch.bfloat16, torch.device("cpu"), half)
if preflight:
    for probe in preflight.probes:
        print(probe.rank, bool(probe.host), *(figure > 0 for figure in probe.figures))
    print(*preflight.warnings(1e-6))
dist.barrier()  # A rank that leaves while another still talks ends that one.
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # gloo's threads have aborted at the interpreter's end, once in many runs.
"""


@pytest.mark.slow
def test_ranks_measure_together(run_ranks):
    first, *others = run_ranks(MEASURE, 3)
    assert others == ["", ""]
    assert first.splitlines() == [
        "0 True True True True False True False",  # alone in its group for the all-to-all
        "1 True True True True True True True",
        "2 True True True True True True True",
        "",
    ]
