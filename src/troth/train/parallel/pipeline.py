"""Pipeline parallelism by torch's own schedules: which stages a rank has, and how micro-batches run through them."""

from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import PipelineScheduleMulti, PipelineScheduleSingle, get_schedule_class

from troth.system.parallel import Layout
from troth.train.objective import Objective
from troth.train.parallel.mesh import Mesh


def stages_of(rank: int, layout: Layout) -> list[int]:
    """The stages of a pipeline rank: every pp-th one, or, for the V schedule, one on the way there and one back."""
    if layout.schedule == "ZBVZeroBubble":
        return [rank, 2 * layout.pp - 1 - rank]
    return [rank + turn * layout.pp for turn in range(layout.stages_per_rank)]


def ends(layout: Layout) -> tuple[int, int]:
    """The pipeline ranks of the first and the last stage."""
    return 0, 0 if layout.schedule == "ZBVZeroBubble" else layout.pp - 1


class Pipeline:
    """The parts of the network on this rank, joined to those on others."""

    def __init__(self, objectives: list[Objective], mesh: Mesh, rows: int, dtype: torch.dtype, device: torch.device):
        """`rows` are those of a micro-batch, of which batches may have more or fewer; hidden states between stages are
        of `dtype`."""
        layout = mesh.layout
        config, times = objectives[0].decoder.config, len(objectives[0].share.tokens_S)
        hidden = torch.empty(rows, times, config.hidden_size, dtype=dtype, device="meta", requires_grad=True)
        tokens = torch.empty(rows, times, dtype=torch.int64, device="meta")
        self.width = config.hidden_size
        wide = torch.promote_types(dtype, torch.float32)
        loss = torch.empty(1, dtype=wide, device="meta", requires_grad=True)
        self.rows = rows
        self.stages = [
            PipelineStage(
                objective, stage, layout.stages, device, group=mesh.group("pp"),
                input_args=(tokens if objective.decoder.first else hidden,),
                output_args=(loss if objective.decoder.last else hidden,),
            )
            for objective, stage in zip(objectives, stages_of(mesh.rank("pp"), layout), strict=True)
        ]  # fmt: skip
        self.group, self.dtype = mesh.group("pp"), dtype
        self.owner = {stage: rank for rank in range(layout.pp) for stage in stages_of(rank, layout)}
        self.name = layout.schedule
        self.schedule: PipelineScheduleSingle | PipelineScheduleMulti | None = None
        self.scheduled = 0
        self.first = any(objective.decoder.first for objective in objectives)
        self.last = any(objective.decoder.last for objective in objectives)

    def forward_backward(self, tokens: torch.Tensor, rows: dict[str, Any]) -> torch.Tensor:
        """Run a batch there and back; this rank's part of the loss, which is zero but on the last stage's ranks.
        `rows` are what objectives are given besides."""
        losses: list[torch.Tensor] = []
        inputs = (tokens,) if self.first else ()
        self._schedule(len(tokens) // self.rows).step(
            *inputs, **rows, return_outputs=False, target=rows["targets_BS"] if self.last else None,
            losses=losses if self.last else None,
        )
        return torch.stack(losses).sum() if losses else torch.zeros((), device=tokens.device)

    def forward(
        self, tokens: torch.Tensor, documents: torch.Tensor, targets: torch.Tensor, **more: Any
    ) -> torch.Tensor | None:
        """Run rows there and not back, stage after stage; what the last returns, None but on its ranks. While a stage
        has some rows, those before it may have the next."""
        h, rank = tokens, self.group.rank()
        for stage in self.stages:
            before, behind = (self.owner.get(stage.stage_index + by, rank) for by in (-1, 1))
            if before != rank:
                h = torch.empty(*tokens.shape, self.width, dtype=self.dtype, device=tokens.device)
                dist.recv(h, group=self.group, group_src=before)
            h = stage.submod(h, documents, targets, **more)
            if behind != rank:
                dist.send(h.contiguous(), group=self.group, group_dst=behind)
        return h if self.last else None

    def _schedule(self, micro_batches: int) -> PipelineScheduleSingle | PipelineScheduleMulti:
        if self.schedule is None or micro_batches != self.scheduled:
            kind = get_schedule_class(self.name)
            stages = self.stages[0] if issubclass(kind, PipelineScheduleSingle) else self.stages
            # The loss is a sum over all micro-batches already: gradients are not divided by their number.
            self.schedule = kind(stages, n_microbatches=micro_batches, loss_fn=_as_it_is, scale_grads=False)
            self.scheduled = micro_batches
        return self.schedule


def _as_it_is(loss: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return loss.sum()
