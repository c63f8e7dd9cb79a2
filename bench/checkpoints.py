"""How fast are checkpoints saved and loaded, beside what the disk and the memory give?

    python bench/checkpoints.py [--gigabytes 2] [--folder runs/bench-checkpoints] [--json]

`held up` is how long training waits for a save: the copy to memory set aside. The disk is written and synced, and read
again from the cache, by the same number of bytes in the same run, without any format or checksum.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from idle import warn_if_busy
from xxhash import xxh3_128

from troth.train.checkpoints import Checkpoints


def main() -> None:
    """Run, print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-checkpoints"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    tensors = 16
    state = {f"w{n}": torch.randn(int(options.gigabytes * 1e9 / 4 / tensors)) for n in range(tensors)}
    speeds = measure(state, options.folder)
    shutil.rmtree(options.folder)
    if options.json:
        print(json.dumps(speeds, indent=2))
        return
    for what, speed in speeds.items():
        print(f"{what:32} {speed:8.2f} GB/s")


def measure(state: dict[str, torch.Tensor], folder: Path) -> dict[str, float]:
    """Gigabytes per second of each way to move the state; the best of three where the disk decides."""
    size = sum(tensor.nbytes for tensor in state.values()) / 1e9
    checkpoints = Checkpoints(folder / "checkpoints", keep=1)
    speeds: dict[str, list[float]] = {}

    def timed(what: str, do: Callable[[], object]) -> None:
        start = time.perf_counter()
        do()
        speeds.setdefault(what, []).append(size / (time.perf_counter() - start))

    for step in range(1, 5):
        start = time.perf_counter()
        checkpoints.save(step, state)
        held_up = size / (time.perf_counter() - start)
        checkpoints.wait()
        whole = size / (time.perf_counter() - start)
        timed("disk: written and synced", lambda: write_raw(state, folder / "raw"))
        timed("disk: read again", (folder / "raw").read_bytes)
        timed("checksum", lambda: [xxh3_128(tensor.numpy()) for tensor in state.values()])
        timed("loaded and verified", lambda: checkpoints.load(state, print))
        if step > 1:  # The first save takes the memory that the others use again.
            speeds.setdefault("save: held up", []).append(held_up)
            speeds.setdefault("save: until complete", []).append(whole)
    checkpoints.close()
    return {what: max(values) for what, values in speeds.items()}


def write_raw(state: dict[str, torch.Tensor], path: Path) -> None:
    """The same bytes, nothing else."""
    with path.open("wb") as file:
        for tensor in state.values():
            file.write(tensor.numpy())
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
