"""The metrics that a Prometheus server scrapes at ``/metrics``; docs/operations.md says what each means and when to
worry.

Requests are counted as they are answered. The contents of a collection are asked for at the scrape, so that it is never
older than the answer. Each application has its own registry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, get_args

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from app.api.edge.bodies import Route
from app.api.edge.openapi import gives_text
from app.api.observe.served import Served
from app.api.service import Lane, Service, run
from app.tasks.records import State

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histograms' buckets."""

router = APIRouter(tags=["health"], route_class=Route)


class Metrics:
    """The counters of one application, and what reads them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        by_route = ["method", "route"]
        self._requests = Counter(
            "sheaf_requests", "Requests that were answered.", [*by_route, "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "sheaf_request_seconds", "From a request's head to the end of its answer.", by_route,
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._bytes_in = Counter("sheaf_request_bytes", "Bytes of request bodies.", by_route, registry=self.registry)
        self._bytes_out = Counter("sheaf_response_bytes", "Bytes of answers.", by_route, registry=self.registry)
        self._stages = Histogram(
            "sheaf_search_stage_seconds", "One stage of a search request; of a batch, the sum over its searches.",
            ["stage"], buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._partial = Counter(
            "sheaf_searches_partial", "Searches whose time was over before all was scored.", registry=self.registry
        )
        encoder = ["model", "role"]
        self._batches = Counter(
            "sheaf_encoder_batches", "Calls of an encoder, with one or more texts.", encoder, registry=self.registry
        )
        self._texts = Counter("sheaf_encoder_texts", "Texts that were encoded.", encoder, registry=self.registry)
        self._encoding = Histogram(
            "sheaf_encoder_seconds", "One call of an encoder.", encoder, buckets=SECONDS, registry=self.registry
        )
        self._failures = Counter(
            "sheaf_encoder_failures", "Calls of an encoder that failed.", encoder, registry=self.registry
        )
        self._ready = Gauge("sheaf_ready", "1 where searches are answered, as /health/ready.", registry=self.registry)
        self._service: Service | None = None
        # Looking labels up takes longer than counting.
        self._of_route: dict[tuple[str, str, int], Any] = {}
        self._of_stage: dict[str, Histogram] = {}
        self.registry.register(_Standing(self))

    def observe(self, served: Served) -> None:
        """Counts one answered request."""
        where = served.method, served.route
        answered = *where, served.status
        own = self._of_route.get(answered)
        if own is None:
            by_route = (one.labels(*where) for one in (self._seconds, self._bytes_in, self._bytes_out))
            own = self._of_route[answered] = (self._requests.labels(*answered), *by_route)
        requests, seconds, bytes_in, bytes_out = own
        requests.inc()
        seconds.observe(served.took_ms / 1e3)
        bytes_in.inc(served.bytes_in)
        bytes_out.inc(served.bytes_out)
        for name, ms in served.stages.items():
            stage = self._of_stage.get(name)
            if stage is None:
                stage = self._of_stage[name] = self._stages.labels(name.removesuffix("_ms"))
            stage.observe(ms / 1e3)
        self._partial.inc(served.partial)

    def encoded(self, model: str, role: str, texts: int, seconds: float, failed: bool) -> None:
        """Counts one call of an encoder; see ``app.encoders.registry.Count``."""
        if failed:
            self._failures.labels(model, role).inc()
            return
        self._batches.labels(model, role).inc()
        self._texts.labels(model, role).inc(texts)
        self._encoding.labels(model, role).observe(seconds)

    def watch(self, service: Service | None) -> None:
        """From now on a scrape asks this service what it holds."""
        self._service = service

    @property
    def service(self) -> Service | None:
        return self._service

    def text(self) -> bytes:
        """The answer to a scrape."""
        service = self._service
        self._ready.set(service is not None and service.ready)
        return generate_latest(self.registry)


class _Standing(Collector):
    """The figures that are asked for at the scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        service = self._metrics.service
        if service is not None:
            yield from _lanes(service)
            yield from _collections(service)
            yield from _tasks(service)
            yield from _background(service)


def _lanes(service: Service) -> Iterator[Metric]:
    threads = GaugeMetricFamily("sheaf_lane_threads", "Threads that a lane of work may use.", labels=["lane"])
    busy = GaugeMetricFamily("sheaf_lane_busy", "Threads of a lane that work.", labels=["lane"])
    waiting = GaugeMetricFamily("sheaf_lane_waiting", "Pieces of work that wait for a thread.", labels=["lane"])
    lanes = {name: lane for name, lane in vars(service.lanes).items() if isinstance(lane, Lane)}
    lanes.update({f"{work}:{encoder}": lane for (work, encoder), lane in list(service.lanes.of_encoders.items())})
    for name, lane in lanes.items():
        now = lane.threads.statistics()
        threads.add_metric([name], now.total_tokens)
        busy.add_metric([name], now.borrowed_tokens)
        waiting.add_metric([name], max(0, lane.inside - now.borrowed_tokens))
    yield from (threads, busy, waiting)


_OF_A_COLLECTION: Final = {
    "documents": "Documents that a search finds now.",
    "passages": "Passages that a search finds now.",
    "bytes": "Bytes on disk.",
    "generation": "The number of the generation that serves.",
    "segments": "Segments of the generation.",
    "tail": "Documents that are not in the generation yet.",
}


def _collections(service: Service) -> Iterator[Metric]:
    families = {
        name: GaugeMetricFamily(f"sheaf_collection_{name}", told, labels=["collection"])
        for name, told in _OF_A_COLLECTION.items()
    }
    recall = GaugeMetricFamily(
        "sheaf_recall", "Recall of the approximate path as it was last measured.", labels=["collection", "k"]
    )
    quarantined = GaugeMetricFamily(
        "sheaf_collection_quarantined", "1 for a collection that is out of service, for it is damaged.",
        labels=["collection"],
    )  # fmt: skip
    behind = GaugeMetricFamily(
        "sheaf_copy_behind_commits", "Commits that a reader has seen in the store and has not applied.",
        labels=["collection"],
    )  # fmt: skip
    age = GaugeMetricFamily(
        "sheaf_copy_age_seconds", "How long ago a reader had all that was in the store.", labels=["collection"]
    )
    for info in service.catalogue.describe_all() if service.catalogue.ready else []:
        quarantined.add_metric([info.name], info.state == "quarantined")
        if info.state == "quarantined":
            continue
        for name, family in families.items():
            family.add_metric([info.name], getattr(info, name))
        if info.recall is not None:
            recall.add_metric([info.name, str(info.recall.k)], info.recall.recall)
        if info.copy is not None:
            behind.add_metric([info.name], info.copy.commits)
            if info.copy.age_s is not None:
                age.add_metric([info.name], info.copy.age_s)
    yield from (*families.values(), recall, quarantined, behind, age)


def _tasks(service: Service) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "sheaf_tasks", "Tasks by state; of ended ones, those still remembered.", labels=["state"]
    )
    states = service.catalogue.task_states()
    for state in get_args(State):
        family.add_metric([state], states[state])
    yield family


def _background(service: Service) -> Iterator[Metric]:
    steps = CounterMetricFamily("sheaf_background_steps", "Steps of work in the background.", labels=["lane"])
    failures = CounterMetricFamily(
        "sheaf_background_failures", "Those that failed, whatever the error; each is tried again.", labels=["lane"]
    )
    for name, lane in service.catalogue.background.lanes.items():
        steps.add_metric([name], lane.steps)
        failures.add_metric([name], lane.failures)
    yield from (steps, failures)


@router.get("/metrics", response_class=Response, responses=gives_text("Every figure, in Prometheus's text format."))
async def read_metrics(request: Request) -> Response:
    """Figures for Prometheus, in its text format."""
    found: Metrics = request.app.state.metrics
    service = found.service
    content = found.text() if service is None else await run(service.lanes.read, found.text)
    return Response(content, media_type=CONTENT_TYPE_PLAIN_0_0_4)
