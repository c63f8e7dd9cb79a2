"""What a token sees: its own document, backwards only, in sliding layers no further than the window."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from troth.model.attention import packed_attention


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_packed_documents_are_as_if_alone(shape, random_network, lengths):
    config = shape()
    model = random_network(config).double()
    random = torch.Generator().manual_seed(0)
    parts = [torch.randint(config.vocab_size, (size,), generator=random) for size in lengths]
    number = torch.cat([torch.full_like(part, i) for i, part in enumerate(parts)])[None]
    restarted = torch.cat([torch.arange(size) for size in lengths])[None]
    with torch.no_grad():
        alone = torch.cat([model(part[None])[0] for part in parts])
        packed = torch.cat(parts)[None]
        together = model(packed, packed_attention(config, number), restarted)[0]
        running = model(packed, packed_attention(config, number))[0]
    torch.testing.assert_close(together, alone, atol=1e-10, rtol=0)
    # Rotary positions count by their distance alone; where a document starts matters as little as float32 angles do.
    torch.testing.assert_close(running, alone, atol=1e-4, rtol=0)


def changed(model, tokens, at):
    """Which positions' hidden states change when the token `at` does."""
    other = tokens.clone()
    other[0, at] = (other[0, at] + 1) % model.config.vocab_size
    with torch.no_grad():
        return ((model(tokens) - model(other))[0].abs().amax(-1) > 1e-12).nonzero().flatten().tolist()


def test_nothing_sees_the_future(shape, random_network):
    model = random_network(shape()).double()
    tokens = torch.arange(40)[None]
    for at in (0, 20, 39):
        assert changed(model, tokens, at) == list(range(at, 40))


@pytest.mark.parametrize("window", [1, 4])
def test_a_sliding_layer_sees_its_window(shape, random_network, window):
    model = random_network(shape(num_hidden_layers=1, sliding_window=window)).double()
    assert changed(model, torch.arange(20)[None], 5) == list(range(5, 5 + window))


def test_only_sliding_layers_know_positions(shape, random_network):
    tokens, shuffled = torch.arange(12)[None], torch.arange(12)[None].clone()
    shuffled[0, :11] = tokens[0, :11].flip(0)
    with torch.no_grad():
        for every, same in ((1, True), (2, False)):
            model = random_network(shape(num_hidden_layers=1, global_attn_every_n_layers=every)).double()
            difference = (model(tokens) - model(shuffled))[0, -1].abs().max()
            assert (difference < 1e-12) == same


def test_wanted_states_are_those_of_the_whole(shape, random_network):
    model = random_network(shape()).double()
    tokens = torch.arange(30).view(2, 15)
    with torch.no_grad():
        whole = model(tokens)
        for wanted in ([], [14], [0, 3, 14]):
            torch.testing.assert_close(model(tokens, wanted_W=torch.tensor(wanted).long()), whole[:, wanted])
            narrow = model.float()(tokens, wanted_W=torch.tensor(wanted).long())
            torch.testing.assert_close(narrow.double(), whole[:, wanted], atol=1e-4, rtol=0)
            model.double()
