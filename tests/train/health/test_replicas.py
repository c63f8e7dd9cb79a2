"""One bit of one element on one replica, and it is found."""

import json

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from troth.train.health.replicas import Difference, checksum, replicated_state

INTEGERS = {
    torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float64: torch.int64, torch.uint8: torch.int8,
}  # fmt: skip


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 262_144, 700_001])
def test_a_checksum_is_two_sums(dtype, size):
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(0)).mul(100).to(dtype)
    x = tensor.view(INTEGERS[dtype]).to(torch.int64)
    assert checksum(tensor).tolist() == [x.sum().item(), (x * torch.arange(size)).sum().item()]


elements = st.integers(0, 999)
bits = st.integers(-(2**31), 2**31 - 1)


@given(st.tuples(elements, bits), st.tuples(elements, bits))
def test_any_change_of_one_or_two_elements_is_seen(first, second):
    before = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    after = before.clone()
    for place, value in (first, second):
        after.view(torch.int32)[place] = value
    assume(not torch.equal(before.view(torch.int32), after.view(torch.int32)))
    assert not torch.equal(checksum(before), checksum(after))


def test_two_elements_that_change_places_are_seen():
    x = torch.arange(1000.0)
    y = x.clone()
    y[[3, 700]] = x[[700, 3]]
    assert checksum(x)[0] == checksum(y)[0]
    assert checksum(x)[1] != checksum(y)[1]
    assert torch.equal(checksum(x.view(10, 100).T), checksum(x.view(10, 100).T.contiguous()))


def test_state_of_model_and_optimizers():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    state = replicated_state(model, [optimizer])
    assert {"0.weight", "1.running_mean", "0.weight.exp_avg", "1.bias.exp_avg_sq", "0.bias.step"} < set(state)
    assert state["0.weight"].data_ptr() == model[0].weight.data_ptr()


FLIPS = """
import os, sys
import json
import torch, torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import distribute_module
from troth.train.health.replicas import compare_replicas, replicated_state

dist.init_process_group("gloo")
rank = dist.get_rank()
pair = dist.new_group([0, 2])
torch.manual_seed(0)
model = distribute_module(nn.Linear(300, 200), init_device_mesh("cpu", (3,)))
optimizer = torch.optim.AdamW(model.parameters())
for parameter in model.parameters():
    parameter.grad = torch.ones_like(parameter)
optimizer.step()

def compare(group=None):
    return [(d.name, d.ranks, d.majority) for d in compare_replicas(replicated_state(model, [optimizer]), group)]

def flip(tensor, bit):
    tensor.view(-1).view(torch.int32)[7] ^= 1 << bit

told = [compare()]
if rank == 1:
    flip(model.weight.detach().to_local(), 0)
told.append(compare())
if rank == 2:
    flip(optimizer.state[model.bias]["exp_avg"].to_local(), 30)
told.append(compare())
told.append(compare(pair) if rank != 1 else None)
if rank == 2:
    flip(model.weight.detach().to_local(), 3)
told.append(compare())
print(json.dumps(told))
dist.barrier()  # A rank that leaves while another still talks ends that one.
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # gloo's threads have aborted at the interpreter's end, once in many runs.
"""


def test_one_flipped_bit_on_one_of_three_ranks_is_named(run_ranks):
    told = [json.loads(out) for out in run_ranks(FLIPS, 3)]
    same, weight, both, _, all_differ = told[1]
    assert same == []
    assert weight == [["weight", [1], True]]
    assert both == [["bias.exp_avg", [2], True], ["weight", [1], True]]
    assert all_differ == [["bias.exp_avg", [2], True], ["weight", [0, 1, 2], False]]
    assert told[0][3] == told[2][3] == [["bias.exp_avg", [0, 2], False]]
    assert [answers[:3] for answers in told] == [told[1][:3]] * 3


def test_a_difference_says_where():
    assert str(Difference("w", (3,), ("node-7",), True)) == (
        "w has other bits on rank 3 on node-7 than on most of its replicas"
    )
    assert str(Difference("w", (0, 1), ("a", "b"), False)).endswith("which are right: rank 0 on a, 1 on b")
