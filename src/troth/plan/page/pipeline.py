"""The picture of a pipeline's step: ranks by time, a box for each forward and backward pass of a micro-batch."""

from dataclasses import dataclass
from html import escape

from troth.plan.page.schedule import Box, schedule

BOXES = 4000
"""Drawn at most; beyond, every so many-th rank is."""
ROW = 22
WIDTH = 900
MARGIN = 58


@dataclass(frozen=True)
class Picture:
    """The drawing, and what it leaves out of the step: `micro_batches` and `ranks` are those drawn. idle: the share of
    the time in which a rank of the whole step waits, the bubble."""

    svg: str
    micro_batches: int
    ranks: int
    idle: float


def pipeline(ranks: int, chunks: int, micro_batches: int, backward: float = 2.0) -> Picture:
    """The step of a pipeline; of one with more micro-batches than two rounds a shorter one with its beginning and end,
    for between them all rounds are alike. Of a very large one a single round."""
    rounds = 2 if 4 * ranks * chunks * min(ranks, 4) <= BOXES else 1
    drawn = min(micro_batches, rounds * ranks)
    boxes = schedule(ranks, chunks, drawn, backward)
    end = max(box.end for box in boxes)
    shown = list(range(0, ranks, -(-ranks // max(BOXES // (2 * chunks * drawn), 1))))
    shown[-1] = ranks - 1
    idle = (ranks - 1) / (ranks - 1 + micro_batches * chunks)
    return Picture(_draw(boxes, shown, chunks, end), drawn, len(shown), idle)


def _draw(boxes: list[Box], shown: list[int], chunks: int, end: float) -> str:
    scale = (WIDTH - MARGIN) / end
    rows = {rank: row for row, rank in enumerate(shown)}
    paths: dict[tuple[bool, int], list[str]] = {}
    numbers = []
    for box in boxes:
        if box.rank not in rows:
            continue
        x, y, width = MARGIN + box.start * scale, rows[box.rank] * ROW, (box.end - box.start) * scale
        chunk = box.stage // (max(shown) + 1)
        piece = f"M{x:.1f} {y}h{max(width - 0.7, 0.4):.1f}v{ROW - 3}H{x:.1f}z"
        paths.setdefault((box.backward, chunk), []).append(piece)
        if width >= 13:
            numbers.append(f'<text x="{x + width / 2:.1f}" y="{y + 14}">{box.micro_batch + 1}</text>')
    drawn = []
    for (back, chunk), pieces in sorted(paths.items()):
        what = f"{'backward' if back else 'forward'}, stage {chunk + 1} of {chunks} of each rank"
        shade = 1 - 0.65 * chunk / chunks
        drawn.append(
            f'<path class="{"backward" if back else "forward"}" fill-opacity="{shade:.2f}" d="{"".join(pieces)}">'
            f"<title>{escape(what)}</title></path>"
        )
    height = ROW * len(shown)
    ground = f'<rect class="ground" x="{MARGIN}" width="{WIDTH - MARGIN}" height="{height - 3}"/>'
    names = "".join(f'<text class="name" x="0" y="{row * ROW + 14}">rank {rank}</text>' for rank, row in rows.items())
    label = f"A step of the pipeline: {len(shown)} ranks from top to bottom, time from left to right"
    return (
        f'<svg class="pipeline" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{ground}{names}'
        f'{"".join(drawn)}<g class="numbers">{"".join(numbers)}</g></svg>'
    )
