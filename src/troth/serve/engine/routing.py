"""Which experts work on a step's wanted tokens, to colour a text by (as in Mixtral, 2401.04088, figure 8).

The routers are watched from outside, and only in steps where a request asks.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from troth.model.decoder import Decoder


@contextmanager
def first_choices(model: Decoder, wanted: list[int]) -> Iterator[list[torch.Tensor]]:
    """While open, each mixture-of-experts layer adds the experts that it chooses first, [wanted], to the list."""
    chosen: list[torch.Tensor] = []

    def observe(_: torch.Tensor, chosen_Nk: torch.Tensor) -> None:
        first_N = chosen_Nk[:, 0]
        # The last layer works on the wanted tokens alone, and the compiled runner tells of these alone.
        chosen.append(first_N if len(first_N) == len(wanted) else first_N[wanted])

    layers = model.moe_layers()
    for moe in layers:
        moe.observe = observe
    try:
        yield chosen
    finally:
        for moe in layers:
            moe.observe = None
