"""One model over several ranks of torchrun: heads and feed-forwards in parts (tensor parallelism, Megatron-LM,
1909.08053, section 3), routed experts whole, some on each rank (expert parallelism, GShard, 2006.16668).

Rank 0 serves. Before each step it tells the others which chunks are computed, and all of them add up what their heads
and experts give. Router, norms, embedding and head are on every rank.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from troth.model.attention import Attention
from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.experts import Experts
from troth.model.moe import FeedForward, MoE
from troth.serve.engine.runner import Runner
from troth.serve.engine.scheduler import Chunk


@dataclass(frozen=True)
class Told:
    """A chunk as the other ranks need it."""

    tokens: list[int]
    start: int
    count: int
    blocks: list[int]
    sliding_blocks: list[int]
