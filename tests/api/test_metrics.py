"""The scraped metrics: counted against what was asked for, and asked of the collections themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
Sample = tuple[str, frozenset[tuple[str, str]]]


def scrape(client: httpx.Client) -> dict[Sample, float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def key(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


def test_requests_are_counted_by_route_method_and_status(client: httpx.Client, collection: str) -> None:
    before = scrape(client)
    for id, status in (("cat", 200), ("dog", 200), ("none", 404)):
        assert client.get(f"{collection}/documents/{id}").status_code == status
    after = scrape(client)
    route = {"method": "GET", "route": "/v1/collections/{name}/documents/{id}"}
    for status, count in (("200", 2), ("404", 1)):
        found = key("sheaf_requests_total", **route, status=status)
        assert after[found] - before.get(found, 0) == count
    for name in ("sheaf_request_seconds_count", "sheaf_request_seconds_bucket"):
        more = {"le": "+Inf"} if name.endswith("bucket") else {}
        found = key(name, **route, **more)
        assert after[found] - before.get(found, 0) == 3
    out = key("sheaf_response_bytes_total", **route)
    assert after[out] > before.get(out, 0)


def test_the_page_and_its_files_are_counted_under_their_own_names(
    client: httpx.Client, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    before = scrape(client)
    for path in ("/", "/app.js", "/style.css", "/docs", "/no-such-page"):
        client.get(path)
    asked = (("/", "200"), ("/app.js", "200"), ("/style.css", "200"), ("/docs", "200"), ("-", "404"))
    found = [key("sheaf_requests_total", method="GET", route=route, status=status) for route, status in asked]
    # A file is counted once it is closed, which may be after its last byte was read.
    eventually(lambda: all(scrape(client).get(one, 0) - before.get(one, 0) == 1 for one in found))
    assert key("sheaf_requests_total", method="GET", route="-", status="200") not in scrape(client)


def test_no_label_holds_what_a_caller_sent(client: httpx.Client, collection: str) -> None:
    client.get(f"{collection}/documents/a-secret-id")
    client.get("/a-secret-path")
    client.post(f"{collection}/search", json={"query": "a secret query"})
    assert "secret" not in client.get("/metrics").text


def test_stages_of_searches_and_calls_of_encoders(client: httpx.Client, collection: str) -> None:
    before = scrape(client)
    assert client.post(f"{collection}/search", json={"query": "cat"}).status_code == 200
    two = {"searches": [{"query": "cat"}, {"query": "dog"}]}
    assert client.post(f"{collection}/search/batch", json=two).status_code == 200
    documents = [{"id": f"m{i}", "text": f"more {i}"} for i in range(5)]
    assert client.post(f"{collection}/documents", json={"documents": documents}).status_code == 200
    after = scrape(client)

    def more(found: Sample) -> float:
        return after[found] - before.get(found, 0)

    for stage in ("encode", "filter", "candidates", "rescore", "fetch"):
        assert more(key("sheaf_search_stage_seconds_count", stage=stage)) == 2
    assert more(key("sheaf_encoder_batches_total", model="words", role="queries")) == 2
    assert more(key("sheaf_encoder_texts_total", model="words", role="queries")) == 3
    assert more(key("sheaf_encoder_texts_total", model="words", role="documents")) == 5
    assert more(key("sheaf_encoder_seconds_count", model="words", role="documents")) == 1


def test_what_a_collection_holds_is_what_it_says_of_itself(client: httpx.Client, collection: str) -> None:
    name = collection.rpartition("/")[2]
    said = client.get(collection).json()
    found = scrape(client)
    for field in ("documents", "passages", "bytes", "generation", "tail"):
        assert found[key(f"sheaf_collection_{field}", collection=name)] == said[field]
    assert found[key("sheaf_collection_segments", collection=name)] == 0
    assert found[key("sheaf_collection_quarantined", collection=name)] == 0
    assert key("sheaf_recall", collection=name, k="2") not in found
    measured = client.post(f"{collection}/recall", json={"k": 2, "queries": 2}).json()
    assert scrape(client)[key("sheaf_recall", collection=name, k="2")] == measured["recall"]
    assert client.delete(collection).status_code == 204
    assert not [one for one in scrape(client) if ("collection", name) in one[1]]
    # Another collection of that name has not been measured yet.
    assert client.post("/v1/collections", json={"name": name, "encoder": {"model": "words"}}).status_code == 201
    assert key("sheaf_recall", collection=name, k="2") not in scrape(client)
    assert client.put(f"/v1/aliases/{name}-live", json={"collection": name}).status_code == 201
    assert client.put(f"{collection}/documents/cat", json={"text": "a cat", "title": "Cat"}).status_code == 201
    assert client.put(f"{collection}/documents/dog", json={"text": "a dog", "title": "Dog"}).status_code == 201
    measured = client.post(f"{collection}-live/recall", json={"k": 2, "queries": 2}).json()
    assert scrape(client)[key("sheaf_recall", collection=name, k="2")] == measured["recall"]


def test_lanes_tasks_and_the_process(client: httpx.Client, collection: str, finished: Callable[[str], Any]) -> None:
    before = scrape(client)
    assert before[key("sheaf_ready")] == 1
    location = client.post(f"{collection}/rebuild").headers["location"]
    assert finished(location)["state"] == "succeeded"
    after = scrape(client)
    done = key("sheaf_tasks", state="succeeded")
    assert after[done] - before[done] == 1
    for lane in ("search", "read", "write", "upload", "restore", "parse", "index", "measure"):
        assert after[key("sheaf_lane_threads", lane=lane)] >= 1
        assert after[key("sheaf_lane_waiting", lane=lane)] == 0
    # The scrape itself is at work in it.
    assert after[key("sheaf_lane_busy", lane="read")] >= 1
    assert after[key("process_resident_memory_bytes")] > 2**20


def test_each_application_counts_for_itself() -> None:
    from app.main import create_app
    from app.settings import Settings

    one, other = create_app(Settings()), create_app(Settings())
    assert one.state.metrics.registry is not other.state.metrics.registry
    assert b"sheaf_ready 0.0" in one.state.metrics.text()


def test_the_dashboard_and_the_page_name_only_what_is_scraped(client: httpx.Client, collection: str) -> None:
    client.post(f"{collection}/search", json={"query": "cat"})
    client.post(f"{collection}/recall", json={"k": 2, "queries": 2})
    names = {name for name, _ in scrape(client)} | {"sheaf_encoder_failures_total"}
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", []))
    page = (ROOT / "docs" / "operations.md").read_text()
    alarms = yaml.safe_load((ROOT / "docs" / "alarms.yml").read_text())
    rules = [rule for group in alarms["groups"] for rule in group["rules"]]
    asked += " ".join(rule["expr"] for rule in rules)
    for name in set(re.findall(r"\b(?:sheaf|process)_[a-z_]+", asked)):
        assert name in names, name
    # Every alarm is explained, and every figure of ours is told of.
    for rule in rules:
        assert f"`{rule['alert']}`" in page
    told = re.findall(r"`(sheaf_[a-z_]+)`", page)
    assert [name for name in told if name not in names and f"{name}_bucket" not in names] == []
    ours = {re.sub(r"_(total|bucket|count|sum|created)$", "", name) for name in names if name.startswith("sheaf_")}
    assert [name for name in sorted(ours) if name not in page] == []
