"""Sizes of networks as the planner has them: those of Troth's systems, and published ones."""

import pytest

from troth.model.counts import count_parameters
from troth.plan.dimensions import Dimensions, network_named, resized
from troth.system import load_system, named_systems


@pytest.mark.parametrize("name", named_systems())
def test_a_system_has_the_parameters_that_are_counted_exactly_elsewhere(name: str) -> None:
    model = load_system(name).model
    counted, planned = count_parameters(model), Dimensions.of(model, name)
    # The planner leaves out norms and biases of attention, which take no time worth planning.
    assert planned.parameters == pytest.approx(counted.total, rel=1e-3)
    assert planned.active_parameters == pytest.approx(counted.active, rel=2e-3)


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("Grok-1 314B", 314e9, 84e9),
        ("Llama 3.1 405B (MLPerf)", 405e9, 405e9),
        ("DeepSeekV3", 671e9, 37e9),
        ("Kimi_K2", 1.04e12, 32e9),
        ("Qwen3_235B_a22B (tokendrop)", 235e9, 22e9),
        ("GPT OSS 120B", 117e9, 5.1e9 + 0.58e9),
        ("Nemotron4 340B", 340e9, 340e9),
        ("Llama 4 Maverick 400B", 400e9, 17e9),
        ("Llama 4 Scout", 109e9, 17e9),
        ("databricks/dbrx-base", 132e9, 36e9),
        ("DeepSeek-V2", 236e9, 21e9),
        ("allenai/OLMoE-1B-7B-0924", 6.9e9, 1.3e9),
        ("Qwen2-57B-A14B", 57e9, 14e9),
        ("mistralai/Mixtral-8x7B-v0.1", 46.7e9, 12.9e9),
    ],
)
def test_published_networks_have_the_size_in_their_name(name: str, total: float, active: float) -> None:
    network = network_named(name)
    assert network is not None
    assert network.parameters == pytest.approx(total, rel=0.03)
    assert network.active_parameters == pytest.approx(active, rel=0.04)


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-70B", "llama3.1_70b", "LLAMA3.1 70B (SFT)", "Llama 3 70B"])
def test_names_are_known_however_they_are_spelt(name: str) -> None:
    assert network_named(name) == network_named("Llama 3.1 70B")


def test_a_network_cut_for_a_benchmark_keeps_its_dense_layers() -> None:
    whole = network_named("DeepSeek-V3")
    assert whole is not None
    cut = resized(whole, 8)
    assert (cut.layers, cut.dense_layers, cut.moe_layers) == (8, 3, 5)
    assert network_named("a network that nobody published") is None


def test_windows_shorten_what_a_token_sees() -> None:
    flagship = Dimensions.of(load_system("flagship").model)
    full = flagship.layers - flagship.windows
    assert flagship.seen(131072) == pytest.approx((full * 65536 + flagship.windows * 4032) / flagship.layers, rel=0.001)
