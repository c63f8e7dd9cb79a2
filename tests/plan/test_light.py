"""A plan answers at once: nothing of it loads torch."""

import subprocess
import sys
from pathlib import Path

import troth.plan


def test_no_part_of_the_planner_loads_torch() -> None:
    parts = sorted(file.stem for file in Path(troth.plan.__file__).parent.glob("*.py") if file.stem != "__init__")
    assert "goodput" in parts
    imports = "; ".join(f"import troth.plan.{part}" for part in parts)
    code = f"import sys; {imports}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
