"""The metrics of several replicas as one page for Prometheus: vLLM's label `engine` tells them apart."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families


class _Pages:
    """Families of the same name from all pages become one."""

    def __init__(self, pages: Mapping[str, str]):
        self._pages = pages

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for engine, page in self._pages.items():
            for family in text_string_to_metric_families(page):
                whole = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    whole.samples.append(sample._replace(labels=sample.labels | {"engine": engine}))
        return merged.values()


def merged_metrics(pages: Mapping[str, str]) -> bytes:
    """One page in Prometheus's text format from the pages of replicas by their names."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Pages(pages))
    return generate_latest(registry)
