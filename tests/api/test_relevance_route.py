"""The chance that a hit is relevant, over HTTP: learned of judgements, the same on every page, kept and forgotten."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import httpx
import numpy as np
import pytest

SINGERS = [a + b for a, b in product(["wren", "owl", "heron", "finch", "crane"], ["", "ling", "ess", "ow", "ite"])]
TIMES = ["dawn", "noon", "dusk", "night"]


@pytest.fixture(scope="module")
def birds(client: httpx.Client) -> str:
    """A hundred documents, four of each bird, and judgements of a query for each: two of them are relevant."""
    address = "/v1/collections/singers"
    client.post("/v1/collections", json={"name": "singers", "encoder": {"model": "words"}})
    documents = [
        {"id": f"{bird}-{time}", "text": f"the {bird} sings at {time} over water", "metadata": {"time": time}}
        for bird in SINGERS
        for time in TIMES
    ]
    for start in range(0, len(documents), 20):
        some = {"documents": documents[start : start + 20]}
        answer = client.post(f"{address}/documents", json=some)
        assert answer.status_code == 200, answer.text
    judged = [
        {"id": bird, "query": f"{bird} sings at dawn or noon", "grades": {f"{bird}-dawn": 2, f"{bird}-noon": 1}}
        for bird in SINGERS
    ]
    assert client.put(f"{address}/judgements/people", json={"queries": judged}).status_code == 201
    return address


@pytest.fixture(scope="module")
def taught(client: httpx.Client, birds: str) -> str:
    for mode in ("hybrid", "lexical", "semantic", "dense"):
        answer = client.put(f"{birds}/relevance", json={"judgements": "people", "mode": mode, "depth": 10})
        assert answer.status_code == 200, answer.text
    return birds


def hits(client: httpx.Client, address: str, **body: Any) -> list[Any]:
    asked = {"query": "owl sings at dawn or noon", "relevance": True, "include": [], **body}
    answer = client.post(f"{address}/search", json=asked)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["hits"]
    return found


def test_what_was_learned_is_told(client: httpx.Client, taught: str) -> None:
    learned = {one["mode"]: one for one in client.get(f"{taught}/relevance").json()["learned"]}
    assert set(learned) == {"hybrid", "semantic", "dense", "lexical"}
    own = learned["hybrid"]
    assert (own["judgements"], own["queries"], own["hits"], own["relevant"]) == ("people", 25, 250, 50)
    assert own["curve"]["names"] == ["words", "tokens", "pooled", "standing", "rank"]
    assert all(len(own["curve"][part]) == 5 for part in ("means", "scales", "weights"))
    assert own["area"] > 0.9
    assert own["error"] < 0.1
    assert own["squared_error"] < own["squared_error_of_share"] == pytest.approx(0.2 * 0.8)


@pytest.mark.parametrize("mode", ["hybrid", "lexical", "semantic", "dense"])
def test_hits_say_how_likely_they_are_relevant(client: httpx.Client, taught: str, mode: str) -> None:
    found = hits(client, taught, mode=mode, k=10)
    chances = [hit["relevance"] for hit in found]
    assert chances == sorted(chances, reverse=True)
    assert all(0 <= one <= 1 for one in chances)
    right = [hit["relevance"] for hit in found if hit["id"] in ("owl-dawn", "owl-noon")]
    assert len(right) == 2
    # Pooled, the vectors of this encoder say little.
    assert mode == "dense" or min(right) > 0.5 > chances[-1]
    plain = hits(client, taught, mode=mode, k=10, relevance=False)
    # Weights may have changed in between, by which a hybrid search orders what is not relevant anyhow.
    shown = 2 if mode == "hybrid" else 10
    assert [hit["id"] for hit in plain][:shown] == [hit["id"] for hit in found][:shown]
    assert all("relevance" not in hit for hit in plain)


def test_it_is_calibrated_over_all_queries(client: httpx.Client, taught: str) -> None:
    told, truth = [], []
    for bird in SINGERS:
        for hit in hits(client, taught, query=f"{bird} sings at dawn or noon", k=10):
            told.append(hit["relevance"])
            truth.append(hit["id"] in (f"{bird}-dawn", f"{bird}-noon"))
    assert np.mean(told) == pytest.approx(np.mean(truth), abs=0.03)
    likely = np.array(told) > 0.5
    assert np.array(truth)[likely].mean() > 0.8
    assert np.array(truth)[~likely].mean() < 0.1


def test_it_does_not_follow_weights_that_follow_the_queries(client: httpx.Client, taught: str) -> None:
    first = hits(client, taught, k=2)
    for _ in range(60):
        client.post(f"{taught}/search", json={"query": "sings over water"})
    again = hits(client, taught, k=2)
    assert [hit["score"] for hit in again] != [hit["score"] for hit in first]
    assert [(hit["id"], hit["relevance"]) for hit in again] == [(hit["id"], hit["relevance"]) for hit in first]


def test_it_is_the_same_on_every_page_and_in_groups(client: httpx.Client, taught: str) -> None:
    whole = {hit["id"]: hit["relevance"] for hit in hits(client, taught, k=20)}
    pages = {hit["id"]: hit["relevance"] for at in (0, 7, 14) for hit in hits(client, taught, k=7, offset=at)}
    assert pages.items() >= whole.items()
    asked = {"query": "owl sings at dawn or noon", "relevance": True, "k": 5}
    first = client.post(f"{taught}/search", json=asked).json()
    second = client.post(f"{taught}/search", json={**asked, "cursor": first["next"]}).json()
    both = [(hit["id"], hit["relevance"]) for hit in first["hits"] + second["hits"]]
    assert both == list(whole.items())[:10]
    groups = client.post(f"{taught}/search", json={**asked, "group_by": {"field": "time", "size": 1}}).json()["groups"]
    assert all(hit["relevance"] == whole.get(hit["id"], hit["relevance"]) for one in groups for hit in one["hits"])
    assert len(groups) == 4
    several = {**asked, "collections": ["singers"]}
    merged = client.post("/v1/search", json=several).json()["hits"]
    assert [(hit["id"], hit["relevance"]) for hit in merged] == list(whole.items())[:5]


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"sort": [{"time": "asc"}]}, "/relevance"),
        ({"weights": {"words": 1}}, "/relevance"),
        ({"fusion": "reciprocal_rank"}, "/relevance"),
        ({"boosts": [{"filter": {"time": {"eq": "dawn"}}, "weight": 1}]}, "/relevance"),
        ({"diversity": {}}, "/relevance"),
        ({"mode": "sparse"}, "/relevance"),
        ({"relevance": 1}, "/relevance"),
    ],
)
def test_it_is_of_lists_by_score_alone(client: httpx.Client, taught: str, more: dict[str, Any], where: str) -> None:
    answer = client.post(f"{taught}/search", json={"query": "owl", "relevance": True, **more})
    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == [where]


def test_without_a_query_nothing_is_relevant(client: httpx.Client, taught: str) -> None:
    answer = client.post(f"{taught}/search", json={"filter": {"time": {"eq": "dawn"}}, "relevance": True})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/relevance")


def test_what_was_not_learned_is_said(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create()
    client.put(f"{address}/documents/a", json={"text": "an owl"})
    answer = client.post(f"{address}/search", json={"query": "owl", "relevance": True})
    assert (answer.status_code, answer.json()["code"]) == (409, "relevance_not_learned")
    assert f"PUT {address}/relevance" in answer.json()["detail"]
    none = client.put(f"{address}/relevance", json={"judgements": "people"})
    assert (none.status_code, none.json()["code"]) == (404, "judgements_not_found")
    judged = {"queries": [{"id": "q", "query": "owl", "grades": {"a": 1}}]}
    assert client.put(f"{address}/judgements/people", json=judged).status_code == 201
    few = client.put(f"{address}/relevance", json={"judgements": "people"})
    assert (few.status_code, few.json()["code"]) == (409, "too_few_judgements")
    assert client.get(f"{address}/relevance").json() == {"learned": []}


def test_judgements_that_hang_on_nothing_teach_nothing(client: httpx.Client, birds: str) -> None:
    # Each query's relevant document is that of another bird.
    random = np.random.default_rng(0)
    judged = [
        {"id": bird, "query": f"{bird} sings", "grades": {f"{random.choice(SINGERS)}-{time}": 1 for time in TIMES}}
        for bird in SINGERS
    ]
    assert client.put(f"{birds}/judgements/noise", json={"queries": judged}).status_code == 201
    body = {"judgements": "noise", "mode": "lexical", "depth": 100}
    answer = client.put(f"{birds}/relevance", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "relevance_not_learned")


def test_it_survives_a_restart_and_comes_back_with_a_snapshot(serve: Callable[..., Any], tmp_path: Any) -> None:
    told: list[Any] = []
    for again in (False, True):
        running = serve(indexes=tmp_path / "indexes")
        with httpx.Client(base_url=running.url, trust_env=False, timeout=60) as client:
            address = "/v1/collections/own"
            if not again:
                client.post(
                    "/v1/collections", json={"name": "own", "encoder": {"model": "words"}, "fusion": "reciprocal_rank"}
                )
                documents = [{"id": f"{b}-{t}", "text": f"{b} at {t}"} for b in SINGERS[:12] for t in TIMES]
                client.post(f"{address}/documents", json={"documents": documents})
                judged = [{"id": b, "query": f"{b} dawn", "grades": {f"{b}-dawn": 1}} for b in SINGERS[:12]]
                client.put(f"{address}/judgements/people", json={"queries": judged})
                assert client.put(f"{address}/relevance", json={"judgements": "people"}).status_code == 200
            told.append([hit["relevance"] for hit in hits(client, address)])
            if again:
                task = client.post(f"{address}/snapshots").json()["id"]
                while client.get(f"/v1/tasks/{task}").json()["finished"] is None:
                    pass
                assert client.delete(f"{address}/relevance").json() == {"deleted": 1}
                assert client.delete(f"{address}/relevance").json() == {"deleted": 0}
                assert client.get(f"{address}/relevance").json() == {"learned": []}
                gone = client.post(f"{address}/search", json={"query": "owl", "relevance": True})
                assert gone.json()["code"] == "relevance_not_learned"
                restored = client.post(f"{address}/restore", json={"snapshot": task, "replace": True})
                assert restored.status_code in (200, 201, 202), restored.text
                told.append([hit["relevance"] for hit in hits(client, address)])
        running.stop()
    assert told[0] == told[1] == told[2]
    assert len(set(told[0])) > 1
