"""Peak memory of `troth curate` by stage, as the kernel counts it (Linux).

One worker does all parts of all stages in the process that was started, so that its peak is that of a worker and of the
parent at once. The kernel's mark is read and set back (proc(5), clear_refs) whenever another stage begins to write.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_TICK = 0.02
_CURATE = "import sys; from troth.cli.main import main; sys.exit(main())"


def peaks(sources: Path, out: Path) -> dict[str, float]:
    """MiB at the peak of each stage, in their order, while `sources` are curated into `out`.

    What runs before a stage has written anything counts to the one before it. Raises ValueError where curation fails.
    """
    command = [sys.executable, "-c", _CURATE, "curate", str(sources), "--out", str(out), "--workers", "1"]
    found: dict[str, float] = {}
    stage = "start"
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as told,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told, text=True) as process,
    ):
        while process.poll() is None:
            peak = _peak(process.pid)
            found[stage] = max(found.get(stage, 0.0), peak)
            begun = [one for one in _begun(out) if one not in found]
            if begun:
                stage = begun[-1]
                with suppress(OSError):  # it may have ended
                    Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="utf-8")
            time.sleep(_TICK)
        told.seek(0)
        if not (out / "report.json").exists():
            raise ValueError(f"troth curate failed: {told.read().strip()[-500:]}")
    return found


def _begun(out: Path) -> list[str]:
    """The stages that have written something, in the order in which they began."""
    folders = [(one.stat().st_ctime, one.name) for one in (out / "work").glob("*") if one.is_dir()]
    names = [name for _, name in sorted(folders)]
    return [*names, "ledger"] if (out / "ledger").exists() else names


def _peak(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
