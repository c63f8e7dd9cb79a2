"""Regions of both clouds by any of their names, and round trips against published ones."""

import pytest

from troth.plan.regions import distance, region_named, regions, round_trip, route, user_round_trip


@pytest.mark.parametrize(
    ("name", "city"),
    [
        ("eastus", "Ashburn"),
        ("East US", "Ashburn"),
        ("us-ashburn-1", "Ashburn"),
        ("frankfurt", "Frankfurt"),
        ("germanywestcentral", "Frankfurt"),
        ("eu-frankfurt-1", "Frankfurt"),
        ("uksouth", "London"),
        ("JapanEast", "Tokyo"),
        ("sao paulo", "Sao Paulo"),
        ("sa-saopaulo-1", "Sao Paulo"),
    ],
)
def test_a_region_goes_by_either_clouds_name_and_its_citys(name: str, city: str) -> None:
    assert region_named(name).city == city


def test_an_unknown_region_is_answered_with_near_names() -> None:
    with pytest.raises(ValueError, match="region frankfrut: unknown; near it: frankfurt") as caught:
        region_named("frankfrut")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="known are"):
        region_named("!!")


def test_no_two_regions_share_a_name_and_both_clouds_are_covered() -> None:
    names = [name for region in regions().values() for name in (*region.azure, *region.oci)]
    assert len(names) == len(set(names))
    assert sum(bool(region.azure) for region in regions().values()) >= 25
    assert sum(bool(region.oci) for region in regions().values()) >= 25


def test_round_trips_are_near_the_published_ones() -> None:
    found = route()
    assert 1.1 < found.factor < 1.6
    assert 0.001 < found.fixed < 0.01
    assert found.error < 0.08
    assert found.worst < 0.4
    assert found.held_out < 0.08
    assert found.source


@pytest.mark.parametrize(
    ("one", "other", "milliseconds"),
    [("eastus", "westeurope", 86), ("eastus", "centralindia", 196), ("francecentral", "japaneast", 218)],
)
def test_round_trips_of_azure_that_were_not_fitted(one: str, other: str, milliseconds: float) -> None:
    assert round_trip(region_named(one), region_named(other)) * 1e3 == pytest.approx(milliseconds, rel=0.1)


def test_ways_are_symmetric_and_follow_the_cables() -> None:
    tokyo, frankfurt, ashburn = (region_named(name) for name in ("tokyo", "frankfurt", "ashburn"))
    assert distance(tokyo, frankfurt) == distance(frankfurt, tokyo)
    # The great circle over Siberia is 9,360 km; no cable goes there.
    assert distance(tokyo, frankfurt) > 14e6
    assert distance(tokyo, frankfurt) <= distance(tokyo, ashburn) + distance(ashburn, frankfurt)
    assert distance(ashburn, ashburn) == 0
    assert all(distance(ashburn, region) < 25e6 for region in regions().values())


def test_users_wait_for_their_last_mile_too() -> None:
    london, ashburn = region_named("uksouth"), region_named("eastus")
    assert 0.005 < user_round_trip(london, london) < 0.03
    assert user_round_trip(london, ashburn) > round_trip(london, ashburn) > 0.06
