"""A plan answers at once: nothing of it loads torch, nor what only a page needs."""

import subprocess
import sys
from pathlib import Path

import troth.plan


def test_no_part_of_the_planner_loads_torch() -> None:
    folder = Path(troth.plan.__file__).parent
    files = [file.relative_to(folder).with_suffix("") for file in folder.rglob("*.py") if file.stem != "__init__"]
    parts = sorted(".".join(file.parts) for file in files)
    assert {"goodput", "page.svg", "serving.fleet"} <= set(parts)
    imports = "; ".join(f"import troth.plan.{part}" for part in parts)
    code = f"import sys; {imports}; print([name for name in ('torch', 'jinja2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
