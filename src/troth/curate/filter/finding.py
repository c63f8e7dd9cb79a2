"""What a rule measured on a text."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`value` of `rule`, which breaks it above `limit` (below it where `least`)."""

    rule: str
    value: float
    limit: float
    least: bool = False

    @property
    def broken(self) -> bool:
        """Whether the value is past its limit."""
        return self.value < self.limit if self.least else self.value > self.limit

    @property
    def excess(self) -> float:
        """How far past its limit a value is, as a share of the limit; 0 where it is not."""
        if not self.broken:
            return 0.0
        if not self.limit:
            return float("inf")
        return 1 - self.value / self.limit if self.least else self.value / self.limit - 1
