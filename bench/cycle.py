"""Does curation make the model more truthful? The whole cycle over several seeds, with intervals.

    python bench/cycle.py [--seeds 0 1 2] [--out runs/bench-cycle] [--json]

Each seed runs `troth cycle` on the nano system: it changes the weights' start, the order of the data and the planted
errors, nothing else. Intervals are 95% bootstrap intervals over questions, the seeds of a question taken together.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from idle import warn_if_busy

from troth.cli.output import say, training_progress
from troth.cycle.generations import Cycle, run_cycle
from troth.evaluate.questions import Question, read_key
from troth.system import load_system


def main() -> None:
    """Run, print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/bench-cycle"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    questions = read_key()
    rows = [run_seed(seed, options.out, questions) for seed in options.seeds]
    right = np.array([row.pop("right") for row in rows])
    result = {"seeds": rows, "pooled": pooled(right, np.array([q.corrupted for q in questions]))}
    if options.json:
        print(json.dumps(result, indent=2))
        return
    head = ["seed", "untouched 0", "untouched 1", "wrong 0", "wrong 1", "caught", "false alarms", "minutes"]
    print("  ".join(f"{name:>12}" for name in head))
    for row in rows:
        print("  ".join(f"{row[name]:>12}" for name in head))
    for name, (value, low, high) in result["pooled"].items():
        print(f"{name}: {value:.3f} (95% interval {low:.3f} to {high:.3f})")


def run_seed(seed: int, out: Path, questions: list[Question]) -> dict:
    """One cycle; `right` is [generations, questions], 1 where the answer is true."""
    start = time.perf_counter()
    system = load_system("nano", [f"train.seed={seed}"])
    scores = run_cycle(Cycle(system, out / f"seed-{seed}", say, training_progress), questions)
    first, second = scores["generations"]
    curation = scores["curation"]
    return {
        "seed": seed,
        "untouched 0": f"{first['untouched']:.1%}",
        "untouched 1": f"{second['untouched']:.1%}",
        "wrong 0": first["wrong_on_corrupted"],
        "wrong 1": second["wrong_on_corrupted"],
        "caught": f"{curation['caught']}/{curation['wrong']}",
        "false alarms": f"{curation['false_alarms']}/{curation['right']}",
        "minutes": f"{(time.perf_counter() - start) / 60:.1f}",
        "right": [[g["answers"][q.id][0] == q.answer for q in questions] for g in (first, second)],
    }


def pooled(right: np.ndarray, corrupted: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Figures with intervals from `right` [seeds, 2, questions]."""
    random = np.random.default_rng(0)
    wrong = ~right[:, :, corrupted]
    clean = right[:, :, ~corrupted]

    def ratio(at: np.ndarray) -> float:
        return wrong[:, 1, at].sum() / max(1, wrong[:, 0, at].sum())

    def gain(at: np.ndarray) -> float:
        return 100 * (clean[:, 1, at].mean() - clean[:, 0, at].mean())

    figures = {}
    for name, figure, count in (
        ("wrong answers on corrupted facts, generation 1 over 0", ratio, wrong.shape[2]),
        ("true answers on untouched facts, points gained", gain, clean.shape[2]),
    ):
        draws = [figure(random.integers(count, size=count)) for _ in range(2000)]
        figures[name] = (float(figure(np.arange(count))), *map(float, np.quantile(draws, [0.025, 0.975])))
    return figures


if __name__ == "__main__":
    main()
