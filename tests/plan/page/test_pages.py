"""What pages say is what the plans say, and they need nothing but themselves."""

import re
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(params=["training", "fleet"])
def made(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_a_page_asks_nobody_for_anything(made: Any) -> None:
    assert not re.findall(r"https?://|//\w+\.\w+/|@import|url\(|<script", made.page)
    links = [given for _, attributes in made.parsed.elements for key, given in attributes.items()
             if key in ("src", "href", "action", "poster", "srcset")]  # fmt: skip
    assert links == ["data:,"]


def test_pictures_have_words_for_those_who_do_not_see_them(made: Any) -> None:
    pictures = [attributes for tag, attributes in made.parsed.elements if tag == "svg"]
    assert len(pictures) >= 3
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    assert all(rows[0] and len({len(row) for row in rows}) == 1 for rows in made.parsed.tables.values())
    assert [tag for tag, _ in made.parsed.elements if tag == "h1"] == ["h1"]


def test_a_training_page_has_the_plan_s_numbers(training: Any) -> None:
    plan, tables = training.plan, training.parsed.tables
    best = plan["candidates"][0]
    layouts = tables["The fastest layouts"][1:]
    assert [row[9] for row in layouts] == [f"{one['seconds']:.3f}" for one in plan["candidates"]]
    time = {row[0]: row[1:] for row in tables["A step's time by part"][1:]}
    assert set(time) == {name for name, seconds in best["parts"].items() if seconds > 0}
    assert all(time[name][0] == f"{best['parts'][name]:.3f}" for name in time)
    assert sum(float(row[0]) for row in time.values()) == pytest.approx(best["seconds"], abs=0.01)
    memory = tables["Memory of a GPU by kind"][1:]
    assert [row[1] for row in memory[:-1]] == [f"{size / 1e9:.2f}" for size in best["memory"].values()]
    assert sum(float(row[1]) for row in memory) == pytest.approx(plan["gpu"]["memory"] / 1e9, abs=0.05)
    ways = tables["Ways to go on after a failure"][1:]
    assert [row[1] for row in ways] == [f"{found['share']:.1%}" for found in plan["goodputs"].values()]
    offers = tables["What the run costs in each place"][1:]
    assert [row[5] for row in offers] == [
        "" if offer["dollars"] is None else f"{offer['dollars_per_gpu_hour']:.2f}" for offer in plan["offers"]
    ]
    scaling = tables["The same batch on fewer GPUs, fastest layout each"][1:]
    assert scaling[-1][1] == f"{best['seconds']:.3f}"
    assert [float(row[1]) for row in scaling] == sorted((float(row[1]) for row in scaling), reverse=True)
    for key, value in best["table"].items():
        assert f"{key} = " in training.parsed.text
        assert str(value) in training.parsed.text
    assert f"{plan['duration']['days']:,.1f} days" in training.parsed.text


def test_a_fleet_s_page_has_the_plan_s_numbers(fleet: Any) -> None:
    plan, tables = fleet.plan, fleet.parsed.tables
    what = {row[0]: row[1:] for row in tables["What each region has"][1:]}
    assert {name: row[7] for name, row in what.items()} == {r["name"]: f"{r['gpus']:,}" for r in plan["regions"]}
    waits = {row[0]: row[-1] for row in tables["Waits at a region's busiest hour; TTFT with the network"][1:]}
    assert waits == {r["name"]: f"{r['percentiles']['within']:.1%}" for r in plan["regions"]}
    costs = tables["Cost, on average over a day"]
    assert costs[-1][:2] == ["all", f"{plan['cost_per_hour']:,.0f}"]
    assert [row[1] for row in tables["A region is lost at the worst hour"][1:]] == ["frankfurt", "eastus"]
    assert len(tables["Round trips of the network"]) == 3
    assert all(region["autoscaling"] in fleet.parsed.text for region in plan["regions"])


def test_extrapolation_is_said_where_it_is_one(training: Any) -> None:
    assert training.plan["extrapolated"]
    assert "No published run in the planner's tables is larger than 16,384 GPUs" in training.parsed.text


def test_a_single_gpu_has_a_page_too(make: Any, tmp_path: Path) -> None:
    """No pipeline, no fewer GPUs and no second replica group to draw, and nothing extrapolated."""
    made = make(tmp_path, ["train", "--system", "nano", "--gpus", "1"])
    assert "None: every rank has all layers." in made.parsed.text
    assert len(made.parsed.tables["The same batch on fewer GPUs, fastest layout each"]) == 2
    assert "Extrapolated" not in made.parsed.text
    assert "A range, not a promise" in made.parsed.text
