"""The process below which the workers of a stage run, on one of datatrove's executors.

It leads a group of processes and ends the whole group when the pipe from its parent closes. Whatever an executor starts
and leaves behind (datatrove's local one a manager process), nothing of it outlives a parent that was killed.
"""

import gc
import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import multiprocess
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from troth.curate.execute import Job, do_part
from troth.curate.memory import give_back_freed_memory

_POLL = 15.0
_GARBAGE = 50_000
"""Objects between two searches for cycles of garbage, of which rows of data make none: Python's 700 take a twelfth of a
worker's time."""


class Work(PipelineStep):
    """datatrove's step that works on the part of its task."""

    name = "part"
    type = "troth"

    def __init__(self, job: Job):
        super().__init__()
        self.job = job

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Any:
        if Path(self.job.cwd).is_dir():
            os.chdir(self.job.cwd)
        gc.set_threshold(_GARBAGE)
        give_back_freed_memory()
        do_part(self.job.work, self.job.parts, self.job.todo[rank])
        return ()


class _Slurm(SlurmPipelineExecutor):
    """What is not given stays out of the script, where sbatch's environment variables decide."""

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        given = super().get_sbatch_args(max_array)
        left_out = ("partition", "time", "mem-per-cpu")
        return {key: value for key, value in given.items() if key not in left_out}

    def launch_merge_stats(self) -> None:
        """No job for datatrove's own statistics, which nobody reads here."""


def main(description: str) -> None:
    """Run the stage that a pickled `Job` describes."""
    Thread(target=_end_with_parent, daemon=True).start()
    job: Job = pickle.loads(Path(description).read_bytes())
    common = {
        "pipeline": [Work(job)],
        "tasks": len(job.todo),
        "logging_dir": str(job.parts.folder / "log"),
        "skip_completed": False,
    }
    match job.how.kind:
        case "local":
            # On Linux workers are forked from this process, which has all they need imported, starts no thread but one
            # that waits, and holds no locks; elsewhere from a server that imports it again.
            how = "fork" if sys.platform == "linux" else "forkserver"
            multiprocess.set_forkserver_preload([__name__, getattr(job.work, "func", job.work).__module__])
            LocalPipelineExecutor(**common, workers=job.workers, start_method=how).run()
        case "ray":
            _on_ray(job, common)
        case "slurm":
            _on_slurm(job, common)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _on_ray(job: Job, common: dict[str, Any]) -> None:
    import ray

    own: dict[str, Any] = {"include_dashboard": False, "num_cpus": job.workers}
    ray.init(log_to_driver=False, configure_logging=False, **({} if os.environ.get("RAY_ADDRESS") else own))
    cores = int(ray.cluster_resources().get("CPU", 1))
    workers = min(job.how.workers or cores, len(job.todo))
    RayPipelineExecutor(**common, workers=workers, mem_per_cpu_gb=0).run()
    ray.shutdown()


def _on_slurm(job: Job, common: dict[str, Any]) -> None:
    """Submit an array job and wait until none of it is left; one that an earlier run left behind is cancelled."""
    if not shutil.which("sbatch"):
        raise SystemExit("slurm: there is no sbatch on this machine; run where jobs are submitted, or --executor local")
    place = hashlib.sha256(str(job.parts.folder).encode()).hexdigest()[:8]
    name = f"troth-{job.parts.stage}-{place}"
    _call("scancel", "--name", name)
    binaries = os.path.dirname(sys.executable)
    _Slurm(
        **common, workers=job.how.workers or -1, time="", partition="", qos="", job_name=name, with_srun=False,
        requeue=False, env_command=f'export PATH="{binaries}:$PATH"',
    ).run()  # fmt: skip
    while _call("squeue", "--noheader", "--name", name):
        time.sleep(_POLL)


def _call(*command: str) -> str:
    """What a command of Slurm prints; a failure counts as a queue that does not answer."""
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "no answer"
