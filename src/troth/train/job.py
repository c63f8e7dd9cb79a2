"""What a run trains on what: everything that decides its result, but for the weights it has reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from troth.model.config import ModelConfig
from troth.model.families.configs import to_hf_config
from troth.model.tokenizer import CHAT_TEMPLATE, Tokenizer
from troth.system import ParallelTable, Stage, System, TrainTable
from troth.train.batches import Batch, Batches, Windows
from troth.train.branch import Branch, more_rows
from troth.train.lora import lora_names
from troth.train.schedule import rows_before
from troth.train.shards import CACHE_BYTES, open_shards

ALONE = ParallelTable()


class Rows(Protocol):
    """Rows of a run, numbered from its first to its last; a pure function of the number, so that any ranks may read
    any of them."""

    def rows(self, first: int, last: int) -> Batch:
        """Rows from `first` up to `last`, which is left out."""
        ...


class Epoch(Rows, Protocol):
    """Rows of which the first `epoch_rows` hold everything once; `version`, a checksum, tells them from others."""

    @property
    def version(self) -> str: ...

    @property
    def epoch_rows(self) -> int: ...


@dataclass(frozen=True)
class Job:
    """`rows` are what is learned, `data` says which they are (sizes, weights, checksums), so that a run is not
    continued on others; `held_out`, by collection, is only looked at, every `train.eval_every` steps. Training starts
    from random weights, or from those in the folder `start`."""

    model: ModelConfig
    train: TrainTable
    tokenizer: Tokenizer
    rows: Rows
    data: dict[str, Any]
    parallel: ParallelTable = ALONE
    start: Path | None = None
    chat_template: str | None = CHAT_TEMPLATE
    """That of the finished model; without, its tokenizer's settings stay as they are."""
    system: System | None = None
    """Of which model, train and parallel are tables, for the record."""
    held_out: Mapping[str, Epoch] = field(default_factory=dict)
    branch: Branch | None = None
    """Where it begins, if not at its first step."""

    def __post_init__(self) -> None:
        """Raises ValueError where the family cannot express the shape, so that it could not be exported, a sequence
        has more tokens than the network positions, or adapters have nothing to adapt."""
        to_hf_config(self.model, "float32", self.tokenizer.end_of_text)
        check_length(self.model, self.train)
        if self.branch is not None:
            self.branch.check(self.train)
        if self.train.lora is not None:
            lora_names(self.model, self.train.lora.patterns)
            if self.start is None:
                raise ValueError("train.lora: adapters are of a model that is there; name its folder (--from)")


def check_length(model: ModelConfig, train: TrainTable) -> None:
    """Raises ValueError where a sequence has more tokens than the network positions."""
    if train.sequence_length > model.max_position_embeddings:
        raise ValueError(
            f"train.sequence_length={train.sequence_length}: the network has "
            f"model.max_position_embeddings={model.max_position_embeddings}"
        )


def documents_job(
    model: ModelConfig, train: TrainTable, weights: Mapping[str, float], tokenizer: Tokenizer, shards: str | Path,
    stages: Sequence[Stage] = (), cache: Path | None = None, cache_bytes: int = CACHE_BYTES,
    held_out: str | Path | None = None, branch: Branch | None = None, **more: Any,
) -> Job:  # fmt: skip
    """Learn the documents in a folder or at a URL of token shards, read by `weights`, which `stages` change, and look
    at those that are `held_out`; `more` are further fields of the job. From a URL shards are kept in the folder
    `cache`, at most `cache_bytes` of each."""
    collections = open_shards(shards, cache, cache_bytes)
    rows = Batches(
        collections, weights, tokenizer, time=train.sequence_length, fill_in_middle=train.fill_in_middle,
        seed=train.seed, rows=rows_before(train.steps, train) + more_rows(branch, train), stages=stages,
    )  # fmt: skip
    data = {
        "tokens": {name: collection.size for name, collection in collections.items()},
        "versions": {name: collection.version for name, collection in collections.items()},
        "weights": dict(weights),
        "stages": [stage.model_dump(by_alias=True) for stage in stages],
    }
    looked_at = _windows(held_out, rows, cache, cache_bytes)
    return Job(model, train, tokenizer, rows, data, held_out=looked_at, branch=branch, **more)


def _windows(shards: str | Path | None, like: Batches, cache: Path | None, cache_bytes: int) -> Mapping[str, Epoch]:
    """All documents of the shards, by collection. Raises ValueError where there are none."""
    if shards is None:
        return {}
    found = open_shards(shards, cache and cache / "held_out", cache_bytes)
    windows = {
        name: Windows(collection, like.begin, like.time) for name, collection in found.items()
        if any(collection.epoch_tokens(file) for file in range(len(collection.files)))
    }  # fmt: skip
    if not windows:
        raise ValueError(f"{shards}: no documents are held out in it")
    return windows
