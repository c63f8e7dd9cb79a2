"""How large a batch still pays: estimates of the critical batch, and what strong scaling leaves a rank of a fixed one.

The model of McCandlish et al. (1812.06162): steps S and tokens E to a loss trade off as (S / S_min - 1)(E / E_min - 1)
= 1, so a run at batch B takes 1 + B / B_crit times the fewest tokens and 1 + B_crit / B times the fewest steps.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class CriticalBatch:
    """Tokens of a batch, by the law in the middle and the least and greatest of all laws that apply.

    laws: each one's estimate by its name. extrapolated: the tokens are beyond what any of them was fitted to.
    """

    low: float
    middle: float
    high: float
    laws: dict[str, float]
    extrapolated: bool


@dataclass(frozen=True)
class BatchCost:
    """What a batch costs over a tiny one in tokens, and over a boundless one in steps, to the same loss."""

    tokens: float
    steps: float
    extra_tokens: float
    extra_steps: float


FITTED_TOKENS = 1e11
"""No law below was fitted to runs of many more tokens than this."""


def critical_batch(tokens: float) -> CriticalBatch:
    """For a run of so many tokens.

    Two laws of data are within a third of each other; model size matters little to either. Zhang et al. (2410.21676):
    22.91 x (millions of tokens)^0.47 rows of 512, the batch at which steps are 20% above linear scaling, hence times
    five. Bergsma et al. (2505.13738): 0.0471 x tokens^0.462 rows of 2,048. (Both recalled from memory.) Raises
    ValueError for tokens below 1.
    """
    if tokens < 1:
        raise ValueError(f"tokens {tokens:g}: expected at least 1")
    laws = {
        "Zhang et al. 2024": 5 * 512 * 22.91 * (tokens / 1e6) ** 0.47,
        "Bergsma et al. 2025": 2048 * 0.0471 * tokens**0.462,
    }
    middle = (laws["Zhang et al. 2024"] * laws["Bergsma et al. 2025"]) ** 0.5
    return CriticalBatch(min(laws.values()), middle, max(laws.values()), laws, tokens > FITTED_TOKENS)


def batch_cost(fewest_tokens: float, batch: float, critical: float) -> BatchCost:
    """To the loss that `fewest_tokens` reach at small batches; batch and critical batch in tokens."""
    tokens = fewest_tokens * (1 + batch / critical)
    return BatchCost(tokens, tokens / batch, batch / critical, critical / batch)
