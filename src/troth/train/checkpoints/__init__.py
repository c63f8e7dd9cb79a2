"""Checkpoints to resume from: written beside the training, whole or not there at all, on any layout of ranks."""

from troth.train.checkpoints.checkpoints import Checkpoints

__all__ = ["Checkpoints"]
