"""How many replicas a load needs: by requests at work and waiting, and by how long a first token takes."""

from typing import Protocol

TTFT = "expected_ttft_seconds"
"""The name under which replicas report it."""


class Load(Protocol):
    """What Ray's AutoscalingContext tells of a deployment."""

    total_num_requests: float
    current_num_replicas: int
    aggregated_metrics: dict[str, dict[object, float]]


class Scaling:
    """A policy of Ray Serve, which adds delays and bounds: a replica for each `requests`, and more in proportion where
    the expected time to first token, on average over replicas, is beyond `ttft` seconds."""

    def __init__(self, requests: float, ttft: float):
        self._requests = requests
        self._ttft = ttft

    def __call__(self, load: Load) -> tuple[float, dict[str, object]]:
        """The number wanted, and no state to keep."""
        by_requests = load.total_num_requests / self._requests
        waits = list((load.aggregated_metrics or {}).get(TTFT, {}).values())
        late = sum(waits) / len(waits) / self._ttft if waits else 0.0
        # Waits only ever ask for more: an idle replica's wait says nothing about how many the others need.
        by_ttft = load.current_num_replicas * late if late > 1 else 0.0
        return max(by_requests, by_ttft), {}
