"""What one rank has of the network in training, built and filled for its place in the mesh."""

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.initialise import initialise
from troth.model.lora import adapt
from troth.model.moe import MoE
from troth.model.mtp import MTP
from troth.system import Layout, TrainTable
from troth.train.batches import Batch
from troth.train.float8 import to_float8
from troth.train.lora import fill_adapters, lora_names
from troth.train.objective import Objective, Share, look_ahead
from troth.train.parallel.mesh import Mesh
from troth.train.parallel.parallelize import parallelize
from troth.train.parallel.pipeline import Pipeline, ends, stages_of
from troth.train.precision import training_call
from troth.train.preference import PreferenceBatch
from troth.train.sequence_balance import SequenceBalance
from troth.train.weights import weights_of


class Network:
    """The parts of the decoder on this rank: the whole where there is no mesh. Behind the last there may be modules of
    multi-token prediction, `mtp`, whose loss weighs `mtp_weight`. With `train.lora` the decoder's weights are frozen,
    and `weights` are its adapters."""

    def __init__(
        self, config: ModelConfig, train: TrainTable, layout: Layout, dtype: torch.dtype, mesh: Mesh | None, device: str
    ):
        """`dtype` is that of products; weights are in float32 or wider. Weights are not filled yet."""
        self.mesh, self.device = mesh, torch.device(device)
        self.micro_batches, self.rows_ranks = layout.micro_batches, layout.rows_ranks
        self.micro_batch_rows = train.sequences // (layout.rows_ranks * layout.micro_batches)
        self.mtp_weight = train.mtp_weight
        layers = [range(config.num_hidden_layers)]
        if mesh is not None:
            stages = stages_of(mesh.rank("pp"), layout)
            layers = [layout.layers_of(stage, config.num_hidden_layers) for stage in stages]
        cast_to = dtype if dtype == torch.bfloat16 and not layout.spreads else None
        call = training_call(cast_to, train.activation_checkpointing)
        share = Share.of(mesh, train.sequence_length, device)
        self.objectives: list[Objective] = []
        wide = torch.promote_types(dtype, torch.float32)
        adapted = [] if train.lora is None else lora_names(config, train.lora.patterns)
        for part in layers:
            with torch.device("meta"):
                with_mtp = part.stop == config.num_hidden_layers and train.mtp_weight > 0
                decoder = Decoder(config, part, embeds=with_mtp).to(wide).train()
                mtp = MTP(config, train.mtp_depth).to(wide).train() if with_mtp else None
            if train.precision == "float8":
                for converted in (decoder, *([] if mtp is None else [mtp])):
                    to_float8(converted)
            if train.lora is not None:
                here = dict(decoder.named_modules())
                adapt(decoder, [name for name in adapted if name in here], train.lora.rank, train.lora.alpha)
            objective = Objective(decoder, call, train, share, mesh, mtp)
            if mesh is not None:
                parallelize(objective, mesh, dtype)
            objective.to_empty(device=device)
            if config.tie_word_embeddings and decoder.last:
                decoder.lm_head.weight = decoder.embed_tokens.weight
            self.objectives.append(objective)
        self.decoders = [objective.decoder for objective in self.objectives]
        self.mtp = self.objectives[-1].mtp
        self.adapted = train.lora is not None
        self.parts: list[Decoder | MTP] = [*self.decoders, *([] if self.mtp is None else [self.mtp])]
        self.weights = weights_of(self.parts, self._embeddings_at_both_ends(layout))
        self.sequence_balance: SequenceBalance | None = None
        if train.sequence_balance:
            self.sequence_balance = SequenceBalance(
                train.sequence_balance, config.num_experts_per_tok, train.sequence_length, share, mesh
            )
            for moe in self.moe_layers():
                moe.router.attach = self.sequence_balance
        self.pipeline: Pipeline | None = None
        if mesh is not None and layout.pp > 1:
            self.pipeline = Pipeline(self.objectives, mesh, self.micro_batch_rows, dtype, self.device)

    def initialise(self, seed: int) -> "Network":
        """Fill the weights: the same network from the same seed, whatever the mesh."""
        for part in self.parts:
            initialise(part, seed)
        for decoder in self.decoders:
            fill_adapters(decoder, seed)
        return self

    def _embeddings_at_both_ends(self, layout: Layout) -> list[str]:
        """The embedding where the first and the last stage of a pipeline have it, on different ranks; where this rank
        has both stages, theirs becomes one."""
        first, last = self.decoders[0], self.decoders[-1]
        if layout.pp == 1 or not (last.config.tie_word_embeddings or self.mtp_weight):
            return []
        if len(set(ends(layout))) == 2:
            return ["embed_tokens.weight"]
        if first.first:
            last.embed_tokens = first.embed_tokens
            if last.config.tie_word_embeddings:
                last.lm_head.weight = first.embed_tokens.weight
        return []

    def moe_layers(self) -> list[MoE]:
        """Those of this rank's parts."""
        return [moe for part in self.parts for moe in part.moe_layers()]

    def forward_backward(
        self, tokens_RT: torch.Tensor, documents_RT: torch.Tensor, targets_RT: torch.Tensor, count: int,
        reference_NP2: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Add the gradients of the loss of this rank's rows, and return its part of the loss: summed over all ranks it
        is the mean over the `count` targets, or pairs, of the whole batch. Of preferences, `reference_NP2` is that of a
        `PreferenceBatch`, [rows / 2, pairs, 2]."""
        share = self.objectives[0].share
        times = share.tokens_S
        rows = {"documents_BT": documents_RT, "targets_BS": targets_RT[:, times]}
        if self.mtp is not None:
            ahead = look_ahead(tokens_RT, documents_RT, targets_RT, len(self.mtp.layers))
            rows |= {name: x[..., times] for name, x in zip(("ahead_BKS", "targets_BKS"), ahead, strict=True)}
        if reference_NP2 is not None:
            rows["reference_RP2"] = reference_NP2
        for objective in self.objectives:
            objective.count, objective.mtp_weight = count, self.mtp_weight
        if self.sequence_balance is not None:
            self.sequence_balance.sequences = len(tokens_RT) * self.rows_ranks
        if self.pipeline is not None:
            return self.pipeline.forward_backward(tokens_RT[:, times], rows)
        (objective,) = self.objectives
        total = torch.zeros((), device=self.device)
        rows["inputs"] = tokens_RT[:, times]
        for micro_batch in zip(*(x.chunk(self.micro_batches) for x in rows.values()), strict=True):
            loss = objective(**dict(zip(rows, micro_batch, strict=True))).sum()
            loss.backward()
            total = total + loss.detach()
        return total

    def turns(self, batches: int) -> list[tuple[int, bool]]:
        """Which of so many batches this rank takes where ranks that read different rows share them, and whether it
        counts: all take part in every pass of a sharded network, if only with a batch that another has too."""
        first, ranks = (0, 1) if self.mesh is None else (self.mesh.rows_rank, self.mesh.rows.size())
        return [(min(at, batches - 1), at < batches) for at in range(first, batches + first, ranks)]

    @torch.no_grad()
    def forward(self, batch: Batch) -> torch.Tensor | None:
        """What objectives that are not in training return for at most `micro_batch_rows` rows; None on ranks that do
        not have the last layer. All ranks call it, with batches of their own where they read different rows."""
        tokens, documents, targets = (
            torch.from_numpy(x).to(self.device) for x in (batch.inputs, batch.documents, batch.targets)
        )
        times = self.objectives[0].share.tokens_S
        tokens, targets = tokens[:, times], targets[:, times]
        more = {}
        if isinstance(batch, PreferenceBatch):
            more["reference_RP2"] = torch.from_numpy(batch.reference).to(self.device)
        for objective in self.objectives:
            objective.eval()
        if self.pipeline is not None:
            found = self.pipeline.forward(tokens, documents, targets, **more)
        else:
            found = self.objectives[0](tokens, documents, targets, **more)
        for objective in self.objectives:
            objective.train()
            if isinstance(objective, FSDPModule):
                objective.reshard()  # Or the next pass would take the weights of this one, whatever is loaded now.
        return found

    def take_figures(self) -> torch.Tensor:
        """This rank's part of the figures, by `figure_names`, of the batch since they were taken last."""
        total = torch.stack([objective.figures for objective in self.objectives]).sum(0)
        for objective in self.objectives:
            objective.figures.zero_()
        return total

    @torch.no_grad()
    def balance(self, rate: float) -> list[torch.Tensor]:
        """Move the experts' biases against the loads of all ranks; each layer's shares of the load, as all ranks of
        the stage know them."""
        layers = self.moe_layers()
        if self.mesh is not None and layers:
            loads_LE = torch.stack([moe.load_E for moe in layers])
            dist.all_reduce(loads_LE, group=self.mesh.stage)
            for moe, load_E in zip(layers, loads_LE, strict=True):
                moe.load_E.copy_(load_E)
        return [moe.balance(rate) for moe in layers]
