"""What a run reports, as JSON lines and TensorBoard events in its folder."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist

from troth.model.config import ModelConfig
from troth.model.counts import forward_flops
from troth.train.events import EventFile


@dataclass(frozen=True)
class Metrics:
    """State after `step` steps. `loss` in nats a token; `load_entropy` is 1 where all experts work alike;
    `dead_experts` got under a hundredth of an even share; rates are of the last interval, over all ranks. `mfu` is the
    model FLOPs utilisation, None where the peak was not measured; `tokens` were read since the first step, in `seconds`
    of training. `figures` are what the objective reports besides, and stand in the log by their names: of preferences
    the implicit rewards of both answers, their margin and the share of pairs in which the chosen one is ahead, of
    multi-token prediction its loss, of what is held out what `held_out_figures` found."""

    step: int
    steps: int
    loss: float
    grad_norm: float
    lr_share: float
    tokens_per_second: float
    load_entropy: float
    dead_experts: int
    seconds_per_step: float
    mfu: float | None = None
    tokens: int = 0
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float:
        """At the present rate."""
        return self.seconds_per_step * (self.steps - self.step)


def model_flops_utilisation(
    model: ModelConfig, length: int, tokens_per_second: float, peak: float, ranks: int
) -> float:  # fmt: skip
    """Share of the ranks' peak, in operations a second each, that goes into the model's own products (PaLM, 2204.02311,
    appendix B): forward and twice as many backward, in sequences of `length`; none for activations computed again."""
    flops = 3 * sum(forward_flops(model, length).values())
    return flops * tokens_per_second / (peak * ranks)


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
    """Appends to metrics.jsonl and to TensorBoard events under `run`; of many ranks one alone has it.

    Reports after `first_step` are dropped; `seconds` is what the last that is kept says, of earlier parts of this run.
    """

    def __init__(self, run: Path, first_step: int):
        self.file = (run / "metrics.jsonl").open("a+")
        self.seconds, size = 0.0, 0
        self.file.seek(0)
        for line in self.file:
            if not line.endswith("}\n") or (report := json.loads(line))["step"] > first_step:
                break
            self.seconds, size = report.get("seconds", 0.0), size + len(line.encode())
        # Cut off in place, for which there is room on a full disk too.
        self.file.truncate(size)
        self.events = EventFile(run / "tensorboard", first_step)

    def write(self, metrics: Metrics) -> None:
        """Record one report. Raises OSError naming the file, as where the disk is full."""
        values = asdict(metrics)
        values |= values.pop("figures")
        try:
            self.file.write(json.dumps(values) + "\n")
            self.file.flush()
            told = {key: value for key, value in values.items() if key not in ("step", "steps") and value is not None}
            self.events.write(metrics.step, told)
        except OSError as error:
            raise OSError(f"{self.file.name}: step {metrics.step} could not be reported: {error}") from error

    def close(self) -> None:
        """Flush both files. Raises OSError naming the one that cannot be, as where the disk is full."""
        try:
            self.file.close()
            self.events.close()
        except OSError as error:
            raise OSError(f"{self.file.name}: the last report could not be written: {error}") from error
