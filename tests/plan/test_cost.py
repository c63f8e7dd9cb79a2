"""Days, energy and money of a run, against published runs."""

import pytest

from troth.plan.clouds import clouds
from troth.plan.cost import Duration, duration, offers, power
from troth.plan.gpus import gpu_named


def test_llama_3_took_about_as_many_gpu_hours_as_published() -> None:
    # 15.6e12 tokens at 400 TFLOP/s a GPU of 16,384, 405e9 parameters: 30.84 million GPU-hours in all (model card).
    speed = 16_384 * 400e12 / (6 * 405e9)
    run = duration(15.6e12, speed, 16_384, goodput=0.9)
    assert run.gpu_hours == pytest.approx(30.84e6, rel=0.1)
    assert run.days == pytest.approx(run.gpu_hours / 16_384 / 24)


def test_a_node_of_h100s_draws_what_was_measured() -> None:
    shape = clouds()["azure"].shapes["ND96isr_H100_v5"]
    h100 = gpu_named("h100")
    training = power(h100, shape, pue=1, mfu=0.4)
    assert 8 * (training.gpu + training.host) == pytest.approx(0.76 * 10_200, rel=0.03)
    flat_out = power(h100, shape, pue=1, mfu=1)
    assert 8 * (flat_out.gpu + flat_out.host) == pytest.approx(8_400, rel=0.02)
    # About 150 MW were reported for sites of 100,000 H100s.
    assert power(h100, shape, pue=1.25, mfu=0.4).total * 100_000 == pytest.approx(150e6, rel=0.15)


def test_power_grows_with_work_and_stays_below_the_limit() -> None:
    shape = clouds()["oci"].shapes["BM.GPU.B200.8"]
    draws = [power(gpu_named("b200"), shape, 1.2, mfu / 10).gpu for mfu in range(11)]
    assert draws == sorted(draws)
    assert draws[0] > 0
    assert draws[-1] <= 1000


def test_a_run_is_priced_wherever_its_gpu_can_be_had() -> None:
    found = offers(Duration(days=10, gpus=1000), "h100", 0.4, clouds())
    assert {offer.cloud for offer in found} == {"azure", "oci", "on-premises"}
    paid = [offer.dollars for offer in found if offer.dollars is not None]
    assert len(paid) == len(found)
    assert paid == sorted(paid)
    rented = next(offer for offer in found if offer.cloud == "oci")
    assert rented.dollars == pytest.approx(125 * 80 * 240)
    assert rented.dollars_per_gpu_hour == pytest.approx(10)
    bought = next(offer for offer in found if offer.cloud == "on-premises")
    assert bought.terms == "bought, used up in 4 years"
    assert bought.dollars_per_gpu_hour is not None
    assert 1 < bought.dollars_per_gpu_hour < 3
    assert 200 < bought.energy < 400


def test_nodes_are_whole_and_a_place_without_a_price_comes_last() -> None:
    run = duration(1e9, 1e6, 9)
    assert all(offer.gpus == 16 for offer in offers(run, "h100", 0.4, clouds()))
    *priced, last = offers(run, "gb300", 0.4, clouds())
    assert {offer.cloud for offer in priced} == {"oci", "on-premises"}
    assert (last.cloud, last.terms, last.dollars) == ("azure", "no published price", None)
    assert last.energy > 0


def test_400000_h100s_are_more_than_one_published_network() -> None:
    found = {offer.cloud: offer for offer in offers(Duration(30, 400_000), "h100", 0.4, clouds())}
    assert found["oci"].networks == 25
    assert found["on-premises"].networks is None


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="tokens -1"):
        duration(-1, 1, 1)
    with pytest.raises(ValueError, match=r"goodput 1\.5"):
        duration(1, 1, 1, goodput=1.5)
    with pytest.raises(ValueError, match="mfu 40"):
        power(gpu_named("h100"), clouds()["oci"].shapes["BM.GPU.H100.8"], 1.1, 40)
