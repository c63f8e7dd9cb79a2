"""Trains one run after another on all ranks of a torchrun: `worker.py JOB` with a JSON file of what to do."""

import json
import os
import sys
from pathlib import Path

import torch

from troth.model.config import ModelConfig
from troth.model.tokenizer import Tokenizer
from troth.system import ParallelTable, TrainTable
from troth.train.job import documents_job
from troth.train.parallel.ranks import joined
from troth.train.trainer import train


def main(job: Path) -> None:
    torch.set_num_threads(1)
    told = json.loads(job.read_text())
    tokenizer = Tokenizer.load(Path(told["tokenizer"]))
    with joined() as ranks:
        for case in told["cases"]:

            def report(metrics, case=case):
                if metrics.step == case.get("killed_at"):
                    os.abort()

            job = documents_job(
                ModelConfig(**case["model"]), TrainTable(**case["train"]), told["weights"], tokenizer, told["shards"],
                parallel=ParallelTable(**case["parallel"]),
                start=Path(case["start"]) if "start" in case else None,
            )
            train(job, Path(case["run"]), report, ranks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
