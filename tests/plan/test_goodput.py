"""Goodput in closed form and played event by event; what was published; how it falls with scale."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from troth.plan.failures import failure_rate
from troth.plan.goodput import (
    Replicas,
    Restart,
    Saving,
    Spares,
    Strategy,
    all_groups_lost,
    erlang_loss,
    goodput,
    replica_goodput,
    restart_goodput,
    spares_needed,
)
from troth.plan.recovery import Storage, goodput_by_scale, saving, strategies
from troth.plan.simulation import simulate

LLAMA3 = failure_rate("llama3")


@pytest.mark.parametrize("gpus", [16_384, 131_072, 400_000])
@pytest.mark.parametrize(
    "strategy",
    [
        Restart(600),
        Spares(nodes=300, seconds=180, repair=86_400),
        Spares(nodes=20, seconds=180, repair=8 * 3600),
        Replicas(groups=64, heal=900, pause=15),
        Replicas(groups=8, heal=600, pause=15),
    ],
    ids=str,
)
def test_formula_and_simulation_agree(gpus: int, strategy: Strategy) -> None:
    saves = Saving(stall=3, write=40)
    expected = goodput(LLAMA3, gpus, saves, strategy)
    played = simulate(expected.mtbf, saves, expected.interval, strategy, 20_000, np.random.default_rng(gpus))
    assert played.error < 0.01
    assert abs(played.share - expected.share) < 4 * played.error


def test_llama_3_made_progress_more_than_nine_tenths_of_the_time() -> None:
    # A checkpoint of 405e9 parameters: bf16 weights, fp32 master weights and two moments.
    saves = saving(405e9 * 14, 16_384, step=40, storage=Storage())
    ways = strategies(405e9 * 14, 16_384, LLAMA3.mtbf(16_384), 40, 128, 50e9, Storage())
    assert 0.9 < goodput(LLAMA3, 16_384, saves, ways["restart the world"]).share < 0.96


def test_at_400000_gpus_only_replica_groups_are_left() -> None:
    saves = saving(14e12, 400_000, step=15, storage=Storage())
    ways = strategies(14e12, 400_000, LLAMA3.mtbf(400_000), 15, 97, 50e9, Storage())
    found = {name: goodput(LLAMA3, 400_000, saves, way) for name, way in ways.items()}
    assert found["restart the world"].share < 0.3
    assert found["restart the world"].share < found["hot spares"].share < found["replica groups"].share
    assert found["replica groups"].share > 0.9
    assert found["hot spares"].of_paid < found["hot spares"].share


def test_ettr_of_the_published_formula_where_failures_are_rare() -> None:
    # 2410.21680: 1 - N r (u0 + dt / 2), over 1 + w / dt.
    mtbf, restart, interval, stall = 50_000.0, 300.0, 600.0, 5.0
    published = (1 - (restart + interval / 2) / mtbf) / (1 + stall / interval)
    assert restart_goodput(mtbf, Saving(stall), interval, restart) == pytest.approx(published, abs=2e-4)


def test_a_write_must_end_before_the_next_save() -> None:
    with pytest.raises(ValueError, match="interval 10 s"):
        restart_goodput(1000, Saving(stall=1, write=60), 10, 60)
    with pytest.raises(ValueError, match="pause 90 s"):
        replica_goodput(1000, Saving(1), 100, Replicas(groups=4, heal=60, pause=90))


def test_hopeless_runs_make_no_progress_and_one_group_alone_has_no_peer() -> None:
    assert restart_goodput(mtbf=1, saving=Saving(10, write=5000), interval=6000, restart=600) == 0
    with pytest.raises(ValueError, match="replica groups 1"):
        replica_goodput(1000, Saving(1), 100, Replicas(groups=1, heal=60, pause=1))
    alone = strategies(1e12, 1024, LLAMA3.mtbf(1024), 15, 1, 50e9, Storage())
    assert list(alone) == ["restart the world", "hot spares"]


def test_spares_are_enough_when_the_pool_hardly_ever_runs_dry() -> None:
    assert erlang_loss(2, 1.0) == pytest.approx(0.2)  # (1 / 2) / (1 + 1 + 1 / 2)
    mtbf, repair = LLAMA3.mtbf(400_000), 86_400.0
    needed = spares_needed(mtbf, repair)
    assert repair / mtbf < needed < 1.3 * repair / mtbf
    assert erlang_loss(needed + 1, repair / mtbf) <= 0.001 < erlang_loss(needed, repair / mtbf)


def test_losing_all_groups_at_once_is_rare_unless_they_are_few() -> None:
    mtbf = LLAMA3.mtbf(400_000)
    assert all_groups_lost(mtbf, Replicas(groups=97, heal=600, pause=15)) > 1e9
    assert all_groups_lost(mtbf, Replicas(groups=1000, heal=600, pause=15)) == np.inf
    assert all_groups_lost(mtbf, Replicas(groups=2, heal=600, pause=15)) < 3600
    # One group alone is lost whenever it fails while it is there.
    alone = Replicas(groups=1, heal=60, pause=15)
    assert all_groups_lost(1000, alone) == pytest.approx(1000 * np.exp(60 / 1000))


def test_goodput_falls_with_scale_for_every_strategy_least_for_replica_groups() -> None:
    gpus = 4096 * np.array([1, 2, 4, 8, 16, 32, 64, 97])
    curves = goodput_by_scale(LLAMA3, gpus, 14e12, 15, group_gpus=4096, peer_bandwidth=50e9, storage=Storage())
    assert list(curves) == ["restart the world", "hot spares", "replica groups"]
    for name, curve in curves.items():
        assert curve.share.shape == curve.of_paid.shape == curve.mtbf.shape == gpus.shape
        known = ~np.isnan(curve.share)
        # There are no peers below two groups.
        assert known.tolist() == ([count >= 2 * 4096 for count in gpus] if name == "replica groups" else [True] * 8)
        assert all(larger < smaller for smaller, larger in pairwise(curve.share[known]))
        assert ((curve.of_paid[known] > 0) & (curve.of_paid[known] <= curve.share[known])).all()
    last = [curve.share[-1] for curve in curves.values()]
    assert last == sorted(last)


GOODPUT = {"mtbf": st.floats(100, 1e7), "restart": st.floats(0, 3000), "stall": st.floats(0.01, 100)}


@given(**GOODPUT, longer=st.floats(1.01, 10))
def test_restart_goodput_grows_with_mtbf_and_falls_with_every_loss(
    mtbf: float, restart: float, stall: float, longer: float
) -> None:
    def best(mtbf: float, saves: Saving, restart: float) -> float:
        return restart_goodput(mtbf, saves, saves.best_interval(mtbf), restart)

    saves = Saving(stall, write=30)
    share = best(mtbf, saves, restart)
    assert 0 <= share < 1
    assert best(mtbf * longer, saves, restart) >= share
    assert best(mtbf, Saving(stall * longer, write=30), restart) <= share
    assert best(mtbf, Saving(stall, write=30 * longer), restart) <= share
    assert best(mtbf, saves, restart * longer) <= share


@given(groups=st.integers(2, 400), mtbf=st.floats(100, 1e6), heal=st.floats(30, 3000), part=st.floats(0, 1))
@example(groups=6, mtbf=100.0, heal=1072.0, part=1.0)
def test_replica_goodput_falls_with_healing_and_pauses(groups: int, mtbf: float, heal: float, part: float) -> None:
    def share(mtbf: float, heal: float, pause: float) -> float:
        return replica_goodput(mtbf, Saving(1), 100, Replicas(groups, heal, pause))

    here = share(mtbf, heal, heal * part)
    assert 0 <= here < 1
    # With pauses neither need hold where groups are mostly away: then they leave and join more often the more they are
    # there, and less often the longer they are away.
    assert share(mtbf * 2, heal, 0) >= share(mtbf, heal, 0)
    if heal <= mtbf * groups:
        assert share(mtbf * 2, heal, heal * part) >= here
    assert share(mtbf, heal * 2, 0) <= share(mtbf, heal, 0)
    assert share(mtbf, heal, heal * part / 2) >= here


def test_a_simulation_repeats_from_its_seed() -> None:
    runs = [simulate(500, Saving(3), 60, Restart(60), 4000, np.random.default_rng(7)) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0].failures == 4000
