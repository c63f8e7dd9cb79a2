"""What a run reports, as JSON lines and TensorBoard events in its folder."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Metrics:
    """State after `step` steps. `loss` in nats a token; `load_entropy` is 1 where all experts work alike;
    `dead_experts` got under a hundredth of an even share; rates are of the last interval."""

    step: int
    steps: int
    loss: float
    grad_norm: float
    lr_share: float
    tokens_per_second: float
    load_entropy: float
    dead_experts: int
    seconds_per_step: float

    @property
    def seconds_left(self) -> float:
        """At the present rate."""
        return self.seconds_per_step * (self.steps - self.step)


def load_figures(shares: list[torch.Tensor], stages: dist.ProcessGroup | None = None) -> tuple[float, int]:
    """Mean normalised entropy of the experts' load shares over layers, and the number of dead experts.

    With `stages`, over the layers of all these ranks. Collective.
    """
    entropy = sum(float(-(s * s.clamp(min=1e-12).log()).sum()) / math.log(max(2, len(s))) for s in shares)
    dead = sum(int((s * len(s) < 0.01).sum()) for s in shares)
    sums = torch.tensor([entropy, dead, len(shares)], dtype=torch.float64, device=shares[0].device if shares else "cpu")
    if stages is not None:
        dist.all_reduce(sums, group=stages)
    entropy, dead, layers = sums.tolist()
    return (entropy / layers, int(dead)) if layers else (1.0, 0)


class MetricsLog:
    """Appends to metrics.jsonl and to TensorBoard events under `run`."""

    def __init__(self, run: Path, first_step: int):
        from torch.utils.tensorboard import SummaryWriter

        path = run / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= first_step]
        path.write_text("".join(line + "\n" for line in kept))
        self.file = path.open("a")
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=first_step + 1)

    def write(self, metrics: Metrics) -> None:
        """Record one report."""
        values = asdict(metrics)
        self.file.write(json.dumps(values) + "\n")
        self.file.flush()
        for key, value in values.items():
            if key not in ("step", "steps"):
                self.board.add_scalar(key, value, metrics.step)

    def close(self) -> None:
        """Flush both files."""
        self.file.close()
        self.board.close()
