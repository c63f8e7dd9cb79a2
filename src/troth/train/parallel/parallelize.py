"""How a mesh is laid over the network, in torchtitan's order: tensors, experts, then FSDP over what is left whole.

Activations computed again and context parallelism are no matter of weights: see `precision` and `objective`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Shard

from troth.model.decoder import DecoderLayer
from troth.model.moe import MoE
from troth.train.objective import Objective
from troth.train.parallel import expert_parallel, tensor_parallel
from troth.train.parallel.mesh import Mesh
from troth.train.weights import local


def parallelize(objective: Objective, mesh: Mesh, dtype: torch.dtype) -> None:
    """Spread a part of the network over the ranks of its stage; products are in `dtype`, gradients are summed in
    float32 (or wider). Where there is one rank a stage, nothing is done."""
    if not mesh.layout.spreads:
        return
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if dtype == torch.bfloat16:
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    # A backward pass that is halved looks for weights where its forward pass had them.
    shard = partial(fully_shard, mp_policy=policy, reshard_after_forward=False if mesh.layout.halves else None)
    over = mesh.spread(mesh.flat, "tokens")
    ahead = [] if objective.mtp is None else objective.mtp.decoder_layers()
    for layer in [*objective.decoder.layers.values(), *ahead]:
        assert isinstance(layer, DecoderLayer)
        if mesh.layout.tp > 1:
            parts = tensor_parallel.share_out(layer, mesh.dense["tp"])
            shard(parts, mesh=mesh.spread(mesh.dense, "fsdp"))
        if isinstance(layer.mlp, MoE):
            _shard_experts(layer.mlp, mesh, shard)
        shard(layer, mesh=over)
    shard(objective, mesh=over)
    for module in objective.modules():
        if isinstance(module, FSDPModule):
            # The loss is a sum already divided by the targets of all ranks: gradients are sums, no means.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def _shard_experts(moe: MoE, mesh: Mesh, shard: Callable[..., Any]) -> None:
    layout = mesh.layout
    if layout.ep * layout.etp > 1:
        expert_parallel.share_out(moe.experts, mesh)
    here = moe.experts.config.num_experts // layout.ep

    def place(weight: nn.Parameter) -> Shard | None:
        """Whole experts while each rank gets one at least, so that Muon finds whole matrices; else a share of each.
        Thin adapters may not be divisible there; no Muon looks at these."""
        dim = min(expert_parallel.SIZE, weight.dim() - 1)
        whole = here >= layout.expert_shard or local(weight).shape[dim] % layout.expert_shard
        return None if whole else Shard(dim)

    shard(moe.experts, mesh=mesh.spread(mesh.sparse, "expert_shard"), shard_placement_fn=place)
