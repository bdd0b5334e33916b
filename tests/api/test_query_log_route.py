"""Queries are kept where the operator asks for it, for as long as he does, and nowhere else."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

DOCUMENTS = [{"id": f"d{i}", "text": f"{word} number {i}"} for i, word in enumerate(["owl", "fox", "elk", "bat"] * 3)]
C = "/v1/collections/c"


def client_of(server: Any) -> httpx.Client:
    return httpx.Client(base_url=server.url, trust_env=False, timeout=60)


def filled(client: httpx.Client) -> None:
    assert client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}}).status_code == 201
    assert client.post(f"{C}/documents", json={"documents": DOCUMENTS}).status_code == 200


def ended(client: httpx.Client, answer: httpx.Response) -> Any:
    assert answer.status_code == 202, answer.text
    end = time.monotonic() + 60
    while (task := client.get(answer.headers["location"]).json())["finished"] is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    return task


def traces(folder: Path, word: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and word in path.read_bytes()]


def test_a_sparse_vector_alone_is_no_query_to_measure_with(serve: Callable[..., Any]) -> None:
    server = serve(log_queries=50)
    with client_of(server) as client:
        body = {"name": "c", "encoder": {"model": "words"}, "sparse": {}}
        assert client.post("/v1/collections", json=body).status_code == 201
        assert client.post(f"{C}/documents", json={"documents": DOCUMENTS}).status_code == 200
        sparse = {"indices": [1], "values": [1]}
        for asked in ({"sparse_vector": sparse}, {"sparse_vector": sparse, "query": "zebra owl"}):
            assert client.post(f"{C}/search", json=asked).status_code == 200
        assert client.get(f"{C}/queries").json()["kept"] == 1
        assert client.post(f"{C}/recall", json={"k": 2, "queries": 4}).json()["logged"] == 1


def test_searches_are_kept_and_tuned_with(serve: Callable[..., Any], tmp_path: Path) -> None:
    server = serve(log_queries=50)
    with client_of(server) as client:
        filled(client)
        assert client.post(f"{C}/search", json={"query": "zebra owl"}).status_code == 200
        batch = {"searches": [{"query": "zebra fox"}, {"vectors": [[1.0] * 16]}]}
        assert client.post(f"{C}/search/batch", json=batch).status_code == 200
        assert client.post(f"{C}/search", json={"query": "zebra", "k": 0}).status_code == 422
        assert client.post(f"{C}/recall", json={"k": 2, "queries": [{"query": "zebra bat"}]}).json()["logged"] == 0
        found = client.get(f"{C}/queries").json()
        assert found["kept"] == 3
        assert found["bytes"] > 0
        recall = client.post(f"{C}/recall", json={"k": 2, "queries": 4}).json()
        assert (recall["queries"], recall["logged"], recall["drawn"]) == (4, 3, True)
        task = ended(client, client.post(f"{C}/tune", json={"target_recall": 0.9, "k": 2, "queries": 3}))
        assert task["result"]["logged"] == 3
        # Not in snapshots.
        snapshot = ended(client, client.post(f"{C}/snapshots"))
        archive = tmp_path / "archive.tar"
        archive.write_bytes(client.get(f"{C}/snapshots/{snapshot['id']}").content)
        with tarfile.open(archive) as opened:
            assert not any("queries" in name for name in opened.getnames())
        assert b"zebra" not in archive.read_bytes()
    server.stop()
    with client_of(serve(log_queries=50)) as client:
        assert client.get(f"{C}/queries").json()["kept"] == 3
        assert client.request("DELETE", f"{C}/queries").json() == {"deleted": 3}
        assert client.get(f"{C}/queries").json() == {"kept": 0, "bytes": 0}
        assert traces(tmp_path / "indexes", b"zebra") == []
        client.post(f"{C}/search", json={"query": "zebra"})
        assert traces(tmp_path / "indexes", b"zebra") != []
        assert client.delete(C).status_code == 204
        assert traces(tmp_path / "indexes", b"zebra") == []
        assert client.get(f"{C}/queries").status_code == 404


@pytest.mark.parametrize("before", [False, True])
def test_without_the_setting_nothing_is_kept(serve: Callable[..., Any], tmp_path: Path, before: bool) -> None:
    first = serve(log_queries=50 if before else 0)
    with client_of(first) as client:
        filled(client)
        client.post(f"{C}/search", json={"query": "zebra"})
        assert client.get(f"{C}/queries").json()["kept"] == int(before)
    first.stop()
    with client_of(serve()) as client:
        client.post(f"{C}/search", json={"query": "zebra"})
        assert client.get(f"{C}/queries").json() == {"kept": 0, "bytes": 0}
        assert client.post(f"{C}/recall", json={"k": 2}).json()["logged"] == 0
    assert traces(tmp_path / "indexes", b"zebra") == []


def test_the_report_tells_what_found_nothing_what_is_asked_often_and_what_is_slow(serve: Callable[..., Any]) -> None:
    server = serve(log_queries=100)
    with client_of(server) as client:
        filled(client)

        def ask(query: str, **more: Any) -> Any:
            found = client.post(f"{C}/search", json={"query": query, "mode": "lexical", **more})
            assert found.status_code == 200
            return found.json()["hits"]

        best = {text: (ask(text) or [{"score": None}])[0]["score"] for text in ("owl", "fox number", "zebra", "gnu")}
        for text in ("Owl", "owl ", "Zebra", "elk"):
            ask(text)
        # A later page does not tell that there is none.
        ask("owl", offset=100)
        client.post(f"{C}/search", json={"vectors": [[1.0] * 16]})
        found = client.get(f"{C}/queries/report").json()
        assert (found["searches"], found["texts"], found["without_hits_total"]) == (9, 5, 2)
        told = [(one["query"], one["asked"], one["hits"]) for one in found["without_hits"]]
        assert told == [("Zebra", 2, 0), ("gnu", 1, 0)]
        often = [(one["query"], one["asked"]) for one in found["frequent"]]
        assert often[:2] == [("owl", 4), ("Zebra", 2)]
        assert found["frequent"][0]["best"] == pytest.approx(best["owl"])
        times = [one["median_ms"] for one in found["slowest"]]
        assert len(times) == 5
        assert times == sorted(times, reverse=True)
        # With a threshold, hits below it are none.
        above = client.get(f"{C}/queries/report", params={"below": best["fox number"] + 1e-6, "most": 1}).json()
        assert above["without_hits_total"] == 5
        assert len(above["without_hits"]) == len(above["frequent"]) == 1
        # What is found since is not missed any more.
        client.post(f"{C}/documents", json={"documents": [{"id": "z", "text": "a zebra"}]})
        ask("zebra")
        assert [one["query"] for one in client.get(f"{C}/queries/report").json()["without_hits"]] == ["gnu"]
        settings = [{"name": "words", "search": {"mode": "semantic"}}]
        for draw, first in (("latest", "zebra"), ("frequent", "owl"), ("without_hits", "gnu")):
            asked = {"logged": 1, "draw": draw, "settings": settings}
            pooled = client.post(f"{C}/judgements/log/pool", json=asked).json()
            assert {one["query"] for one in pooled["to_judge"]} == {first}
        assert client.get(f"{C}/queries/report", params={"below": "nan"}).status_code == 422
    server.stop()
    with client_of(serve(log_queries=100)) as client:
        assert client.get(f"{C}/queries/report").json()["texts"] == 5
