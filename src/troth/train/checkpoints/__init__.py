"""Checkpoints to resume from: written beside the training, whole or not there at all, on any layout of ranks."""

from troth.train.checkpoints.checkpoints import Checkpoints, State, complete_steps

__all__ = ["Checkpoints", "State", "complete_steps"]
