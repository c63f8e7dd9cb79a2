"""The order in which a pipeline computes, box by box: 1F1B and interleaved 1F1B (2104.04473, section 2.2), with the
warm-up that torch's schedules give each rank, which is what training runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rank computes one of its stages for a micro-batch, forward or backward, from `start` to `end`, where a
    micro-batch takes a rank 1 forward, all its stages together."""

    rank: int
    stage: int
    micro_batch: int
    backward: bool
    start: float
    end: float


def order(rank: int, ranks: int, chunks: int, micro_batches: int) -> list[tuple[int, int, bool]]:
    """What a rank does, in turn: stage, micro-batch, and whether it is the backward pass.

    A rank has `chunks` stages: rank, rank + ranks, and so on. Micro-batches go through them in rounds of as many as
    there are ranks. Raises ValueError where `micro_batches` do not divide into rounds.
    """
    rounds = max(micro_batches // ranks, 1)
    if micro_batches % rounds:
        raise ValueError(f"{micro_batches} micro-batches over {ranks} ranks: expected a multiple of {ranks}")
    together = micro_batches // rounds
    whole = micro_batches * chunks
    warm_up = ranks - 1 - rank if chunks == 1 else (chunks - 1) * together + 2 * (ranks - 1 - rank)
    warm_up = min(warm_up, whole)

    def turn(k: int, backward: bool) -> tuple[int, int, bool]:
        chunk = k // together % chunks
        chunk = chunks - 1 - chunk if backward else chunk
        return chunk * ranks + rank, k // (together * chunks) * together + k % together, backward

    forwards = [turn(k, False) for k in range(whole)]
    backwards = [turn(k, True) for k in range(whole)]
    steady = [one for pair in zip(forwards[warm_up:], backwards, strict=False) for one in pair]
    return forwards[:warm_up] + steady + backwards[whole - warm_up :]


def schedule(ranks: int, chunks: int, micro_batches: int, backward: float = 2.0) -> list[Box]:
    """All boxes of a step, every one as early as its rank's order and the boxes that it needs allow; `backward` is how
    long a backward pass takes over a forward one."""
    left = [list(reversed(order(rank, ranks, chunks, micro_batches))) for rank in range(ranks)]
    done: dict[tuple[int, int, bool], float] = {}
    free = [0.0] * ranks
    boxes: list[Box] = []
    while any(left):
        before = len(boxes)
        for rank, turns in enumerate(left):
            while turns and (ready := _ready(turns[-1], done, ranks * chunks)) is not None:
                stage, micro_batch, back = turns.pop()
                start = max(free[rank], ready)
                free[rank] = start + (backward if back else 1.0) / chunks
                done[stage, micro_batch, back] = free[rank]
                boxes.append(Box(rank, stage, micro_batch, back, start, free[rank]))
        assert len(boxes) > before, "ranks wait for each other"
    return boxes


def _ready(turn: tuple[int, int, bool], done: dict[tuple[int, int, bool], float], stages: int) -> float | None:
    """When what a turn needs is there, the stage before it or after it on the way back; None until that is done."""
    stage, micro_batch, backward = turn
    if not backward:
        return 0.0 if stage == 0 else done.get((stage - 1, micro_batch, False))
    if stage == stages - 1:
        return done.get((stage, micro_batch, False))
    return done.get((stage + 1, micro_batch, True))
