"""When a training step of Troth's own trainer holds how much: what is there at each moment that may be the peak, on one
rank of a pipeline. How FSDP brings weights together and shares gradients out is torch 2.13's: `_fsdp_param_group.py`,
`_fsdp_collectives.py`.
"""

from dataclasses import dataclass

import numpy as np

from troth.plan.memory_layer import Layer, kept_by, parameters_of
from troth.plan.memory_muon import muon_room
from troth.plan.memory_rank import Place, Share
from troth.plan.run import Array, Columns

CHUNK_BYTES, LEAST_ROWS = 2**26, 128
"""Of the scores over the vocabulary that are there at a time (`train.loss`)."""

LOGIT_BYTES, COMPILED_LOGIT_BYTES = 16, 4
"""Of a score where the loss is not computed in chunks: its softmax's logarithm, the gradient of that, its exponential
and the gradient of the score, in float32; and where the loss is compiled, the score and its gradient in 16 bits."""

COMPILED_LOSS = 2025.25
"""Since then torchtitan compiles its loss (its commits of December 2024 and April 2025)."""

NEAR_CHUNKS = 3
"""Chunks of a rank whose weights torch's pipelines keep together."""

Parts = dict[str, Array]


def most(choices: list[Parts]) -> Parts:
    """For every run the choice with the largest sum."""
    best = np.argmax([np.sum(list(choice.values()), axis=0) for choice in choices], axis=0)
    return {kind: np.choose(best, [choice[kind] for choice in choices]) for kind in choices[0]}


@dataclass(frozen=True)
class Step:
    """A step on a rank: what stands all the time (`held`); the bytes of gradients when all are there, of these what
    comes last, and what earlier micro-batches have left; whether these are `steady`, of all layers."""

    c: Columns
    at: Place
    of: Share
    dense: Layer
    moe: Layer
    held: Parts
    gradients: Array
    coming: Array
    left: Array
    steady: Array

    def moment(
        self, gradients: Array, activations: Array, buffers: Array, gathered: Array, logits: Array | float = 0.0
    ) -> Parts:
        """All kinds, each as long as the others."""
        zero = np.zeros_like(self.c.t)
        return {
            "weights": self.held["weights"] + zero, "optimizer": self.held["optimizer"] + zero,
            "gradients": gradients + zero, "gathered": gathered + zero, "activations": activations + zero,
            "logits": logits + zero, "buffers": self.held["buffers"] + buffers,
        }  # fmt: skip

    def either(self, name: str) -> Array:
        """Of the layer that is computed last, one with experts where there is one."""
        return np.where(self.at.moe_layers > 0, getattr(self.moe, name), getattr(self.dense, name))

    @property
    def hidden(self) -> Array:
        """Bytes of a rank's hidden state."""
        return 2 * self.c.hidden * self.c.t / self.c.tp

    @property
    def layers(self) -> Array:
        """Of the rank."""
        return self.at.dense_layers + self.at.moe_layers

    @property
    def kept(self) -> Array:
        """Bytes that a micro-batch leaves in the layer computed last, and `again` what computing it again adds."""
        return np.where(self.at.moe_layers > 0, kept_by(self.c, self.moe), kept_by(self.c, self.dense))

    @property
    def again(self) -> Array:
        return np.where(self.c.recompute > 0, self.either("kept") - self.kept, 0)

    @property
    def full(self) -> Array:
        """Bytes that all micro-batches in flight have left."""
        return self.at.flying_dense * kept_by(self.c, self.dense) + self.at.flying_moe * kept_by(self.c, self.moe)

    @property
    def of_head(self) -> Array:
        """The head's gradient, and that of the embedding of tokens that are told ahead."""
        c = self.c
        return self.at.head * 2 * c.vocab * c.hidden / np.where(c.titan > 0, c.tp, 1) * (1 + (c.ahead > 0))

    @property
    def ends(self) -> Array:
        """Ranks that share what is no expert out; with `tp`, matrices have parts already."""
        return np.where(self.c.tp > 1, self.of.shares / self.c.tp, self.of.shares)

    @property
    def same(self) -> Array:
        """Ranks that have the same experts."""
        return self.of.shares / (self.c.ep * self.c.etp)

    @property
    def root(self) -> Array:
        """Bytes of weights that are whole for all of a step: embedding and head."""
        # Of many chunks torch's schedules keep the next three's together: not the embedding's at the peak.
        near = np.where(self.c.vpp > NEAR_CHUNKS, self.at.head, 1)
        return np.where(
            self.of.alone > 0, 0, 2 * np.where(self.of.staying, self.of.own, self.of.own_tables * near)
        )  # fmt: skip

    @property
    def one(self) -> Array:
        """Bytes of a layer's weights while it is computed."""
        return np.where((self.of.alone > 0) | self.of.staying, 0, 2 * self.of.layer)

    def in_common(self) -> list[Parts]:
        """The loss, and the optimizer."""
        c, at, of = self.c, self.at, self.of
        u = c.t / c.tp
        rows = np.minimum(u, np.maximum(LEAST_ROWS, CHUNK_BYTES // (c.vocab * 2)))
        whole_input = np.where((c.titan > 0) & (c.tp > 1), 2 * c.hidden * c.t, 0)
        # A module that predicts ahead keeps its input, what joins it with the embedding, and the gradients of its loss.
        ahead = c.ahead * (6 * self.hidden + 2 * c.vocab * c.hidden)
        scores = np.where(c.date < COMPILED_LOSS, LOGIT_BYTES, COMPILED_LOGIT_BYTES)
        # What came together last stays until something else does.
        routed = np.where(self.same > 1, 2 * self.either("routed"), 0)
        dense = np.where((at.moe_layers == 0) & (c.pp == 1) & (c.titan == 0) & (self.ends > 1), 2 * self.dense.dense, 0)
        return [
            # What layers have freed lies between what they keep, and torchtitan's figures count it: for so many scores
            # at once it is no room.
            self.moment(
                self.left, self.full + at.head * (3 * self.hidden + whole_input + ahead),
                np.where(c.titan > 0, self.again, at.head * (6 * c.vocab * c.hidden + self.hidden)),
                self.root + routed + dense, at.head * np.where(c.titan > 0, scores * u, 4 * rows) * c.vocab,
            ),
            self.moment(self.gradients, 0 * u, np.where(c.muon > 0, muon_room(c, at, of.shares), 0), 0 * u),
        ]  # fmt: skip

    def layer_by_layer(self) -> list[Parts]:
        """Without a pipeline: forwards through the last layer, backwards through those that may hold most, embedding
        and head."""
        c, at, of = self.c, self.at, self.of
        dense, moe = at.dense_layers, at.moe_layers
        none = np.zeros_like(c.t)
        thin = _copied(self.dense.dense, self.ends)
        first = np.where(dense > 0, self.dense.dense, self.moe.dense)
        found = [
            # As the last layer's weights come together, beside those that came before.
            self.moment(
                self.left, self.full, self.either("passing"),
                self.root + np.where(moe > 0, _copied(self.moe.routed, self.same) + 2 * self.moe.dense, thin),
            ),
            self.moment(
                self.left, self.full - self.kept, none,
                self.root + np.where(moe > 0, 0, thin + np.where(self.ends > 1, 2 * self.dense.dense, 0)),
            ),
            self.moment(
                self.left + self._shared(moe, dense) + 2 * of.own_tables, none,
                4 * first + 4 * (c.ahead > 0) * c.vocab * c.hidden, self.root,
            ),
            self.moment(self.left + self._shared(moe, dense), none, _reduced(of.own_tables, of.shares), none),
        ]  # fmt: skip
        # Gradients grow and activations go, both evenly: most is at the end of a kind of layers or one before it.
        for done in (none, none + 1, moe - 2, moe - 1):
            found += self._backwards(self.moe, done, none, (done >= 0) & (done < moe))
        for done in (none, none + 1, dense - 2, dense - 1):
            found += self._backwards(self.dense, moe, done, (done >= 0) & (done < dense))
        return found

    def _shared(self, moe: Array, dense: Array) -> Array:
        """Bytes of gradients that so many layers' backward passes have made; earlier micro-batches have left as many,
        which they are added to, but between copies of the network they stay until the pass ends."""
        c = self.c
        parameters = moe * parameters_of(c, moe=True) + dense * parameters_of(c, moe=False)
        return np.where((c.m > 1) & (c.dp_replicate == 1), 0, 4 * parameters / self.of.shares)

    def _backwards(self, layer: Layer, done_moe: Array, done_dense: Array, possible: np.ndarray) -> list[Parts]:
        """Through a layer behind which so many of either kind have been; zeros where it is not `possible`."""
        c, moe, done = self.c, layer is self.moe, done_moe + done_dense
        kept = kept_by(c, layer)
        before = self.full - done_moe * kept_by(c, self.moe) - done_dense * kept_by(c, self.dense) - kept
        again = np.where(c.recompute > 0, layer.kept - kept, 0)
        gradients = self.left + self.of_head + self._shared(done_moe, done_dense)
        dense_next = (self.at.moe_layers <= done_moe + 1) & (self.at.dense_layers > 0)
        following = np.where(done + 1 < self.layers, 2 * np.where(dense_next, self.dense.dense, self.moe.dense), 0)
        # In float32 what the layer behind shared out last is there until this one does.
        behind = 4 * np.where(done > 0, np.where(done_dense > 0, self.dense.dense, self.moe.dense), 0)
        weights = self.root + 2 * layer.dense + following
        found = [
            self.moment(gradients, before + kept + again, layer.returning + behind, weights + 2 * layer.routed),
            self.moment(gradients + 2 * layer.dense, before, 4 * layer.routed if moe else behind, weights),
            self.moment(gradients, before, _reduced(layer.dense, self.ends), self.root + following),
        ]
        if moe:
            # Where ranks have parts of experts, these are put in order before.
            ordered = np.where(c.experts / c.ep >= self.same, 0, 2 * layer.routed / c.matrices)
            found.append(
                self.moment(
                    gradients, before + layer.attention + self.hidden, _reduced(layer.routed, self.same) + ordered,
                    weights,
                )
            )  # fmt: skip
        return [{kind: size * possible for kind, size in one.items()} for one in found]

    def in_a_pipeline(self) -> list[Parts]:
        """Gradients add up in float32 on each rank over micro-batches, and are shared out in the end, group after group
        in the order of the network; weights stay together from a backward pass on."""
        c, at, of = self.c, self.at, self.of
        inner = of.own - of.own_tables
        # FSDP gathers what the layer before has beside its experts ahead.
        first = self.root + self.one + np.where(self.layers > 1, 2 * self.either("dense"), 0)
        # Backward passes one after another: the second finds all gradients, and all weights together.
        alone = c.m <= at.flying
        several = (c.vpp == 1) & ((at.flying > 1) | ~alone)
        flying = np.where(alone, self.full * (1 - 1 / np.maximum(at.flying, 1)), self.full)
        weights = np.where(alone, self.root + 2 * inner, first)
        at_experts = np.where(at.moe_layers > 0, self.moe.attention + self.hidden, self.kept)
        accumulating = [
            self.moment(4 * of.own + self.of_head, flying + self.again, self._returning, weights),
            self.moment(
                4 * of.own + self.of_head + 2 * self.either("routed"), flying - self.kept + at_experts, 0 * c.t, weights
            ),
        ]
        dense = np.where(at.dense_layers > 0, self.dense.dense, self.moe.dense)
        return [
            self.moment(self.left + self.of_head, self.full + self.again, self._returning, first),
            self._first_layer(), self._first_layer(coming=True),
            *({kind: size * several for kind, size in one.items()} for one in accumulating),
            self._shared_out(0 * c.t, of.own_tables, of.shares),
            self._shared_out(of.own_tables, dense, self.ends),
            self._shared_out(of.own_tables + self.moe.dense, (at.moe_layers > 0) * self.moe.routed, self.same),
        ]  # fmt: skip

    def _shared_out(self, before: Array, parameters: Array, ranks: Array) -> Parts:
        """Of so many `parameters`, when those `before` have been."""
        together = (self.of.own - self.of.own_tables) / self.c.vpp + self.of.own_tables
        return self.moment(
            4 * (self.of.own - before) + 4 * before / ranks, 0 * self.c.t, np.where(ranks > 1, 4, 8) * parameters,
            2 * np.maximum(together - before - parameters, 0),
        )  # fmt: skip

    def _first_layer(self, coming: bool = False) -> Parts:
        """Backwards through the layer that was computed first, or before it, as its weights are `coming` together."""
        c, at, of = self.c, self.at, self.of
        kept = (at.dense_layers * kept_by(c, self.dense) + at.moe_layers * kept_by(c, self.moe)) / c.vpp
        # Without a steady state only the first chunk's activations are left when its gradients come.
        rest = np.where(self.steady, self.full, self.full / c.vpp) - kept
        weights = np.where(of.pipelined & ~of.staying, 2 * (of.own - of.own_tables), self.one)
        arriving = np.where(self.same > 1, self.either("routed"), np.where(self.ends > 1, self.either("dense"), 0))
        return self.moment(
            self.gradients - self.coming + self.of_head, rest + self.kept + self.again,
            0 * c.t if coming else self._returning, self.root + weights + (2 * arriving if coming else 0),
        )  # fmt: skip

    @property
    def _returning(self) -> Array:
        """Beside the layer that goes backwards; what its last one shared out is there still."""
        shared = np.where((self.of.alone > 0) | (self.at.moe_layers == 0), 0, 4 * self.moe.dense)
        return self.either("returning") + shared

    def at_the_ends(self) -> list[Parts]:
        """On a single rank, whose weights nobody shares, and in torchtitan, whose figures are those of its allocator:
        backwards through the last layer and the first, its gradients, and those of embedding and head."""
        of, alone = self.of, self.of.alone > 0
        kept = self.at.dense_layers * kept_by(self.c, self.dense) + self.at.moe_layers * kept_by(self.c, self.moe)
        rest = np.where(of.pipelined, 0, np.where(self.steady, self.full, self.full / self.c.vpp) - kept / self.c.vpp)
        return [
            self.moment(self.left + self.of_head, self.full + self.again, self._returning, self.root + self.one),
            self._first_layer(),
            self.moment(
                self.gradients + 2 * of.layer + self.of_head, rest, np.where(alone, 0, 8 * of.layer),
                self.root + self.one,
            ),
            self.moment(
                self.gradients + 2 * of.own_tables, rest,
                np.where(alone, 2 * of.own_tables, 4 * of.own_tables + 4 * of.layer), self.root,
            ),
        ]  # fmt: skip


def _copied(parameters: Array, ranks: Array) -> Array:
    """Bytes while FSDP brings weights together: as they come and as they are used."""
    return np.where(ranks > 1, 4, 2) * parameters


def _reduced(parameters: Array, ranks: Array) -> Array:
    """Bytes while gradients are shared out: in bf16 and in float32; on a single rank three times in float32."""
    return np.where(ranks > 1, 6, 12) * parameters
