"""Starts replicas under Ray Serve, on this machine or on the cluster that RAY_ADDRESS names, and ends them again.

Ray Serve's defaults cost 20 times as much a call as its high-throughput ones, so the latter are set here; the nodes
of a cluster need them in their environment.
"""

import asyncio
import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from troth.security.keys import Keys
from troth.system.serve import AutoscalingTable, ServeTable

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

FLAGS = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # How often replicas and front report their load, in seconds.
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    # Seconds that the front waits at its end for HAProxy to look elsewhere: there is no other front.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    # Seconds that the front has to begin; Ray Serve gives it 5, which a busy machine exceeds, and ends it.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_USAGE_STATS_ENABLED": "0",
}  # fmt: skip
# Ports that HAProxy binds beside the one of the server; another is taken where a program holds the usual one already,
# such as a second server of replicas or an exporter of metrics.
PORTS = {"RAY_SERVE_HAPROXY_METRICS_PORT": 9101, "RAY_SERVE_HAPROXY_STATS_PORT": 8404}
NAME = "troth"
_LISTENING_SECONDS = 10
# A conversation's replica, or the next one on the ring while that one's batch is full.
ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"


def spanned(text: str, table: AutoscalingTable | None) -> AutoscalingTable:
    """A table with the numbers of MIN:MAX, or one number for both. Raises ValueError otherwise."""
    found = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    least = int(found[1]) if found else 0
    most = int(found[2] or least) if found else 0
    if not 1 <= least <= most:
        raise ValueError(f"--replicas {text}: give MIN:MAX with 1 <= MIN <= MAX, such as 1:4")
    rest = table.model_dump() if table else {}
    return AutoscalingTable(**rest | {"min_replicas": least, "max_replicas": most})


def free_port(usual: int) -> int:
    """This port, or any other where it is taken on this machine."""
    for port in (usual, 0):
        # As HAProxy binds: what only waits for its last packets does not hold a port.
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            return int(probe.getsockname()[1])
    raise ValueError("no port is free on this machine")


@contextlib.contextmanager
def running(
    folder: Path, table: ServeTable, model_id: str, adapters: dict[str, Path], keys: Keys | None,
    scaling: AutoscalingTable, address: tuple[str, int],
) -> Iterator[None]:  # fmt: skip
    """Replicas of a model folder behind `address` (host, port) while open; answers at work are finished at the end.

    Raises ValueError where Ray Serve is not installed.
    """
    for name, value in (FLAGS | {name: str(free_port(port)) for name, port in PORTS.items()}).items():
        os.environ.setdefault(name, value)
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise ValueError(f"--replicas needs Ray Serve ({error}): pip install 'troth[scale]'") from error
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, BackpressureConfig, RequestRouterConfig

    from troth.serve.replicas.front import Front
    from troth.serve.replicas.replica import Replica
    from troth.serve.replicas.scaling import Scaling

    requests = scaling.target_requests or table.max_batch
    ray.init(include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False, namespace=NAME)
    try:
        resources = ray.cluster_resources()
        # Without GPUs the replicas share the cores of one machine; torch takes as many threads as a replica has cores.
        cores = max(1, int(resources["CPU"]) // scaling.max_replicas)
        actor = {"num_gpus": 1, "num_cpus": 1} if resources.get("GPU") else {"num_cpus": min(cores, resources["CPU"])}
        replicas = serve.deployment(
            name="Replica",
            ray_actor_options=actor,
            # One beyond its batch waits where another replica may yet take it.
            max_ongoing_requests=table.max_batch,
            max_queued_requests=table.max_waiting,
            graceful_shutdown_timeout_s=table.drain_seconds,
            backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
            autoscaling_config=AutoscalingConfig(
                min_replicas=scaling.min_replicas,
                max_replicas=scaling.max_replicas,
                target_ongoing_requests=requests,
                look_back_period_s=scaling.look_back_seconds,
                upscale_delay_s=scaling.upscale_delay_seconds,
                downscale_delay_s=scaling.downscale_delay_seconds,
                policy=AutoscalingPolicy(
                    policy_function=Scaling, policy_kwargs={"requests": requests, "ttft": scaling.target_ttft}
                ),
            ),
            request_router_config=RequestRouterConfig(
                request_router_class=ROUTER,  # type: ignore[arg-type]
                request_router_kwargs={"num_fallback_replicas": scaling.max_replicas - 1},
            ),
        )(Replica)
        front = serve.deployment(
            name="Front", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=10_000,
        )(Front)  # fmt: skip
        host, port = address
        inner = table.model_copy(update={"allowed_origins": ()})
        bound = front.bind(replicas.bind(folder.resolve(), inner, model_id, adapters, keys), table)
        try:
            serve.start(http_options={"host": host, "port": port})
            fronts = serve.run(bound, name=NAME, route_prefix="/")
            _wait_for_an_answer(host, port)
        except BaseException:
            serve.shutdown()
            raise
        try:
            yield
        finally:
            asyncio.run(_end(fronts))
    finally:
        ray.shutdown()


def _wait_for_an_answer(host: str, port: int) -> None:
    """HAProxy listens a little after Serve says that all is running; on a cluster it may do so on another machine."""
    end = time.monotonic() + _LISTENING_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(httpx.URL(scheme="http", host=host, port=port, path="/ready"), trust_env=False).is_success:
                break
        time.sleep(0.05)


async def _end(fronts: "DeploymentHandle") -> None:
    """Wait for the answers at work, under which Serve's own end would close the ingress; then, or where that is cut
    short, end Serve."""
    from ray import serve

    try:
        await fronts.drain.remote()
    finally:
        await serve.shutdown_async()
