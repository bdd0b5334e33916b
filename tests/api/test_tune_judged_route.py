"""Tuning by judged queries: a better weight is set, chance is not, and other passages are measured aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

WORDS = ["wren", "owl", "heron", "finch", "crane", "stork", "robin", "eagle", "swan", "kite", "rook", "dove", "gull", "teal"]  # fmt: skip  # noqa: E501


@pytest.fixture
def birds(create: Callable[..., str], client: httpx.Client) -> str:
    """Documents whose words answer queries, in a collection whose searches do not look at words."""
    address = create(fusion={"words": 0, "tokens": 0.5, "pooled": 0.5})
    documents = [{"id": word, "text": f"the {word} {word} {word}"} for word in WORDS]
    # Each looks like the queries by its vectors, and has nothing of what they ask for.
    documents += [{"id": f"near {i}", "text": f"which sings at dawn over water number {i}"} for i in range(6)]
    assert client.post(f"{address}/documents", json={"documents": documents}).status_code == 200
    return address


def judge(client: httpx.Client, address: str, name: str, grades: Callable[[str], dict[str, int]]) -> None:
    queries = [
        {"id": word, "query": f"which {word} sings at dawn over water", "grades": grades(word)} for word in WORDS
    ]
    assert client.put(f"{address}/judgements/{name}", json={"queries": queries}).status_code == 201


def test_a_better_weight_is_found_and_set_and_chance_is_not(
    client: httpx.Client, birds: str, finished: Callable[[str], Any]
) -> None:
    judge(client, birds, "people", lambda word: {word: 1})
    judge(client, birds, "nobody", lambda word: {f"near {len(word)}": 1, word: 1})
    before = client.get(birds).json()
    asked = {"judgements": "people", "measure": "RR@10", "parts": ["fusion", "width"]}
    told = finished(client.post(f"{birds}/tune", json=asked).headers["location"])
    assert (told["state"], told["kind"]) == ("succeeded", "tune"), told
    found = told["result"]
    fusion = found["parts"]["fusion"]
    assert (fusion["verdict"], found["applied"]) == ("better", [])
    assert "words" in fusion["chosen"] or "reciprocal" in fusion["chosen"]
    assert fusion["gain"]["low"] > 0
    assert fusion["p_corrected"] < 0.05
    # What the report tells of a way is what an evaluation tells of it.
    assert fusion["tried"][0]["name"] == "current"
    measured = client.post(f"{birds}/evaluate", json={"judgements": "people", "measures": ["RR@10"]}).json()
    mean = measured["settings"][0]["measures"]["RR@10"]["mean"]
    assert fusion["tried"][0]["mean"] == pytest.approx(mean, abs=1e-9)
    # Every passage is looked at here, whatever the width.
    assert found["parts"]["width"]["verdict"] == "unchanged"
    assert any("`apply` sets it" in one for one in found["advice"])
    assert client.get(birds).json()["fusion"] == before["fusion"]

    told = finished(client.post(f"{birds}/tune", json={**asked, "apply": True}).headers["location"])
    assert told["result"]["applied"] == ["fusion"]
    after = client.get(birds).json()
    assert after["fusion"] != before["fusion"]
    again = client.post(f"{birds}/evaluate", json={"judgements": "people", "measures": ["RR@10"]}).json()
    assert again["settings"][0]["measures"]["RR@10"]["mean"] > mean
    # Tuned already: there is nothing to gain.
    told = finished(client.post(f"{birds}/tune", json={**asked, "apply": True}).headers["location"])
    assert told["result"]["applied"] == []
    assert told["result"]["parts"]["fusion"]["verdict"] == "unchanged"
    assert client.get(birds).json()["fusion"] == after["fusion"]


def test_what_is_set_stays_after_a_restart(serve: Callable[..., Any], tmp_path: Path) -> None:
    for again in (False, True):
        running = serve(indexes=tmp_path / "indexes")
        with httpx.Client(base_url=running.url, trust_env=False, timeout=60) as client:
            address = "/v1/collections/c"
            if not again:
                weights = {"words": 0, "tokens": 0.5, "pooled": 0.5}
                client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}, "fusion": weights})
                documents = [{"id": word, "text": f"the {word} {word} {word}"} for word in WORDS]
                documents += [{"id": f"n{i}", "text": f"which sings at dawn over water {i}"} for i in range(6)]
                client.post(f"{address}/documents", json={"documents": documents})
                judge(client, address, "people", lambda word: {word: 1})
                body = {"judgements": "people", "measure": "RR@10", "parts": ["fusion"], "apply": True}
                task = client.post(f"{address}/tune", json=body).headers["location"]
                while (told := client.get(task).json())["finished"] is None:
                    pass
                assert told["result"]["applied"] == ["fusion"]
                kept = client.get(address).json()["fusion"]
            assert client.get(address).json()["fusion"] == kept
        running.stop()


def test_a_null_is_not_applied(client: httpx.Client, birds: str, finished: Callable[[str], Any]) -> None:
    """Every document of each query's is as good as another: no way is better."""
    judge(client, birds, "all", lambda word: {**dict.fromkeys(WORDS, 1), **{f"near {i}": 1 for i in range(6)}})
    before = client.get(birds).json()
    asked = {"judgements": "all", "measure": "P@10", "apply": True}
    found = finished(client.post(f"{birds}/tune", json=asked).headers["location"])["result"]
    assert found["applied"] == []
    assert {one["verdict"] for one in found["parts"].values()} == {"unchanged"}
    after = client.get(birds).json()
    assert (after["fusion"], after["generation"]) == (before["fusion"], before["generation"])


def test_passages_are_cut_in_collections_of_their_own_which_are_gone_afterwards(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    running = serve(indexes=tmp_path / "indexes")
    with httpx.Client(base_url=running.url, trust_env=False, timeout=60) as client:
        address = "/v1/collections/c"
        body = {"name": "c", "encoder": {"model": "words"}, "passages": {"size": 16, "overlap": 0}}
        assert client.post("/v1/collections", json=body).status_code == 201
        documents = [{"id": word, "text": " ".join([f"the {word} sings."] * 40)} for word in WORDS]
        client.post(f"{address}/documents", json={"documents": documents})
        judge(client, address, "people", lambda word: {word: 1})
        before = client.get(address).json()
        asked = {"judgements": "people", "measure": "RR@10", "parts": ["passages"], "documents": 14, "apply": True}
        task = client.post(f"{address}/tune", json=asked).headers["location"]
        while (told := client.get(task).json())["finished"] is None:
            pass
        assert told["state"] == "succeeded", told
        found = told["result"]["parts"]["passages"]
        assert found["tried"][0]["name"] == "current"
        assert len(found["tried"]) >= 3
        assert told["result"]["applied"] == []
        after = client.get(address).json()
        assert (after["passages"], after["documents"]) == (before["passages"], before["documents"])
        assert [one["name"] for one in client.get("/v1/collections").json()["collections"]] == ["c"]
        assert not list((tmp_path / "indexes").glob(".creating-*"))
    running.stop()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"judgements": "people", "target_recall": 0.9}, "/judgements"),
        ({"judgements": "no name"}, "/judgements"),
        ({"judgements": "people", "k": 3}, "/k"),
        ({"target_recall": 0.9, "apply": True}, "/apply"),
        ({"judgements": "people", "parts": ["fusion", "fusion"]}, "/parts"),
        ({"judgements": "people", "parts": ["speed"]}, "/parts/0"),
        ({"judgements": "people", "measure": "speed"}, "/measure"),
        ({"judgements": "people", "documents": 1}, "/documents"),
    ],
)
def test_what_cannot_be_is_pointed_at(client: httpx.Client, birds: str, body: dict[str, Any], pointer: str) -> None:
    judge(client, birds, "people", lambda word: {word: 1})
    answer = client.post(f"{birds}/tune", json=body)
    assert answer.status_code == 422, answer.text
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def test_few_queries_tell_too_little(client: httpx.Client, birds: str) -> None:
    queries = [{"id": word, "query": word, "grades": {word: 1 if i < 9 else 0}} for i, word in enumerate(WORDS)]
    client.put(f"{birds}/judgements/few", json={"queries": queries})
    answer = client.post(f"{birds}/tune", json={"judgements": "few"})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_few_queries")
    assert client.post(f"{birds}/tune", json={"judgements": "none"}).json()["code"] == "judgements_not_found"


def test_what_a_collection_has_not_is_skipped_with_the_reason(
    client: httpx.Client, birds: str, finished: Callable[[str], Any]
) -> None:
    asked = {"judgements": "people", "measure": "RR@10", "parts": ["turns", "width"]}
    judge(client, birds, "people", lambda word: {word: 1})
    found = finished(client.post(f"{birds}/tune", json=asked).headers["location"])["result"]
    assert found["skipped"] == {"turns": "the collection has no conversations"}
    assert [*found["parts"]] == ["width"]
