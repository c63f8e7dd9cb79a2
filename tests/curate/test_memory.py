"""Memory that a stage has freed is the kernel's again, though others' blocks lie between, and caches go with it."""

import platform
import subprocess
import sys

import numpy as np
import pytest

from troth.curate.collect.storage import filesystem
from troth.curate.filter.language import forget, language
from troth.curate.memory import sweep
from troth.curate.validate.store import analyzer, stem_number

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


def test_a_sweep_empties_what_grew_and_keeps_what_was_made_once():
    analyzer().analyze("rivers")
    for number in range(2000):
        stem_number(f"stem {number}")
    sweep()
    assert stem_number.cache_info().currsize == 0
    assert analyzer.cache_info().currsize == 1
    assert filesystem.cache_info().maxsize < 1000, "connections stay"


def test_names_by_which_c_code_asked_go_with_a_sweep():
    sweep()
    before = sys.getallocatedblocks()
    kept = [(f"{number:010}", np.cumsum([number])) for number in range(5000)]
    del kept
    sweep()
    assert sys.getallocatedblocks() - before < 100


def test_the_model_of_languages_comes_back_when_it_is_asked_for():
    text = "Der Fluss ist lang, und an seinem Ufer steht seit vielen Jahren eine alte Mühle."
    before = language(text)
    forget()
    assert language(text) == before
