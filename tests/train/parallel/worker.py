"""Trains one run after another on all ranks of a torchrun: `worker.py JOB` with a JSON file of what to do."""

import json
import os
import sys
import time
from pathlib import Path

import torch

from troth.model.chat_template import ChatTemplate
from troth.model.config import ModelConfig
from troth.model.tokenizer import Tokenizer
from troth.system import ParallelTable, TrainTable
from troth.train.job import documents_job
from troth.train.parallel.ranks import joined
from troth.train.trainer import train
from troth.train.tuning import chats_job, preferences_job


def main(job: Path) -> None:
    torch.set_num_threads(1)
    told = json.loads(job.read_text(encoding="utf-8"))
    tokenizer = Tokenizer.load(Path(told["tokenizer"]))
    with joined() as ranks:
        for case in told["cases"]:

            def report(metrics, case=case):
                time.sleep(case.get("pause", 0.0))
                if metrics.step == case.get("killed_at"):
                    os.abort()
                once = Path(case.get("killed_once", "/"))
                if metrics.step >= 20 and not once.exists():
                    once.touch()
                    os.abort()

            model, settings = ModelConfig(**case["model"]), TrainTable(**case["train"])
            start = Path(case["start"]) if "start" in case else None
            parallel = ParallelTable(**case["parallel"])
            if settings.objective == "documents":
                job = documents_job(
                    model, settings, told["weights"], tokenizer, told["shards"], held_out=told["held_out"],
                    parallel=parallel, start=start,
                )  # fmt: skip
            else:
                tuned = chats_job if settings.objective == "chat" else preferences_job
                template = ChatTemplate.for_tuning(start, tokenizer)
                examples = Path(case["examples"])
                job = tuned(model, settings, tokenizer, examples, start, template, examples, parallel=parallel)
            train(job, Path(case["run"]), report, ranks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
