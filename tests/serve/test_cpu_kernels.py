"""Which compiled library is used, and that those for other processors give the same numbers."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from troth.model.config import ModelConfig
from troth.serve.engine.cpu import library
from troth.serve.engine.cpu.library import KERNELS, load
from troth.serve.engine.cpu.pack import WIDE, number_of
from troth.serve.engine.cpu.runner import CpuRunner, why_not
from troth.serve.engine.kv_quantise import KVCacheDtype

from .steps import IN_8_BIT, LATENTS, NETWORKS, WHOLE, Text, cache, network, scores, together


@pytest.mark.parametrize(
    ("name", "kind", "kept"),
    [(name, *kinds) for name in ("native", "Grok", "gpt-oss", "DeepSeek-V3") for kinds in WHOLE + IN_8_BIT],
)
def test_every_processor_gives_the_same_scores(
    config: ModelConfig, texts: list[Text], name: str, kind: str, kept: KVCacheDtype,
    choose_kernels: Callable[[str], None],
):  # fmt: skip
    """Bit by bit, where bfloat16 is widened: sums are in one order on all of them."""
    model = network(config, (NETWORKS | LATENTS)[name])
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    found = []
    for kernels in KERNELS:
        with suppress(pytest.skip.Exception):
            choose_kernels(kernels)
            if dtype == torch.float32 or number_of("bfloat16") == WIDE:
                found.append(scores(CpuRunner(model, cache(model, dtype, kept), kind, 900, 2), together(texts)))
    if len(found) < 2:
        pytest.skip("this processor runs one library of these, or multiplies bfloat16 in pairs")
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_the_environment_chooses_the_library(config: ModelConfig, choose_kernels, monkeypatch: pytest.MonkeyPatch):
    plainest = KERNELS[-1]
    choose_kernels(plainest)
    assert Path(load()._name).name.startswith(f"_kernels_{plainest}.")
    assert number_of("bfloat16") == WIDE, "widened: AVX2 and NEON have no products of bfloat16"
    monkeypatch.setenv("TROTH_KERNELS", "none")
    load.cache_clear()
    assert load() is None
    assert why_not(config).startswith("no compiled library")
    monkeypatch.setenv("TROTH_KERNELS", "sse")
    load.cache_clear()
    with pytest.raises(ValueError, match=f"TROTH_KERNELS='sse': {', '.join(KERNELS)} and none are known"):
        load()


@pytest.mark.parametrize("flags", ["-march=armv8.2-a+dotprod", "-march=armv8-a"])
def test_the_sources_compile_for_arm(flags: str):
    """Where there is a compiler for it: Debian's g++-aarch64-linux-gnu."""
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if compiler is None:
        pytest.skip("no compiler for ARM")
    source = Path(library.__file__).parent / "native" / "library.cpp"
    strict = "-Wall", "-Wextra", "-Werror", "-fsyntax-only"
    subprocess.run([compiler, "-std=c++20", *strict, flags, str(source)], check=True)
