"""The ranks as meshes, in torchtitan's order: pipeline outermost, tensor innermost, so that ranks which talk most are
neighbours."""

from dataclasses import dataclass

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from troth.system.parallel import Layout


@dataclass(frozen=True)
class Mesh:
    """One set of ranks seen in several ways, each a mesh of all of them.

    whole: pp, dp_replicate, dp_shard, cp, tp. The ranks of dp_shard, cp and tp have different tokens and may therefore
    share any weights: flat has them as one dimension `tokens`, dense as `fsdp` and `tp` for the weights that tensor
    parallelism parts, sparse as `expert_shard`, `ep` and `etp` for experts. `rows` are ranks that read different rows,
    `stage` those of a pipeline stage, `expert_ranks` those that hold one set of experts.
    """

    layout: Layout
    whole: DeviceMesh
    flat: DeviceMesh
    dense: DeviceMesh
    sparse: DeviceMesh
    rows: dist.ProcessGroup
    stage: dist.ProcessGroup
    expert_ranks: dist.ProcessGroup

    @classmethod
    def over(cls, layout: Layout, device: str) -> "Mesh":
        """The meshes of all ranks of the process group. Collective."""

        def mesh(**inner: int) -> DeviceMesh:
            sizes = {"pp": layout.pp, "dp_replicate": layout.dp_replicate, **inner}
            return init_device_mesh(device, tuple(sizes.values()), mesh_dim_names=tuple(sizes))

        p = layout
        whole = mesh(dp_shard=p.dp_shard, cp=p.cp, tp=p.tp)
        sparse = mesh(expert_shard=p.expert_shard, ep=p.ep, etp=p.etp)
        return cls(
            layout, whole, mesh(tokens=p.token_ranks), mesh(fsdp=p.dp_shard * p.cp, tp=p.tp), sparse,
            rows=whole["dp_replicate", "dp_shard"]._flatten("rows").get_group(),
            stage=whole["dp_replicate", "dp_shard", "cp", "tp"]._flatten("stage").get_group(),
            expert_ranks=sparse["ep", "etp"]._flatten("expert_ranks").get_group(),
        )  # fmt: skip

    def spread(self, mesh: DeviceMesh, name: str) -> DeviceMesh:
        """What FSDP shares weights over: a dimension of a mesh, and copies of it where there are any."""
        return mesh["dp_replicate", name] if self.layout.dp_replicate > 1 else mesh[name]

    def rank(self, name: str) -> int:
        """This rank's place along a dimension of the whole mesh."""
        return self.whole.get_local_rank(name)

    def group(self, name: str) -> dist.ProcessGroup:
        """The ranks along a dimension of the whole mesh that this one belongs to."""
        return self.whole.get_group(name)

    @property
    def times(self) -> list[dist.ProcessGroup]:
        """The groups, one inside another, of ranks that have some times each of the same rows."""
        return [self.group(name) for name in ("cp", "tp") if self.whole[name].size() > 1]

    @property
    def rows_rank(self) -> int:
        """Which share of the rows of its replica group this rank reads."""
        return self.rank("dp_replicate") * self.layout.dp_shard + self.rank("dp_shard")
