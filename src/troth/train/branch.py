"""A run that begins where another stands: from one of its checkpoints, with the optimisers' state and the step, but
with settings or documents of its own. So a run is made longer, or a stable phase has several decays (Hu et al.,
2404.06395)."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from troth.system import TrainTable
from troth.train.checkpoints import Checkpoints, State, complete_steps
from troth.train.examples import fingerprint
from troth.train.run import checkpoints_of, read_record, recorded_settings
from troth.train.schedule import rows_before


@dataclass(frozen=True)
class Branch:
    """The checkpoint after `step` steps at the URL `checkpoints`, by when `tokens` had been read."""

    checkpoints: str
    step: int
    tokens: int

    @classmethod
    def of(cls, run: Path, step: int | None, out: Path, start: Path | None) -> "Branch":
        """From the run folder `run`, after `step` steps or at the newest checkpoint; where `out` has begun already, at
        the one that it began from. Raises ValueError where there is none, or where what is learned belongs to weights
        that are not those in the folder `start`."""
        record = read_record(run / "run.json")
        _, train, data = recorded_settings(run, record)
        url = checkpoints_of(run if train.checkpoints else run.resolve(), train)
        if step is None and (out / "run.json").exists():
            begun = read_record(out / "run.json")["settings"]["data"].get("branch")
            step = begun and begun["step"]
        if step is None:
            step = max(complete_steps(url), default=None)
        if step is None:
            raise ValueError(f"{run}: has no complete checkpoint; train.checkpoint_every says when one is made")
        wanted = data.get("start_weights")
        if wanted and (start is None or fingerprint(sorted(start.glob("*.safetensors"))) != wanted):
            raise ValueError(f"{run}: is of the weights that were in {data['start']}; name these too (--from)")
        before = cls(**data["branch"]) if data.get("branch") else None
        return cls(url, step, (rows_before(step, train) + more_rows(before, train)) * train.sequence_length)

    def check(self, train: TrainTable) -> None:
        """Raises ValueError where nothing would be left to learn."""
        if train.steps <= self.step:
            raise ValueError(f"train.steps={train.steps}: the branch begins after step {self.step}; set more")

    def load(self, state: State, say: Callable[[str], None]) -> None:
        """Fill the state. Collective. Raises as `Checkpoints.load` does."""
        checkpoints = Checkpoints(self.checkpoints, keep=1)
        try:
            checkpoints.load(state, say, self.step)
        finally:
            checkpoints.close()

    @property
    def record(self) -> dict[str, Any]:
        """What the run's record says of it."""
        return asdict(self)


def more_rows(branch: Branch | None, train: TrainTable) -> int:
    """How many rows have been read before the branch beyond those that these settings give its steps: by so many are
    the run's own numbered higher, and none is read twice."""
    if branch is None:
        return 0
    return math.ceil(branch.tokens / train.sequence_length) - rows_before(branch.step, train)
