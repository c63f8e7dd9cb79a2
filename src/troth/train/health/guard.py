"""Keeps watch over the loss of a run: holds what `spikes` decides by, and stores it with the run's checkpoints."""


from typing import Literal

from troth.train.health.spikes import (
    SpikeRule,
    SpikeState,
    batch_of,
    from_tensor,
    judge,
    rewound,
    to_tensor,
)  # fmt: skip
from troth.train.step import Judge


class SpikeGuard:
    """What to do about spikes: `skip` them, `rewind` to before them, or `stop`. `stored` is its state in a checkpoint,
    and `told` why the last step was not taken."""

    def __init__(self, action: Literal["skip", "rewind", "stop"]):
        self.rule = SpikeRule(action)
        self.state = SpikeState()
        self.stored = to_tensor(self.rule, self.state)
        self.told, self.rewinds = "", False

    def batch_of(self, step: int) -> int:
        """The number of the batch that a step reads."""
        return batch_of(step, self.state.left_out)

    def judging(self, step: int) -> Judge:
        """What a step asks before it updates. Raises ValueError where the run cannot go on."""

        def decide(loss: float, norm: float) -> bool:
            action, why, self.state = judge(self.rule, self.state, self.batch_of(step), loss, norm)
            if action == "stop":
                on = "go on with train.on_spike=rewind or skip, or " if self.rule.action == "stop" else ""
                raise ValueError(f"step {step + 1}: {why}; {on}lower train.muon_lr or train.adam_lr, in another run")
            self.rewinds = action == "rewind"
            what = "goes back to the last checkpoint" if self.rewinds else "leaves the weights as they are"
            self.told = f"step {step + 1}: {why}; the run {what}"
            return action == "go"

        return decide

    def store(self) -> None:
        """Bring `stored` up to date."""
        self.stored.copy_(to_tensor(self.rule, self.state))

    def read(self) -> None:
        """The state from `stored`."""
        self.state = from_tensor(self.rule, self.stored)

    def rewound(self, left_out: SpikeState) -> None:
        """After a checkpoint was loaded: what is left out stays left out."""
        self.state = rewound(left_out, self.state)
