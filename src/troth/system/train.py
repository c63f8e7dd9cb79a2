"""[train]: the recipe of one training run."""

from typing import Literal

from pydantic import Field, model_validator

from troth.system.table import Table


class PreferenceTable(Table):
    """Direct preference optimisation: `beta` is how dear it is to leave the model that one starts from, and
    `label_smoothing` how often a preference is taken to be the wrong way round."""

    beta: float = Field(default=0.1, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)


class LoRATable(Table):
    """Only thin matrices beside the weights are trained, by `adam_lr`: W + `alpha` / `rank` * B A. `patterns` name the
    parts that have them, by their names or the ends of these (`*` stands for anything); all linear layers and routed
    experts where not given."""

    rank: int = Field(default=16, gt=0)
    alpha: float = Field(default=32.0, gt=0)
    patterns: list[str] | None = Field(default=None, min_length=1)


class TrainTable(Table):
    """What is learned (`objective`) is documents, the assistant's `answers` in chats (all of a chat or its last), or
    which of two answers is preferred, as `preference` has it. `lora`, where given, is how fine-tuning leaves the
    weights as they are. With `epochs`, which fine-tuning may have, so often is everything read, however many `steps`
    that takes. `batch_tokens` and `sequence_length` are in tokens. `optimizer` is that of the matrices inside layers;
    all else has AdamW. Learning rates (`muon_lr`, `adam_lr`) are peaks of the `schedule`, and it ends at `lr_floor`
    times these; `warmup`, `decay` (which cosine does without) and `batch_ramp` are shares of all steps. While it ramps,
    a batch grows from `batch_ramp_start` tokens, an eighth of a batch where not given. `sequence_balance` and
    `mtp_weight` weigh losses beside that of the next token: that of rows whose tokens all want the same experts, and
    that of the `mtp_depth` tokens after the next, which in the last `decay` of the steps weighs `mtp_decay_weight`
    where that is given. `fill_in_middle` is the share of sequences trained with a blank. With full
    `activation_checkpointing` a layer keeps its input only and is computed again for its gradient; with selective, it
    keeps the results of products too. With `precision` float8 the products of attention, dense feed-forwards and shared
    experts are in 8 bits, where the device has such, and all others in bf16. In `float64`, which is for proofs, weights
    are of that dtype too. The finished model is written in `export_dtype`. `checkpoints` is the folder or URL
    (s3://bucket/run) that they go to, in place of the run folder's own. `on_spike` says what happens where the loss or
    the gradient jumps or is no number: this update is left out, the run goes back to its last checkpoint and leaves out
    the data, or it ends. A rank that has not moved for `hang_seconds` is named and, with `end_hanging`, ended, so that
    torchrun starts anew.

    Weights decay by `weight_decay` times the rate, and gradients of a larger norm than `clip` are brought to it.
    `balance_rate` is what a step adds to or takes from an expert's bias, and `z_loss` weighs the squared logarithm of
    the sum of scores (PaLM). Every `log_every` steps there is a report, every `eval_every`, and at the end,
    the loss on what is held out, where anything is, every `checkpoint_every` a checkpoint, of which the newest
    `keep_checkpoints` stay. `seed` decides first weights, the order of rows and, in curation, planted errors."""

    steps: int = Field(gt=0)
    epochs: float | None = Field(default=None, gt=0)
    batch_tokens: int = Field(gt=0)
    sequence_length: int = Field(gt=1)
    objective: Literal["documents", "chat", "preference"] = "documents"
    answers: Literal["all", "last"] = "all"
    preference: PreferenceTable = PreferenceTable()
    lora: LoRATable | None = None
    optimizer: Literal["muon", "adamw"] = "muon"
    muon_lr: float = Field(default=0.02, gt=0)
    adam_lr: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["wsd", "cosine"] = "wsd"
    lr_floor: float = Field(default=0.0, ge=0, le=1)
    warmup: float = Field(default=0.05, ge=0, le=1)
    decay: float = Field(default=0.3, ge=0, le=1)
    batch_ramp: float = Field(default=0.0, ge=0, le=1)
    batch_ramp_start: int | None = Field(default=None, gt=0)
    clip: float = Field(default=1.0, gt=0, allow_inf_nan=True)
    balance_rate: float = Field(default=1e-3, ge=0)
    sequence_balance: float = Field(default=0.0, ge=0)
    z_loss: float = Field(default=0.0, ge=0)
    mtp_weight: float = Field(default=0.0, ge=0)
    mtp_decay_weight: float | None = Field(default=None, ge=0)
    mtp_depth: int = Field(default=1, gt=0)
    fill_in_middle: float = Field(default=0.0, ge=0, le=1)
    precision: Literal["auto", "float32", "bf16", "float8", "float64"] = "auto"
    export_dtype: Literal["float32", "bfloat16"] = "float32"
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    checkpoints: str | None = Field(default=None, min_length=1)
    checkpoint_every: int = Field(default=200, gt=0)
    keep_checkpoints: int = Field(default=2, gt=0)
    log_every: int = Field(default=10, gt=0)
    eval_every: int = Field(default=200, gt=0)
    on_spike: Literal["skip", "rewind", "stop"] = "skip"
    hang_seconds: float = Field(default=300.0, ge=120)
    end_hanging: bool = False
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "TrainTable":
        if self.batch_tokens < self.sequence_length:
            raise ValueError(f"batch_tokens={self.batch_tokens} is less than sequence_length={self.sequence_length}")
        if not self.sequences:
            raise ValueError(
                f"batch_tokens={self.batch_tokens} is less than 2 * sequence_length={2 * self.sequence_length}: each "
                "answer of a pair has a row"
            )
        if self.batch_ramp and (not self.first_sequences or self.sequences % self.first_sequences):
            raise ValueError(
                f"batch_ramp: {self.sequences} sequences of a batch are no multiple of the {self.first_sequences} "
                f"that it starts with; set batch_ramp_start to a divisor's tokens, such as {self.sequence_length}"
            )
        if self.epochs is not None and (self.objective == "documents" or self.batch_ramp):
            raise ValueError(f"epochs={self.epochs}: for objective chat or preference without batch_ramp; set steps")
        if self.objective == "preference" and (self.mtp_weight or self.batch_ramp):
            raise ValueError("objective='preference': goes without mtp_weight and batch_ramp; leave both at 0")
        if self.mtp_weight and self.mtp_depth >= self.sequence_length:
            raise ValueError(f"mtp_depth={self.mtp_depth}: no sequence of {self.sequence_length} tokens goes on so far")
        if self.lora is not None and self.precision == "float8":
            raise ValueError("precision='float8': goes without lora, whose layers are computed in bf16; use bf16")
        if self.lora is not None and self.mtp_weight:
            raise ValueError(f"mtp_weight={self.mtp_weight}: with lora only adapters learn; leave it at 0")
        return self

    @property
    def sequences(self) -> int:
        """Rows of a full batch; of preferences a row for each answer of a pair."""
        rows = self.batch_tokens // self.sequence_length
        return rows - rows % 2 if self.objective == "preference" else rows

    @property
    def first_sequences(self) -> int:
        """Rows of the smallest batch, of which the others have multiples."""
        if not self.batch_ramp:
            return self.sequences
        start = self.batch_tokens // 8 if self.batch_ramp_start is None else self.batch_ramp_start
        return start // self.sequence_length
