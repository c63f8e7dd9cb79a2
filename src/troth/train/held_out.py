"""The loss on what a run does not learn from: whether it learns, or knows its data by heart."""

from collections.abc import Callable, Mapping

import torch
import torch.distributed as dist

from troth.system import TrainTable
from troth.train.job import Epoch
from troth.train.parallel.network import Network
from troth.train.preference import PreferenceBatch, dpo_loss


def held_out_figures(
    network: Network, held_out: Mapping[str, Epoch], train: TrainTable, enter: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """`held_out_loss`, the mean over all targets in nats; where there are several collections, that of each behind a
    stroke. Of preferences DPO's, with the `held_out_margin` and `held_out_accuracy` of the pairs.

    Ranks share the rows and all get the same answer. Collective; `enter` is called before each pass.
    """
    each = max(2, network.micro_batch_rows // 2 * 2) if train.objective == "preference" else network.micro_batch_rows
    # Of preferences all ranks that have some times of a row know its answers, of others each has its own targets.
    times = 1 if network.mesh is None else network.mesh.layout.cp * network.mesh.layout.tp
    sums_CF = torch.zeros(len(held_out), 4, dtype=torch.float64, device=network.device)
    for sums_F, epoch in zip(sums_CF, held_out.values(), strict=True):
        firsts = range(0, epoch.epoch_rows, each)
        for at, counts in network.turns(len(firsts)):
            enter()
            batch = epoch.rows(firsts[at], min(firsts[at] + each, epoch.epoch_rows))
            found = network.forward(batch)
            if found is None or not counts:
                continue
            sums_F[0] += batch.count / times
            if isinstance(batch, PreferenceBatch):
                sums_F[1:] += _of_preferences(found, batch, train) / times
            else:
                sums_F[1] += found.double().sum()
    if network.mesh is not None:
        dist.all_reduce(sums_CF)
    count, *sums = sums_CF.sum(0).tolist()
    names = ("loss", "margin", "accuracy") if train.objective == "preference" else ("loss",)
    figures = {f"held_out_{name}": value / max(1, count) for name, value in zip(names, sums, strict=False)}
    if len(held_out) > 1:
        for name, (targets, loss, *_) in zip(held_out, sums_CF.tolist(), strict=True):
            figures[f"held_out_loss/{name}"] = loss / max(1, targets)
    return figures


def _of_preferences(answers_RP2: torch.Tensor, batch: PreferenceBatch, train: TrainTable) -> torch.Tensor:
    """Sums over the pairs of DPO's loss, of the margin, and of where the chosen answer is ahead."""
    reference_RP2 = torch.from_numpy(batch.reference).to(answers_RP2.device)
    pairs_RP = ~reference_RP2[..., 0].isnan()
    table = train.preference
    loss_N, rewards_N2 = dpo_loss(
        answers_RP2[pairs_RP].double(), reference_RP2[pairs_RP].double(), table.beta, table.label_smoothing
    )  # fmt: skip
    margin_N = rewards_N2[:, 0] - rewards_N2[:, 1]
    return torch.stack((loss_N.sum(), margin_N.sum(), (margin_N > 0).sum()))
