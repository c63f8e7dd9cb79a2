"""[parallel]: how a training run is laid over its ranks, and whether that layout fits the network, the batch and the
world. Pure arithmetic: the planner uses it too."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from troth.model.config import ModelConfig
from troth.system.table import Table
from troth.system.train import TrainTable


class ParallelTable(Table):
    """Ranks along each dimension of the mesh; `dp_shard = -1` takes what the others leave.

    pp: parts of the layers, a pipeline; each rank has `stages_per_rank` of them. dp_replicate: copies that read
    different rows; dp_shard: ranks that read different rows and hold a share of the weights each (FSDP). cp: shares of
    every sequence. tp: shares of every attention head's and dense feed-forward's matrices, and of a sequence between
    them. ep: shares of the experts, over ranks that dp_shard, cp and tp give; etp: shares of each expert, 1 or tp. A
    rank's rows are computed in `micro_batches`, which pass through a pipeline by the `schedule`. replica_groups: copies
    of all this, each under a launcher of its own, that read different rows and outlive each other (torchft).
    """

    pp: int = Field(default=1, gt=0)
    dp_replicate: int = Field(default=1, gt=0)
    dp_shard: int = Field(default=-1, ge=-1)
    cp: int = Field(default=1, gt=0)
    tp: int = Field(default=1, gt=0)
    ep: int = Field(default=1, gt=0)
    etp: int = Field(default=1, gt=0)
    micro_batches: int = Field(default=1, gt=0)
    schedule: Literal["1F1B", "Interleaved1F1B", "InterleavedZeroBubble", "ZBVZeroBubble"] = "1F1B"
    stages_per_rank: int = Field(default=1, gt=0)
    replica_groups: int = Field(default=1, gt=0)

    @field_validator("dp_shard")
    @classmethod
    def _some(cls, dp_shard: int) -> int:
        if not dp_shard:
            raise ValueError("expected a number of ranks, or -1 for what the others leave")
        return dp_shard


@dataclass(frozen=True)
class Layout:
    """Sizes of the mesh, all of them known; see `ParallelTable`."""

    pp: int
    dp_replicate: int
    dp_shard: int
    cp: int
    tp: int
    ep: int
    etp: int
    micro_batches: int
    schedule: str
    stages_per_rank: int
    replica_groups: int = 1

    @property
    def world(self) -> int:
        """Ranks in all, of one replica group."""
        return self.pp * self.dp_replicate * self.token_ranks

    @property
    def rows_ranks(self) -> int:
        """Ranks, or groups of them, that read different rows."""
        return self.replica_groups * self.dp_replicate * self.dp_shard

    @property
    def readers(self) -> str:
        """What `rows_ranks` is the product of."""
        return "replica_groups * " * (self.replica_groups > 1) + "dp_replicate * dp_shard"

    @property
    def token_ranks(self) -> int:
        """Ranks of one pipeline stage and replica, which have different tokens."""
        return self.dp_shard * self.cp * self.tp

    @property
    def spreads(self) -> bool:
        """Whether a pipeline stage has more than one rank: FSDP then shares its weights out or sums their gradients."""
        return self.dp_replicate * self.token_ranks > 1

    @property
    def halves(self) -> bool:
        """Whether a pipeline's schedule halves backward passes: gradients of inputs first, those of weights later."""
        return self.pp > 1 and self.schedule.endswith("ZeroBubble")

    @property
    def expert_shard(self) -> int:
        """Ranks that hold a share each of the weights of the same experts."""
        return self.token_ranks // (self.ep * self.etp)

    @property
    def stages(self) -> int:
        """Parts of the layers."""
        return self.pp * self.stages_per_rank

    def layers_of(self, stage: int, layers: int) -> range:
        """The layers of a stage: as many for each as there can be; what is left over goes to the stages in the middle,
        since the first also has the embedding and the last the head."""
        each, over = divmod(layers, self.stages)
        first_longer = (self.stages - over) // 2
        longer = [first_longer <= other < first_longer + over for other in range(self.stages)]
        start = each * stage + sum(longer[:stage])
        return range(start, start + each + longer[stage])


def active_ranks(table: ParallelTable, world: int) -> int:
    """How many of `world` ranks a layout takes whose sizes are all given; the others are hot spares. All of them where
    `dp_shard` takes what the others leave, or where the world is too small."""
    sizes = table.pp * table.dp_replicate * table.dp_shard * table.cp * table.tp
    return sizes if 0 < sizes <= world else world


def lay_out(table: ParallelTable, model: ModelConfig, train: TrainTable, world: int) -> Layout:
    """The layout of `world` ranks. Raises ValueError naming a size that does not fit and sizes that would."""
    others = table.pp * table.dp_replicate * table.cp * table.tp
    dp_shard = table.dp_shard if table.dp_shard > 0 else max(1, world // others)
    layout = Layout(**(table.model_dump() | {"dp_shard": dp_shard}))
    if layout.world != world:
        sizes = ", ".join(f"{name}={getattr(layout, name)}" for name in ("pp", "dp_replicate", "dp_shard", "cp", "tp"))
        fitting = f"dp_shard={world // others}" if world % others == 0 else f"a multiple of {others} ranks"
        raise ValueError(f"parallel: {sizes} make {layout.world} ranks, not {world}; {fitting} would fit")
    for problem in _problems(layout, model, train):
        raise ValueError(f"parallel.{problem}")
    return layout


def _problems(p: Layout, model: ModelConfig, train: TrainTable) -> Iterator[str]:
    yield from _tensor_problems(p, model)
    if p.ep > 1 or p.etp > 1:
        yield from _divides("ep", p.ep, {"num_experts": model.num_experts})
        if p.etp not in (1, p.tp):
            yield f"etp={p.etp}: it may be 1 or tp={p.tp}"
        yield from _divides("etp", p.etp, {"moe_intermediate_size": model.moe_intermediate_size})
        if p.token_ranks % (p.ep * p.etp):
            fitting = [n for n in range(1, model.num_experts + 1) if p.token_ranks % (n * p.etp) == 0]
            may = ", ".join(str(n) for n in fitting if model.num_experts % n == 0)
            yield f"ep={p.ep}: ep * etp must divide dp_shard * cp * tp = {p.token_ranks}; it may be {may or 'none'}"
    held = p.expert_shard
    if model.num_experts // p.ep < held and model.moe_intermediate_size // p.etp % held:
        yield (
            f"dp_shard={p.dp_shard}: {held} ranks share the same {model.num_experts // p.ep} experts, and their number "
            f"does not divide moe_intermediate_size={model.moe_intermediate_size}; a larger ep would do"
        )
    if p.cp > 1:
        yield from _divides("cp", 2 * p.cp * p.tp, {"train.sequence_length": train.sequence_length}, "2 * cp * tp")
    elif p.tp > 1:
        yield from _divides("tp", p.tp, {"train.sequence_length": train.sequence_length})
    if p.replica_groups > 1 and train.on_spike == "rewind":
        yield f"replica_groups={p.replica_groups}: train.on_spike=rewind would part the groups; it may be skip or stop"
    rows = p.rows_ranks * p.micro_batches
    if train.sequences % rows:
        yield (
            f"micro_batches={p.micro_batches}: {p.readers} * micro_batches = {rows} does not divide the "
            f"{train.sequences} sequences of a batch (train.batch_tokens / train.sequence_length); train.batch_tokens "
            f"may be any multiple of {rows * train.sequence_length}"
        )
    if train.first_sequences % p.rows_ranks:
        yield (
            f"dp_shard={p.dp_shard}: {p.readers} = {p.rows_ranks} does not divide the "
            f"{train.first_sequences} sequences of the first batch (train.batch_ramp_start / train.sequence_length); "
            f"train.batch_ramp_start may be any multiple of {p.rows_ranks * train.sequence_length}"
        )
    if train.objective == "preference" and train.sequences // rows % 2:
        yield (
            f"micro_batches={p.micro_batches}: dp_replicate * dp_shard * micro_batches = {rows} leaves "
            f"{train.sequences // rows} of the {train.sequences} sequences of a batch to each, and the answers of a "
            f"pair stay together; it must be an even number: train.batch_tokens may be any multiple of "
            f"{2 * rows * train.sequence_length}"
        )
    if p.pp > 1:
        yield from _pipeline_problems(p, model, train)
    elif p.stages_per_rank > 1:
        yield f"stages_per_rank={p.stages_per_rank}: without a pipeline (pp=1) it may be 1"


def _tensor_problems(p: Layout, model: ModelConfig) -> Iterator[str]:
    if p.tp == 1:
        return
    sizes = {"num_attention_heads": model.num_attention_heads}
    if model.latent is None:
        sizes["num_key_value_heads"] = model.num_key_value_heads
    if model.num_dense_layers:
        sizes["intermediate_size"] = model.intermediate_size
    if model.num_shared_experts:
        sizes["shared experts' size"] = model.num_shared_experts * model.moe_intermediate_size
    yield from _divides("tp", p.tp, sizes)


def _pipeline_problems(p: Layout, model: ModelConfig, train: TrainTable) -> Iterator[str]:
    if p.stages > model.num_hidden_layers:
        yield f"pp={p.pp}: {p.stages} stages for num_hidden_layers={model.num_hidden_layers}; at most one a layer"
    if p.schedule == "1F1B" and p.stages_per_rank != 1:
        yield f"stages_per_rank={p.stages_per_rank}: schedule 1F1B has one stage a rank"
    if p.schedule != "1F1B" and p.stages_per_rank < 2:
        yield f"stages_per_rank={p.stages_per_rank}: schedule {p.schedule} needs 2 (or more, if interleaved)"
    if p.schedule == "ZBVZeroBubble" and p.stages_per_rank != 2:
        yield f"stages_per_rank={p.stages_per_rank}: schedule ZBVZeroBubble has 2"
    if p.schedule == "ZBVZeroBubble" and p.spreads and model.tie_word_embeddings:
        # A rank has the first stage and the last, and FSDP shares the matrix out for each.
        yield (
            "schedule=ZBVZeroBubble: with several ranks a stage, not where the embedding is the head too "
            "(model.tie_word_embeddings); InterleavedZeroBubble would do"
        )
    if p.halves and train.activation_checkpointing == "selective":
        # Both halves compute a layer again; torch gives out what was kept of it only once.
        yield f"schedule={p.schedule}: train.activation_checkpointing may be none or full, not selective"
    if p.micro_batches % p.pp:
        yield f"micro_batches={p.micro_batches}: a pipeline needs a multiple of pp={p.pp}"
    smaller = train.sequences // train.first_sequences
    if p.micro_batches % (smaller * p.pp):
        # A micro-batch has the same rows from the first step on.
        yield (
            f"micro_batches={p.micro_batches}: a pipeline needs a multiple of {smaller * p.pp}, pp={p.pp} for the "
            f"first batch of train.batch_ramp, which is {smaller} times smaller"
        )


def _divides(name: str, size: int, wholes: dict[str, int], told: str | None = None) -> Iterator[str]:
    for what, whole in wholes.items():
        if whole % size:
            fitting = ", ".join(str(n) for n in range(1, min(whole, 1024) + 1) if whole % n == 0)
            yield f"{name}: {told or name} = {size} does not divide {what} = {whole}; it may be {fitting}"
