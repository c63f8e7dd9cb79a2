"""Jobs of fine-tuning: a model's folder goes on, on chats or on preferences, and leaves with the chat template that it
was tuned with."""

import hashlib
import math
from pathlib import Path
from typing import Any

from troth.model.chat_template import ChatTemplate
from troth.model.config import ModelConfig
from troth.model.tokenizer import Tokenizer
from troth.system import TrainTable
from troth.train.chats import Chats
from troth.train.examples import Examples
from troth.train.job import Job
from troth.train.preference import Preferences


def chats_job(
    model: ModelConfig, train: TrainTable, tokenizer: Tokenizer, examples: Path, start: Path, template: ChatTemplate,
    held_out: Path | None = None, **more: Any,
) -> Job:  # fmt: skip
    """Learn what the assistant says in the chats that `tokenise_chats` wrote into the folder `examples`, and look at
    those that are `held_out`; `more` are further fields of the job. Raises ValueError where none fits into a
    sequence."""
    return _job(Chats, model, train, tokenizer, examples, start, template, held_out, **more)


def preferences_job(
    model: ModelConfig, train: TrainTable, tokenizer: Tokenizer, examples: Path, start: Path, template: ChatTemplate,
    held_out: Path | None = None, **more: Any,
) -> Job:  # fmt: skip
    """Learn which answer is preferred, of the pairs that `tokenise_preferences` wrote into the folder `examples`; else
    as `chats_job`."""
    return _job(Preferences, model, train, tokenizer, examples, start, template, held_out, **more)


def _job(
    kind: type[Chats] | type[Preferences], model: ModelConfig, train: TrainTable, tokenizer: Tokenizer, examples: Path,
    start: Path, template: ChatTemplate, held_out: Path | None, **more: Any,
) -> Job:  # fmt: skip
    rows, *looked_at = (
        kind(Examples(folder), time=train.sequence_length, seed=train.seed, padding=tokenizer.end_of_text)
        for folder in (examples, *([] if held_out is None else [held_out]))
    )
    if train.epochs is not None:
        train = train.model_copy(update={"steps": math.ceil(train.epochs * rows.epoch_rows / train.sequences)})
    data = {"examples": rows.examples.sha256, "chat_template": hashlib.sha256(template.source.encode()).hexdigest()}
    return Job(
        model, train, tokenizer, rows, data, start=start, chat_template=template.source,
        held_out=dict(zip(["examples"], looked_at, strict=False)), **more,
    )  # fmt: skip
