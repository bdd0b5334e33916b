"""Traces, as a collector gets them: over HTTP, in OTLP."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        collector = self
        self.spans: list[Any] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


def test_a_span_a_request_and_one_a_stage(serve: Callable[..., Any], collector: Collector) -> None:
    running = serve(otlp_endpoint=collector.url)
    with httpx.Client(base_url=running.url, trust_env=False) as client:
        body = {"name": "c", "encoder": {"model": "words"}}
        assert client.post("/v1/collections", json=body).status_code == 201
        documents = {"documents": [{"id": "a-secret-id", "text": "a secret text"}]}
        assert client.post("/v1/collections/c/documents", json=documents).status_code == 200
        headers = {"traceparent": PARENT, "X-Request-Id": "seen"}
        found = client.post("/v1/collections/c/search", json={"query": "secret"}, headers=headers)
        assert found.status_code == 200
        assert client.get("/v1/collections/none").status_code == 404
        assert client.get("/health/live").status_code == 200
    # Spans not sent yet are sent at the end.
    running.stop()
    spans = {span.name: span for span in collector.spans}
    route = "POST /v1/collections/{name}/search"
    search = spans[route]
    assert (search.trace_id.hex(), search.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    attributes = {one.key: one.value for one in search.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["http.route"].string_value == "/v1/collections/{name}/search"
    assert attributes["sheaf.request_id"].string_value == "seen"
    assert attributes["http.request.body.size"].int_value == len(b'{"query":"secret"}')
    stages = [span for span in collector.spans if span.parent_span_id == search.span_id]
    assert [span.name for span in stages] == ["encode", "filter", "words", "candidates", "rescore", "fuse", "fetch"]
    for before, after in itertools.pairwise(stages):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    assert all(span.trace_id == search.trace_id for span in stages)
    assert search.start_time_unix_nano <= stages[0].start_time_unix_nano
    assert abs(stages[-1].end_time_unix_nano - search.end_time_unix_nano) < 10_000
    took = {name.removesuffix("_ms"): ms for name, ms in found.json()["stages"].items()}
    for span in stages:
        assert abs((span.end_time_unix_nano - span.start_time_unix_nano) / 1e6 - took[span.name]) < 0.01
    assert spans["GET /v1/collections/{name}"].parent_span_id == b""
    assert not any(name.endswith("/health/live") for name in spans)
    assert "secret" not in str(collector.spans)


def test_without_an_endpoint_no_exporter_is_imported() -> None:
    code = "import sys, app.main; from app.settings import Settings; app.main.create_app(Settings())\n"
    code += "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
