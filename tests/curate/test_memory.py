"""Memory that a stage has freed is the kernel's again, though others' blocks lie between."""

import platform
import subprocess
import sys

import pytest

HOLDS_MUCH_AND_FREES_IT = """
import sys
import numpy as np
from troth.curate.memory import give_back_freed_memory
import pyarrow

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

if sys.argv[1] == "gives back":
    give_back_freed_memory()
before = held()
largest = np.ones(30 << 20, np.uint8)
del largest  # glibc now takes blocks of this size for small ones
blocks = [np.ones(1 << 20, np.uint8) for _ in range(200)]
kept = blocks[::20]
del blocks
print(pyarrow.default_memory_pool().backend_name, round(held() - before))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has another allocator")
@pytest.mark.parametrize(("way", "least", "most"), [("as it is", 100, 250), ("gives back", 0, 30)])
def test_what_was_freed_is_given_back(way: str, least: int, most: int):
    command = [sys.executable, "-c", HOLDS_MUCH_AND_FREES_IT, way]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pool, held = told.split()
    assert pool == "system"
    assert least <= int(held) <= most, "MiB"
