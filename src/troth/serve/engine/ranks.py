"""One model over the ranks of a torchrun: heads and feed-forwards in parts (tensor parallelism, Megatron-LM,
1909.08053, section 3), routed experts whole, some on each rank (expert parallelism, GShard, 2006.16668).

Rank 0 serves. Before each step it tells the others which chunks are computed, and all add up what their heads and
experts give. Routers, norms, embedding and head are on every rank.
"""

import os
from collections.abc import Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from troth.model.attention import Attention
from troth.model.config import ModelConfig
from troth.model.decoder import Decoder, DecoderLayer
from troth.model.experts import Experts
from troth.model.families.weights import StoredDecoder
from troth.model.latent_attention import LatentAttention
from troth.model.moe import FeedForward, MoE
from troth.serve.engine.runner import Runner
from troth.serve.engine.scheduler import Chunk

_PATIENCE = timedelta(weeks=500)
"""Ranks wait for the next step as long as nobody asks anything."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among `world` of them."""

    rank: int
    world: int


@contextmanager
def torchrun_ranks() -> Iterator[Ranks | None]:
    """The ranks of the torchrun that started this process, connected; None where it is alone. Takes a GPU each where
    there are any."""
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if world == 1:
        yield None
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
    ranks = Ranks(rank, world)
    try:
        yield ranks
        if rank == 0:
            dist.broadcast_object_list([None], device=torch.device("cpu"))
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class ToldChunk:
    """What the other ranks need of a `Chunk`."""

    tokens: list[int]
    start: int
    count: int
    blocks: list[int]
    sliding_blocks: list[int]
    adapter: str | None


class LeadingRunner:
    """Tells the other ranks of each step, and takes part in it."""

    def __init__(self, runner: Runner):
        self.runner = runner

    def run(self, chunks: Items[Chunk], wanted: list[int]) -> torch.Tensor:
        _tell(chunks, wanted)
        return self.runner.run(chunks, wanted)

    def hidden(self, chunks: Items[Chunk]) -> torch.Tensor:
        _tell(chunks, None)
        return self.runner.hidden(chunks)


def _tell(chunks: Items[Chunk], wanted: list[int] | None) -> None:
    told = [ToldChunk(c.tokens, c.start, c.count, c.blocks, c.sliding_blocks, c.adapter) for c in chunks]
    dist.broadcast_object_list([(told, wanted)], device=torch.device("cpu"))


def follow(runner: Runner) -> None:
    """Take part in the steps of rank 0 until it ends."""
    while True:
        received: list[Any] = [None]
        dist.broadcast_object_list(received, device=torch.device("cpu"))
        if received[0] is None:
            return
        chunks, wanted = received[0]
        if wanted is None:
            runner.hidden(chunks)
        else:
            runner.run(chunks, wanted)


@torch.no_grad()
def split(model: Decoder, ranks: Ranks, stored: StoredDecoder | None = None) -> ModelConfig:
    """Keep this rank's part of a whole decoder, in place, and return the configuration of its cache. Layers that are
    `stored` yet are read one after the other.

    Raises ValueError where heads, experts or sizes do not divide evenly, or norms go over all heads.
    """
    config, world = model.config, ranks.world
    divided = {
        name: getattr(config, name)
        for name in ("num_attention_heads", "num_key_value_heads", "num_experts", "moe_intermediate_size")
        if not (config.latent and name == "num_key_value_heads")
    }
    if config.num_dense_layers:
        divided["intermediate_size"] = config.intermediate_size
    for name, size in divided.items():
        if size % world:
            raise ValueError(f"{name}={size} cannot be divided among {world} ranks")
    if config.qk_norm == "width":
        raise ValueError(f"model_type {config.model_type} normalises over all heads: serve it in one process")
    for layer in model.layers.values():
        assert isinstance(layer, DecoderLayer)
        if stored:
            stored.read(layer)
        attention, mlp = layer.self_attn, layer.mlp
        _split_attention(attention, ranks)
        for part in mlp.modules() if isinstance(mlp, MoE) else [mlp]:
            if isinstance(part, FeedForward):
                _keep(part.gate_proj, 0, ranks)
                _keep(part.up_proj, 0, ranks)
                _keep(part.down_proj, 1, ranks)
            elif isinstance(part, Experts):
                for name, parameter in list(part.named_parameters()):
                    setattr(part, name, nn.Parameter(_part(parameter, 0, ranks), requires_grad=False))
                part.transport = OwnExperts(ranks)
        attention.register_forward_hook(_summed)
        mlp.register_forward_hook(_summed)
    if config.latent:
        return config
    return config.model_copy(
        update={name: divided[name] // world for name in ("num_attention_heads", "num_key_value_heads")}
    )


class OwnExperts:
    """A `Transport` that computes the rows of this rank's experts; those of others are zero, until sums are made."""

    def __init__(self, ranks: Ranks):
        self.ranks = ranks

    def __call__(self, x_MD: torch.Tensor, counts_E: torch.Tensor, experts: Experts) -> torch.Tensor:
        own_e = _part(counts_E, 0, self.ranks)
        first = int(counts_E[: self.ranks.rank * len(own_e)].sum())
        own = slice(first, first + int(own_e.sum()))
        out_MD = torch.zeros_like(x_MD)
        out_MD[own] = experts.apply_to(x_MD[own], own_e)
        return out_MD


def _split_attention(attention: Attention | LatentAttention, ranks: Ranks) -> None:
    if isinstance(attention, LatentAttention):
        attention.heads //= ranks.world
        names = ["kv_b_proj", "q_proj" if attention.latent.q_lora_rank is None else "q_b_proj"]
    else:
        names = ["q_proj", "k_proj", "v_proj", *(["gate_proj"] if attention.gate_proj is not None else [])]
        if attention.sinks is not None:
            attention.sinks = nn.Parameter(_part(attention.sinks, 0, ranks), requires_grad=False)
    for name in names:
        _keep(attention.get_submodule(name), 0, ranks)
    _keep(attention.get_submodule("o_proj"), 1, ranks)


def _keep(linear: nn.Module, dim: int, ranks: Ranks) -> None:
    """This rank's outputs (`dim` 0) or inputs (1) of a linear layer; a bias behind a sum is added on one rank only."""
    assert isinstance(linear, nn.Linear)
    linear.weight = nn.Parameter(_part(linear.weight, dim, ranks), requires_grad=False)
    if linear.bias is not None and dim == 0:
        linear.bias = nn.Parameter(_part(linear.bias, 0, ranks), requires_grad=False)
    elif linear.bias is not None and ranks.rank:
        linear.bias.zero_()


def _part(x: torch.Tensor, dim: int, ranks: Ranks) -> torch.Tensor:
    return x.chunk(ranks.world, dim)[ranks.rank].clone()


def _summed(_: nn.Module, __: tuple[Any, ...], out: torch.Tensor) -> torch.Tensor:
    dist.all_reduce(out)
    return out
