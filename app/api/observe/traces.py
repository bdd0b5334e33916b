"""OpenTelemetry: one span a request, and one below it for each stage of a search, sent by OTLP over HTTP.

Only where ``SHEAF_OTLP_ENDPOINT`` is set; the packages come with the extra `otel` and are imported here alone.
A caller's ``traceparent`` is continued. Spans carry what the log line has, and no content. Stages are measured as
durations, so their spans lie one after the other up to the end of the request's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from app import __version__
from app.api.observe.served import Observer, Served
from app.errors import Invalid

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)
PROBES = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Routes that are asked for so often that their spans would bury the others."""


def tracing(endpoint: str) -> tuple[Observer, Callable[[], None]]:
    """The observer of requests, and the function that sends the last spans at the end. Raises Invalid without the
    packages."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise Invalid("SHEAF_OTLP_ENDPOINT is set: install the packages that traces need, `sheaf[otel]`") from error
    return observer_to(OTLPSpanExporter(endpoint))


def observer_to(exporter: SpanExporter) -> tuple[Observer, Callable[[], None]]:
    """The same for any exporter."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    provider = TracerProvider(
        resource=Resource.create({"service.name": "sheaf", "service.version": __version__}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer, propagator = provider.get_tracer("sheaf", __version__), TraceContextTextMapPropagator()

    def observe(served: Served) -> None:
        if served.route in PROBES:
            return
        carrier = {"traceparent": served.traceparent} if served.traceparent else {}
        end = served.started_ns + int(served.took_ms * 1e6)
        span = tracer.start_span(
            f"{served.method} {served.route}",
            propagator.extract(carrier),
            SpanKind.SERVER,
            {
                "http.request.method": served.method,
                "http.route": served.route,
                "http.response.status_code": served.status,
                "http.request.body.size": served.bytes_in,
                "http.response.body.size": served.bytes_out,
                "sheaf.request_id": served.id,
            },
            start_time=served.started_ns,
        )
        if served.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span)
        at = end - int(sum(served.stages.values()) * 1e6)
        for name, ms in served.stages.items():
            stage = tracer.start_span(name.removesuffix("_ms"), inside, start_time=at)
            at += int(ms * 1e6)
            stage.end(at)
        span.end(end)

    return observe, provider.shutdown
