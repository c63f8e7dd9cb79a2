"""What one rank has of the network in training, built and filled for its place in the mesh."""

import torch
import torch.distributed as dist

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.initialise import initialise
from troth.system import Layout, TrainTable
from troth.train.objective import Objective, Share
from troth.train.parallel.mesh import Mesh
from troth.train.parallel.parallelize import parallelize
from troth.train.parallel.pipeline import Pipeline, stages_of
from troth.train.precision import training_call
from troth.train.weights import Weight, weights_of


class Network:
    """The parts of the decoder on this rank: the whole where there is no mesh."""

    def __init__(
        self, config: ModelConfig, train: TrainTable, layout: Layout, dtype: torch.dtype, mesh: Mesh | None, device: str
    ):
        """`dtype` is that of products; weights are in float32 or wider. They have no memory yet."""
        self.mesh, self.device = mesh, torch.device(device)
        self.micro_batches = layout.micro_batches
        layers = [range(config.num_hidden_layers)]
        if mesh is not None:
            stages = stages_of(mesh.rank("pp"), layout)
            layers = [layout.layers_of(stage, config.num_hidden_layers) for stage in stages]
        cast_to = dtype if dtype == torch.bfloat16 and not layout.spreads else None
        call = training_call(cast_to, train.activation_checkpointing)
        share = Share.of(mesh, train.sequence_length, device)
        self.objectives: list[Objective] = []
        wide = torch.promote_types(dtype, torch.float32)
        for part in layers:
            with torch.device("meta"):
                decoder = Decoder(config, part).to(wide).train()
            objective = Objective(decoder, call, train.z_loss, share, mesh)
            if mesh is not None:
                parallelize(objective, mesh, dtype)
            self.objectives.append(objective)
        self.decoders = [objective.decoder for objective in self.objectives]
        self.weights: list[Weight] = []
        self.pipeline: Pipeline | None = None
        if mesh is not None and layout.pp > 1:
            sequences = train.batch_tokens // train.sequence_length
            rows = sequences // (layout.rows_ranks * layout.micro_batches)
            self.pipeline = Pipeline(self.objectives, mesh, rows, dtype, self.device)

    def allocate(self) -> "Network":
        """Give the weights memory, with any numbers in it."""
        for objective in self.objectives:
            objective.to_empty(device=self.device)
            decoder = objective.decoder
            if decoder.config.tie_word_embeddings:
                decoder.lm_head.weight = decoder.embed_tokens.weight
        self.weights = weights_of(self.decoders)
        return self

    def initialise(self, seed: int) -> "Network":
        """Allocate and fill the weights: the same network from the same seed, whatever the mesh."""
        self.allocate()
        for decoder in self.decoders:
            initialise(decoder, seed)
        return self

    def forward_backward(
        self, tokens_RT: torch.Tensor, documents_RT: torch.Tensor, targets_RT: torch.Tensor, count: int
    ) -> torch.Tensor:
        """Add the gradients of the loss of this rank's rows, and return its part of the loss: summed over all ranks it
        is the mean over the `count` targets of the whole batch."""
        share = self.objectives[0].share
        times = share.tokens_S
        tokens, targets = tokens_RT[:, times], targets_RT[:, times]
        for objective in self.objectives:
            objective.count = count
        if self.pipeline is not None:
            return self.pipeline.forward_backward(tokens, documents_RT, targets)
        (objective,) = self.objectives
        total = torch.zeros((), device=self.device)
        parts = (x.chunk(self.micro_batches) for x in (tokens, documents_RT, targets))
        for micro_batch in zip(*parts, strict=True):
            loss = objective(*micro_batch).sum()
            loss.backward()
            total = total + loss.detach()
        return total

    @torch.no_grad()
    def balance(self, rate: float) -> list[torch.Tensor]:
        """Move the experts' biases against the loads of all ranks; each layer's shares of the load, as all ranks of
        the stage know them."""
        layers = [moe for decoder in self.decoders for moe in decoder.moe_layers()]
        if self.mesh is not None and layers:
            loads_LE = torch.stack([moe.load_E for moe in layers])
            dist.all_reduce(loads_LE, group=self.mesh.stage)
            for moe, load_E in zip(layers, loads_LE, strict=True):
                moe.load_E.copy_(load_E)
        return [moe.balance(rate) for moe in layers]
