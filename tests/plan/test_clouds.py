"""Shapes and prices of the places where GPUs can be had, and a user's own prices over them."""

from pathlib import Path

import pytest

from troth.plan.clouds import chosen, clouds
from troth.plan.gpus import gpu_named, gpus


def test_the_planned_gpus_can_be_had_on_both_clouds_and_on_premises() -> None:
    places = clouds()
    assert set(places) == {"azure", "oci", "on-premises"}
    for gpu in ("a100", "h100", "h200", "gb200", "gb300", "mi300x"):
        assert all(place.shapes_with(gpu) for place in places.values()), gpu
    shape = places["azure"].shapes["ND96isr_H100_v5"]
    assert (shape.gpus, shape.network.fabric, shape.network.rails) == (8, "InfiniBand NDR", True)
    assert places["oci"].shapes["BM.GPU.H100.8"].network.fabric == "RoCE v2"


def test_every_price_has_a_day_and_a_source_and_none_is_absurd() -> None:
    for cloud in clouds().values():
        for shape in cloud.shapes.values():
            assert shape.gpu in gpus()
            if shape.rent:
                assert 2024 <= shape.rent.date.year <= 2026
                assert shape.rent.source
                assert 1 < shape.rent.on_demand / shape.gpus < 40
                later = [price for price in (shape.rent.one_year, shape.rent.three_years) if price]
                assert [shape.rent.on_demand, *later] == sorted([shape.rent.on_demand, *later], reverse=True)
            if shape.purchase:
                assert 10_000 < shape.purchase.price / shape.gpus < 100_000


def test_a_shapes_name_stands_for_its_gpu() -> None:
    places = clouds()
    for cloud in ("azure", "oci"):
        for name, shape in places[cloud].shapes.items():
            assert gpu_named(name).name == shape.gpu


def test_a_file_of_prices_changes_single_entries(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(
        """
        [on-premises]
        electricity = 0.2
        [oci.shapes."BM.GPU.H100.8".rent]
        on_demand = 24.0
        date = 2026-10-01
        source = "our contract"
        [attic]
        pue = 1.9
        source = "mine"
        [attic.shapes.old]
        gpu = "H100-80GB"
        gpus = 2
        host_power = 300
        network = { fabric = "Ethernet", tiers = 1, oversubscription = 1, rails = false }
        """
    )
    places, shipped = clouds(prices), clouds()
    assert places["oci"].shapes["BM.GPU.H100.8"].rent.on_demand == 24.0  # type: ignore[union-attr]
    assert places["oci"].shapes["BM.GPU.H200.8"] == shipped["oci"].shapes["BM.GPU.H200.8"]
    assert places["on-premises"].electricity == 0.2
    assert list(places["attic"].shapes_with("h100")) == ["old"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[oci.shapes."BM.GPU.H100.8".rent]\non_demand = -3', "oci.shapes.BM.GPU.H100.8.rent.on_demand=-3"),
        ("[azure.shapes.ND96isr_H100_v5.rent]\nspot = 3", "azure.shapes.ND96isr_H100_v5.rent.spot: unknown key"),
        ("[azure]\npue = 0.9", "azure.pue=0.9"),
        ("[lake]\npue = 1.1", "lake.source: missing"),
        ('[azure.shapes.ND96isr_H100_v5]\ngpu = "h1000"', r"azure\.shapes\.ND96isr_H100_v5\.gpu='h1000': .*known are"),
        ("[azure", "prices.toml"),
        ("azure = 3", "azure=3"),
    ],
)
def test_a_wrong_entry_is_named_in_one_line(tmp_path: Path, text: str, named: str) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(text)
    with pytest.raises(ValueError, match=named) as caught:
        clouds(prices)
    assert "\n" not in str(caught.value)


def test_a_missing_file_of_prices_is_named() -> None:
    with pytest.raises(ValueError, match=r"--prices nowhere\.toml"):
        clouds(Path("nowhere.toml"))


def test_a_pod_is_what_switches_below_the_uppermost_join() -> None:
    azure = clouds()["azure"].shapes["ND96isr_H100_v5"]
    assert azure.pod == 32**2 * 8
    network = azure.network.model_copy(update={"rails": False, "tiers": 2})
    assert azure.model_copy(update={"network": network}).pod == 32
    assert azure.model_copy(update={"network": network.model_copy(update={"pod": 3072})}).pod == 3072


def test_a_cloud_is_chosen_by_place_and_shape() -> None:
    places, shape = chosen("azure:nd96isr_h100_v5", clouds())
    assert list(places) == ["azure"]
    assert list(places["azure"].shapes) == ["ND96isr_H100_v5"]
    assert shape.gpu == "h100"
    with pytest.raises(ValueError, match="--cloud moon:h100: expected PLACE:SHAPE, with a place of azure, oci, on-"):
        chosen("moon:h100", clouds())
    with pytest.raises(ValueError, match="--cloud azure:ND_H100_v5: azure has the shapes ND96asr_v4, "):
        chosen("azure:ND_H100_v5", clouds())
