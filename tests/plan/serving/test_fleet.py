"""The fleet: regions, days, failures and what the command prints."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from troth.cli.main import main
from troth.plan.gpus import gpu_named
from troth.plan.serving.autoscale import DAY, TICK, Scaling, follow, takeover
from troth.plan.serving.fleet import Assumptions, FleetPlan, plan_fleet
from troth.plan.serving.region import Site
from troth.plan.serving.replica import Targets
from troth.plan.serving.sites import sites_from
from troth.plan.serving.traffic import Traffic
from troth.system import load_system, named_systems

QUICK = Assumptions(requests=500)


def plan(system: str = "flagship", users: int = 100_000, sites: tuple[Site, ...] = (), **more: Any) -> FleetPlan:
    sites = sites or (Site("east", 0.6, -5, 3.0), Site("west", 0.4, -8, 3.0))
    network = {one.name: {other.name: 0.02 if one is other else 0.08 for other in sites} for one in sites}
    given: dict[str, Any] = {"targets": Targets(0.5, 0.05, 0.5), "assumed": QUICK} | more
    return plan_fleet(load_system(system).model, gpu_named("h100"), users, list(sites), network, **given)


@pytest.fixture(scope="module")
def fleet() -> FleetPlan:
    return plan()


def test_a_fleet_meets_what_it_is_planned_for(fleet: FleetPlan) -> None:
    assert fleet.planned.ttft == pytest.approx(0.48)
    for region in fleet.regions:
        assert region.percentiles.ttft[0] + region.network <= fleet.targets.ttft
        assert region.percentiles.tpot[1] <= fleet.targets.tpot
        assert region.percentiles.within > 0.5
        assert region.least <= region.at_peak <= region.most
        assert region.gpus_at_peak <= region.gpus
        assert region.day.late_share < 0.05
    assert fleet.gpus == sum(region.gpus for region in fleet.regions)


def test_users_are_those_of_their_region(fleet: FleetPlan) -> None:
    east, west = fleet.regions
    assert (east.users, west.users) == (60_000, 40_000)
    answering = fleet.planned.ttft + fleet.mean_answer * fleet.planned.tpot
    assert east.peak_rate == pytest.approx(60_000 / (60 + answering))


def test_twice_the_users_take_twice_the_gpus(fleet: FleetPlan) -> None:
    twice = plan(users=200_000)
    assert twice.gpus == pytest.approx(2 * fleet.gpus, rel=0.1)
    assert twice.cost_per_hour == pytest.approx(2 * fleet.cost_per_hour, rel=0.15)


def test_one_user_takes_no_prefill_for_a_full_replica() -> None:
    """A replica of huge GPUs may decode answers of one token for thousands that compute prompts."""
    few = plan(users=1, traffic=Traffic(answer=1, question=60), targets=Targets(0.5, 1.0, 0.9))
    assert all(region.prefills <= 1 for region in few.regions)
    assert few.gpus <= 2 * (few.choice.decode.gpus + (few.choice.prefill.gpus if few.choice.prefill else 0))


def test_the_same_seed_gives_the_same_plan(fleet: FleetPlan) -> None:
    assert plan() == fleet


def test_a_lost_region_is_taken_over_by_the_other(fleet: FleetPlan) -> None:
    east, west = fleet.regions
    assert east.failover
    assert east.failover.to == "west"
    assert east.failover.added_network == pytest.approx(0.06)
    assert east.failover.after > east.failover.before
    assert np.isfinite(east.failover.recovery)
    assert west.most * fleet.choice.rate >= east.failover.after, "the other may grow to serve all"
    alone = plan(sites=(Site("east", 1.0, -5, 3.0),))
    assert alone.regions[0].failover is None
    assert any("one region" in warning for warning in alone.warnings)


def test_a_target_out_of_reach_is_named_and_another_planned() -> None:
    found = plan(targets=Targets(0.05, 0.05, 0.99))
    assert "a first token within 50 ms cannot be had for 99% of requests" in found.warnings[0]
    assert "the smallest reachable is" in found.warnings[0]
    assert found.planned.ttft > 0.05
    assert found.within < 0.9


@pytest.mark.parametrize("system", ["flagship", "mini"])
def test_the_printed_table_is_what_serve_reads(system: str, tmp_path: Path) -> None:
    for region in plan(system).regions:
        table = tomllib.loads(region.autoscaling)["serve"]
        text = (Path(sys.modules["troth.system"].__path__[0]) / f"{system}.toml").read_text()
        (tmp_path / "system.toml").write_text(f"{text}\n{region.autoscaling}\n")
        serve = load_system(str(tmp_path / "system.toml")).serve
        assert serve.autoscaling
        assert serve.autoscaling.max_replicas == region.most == table["autoscaling"]["max_replicas"]
        assert serve.autoscaling.target_requests <= serve.max_batch


def test_every_named_system_has_a_plan() -> None:
    for name in named_systems():
        assert plan(name, users=2000, targets=Targets(2, 0.1, 0.5)).gpus > 0


def test_replicas_follow_a_day_with_a_lag() -> None:
    hours = np.arange(0, DAY, TICK) / 3600
    load = 100 * (1 + 0.5 * np.sin(hours * np.pi / 12))
    quick = Scaling(1, 40, 5.0, 6.0, look_back=60, up=5, down=300, start=60)
    day = follow(quick, load)
    assert day.late_share == 0
    assert load.mean() / 5 <= day.mean <= load.mean() / 5 * 1.1
    assert day.most == 30
    step = np.where(hours < 12, 100.0, 200.0)
    slow = follow(Scaling(1, 40, 5.0, 6.0, look_back=60, up=5, down=300, start=600), step)
    assert slow.longest_wait > follow(quick, step).longest_wait > 0
    assert follow(Scaling(1, 20, 5.0, 6.0, 60, 5, 300, 60), step).longest_wait > 1000, "too few are allowed"


def test_takeover_counts_the_queue_that_forms() -> None:
    scaling = Scaling(1, 50, 5.0, 6.0, look_back=60, up=5, down=300, start=60)
    assert takeover(scaling, 100, 110) == (0.0, 0.0), "within the replicas' limit"
    recovery, wait = takeover(scaling, 100, 200)
    assert recovery > 125
    assert wait == pytest.approx((200 - 20 * 6) * 125 / (40 * 6))
    assert takeover(Scaling(1, 20, 5.0, 6.0, 60, 5, 300, 60), 100, 200)[0] == float("inf")


def test_regions_by_the_names_of_clouds() -> None:
    sites, network = sites_from("eastus:3,germanywestcentral:1", "h100")
    assert [(site.name, site.share, site.utc_offset) for site in sites] == [
        ("eastus", 0.75, -5), ("germanywestcentral", 0.25, 1)
    ]  # fmt: skip
    assert network["eastus"]["germanywestcentral"] > 0.07 > network["eastus"]["eastus"] > 0
    assert sites[0].price > 1
    again = [sites_from(name, "h100")[0][0].price for name in ("eastus", "EASTUS", "East US")]
    assert len(set(again)) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--regions", "atlantis"], "atlantis"),
        (["--regions", "eastus,eastus"], "different regions"),
        (["--regions", "eastus:a,frankfurt:1"], "share"),
        (["--regions", "eastus:-1,frankfurt:1"], "above 0"),
        (["--regions", "eastus:nan,frankfurt:1"], "shares must be above 0"),
        (["--gpu", "h900"], "h900"),
        (["--gpu", "b200"], "no price in azure; oci has one in us-ashburn-1"),
        (["--gpu", "a100"], "--weights float8: a100 has no such products; it may be bf16, int8, int4"),
        (["--system", "grok-1", "--weights", "bf16"], "up to 8 h100 with 80 GB each holds them"),
        (["--system", "grok-1", "--weights", "bf16"], "GPUs with more memory, as none has more GPUs than experts"),
        (["--ttft", "fast"], "--ttft fast"),
        (["--users", "-5"], "users=-5"),
        (["--weights", "float4"], "float4"),
        (["--weights", "bf17"], "bf17"),
        (["--cache", "int3"], "int3"),
        (["--replica-gpus", "4"], "holds them"),
        (["--system", "nowhere"], "nowhere"),
        (["--think", "0"], "think=0"),
        (["--think", "nan"], "think=nan"),
        (["--document-share", "2"], "document_share=2.0: must lie between 0 and 1"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["troth", "plan", "serve", "--users", "1000", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert says in printed.err


def test_the_command_prints_a_plan_without_torch() -> None:
    code = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
    code += "from troth.cli.main import main; main()"
    arguments = ["plan", "serve", "--users", "1000000", "--regions", "eastus,frankfurt", "--ttft", "300ms"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"
    assert "[serve.autoscaling]" in done.stdout
    assert "GPUs at most" in done.stdout


def test_programs_read_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["troth", "plan", "serve", "--users", "5000", "--system", "mini", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["regions"][0]["name"] == "eastus"
    assert found["gpus"] > 0
