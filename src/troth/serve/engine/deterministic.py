"""A forward pass in which no sum depends on what else is in the batch, in any precision.

Libraries choose the order in which they add by the shape of a product (He et al., "Defeating nondeterminism in LLM
inference", 2025). So all passes here have one shape, 16 rows, and a token's row is its position modulo 16: whatever a
kernel does with a row of that number, it does the same each time. Rows never mix, and so other sequences may fill those
that one leaves free. Attention takes keys in tiles of fixed size and place, with a running maximum (FlashAttention,
2205.14135): tiles that a query does not see change nothing, bit for bit.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
from torch import nn

from troth.model.decoder import Decoder
from troth.model.experts import Experts
from troth.model.moe import MoE
from troth.model.scores import Scores
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.scheduler import Chunk

ROWS = 16
TILE_BLOCKS = 8
_LOWEST = -1e30
"""A maximum below all scores, and finite: what was added up before the first score is then multiplied by zero."""


class DeterministicRunner:
    """A `Runner` whose scores of a token depend on its sequence alone. The decoder's routed experts are replaced.

    `states_TD` are the hidden states of all tokens of the latest step.
    """

    def __init__(self, model: Decoder, cache: KVCache, adapters: Adapters):
        self.model, self.cache, self.adapters = model, cache, adapters
        self.states_TD = torch.empty(0)
        for moe in model.moe_layers():
            moe.experts = OneShapeExperts(moe.experts)  # type: ignore[assignment]

    @torch.inference_mode()
    def run(self, chunks: Items[Chunk], wanted: list[int]) -> torch.Tensor:
        """Scores over the vocabulary, float32 [wanted, vocabulary], of the step's tokens at these places."""
        device = self.cache.device
        logits_WV = torch.empty(len(wanted), self.model.config.vocab_size, device=device)
        places = {place: row for row, place in enumerate(wanted)}
        weight, count = self.model.embed_tokens.weight, sum(chunk.count for chunk in chunks)
        self.states_TD = weight.new_empty(count, weight.shape[1])
        choices = [_Choices(moe, count) for moe in self.model.moe_layers() if moe.observe is not None]
        for rows in passes(chunks):
            for layer in choices:
                layer.rows = rows
            full = [rows.get(slot, next(iter(rows.values()))) for slot in range(ROWS)]
            tokens, positions = [row.token for row in full], [row.position for row in full]
            tokens_1R, positions_1R = (torch.tensor([part], device=device) for part in (tokens, positions))
            self.adapters.rows(row.chunk.adapter for row in full)
            h_1RD = self.model(tokens_1R, PassAttention(self.cache, rows), positions_1R)
            self.states_TD[[row.place for row in rows.values()]] = h_1RD[0, list(rows)]
            if found := [(slot, places[row.place]) for slot, row in rows.items() if row.place in places]:
                logits_RV = self.model.logits(h_1RD[0])
                slots, targets = (list(part) for part in zip(*found, strict=True))
                logits_WV[targets] = logits_RV[slots].float()
        for layer in choices:
            layer.tell(wanted)
        return logits_WV

    def hidden(self, chunks: Items[Chunk]) -> torch.Tensor:
        """Hidden states of all the step's tokens after the last norm, [tokens, hidden]."""
        self.run(chunks, [])
        return self.states_TD


@dataclass(frozen=True)
class Row:
    """A token of a chunk; `place` is its number in the step."""

    chunk: Chunk
    position: int
    token: int
    place: int


def passes(chunks: Items[Chunk]) -> list[dict[int, Row]]:
    """The rows of a step by slot, the position modulo `ROWS`, pass by pass; a chunk's tokens stay in order."""
    found: list[dict[int, Row]] = []
    place = 0
    for chunk in chunks:
        number = 0
        for position, token in enumerate(chunk.tokens, chunk.start):
            slot = position % ROWS
            while number < len(found) and slot in found[number]:
                number += 1
            if number == len(found):
                found.append({})
            found[number][slot] = Row(chunk, position, token, place)
            place += 1
    return found


class _Choices:
    """A layer's gates and experts, put together from the passes of a step, whose `observe` is told of them once."""

    def __init__(self, moe: MoE, count: int):
        assert moe.observe is not None
        self.moe, self.observe = moe, moe.observe
        self.rows: dict[int, Row] = {}
        k, device = moe.router.config.num_experts_per_tok, moe.expert_bias.device
        self.gates_Tk = torch.empty(count, k, device=device)
        self.chosen_Tk = torch.empty(count, k, dtype=torch.int64, device=device)
        moe.observe = self._note

    def _note(self, gates_Rk: torch.Tensor, chosen_Rk: torch.Tensor) -> None:
        places, slots = [row.place for row in self.rows.values()], list(self.rows)
        self.gates_Tk[places] = gates_Rk[slots].float()
        self.chosen_Tk[places] = chosen_Rk[slots]

    def tell(self, wanted: list[int]) -> None:
        """Let the observer know of the tokens at these places."""
        self.moe.observe = self.observe
        self.observe(self.gates_Tk[wanted], self.chosen_Tk[wanted])


class OneShapeExperts(nn.Module):
    """Sends all rows through each expert that any of them chose, in the order of the experts."""

    def __init__(self, experts: Experts):
        super().__init__()
        self.experts = experts

    def forward(self, x_ND: torch.Tensor, gates_Nk: torch.Tensor, chosen_Nk: torch.Tensor) -> torch.Tensor:
        """Each token's gate-weighted sum over its experts, [tokens, hidden]; other experts add a zero."""
        out_ND = torch.zeros_like(x_ND)
        for expert in chosen_Nk.unique().tolist():
            counts_E = torch.zeros(self.experts.config.num_experts, dtype=torch.int64, device=x_ND.device)
            counts_E[expert] = len(x_ND)
            gates_N1 = gates_Nk.masked_fill(chosen_Nk != expert, 0).sum(-1, keepdim=True)
            out_ND += self.experts.apply_to(x_ND, counts_E) * gates_N1.to(x_ND.dtype)
        return out_ND


class PassAttention:
    """Stores the keys and values of a pass, then lets each of its sequences attend to itself."""

    keeps = True

    def __init__(self, cache: KVCache, rows: dict[int, Row]):
        self.cache = cache
        size, device = cache.block_size, cache.device
        self.slots_N = torch.tensor(list(rows), device=device)
        by_chunk: dict[int, list[Row]] = {}
        for row in rows.values():
            by_chunk.setdefault(id(row.chunk), []).append(row)
        self.sequences: dict[str, list[_Part]] = {}
        self.targets_N: dict[str, torch.Tensor] = {}
        for kind, window in (("full_attention", None), ("sliding_attention", cache.config.window)):
            if window is not None and not cache.config.slides:
                continue
            tables = {id(r.chunk): r.chunk.blocks if window is None else r.chunk.sliding_blocks for r in rows.values()}
            targets = [
                tables[id(row.chunk)][row.position // size] * size + row.position % size for row in rows.values()
            ]
            self.targets_N[kind] = torch.tensor(targets, device=device)
            self.sequences[kind] = [
                _part(own, tables[number], window, size, device) for number, own in by_chunk.items()
            ]

    def __call__(
        self, layer: int, q_BHTd: torch.Tensor, k_BKTd: torch.Tensor, v_BKTe: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        kind = self.cache.config.layer_type(layer)
        new_k, new_v = (x[0].index_select(1, self.slots_N) for x in (k_BKTd, v_BKTe))
        self.cache.store(layer, self.targets_N[kind], new_k, new_v)
        out_HRe = q_BHTd.new_zeros(*q_BHTd.shape[1:3], v_BKTe.shape[-1])
        for part in self.sequences[kind]:
            found_HRe = _attend(part, q_BHTd[0].float(), self.cache, layer, scores)
            out_HRe[:, part.slots_N] = found_HRe[:, part.slots_N].to(q_BHTd.dtype)
        return out_HRe[None]


@dataclass(frozen=True)
class _Part:
    """One sequence in a pass: its slots, and tile by tile the blocks and which row sees which key [1, rows, keys]."""

    slots_N: torch.Tensor
    tiles: list[tuple[torch.Tensor, torch.Tensor]]


def _part(rows: list[Row], table: list[int], window: int | None, size: int, device: torch.device) -> _Part:
    slots = [row.position % ROWS for row in rows]
    at_R = torch.full((ROWS,), -1)
    at_R[slots] = torch.tensor([row.position for row in rows])
    first = 0 if window is None else max(0, rows[0].position - window + 1)
    tile = TILE_BLOCKS * size
    tiles = []
    for start in range(first // tile * tile, rows[-1].position + 1, tile):
        blocks = [max(0, block) for block in table[start // size : start // size + TILE_BLOCKS]]
        key_L = torch.arange(start, start + tile)
        seen_RL = key_L <= at_R[:, None]
        if window is not None:
            seen_RL &= key_L > at_R[:, None] - window
        blocks += [0] * (TILE_BLOCKS - len(blocks))
        tiles.append((torch.tensor(blocks, device=device), seen_RL[None].to(device)))
    return _Part(torch.tensor(slots, device=device), tiles)


def _attend(part: _Part, q_HRd: torch.Tensor, cache: KVCache, layer: int, scores: Scores) -> torch.Tensor:
    """[heads, rows, size of a value] in float32; rows of other sequences are not meant to be looked at."""
    heads, kv_heads = len(q_HRd), cache.config.cache_shape[0]
    q_KNd = (q_HRd * scores.scale).reshape(kv_heads, -1, q_HRd.shape[-1])
    if scores.sinks is None:
        highest_HR1, total_HR1 = q_HRd.new_full((heads, ROWS, 1), _LOWEST), q_HRd.new_zeros(heads, ROWS, 1)
    else:
        highest_HR1 = scores.sinks[0].float().expand(heads, ROWS, 1)
        total_HR1 = torch.ones_like(highest_HR1)
    sum_HRe = q_HRd.new_zeros(heads, ROWS, 1)
    for blocks, seen_1RL in part.tiles:
        keys, values = cache.read(layer, blocks)
        k_KdL = keys.flatten(0, 1).permute(1, 2, 0).float()
        v_KLe = values.flatten(0, 1).transpose(0, 1).float()
        x_HRL = torch.bmm(q_KNd, k_KdL).view(heads, ROWS, -1)
        if scores.softcap is not None:
            x_HRL = scores.softcap * torch.tanh(x_HRL / scores.softcap)
        if scores.temperature is not None:
            x_HRL = x_HRL * scores.temperature[0]
        x_HRL = x_HRL.masked_fill(~seen_1RL, float("-inf"))
        before_HR1, highest_HR1 = highest_HR1, torch.maximum(highest_HR1, x_HRL.amax(-1, keepdim=True))
        shrink_HR1 = torch.exp(before_HR1 - highest_HR1)
        weights_HRL = torch.exp(x_HRL - highest_HR1)
        total_HR1 = total_HR1 * shrink_HR1 + weights_HRL.sum(-1, keepdim=True)
        part_KNe = torch.bmm(weights_HRL.view(kv_heads, -1, weights_HRL.shape[-1]), v_KLe)
        sum_HRe = sum_HRe * shrink_HR1 + part_KNe.view(heads, ROWS, -1)
    return sum_HRe / total_HR1
