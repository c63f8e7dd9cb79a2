"""The kernel for GPUs, in Triton's interpreter where there is none, against attention in float64."""

from typing import Any

import pytest
import torch

from troth.model.config import ModelConfig
from troth.model.scores import Scores
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.paged_attention import PagedAttention, Pages

from .conftest import random_network
from .test_kv_cache import BLOCK_SIZE, KINDS, Piece, prompt

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WINDOW = 20

# Queries and where they begin: decoding, with drafts, chunks of prompts, and prompts at once.
STEPS = {
    "decoding": [(1, 0), (1, 15), (1, 16), (1, 150), (1, 63)],
    "mixed": [(1, 100), (37, 0), (5, 30), (1, 7), (40, 75)],
}
# Heads, key heads, sizes of a key and of a value.
SHAPES = {"groups of 3": (6, 2, 16, 16), "one each": (2, 2, 32, 32), "odd sizes": (4, 1, 24, 16), "many": (20, 1, 8, 8)}
SCORES: dict[str, dict[str, Any]] = {
    "plain": {},
    "window and sinks": {"window": True, "sinks": True},
    "bent and tempered": {"softcap": 2.0, "temperature": True},
    "all": {"window": True, "sinks": True, "softcap": 1.5, "temperature": True},
}


def pieces(step: list[tuple[int, int]], order: torch.Tensor) -> list[Piece]:
    """Their blocks lie mingled, and those outside the window are given back."""
    found = []
    for count, start in step:
        blocks, order = order[: -(-(start + count) // 16)].tolist(), order[-(-(start + count) // 16) :]
        gone = max(0, start - WINDOW + 1) // 16
        found.append(Piece(start, count, blocks, [-1] * gone + blocks[gone:]))
    return found


def exact(
    q_HTd: torch.Tensor, k_KLd: torch.Tensor, v_KLe: torch.Tensor, start: int, window: int | None, scores: Scores,
    rows: slice,
) -> torch.Tensor:  # fmt: skip
    """Textbook attention of one sequence in float64."""
    group = len(q_HTd) // len(k_KLd)
    k_HLd, v_HLe = (part.double().repeat_interleave(group, 0) for part in (k_KLd, v_KLe))
    x_HTL = q_HTd.double() @ k_HLd.mT * scores.scale
    if scores.softcap is not None:
        x_HTL = scores.softcap * torch.tanh(x_HTL / scores.softcap)
    if scores.temperature is not None:
        x_HTL = x_HTL * scores.temperature[0, :, rows].double()
    position_T, key_L = start + torch.arange(q_HTd.shape[1], device=DEVICE), torch.arange(k_KLd.shape[1], device=DEVICE)
    seen_TL = key_L <= position_T[:, None]
    if window is not None:
        seen_TL &= key_L > position_T[:, None] - window
    x_HTL = x_HTL.masked_fill(~seen_TL, float("-inf"))
    if scores.sinks is not None:
        x_HTL = torch.cat((scores.sinks[0].double().expand(-1, x_HTL.shape[1], 1), x_HTL), -1)
        return torch.softmax(x_HTL, -1)[..., 1:] @ v_HLe
    return torch.softmax(x_HTL, -1) @ v_HLe


@pytest.mark.parametrize("asked", SCORES.values(), ids=SCORES.keys())
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_uneven_spans_of_mingled_blocks_against_float64(
    config: ModelConfig, step: list[tuple[int, int]], shape: tuple[int, int, int, int], asked: dict[str, Any]
):
    heads, kv_heads, size, value_size = shape
    generator = torch.Generator().manual_seed(heads)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE)

    # The config's layers 0, 1 and 2 slide, the fourth sees everything.
    layer = 0 if asked.get("window") else 3
    assert (config.layer_type(layer) == "sliding_attention") == ("window" in asked)
    cache = KVCache(config, 64, 64, 16, torch.float32, DEVICE)
    for kept in (cache.keys, cache.values):
        kept[layer] = normal(64, 16, kv_heads, size if kept is cache.keys else value_size)
    spans = pieces(step, torch.randperm(64, generator=generator))
    count = sum(span.count for span in spans)
    q_HTd = 3 * normal(heads, count, size)
    k_KTd, v_KTe = normal(kv_heads, count, size), normal(kv_heads, count, value_size)
    scores = Scores(
        size**-0.5,
        asked.get("softcap"),
        1 + normal(1, 1, count, 1).abs() if "temperature" in asked else None,
        normal(1, heads, 1, 1) if "sinks" in asked else None,
    )
    found_HTe = PagedAttention(cache, Pages.of(cache, spans))(layer, q_HTd[None], k_KTd[None], v_KTe[None], scores)[0]
    row = 0
    for span in spans:
        rows = slice(row, row + span.count)
        length = span.start + span.count
        k_KLd, v_KLe = (
            kept[layer][span.blocks].flatten(0, 1)[:length].transpose(0, 1) for kept in (cache.keys, cache.values)
        )
        torch.testing.assert_close(k_KLd[:, span.start :], k_KTd[:, rows], msg="the step's own keys are stored")
        window = WINDOW if "window" in asked else None
        wanted = exact(q_HTd[:, rows], k_KLd, v_KLe, span.start, window, scores, rows)
        torch.testing.assert_close(found_HTe[:, rows].double(), wanted, atol=2e-6, rtol=1e-5)
        row += span.count


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS.keys())
@torch.inference_mode()
def test_networks_of_all_kinds_say_with_it_what_they_say_alone(config: ModelConfig, changes: dict[str, Any]):
    """Two prompts in three steps each, of which the last decodes."""
    model = random_network(config, changes, torch.float32).to(DEVICE)
    prompts = [prompt(60, 1).to(DEVICE), prompt(35, 2).to(DEVICE)]
    cache = KVCache(model.config, 8, 8, BLOCK_SIZE, torch.float32, DEVICE)
    tables = [[6, 0, 3, 5], [4, 1, 7]]
    found: list[list[torch.Tensor]] = [[], []]
    for bounds in ([(0, 40), (0, 20)], [(40, 59), (20, 34)], [(59, 60), (34, 35)]):
        spans = [Piece(a, b - a, table, table[::-1]) for (a, b), table in zip(bounds, tables, strict=True)]
        tokens_1T = torch.cat([prompts[i][a:b] for i, (a, b) in enumerate(bounds)])[None]
        positions_1T = torch.cat([torch.arange(a, b) for a, b in bounds])[None].to(DEVICE)
        h_TD = model(tokens_1T, PagedAttention(cache, Pages.of(cache, spans)), positions_1T)[0]
        for parts, part in zip(found, h_TD.split([span.count for span in spans]), strict=True):
            parts.append(part)
    for tokens_T, parts in zip(prompts, found, strict=True):
        torch.testing.assert_close(torch.cat(parts), model(tokens_T[None])[0], atol=2e-3, rtol=1e-3)
