"""The ranks as meshes, in torchtitan's order: pipeline outermost, tensor innermost, so that ranks which talk most are
neighbours."""

from dataclasses import dataclass

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from troth.system.parallel import Layout


@dataclass(frozen=True)
class Mesh:
    """One set of ranks seen in two ways.

    `dense` has the dimensions pp, dp_replicate, dp_shard, cp and tp, and flattened ones: `rows`
    (dp_replicate, dp_shard: ranks that read different rows), `fsdp` (dp_shard, cp), `tokens` (dp_shard, cp, tp: ranks that have different tokens and may share any weights) and `stage` (all but pp).
    `sparse`, for the experts, parts `tokens` into expert_shard, ep and etp.
    """

    layout: Layout
    dense: DeviceMesh
    sparse: DeviceMesh

    @classmethod
    def over(cls, layout: Layout, device: str) -> "Mesh":
        """The meshes of all ranks of the process group. Collective."""
        p = layout
        dense = init_device_mesh(
            device, (p.pp, p.dp_replicate, p.dp_shard, p.cp, p.tp),
            mesh_dim_names=("pp", "dp_replicate", "dp_shard", "cp", "tp"),
        )  # fmt: skip
        dense["dp_replicate", "dp_shard"]._flatten("rows")
        dense["dp_shard", "cp"]._flatten("fsdp")
        dense["dp_shard", "cp", "tp"]._flatten("tokens")
        dense["dp_replicate", "dp_shard", "cp", "tp"]._flatten("stage")
        sparse = init_device_mesh(
            device, (p.pp, p.dp_replicate, p.expert_shard, p.ep, p.etp),
            mesh_dim_names=("pp", "dp_replicate", "expert_shard", "ep", "etp"),
        )  # fmt: skip
        sparse["ep", "etp"]._flatten("expert_ranks")
        return cls(layout, dense, sparse)

    def sharding(self, name: str) -> DeviceMesh:
        """What FSDP spreads weights over: the dimension of this name, and copies of it where there are any."""
        mesh = self.sparse if name == "expert_shard" else self.dense
        return mesh["dp_replicate", name] if self.layout.dp_replicate > 1 else mesh[name]

    def rank(self, name: str) -> int:
        """This rank's place along a dimension."""
        mesh = self.sparse if name in ("expert_shard", "ep", "etp") else self.dense
        return mesh.get_local_rank(name)

    def group(self, name: str) -> dist.ProcessGroup:
        """The ranks along a dimension that this rank belongs to."""
        mesh = self.sparse if name in ("expert_shard", "ep", "etp", "expert_ranks") else self.dense
        return mesh.get_group(name)

    @property
    def rows_rank(self) -> int:
        """Which share of a batch's rows this rank reads."""
        return self.rank("dp_replicate") * self.layout.dp_shard + self.rank("dp_shard")
