"""Whether the machine is idle enough to time something: other programs on the cores ruin a measurement."""

import os
import sys
import time


def busy_share(seconds: float = 1.0) -> float:
    """Share of all cores that other programs keep busy just now (Linux); the load average a core elsewhere."""
    try:
        before, after = _ticks(), (time.sleep(seconds), _ticks())[1]
    except OSError:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    idle, total = (b - a for a, b in zip(before, after, strict=True))
    return 1 - idle / max(1, total)


def warn_if_busy() -> None:
    """Say so where more than a twentieth of the machine is taken."""
    share = busy_share()
    if share > 0.05:
        warning = f"warning: other programs use {share:.0%} of the machine; timings below are not to be trusted"
        print(warning, file=sys.stderr)


def _ticks() -> tuple[int, int]:
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    return fields[3] + fields[4], sum(fields)
