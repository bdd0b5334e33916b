"""The log of a real server: one line a request, and nothing of what was sent."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.catalogue.catalogue import Catalogue

SECRET = "zanzibar"
"""In every id, text, title, query, metadata value and path that is sent, and in no name that the log may tell."""


def use(url: str) -> None:
    """A little of everything, most of it refused."""
    with httpx.Client(base_url=url, trust_env=False, timeout=60, headers={"X-Request-Id": "seen"}) as client:
        one = {"id": f"{SECRET}-1", "title": f"A {SECRET}", "text": f"{SECRET} text", "metadata": {"k": SECRET}}
        client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}})
        at = "/v1/collections/c"
        assert client.post(f"{at}/documents", json={"documents": [one]}).status_code == 200
        assert client.post(f"{at}/search", json={"query": SECRET, "filter": {"k": {"eq": SECRET}}}).status_code == 200
        client.post(f"{at}/search", json={"query": SECRET, "k": 0})
        client.post(f"{at}/search", json={SECRET: SECRET})
        client.post(f"{at}/search", content=f'{{"query": "{SECRET}'.encode())
        client.post(f"{at}/documents", json={"documents": [{"id": SECRET, "text": 1}]})
        client.get(f"{at}/documents/{SECRET}")
        client.patch(f"{at}/documents/{SECRET}-1", json={"metadata": {SECRET: SECRET}})
        client.delete(f"{at}/documents/{SECRET}")
        client.get(f"/{SECRET}?{SECRET}={SECRET}", headers={"Authorization": f"Bearer {SECRET}"})
        client.post(f"{at}/delete", json={"ids": [SECRET]})
        lines = f'{{"id": "{SECRET}-2", "text": "{SECRET}"}}\n{{"id": "{SECRET}-3"}}\n{SECRET}\n'.encode()
        headers = {"content-type": "application/x-ndjson"}
        location = client.post(f"{at}/import?on_error=skip", content=lines, headers=headers).headers["location"]
        while client.get(location).json()["finished"] is None:
            time.sleep(0.05)
        client.get("/health/live", headers={"Host": SECRET, "X-Request-Id": f"{SECRET} {SECRET}"})


@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_that_was_sent_reaches_the_log(start: Callable[..., Any], form: str) -> None:
    server = start(SHEAF_LOG_FORMAT=form)
    use(server.ready())
    server.process.send_signal(signal.SIGTERM)
    status, log = server.end()
    assert status == 0
    assert SECRET not in log.lower()
    told = [line for line in log.splitlines() if "/v1/collections/{name}/search" in line]
    assert len(told) == 4
    if form == "text":
        assert "seen POST /v1/collections/{name}/search 200" in told[0]
        assert "(encode " in told[0]
        return
    lines = [json.loads(line) for line in log.splitlines()]
    searches = [line for line in lines if line.get("route") == "/v1/collections/{name}/search"]
    assert [line["status"] for line in searches] == [200, 422, 422, 415]
    assert set(searches[0]["stages"]) == {
        *("encode_ms", "filter_ms", "words_ms", "candidates_ms", "rescore_ms", "fuse_ms", "fetch_ms")
    }
    assert {"request_id", "method", "took_ms", "bytes_in", "bytes_out", "time", "level"} <= searches[0].keys()
    assert searches[0]["bytes_in"] > len(SECRET)
    assert "stages" not in searches[1]


def test_while_collections_are_opened_it_lives_and_is_not_ready(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = serve()
    with httpx.Client(base_url=first.url, trust_env=False) as client:
        assert client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}}).status_code == 201
    first.stop()
    opened = threading.Event()
    get = Catalogue.get

    def slowly(self: Catalogue, name: str) -> Any:
        assert opened.wait(60)
        return get(self, name)

    monkeypatch.setattr(Catalogue, "get", slowly)
    second = serve(wait=False)
    with httpx.Client(base_url=second.url, trust_env=False, timeout=60) as client:
        assert client.get("/health/live").status_code == client.head("/health/live").status_code == 200
        assert client.head("/health/ready").status_code == 503
        for path in ("/health/ready", "/v1/collections", "/v1/collections/c/documents/a"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert answer.headers["retry-after"] == "1"
            assert "0 of 1" in answer.json()["detail"]
        assert "sheaf_ready 0.0" in client.get("/metrics").text
        # It is asked for every few seconds, and starts as it should.
        assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
        opened.set()
        second.opened()
        assert client.get("/health/ready").json()["status"] == "ready"
        assert "sheaf_ready 1.0" in client.get("/metrics").text
        assert client.get("/v1/collections/c").status_code == 200
