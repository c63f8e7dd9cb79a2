"""What a run was made by and on: code version, packages, devices, environment variables without secrets."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import troth

_VARIABLES = (
    "CUDA_", "CUBLAS_", "GLOO_", "GOMP_", "KMP_", "LOCAL_WORLD_SIZE", "MKL_", "NCCL_", "NVIDIA_", "OMP_", "OPENBLAS_",
    "PYTHONHASHSEED", "PYTORCH_", "SLURM_JOB", "SLURM_NNODES", "TORCHDYNAMO_", "TORCHINDUCTOR_", "TORCH_", "UCX_",
)  # fmt: skip
"""Beginnings of the names of variables that may change what a run computes, or how fast."""

_SECRET = re.compile(r"(^|_)(AUTH|CREDENTIALS?|JWT|KEY|PASSWORD|PASSWD|SECRET|TOKEN)(_|$)")
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")


def code_version() -> dict[str, Any]:
    """Troth's version; and in a checkout of git, the commit and whether files of the package are not as in it."""
    version: dict[str, Any] = {"troth": troth.__version__}
    package = Path(troth.__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(package), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # Not so where an environment lies in some other checkout.
        return version | {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.CalledProcessError):
        return version


def environment() -> dict[str, Any]:
    """Python, torch, platform, devices, versions of what is installed, variables, ranks and the command line.

    Variables with a name of secrets are left out, and so are names and passwords in addresses.
    """
    variables = {
        name: _IN_ADDRESS.sub("", value)
        for name, value in sorted(os.environ.items())
        if name.startswith(_VARIABLES) and not _SECRET.search(name)
    }
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "devices": devices(),
        "world_size": dist.get_world_size() if dist.is_initialized() else 1,
        "command": [_IN_ADDRESS.sub("", word) for word in sys.argv],
        "variables": variables,
        "packages": packages(),
    }


@cache
def packages() -> dict[str, str]:
    """Versions of what is installed, by name: half a second's reading, and what is loaded stays as it is."""
    read = [item.metadata for item in importlib.metadata.distributions()]
    return dict(sorted(((about["Name"] or "").lower(), about["Version"]) for about in read))


def devices() -> list[str]:
    """Names of this machine's accelerators, or, without any, of its processor."""
    if torch.cuda.is_available():
        return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else None
    name = found[1] if found else platform.processor() or platform.machine()
    return [f"{name}, {os.cpu_count()} threads"]
