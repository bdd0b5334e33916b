"""Conversations over HTTP: written, read again, changed, found by conversations, kept with judgements, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import httpx
import pytest

TOPICS = ["train", "table", "film", "flat"]
Turns = list[dict[str, str]]


def talk(*texts: str) -> Turns:
    return [{"role": ("user", "system")[i % 2], "text": text} for i, text in enumerate(texts)]


def about(i: int) -> Turns:
    return talk(f"hello {i}", f"not the {TOPICS[(i + 1) % 4]}", f"i want a {TOPICS[i % 4]}")


@pytest.fixture(scope="module")
def talks(client: httpx.Client) -> str:
    """80 conversations of four topics, each with a summary that has other words than its turns."""
    encoder = {"model": "words"}
    made = client.post("/v1/collections", json={"name": "told", "encoder": encoder, "turns": {}})
    assert made.status_code == 201, made.text
    assert made.json()["turns"] == {"last": 2, "decay": 1, "roles": {}, "summaries": True, "map": None}
    for start in range(0, 80, 20):
        documents = [
            {"id": f"d{i}", "turns": about(i), "summary": f"goal {'abcd'[i % 4]}"} for i in range(start, start + 20)
        ]
        answer = client.post("/v1/collections/told/documents", json={"documents": documents})
        assert answer.status_code == 200, answer.text
    return "/v1/collections/told"


def hits(client: httpx.Client, address: str, **search: Any) -> list[str]:
    answer = client.post(f"{address}/search", json=search)
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def test_a_conversation_comes_back_and_may_be_written_again(client: httpx.Client, talks: str) -> None:
    found = client.get(f"{talks}/documents/d5").json()
    text = "user: hello 5\nsystem: not the film\nuser: i want a table"
    assert (found["text"], found["turns"], found["summary"]) == (text, about(5), "goal b")
    version = found["version"]
    again = client.put(f"{talks}/documents/d5", json={key: found[key] for key in ("id", "text", "turns", "summary")})
    assert again.status_code == 200, again.text
    assert client.get(f"{talks}/documents/d5").json()["version"] == version
    lines = client.get(f"{talks}/export").text.splitlines()
    whole = {"id": "d5", "title": "", "text": text, "metadata": {}, "turns": about(5), "summary": "goal b"}
    assert json.loads(lines[5]) == whole
    assert (
        "turns" not in client.post(f"{talks}/documents/get", json={"ids": ["d5"], "include": []}).json()["documents"][0]
    )


def test_what_a_conversation_is_about_is_found_by_what_summaries_taught(client: httpx.Client, talks: str) -> None:
    learned = client.get(talks).json()["turns"]["map"]
    assert learned["documents"] >= 64
    assert learned["held_out"] > learned["unmapped"]
    turns = talk("good day", "not the flat", "well i want a film")
    # The words of the summaries stand in no turn: without the map one is as near as another.
    found = hits(client, talks, turns=turns, mode="dense", k=20)
    assert {int(name[1:]) % 4 for name in found} == {2}
    assert set(hits(client, talks, turns=turns, k=20)) & set(found)


def test_turns_before_the_last_ones_do_not_count(client: httpx.Client, create: Callable[..., str]) -> None:
    documents = [
        {"id": "then", "turns": talk("a zebra", "and then", "let us say a train to town")},
        {"id": "now", "turns": talk("a train to town", "and then", "let us say a zebra")},
    ]
    plain = create(turns={"last": 1, "summaries": False})
    client.post(f"{plain}/documents", json={"documents": documents})
    for mode in ("lexical", "semantic", "dense", "hybrid"):
        turns = talk("train to town", "fine", "zebra")
        assert hits(client, plain, turns=turns, mode=mode)[0] == "now", mode
    assert hits(client, plain, turns=talk("zebra"), mode="lexical") == ["now"]
    weighed = create(turns={"last": 3, "roles": {"user": 0}, "summaries": False})
    client.post(f"{weighed}/documents", json={"documents": documents})
    assert hits(client, weighed, query="zebra train", mode="lexical") == []
    assert sorted(hits(client, weighed, query="then", mode="lexical")) == ["now", "then"]


def test_a_conversation_is_changed(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create(turns={})
    client.put(
        f"{address}/documents/a", json={"turns": talk("a zebra please"), "summary": "animals", "metadata": {"n": 1}}
    )

    def patched(**change: Any) -> tuple[str, Any, Any, Any]:
        answer = client.patch(f"{address}/documents/a", json=change)
        assert answer.status_code == 200, answer.text
        found = client.get(f"{address}/documents/a").json()
        return found["text"], found.get("turns"), found.get("summary"), found["metadata"]

    longer = talk("a zebra please", "which", "the small one")
    text = "user: a zebra please\nsystem: which\nuser: the small one"
    assert patched(turns=longer) == (text, longer, "animals", {"n": 1})
    assert hits(client, address, query="small", mode="lexical") == ["a"]
    assert patched(summary="zoo", metadata={"n": 2}) == (text, longer, "zoo", {"n": 2})
    assert patched(summary="") == (text, longer, None, {"n": 2})
    assert patched(text="plain") == ("plain", None, None, {"n": 2})
    refused = client.patch(f"{address}/documents/a", json={"summary": "of nothing"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/summary")


def test_judged_conversations_are_kept_and_searched(client: httpx.Client, talks: str) -> None:
    queries = [
        {"id": f"q{i}", "turns": about(i), "grades": {f"d{j}": 1 for j in range(i % 4, 80, 4)}} for i in range(8)
    ]
    assert client.put(f"{talks}/judgements/people", json={"queries": queries}).status_code == 201
    assert client.get(f"{talks}/judgements/people").json() == {"queries": queries}
    lines = client.get(f"{talks}/judgements/people", params={"format": "ndjson"}).content
    headers = {"content-type": "application/x-ndjson"}
    assert client.put(f"{talks}/judgements/lines", content=lines, headers=headers).status_code == 201
    assert client.get(f"{talks}/judgements/lines").json() == {"queries": queries}
    for form in ("queries", "beir"):
        refused = client.get(f"{talks}/judgements/people", params={"format": form})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/format")
    settings = [{"name": mode, "search": {"mode": mode}} for mode in ("dense", "hybrid")]
    body = {"judgements": "people", "settings": settings, "measures": ["P@10"]}
    report = client.post(f"{talks}/evaluate", json=body).json()
    assert report["settings"][0]["measures"]["P@10"]["mean"] == 1


def test_recall_is_of_conversations_as_they_are_searched(client: httpx.Client, create: Callable[..., str]) -> None:
    address, random = create(turns={"last": 1}), Random(5)

    def mixed() -> Turns:
        return talk(*(" ".join(f"word{random.randrange(30)}" for _ in range(count)) for count in (12, 6, 4)))

    for start in range(0, 60, 20):
        documents = [{"id": f"d{i}", "turns": mixed()} for i in range(start, start + 20)]
        wrote = client.post(f"{address}/documents", json={"documents": documents})
        assert wrote.status_code == 200, wrote.text
    asked = [mixed() for _ in range(12)]

    def measured(queries: list[Any]) -> float:
        answer = client.post(f"{address}/recall", json={"k": 5, "candidates": 5, "queries": queries})
        assert answer.status_code == 200, answer.text
        return float(answer.json()["recall"])

    found = []
    for turns in asked:
        exact, quick = (
            set(hits(client, address, turns=turns, mode="semantic", k=5, candidates=5, exact=exact))
            for exact in (True, False)
        )
        found.append(len(exact & quick) / 5)
    recall = measured([{"turns": turns} for turns in asked])
    assert recall == pytest.approx(sum(found) / 12)
    texts = ["\n".join(f"{turn['role']}: {turn['text']}" for turn in turns) for turns in asked]
    assert recall != measured([{"query": text} for text in texts])


def test_a_tuning_follows_conversations(
    client: httpx.Client, create: Callable[..., str], finished: Callable[[str], Any]
) -> None:
    address = create(turns={})
    client.post(f"{address}/documents", json={"documents": [{"id": f"d{i}", "turns": about(i)} for i in range(8)]})
    body = {"target_recall": 0.5, "k": 2, "queries": [{"turns": about(i)} for i in range(4)]}
    answer = client.post(f"{address}/tune", json=body)
    assert answer.status_code == 202, answer.text
    task = finished(answer.headers["location"])
    assert task["state"] == "succeeded", task
    assert task["result"]["queries"] == 4


def test_an_example_may_be_a_conversation(client: httpx.Client, talks: str) -> None:
    turns = talk("good day", "not the flat", "well i want a film")
    found = hits(client, talks, like={"positive": [{"turns": turns}]}, mode="dense", k=20)
    assert found == hits(client, talks, turns=turns, mode="dense", k=20)
    assert {int(name[1:]) % 4 for name in found} == {2}


DOCUMENT_FAULTS = [
    ({"turns": []}, "/turns"),
    ({"turns": [{"role": "user"}]}, "/turns/0/text"),
    ({"turns": [{"role": "user", "text": " "}]}, "/turns/0/text"),
    ({"turns": [{"role": "user", "text": "a"}, {"role": "the user", "text": "a"}]}, "/turns/1/role"),
    ({"turns": [{"role": 3, "text": "a"}]}, "/turns/0/role"),
    ({"turns": [{"role": "user", "text": "a", "name": "b"}]}, "/turns/0/name"),
    ({"turns": talk("a"), "text": "user: b"}, "/turns"),
    ({"text": "a", "summary": "b"}, "/summary"),
    ({"turns": None}, "/turns"),
    ({"turns": "user: a"}, "/turns"),
]


@pytest.mark.parametrize(("document", "pointer"), DOCUMENT_FAULTS, ids=str)
def test_a_fault_of_a_conversation_is_told_by_its_place(
    client: httpx.Client, talks: str, document: dict[str, Any], pointer: str
) -> None:
    answer = client.post(f"{talks}/documents", json={"documents": [{"id": "x", **document}]})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == f"/documents/0{pointer}"


@pytest.mark.parametrize(
    ("search", "pointer"),
    [
        ({"turns": talk("a"), "query": "a"}, "/turns"),
        ({"turns": []}, "/turns"),
        ({"turns": talk("a"), "syntax": "query"}, "/syntax"),
        ({"turns": [{"role": "user", "text": "a" * 100_000}]}, "/turns"),
        ({"turns": [{"role": "", "text": "a"}]}, "/turns/0/role"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_fault_of_a_search_is_told_by_its_place(
    client: httpx.Client, talks: str, search: dict[str, Any], pointer: str
) -> None:
    answer = client.post(f"{talks}/search", json=search)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_a_collection_without_turns_says_so(client: httpx.Client, collection: str) -> None:
    for path, body, pointer in (
        ("documents", {"documents": [{"id": "x", "turns": talk("a")}]}, "/documents/0/turns"),
        ("search", {"turns": talk("a")}, "/turns"),
        ("search", {"like": {"positive": ["cat", {"turns": talk("a")}]}}, "/like/positive/1/turns"),
        ("evaluate", {"queries": [{"id": "q", "turns": talk("a"), "grades": {}}]}, "/queries/0/turns"),
        ("recall", {"queries": [{"query": "a"}, {"turns": talk("a")}]}, "/queries/1/turns"),
        ("tune", {"target_recall": 0.9, "queries": [{"turns": talk("a")}]}, "/queries/0/turns"),
    ):
        answer = client.post(f"{collection}/{path}", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
        assert "has no turns" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"turns": {"last": 0}}, "/turns/last"),
        ({"turns": {"decay": 0}}, "/turns/decay"),
        ({"turns": {"roles": {"user": -1}}}, "/turns/roles/user"),
        ({"turns": {}, "passages": {"size": 128}}, "/passages/split"),
        ({"turns": {}, "similarity": "inner_product"}, "/turns"),
        ({"turns": {}, "encoder": {"model": None, "dim": 3}}, "/turns"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_reads_no_conversations_is_no_collection(client: httpx.Client, body: dict[str, Any], pointer: str) -> None:
    answer = client.post("/v1/collections", json={"name": "no", "encoder": {"model": "words"}, **body})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_conversations_and_the_map_come_back_from_an_archive(
    client: httpx.Client, talks: str, finished: Callable[[str], Any]
) -> None:
    task = client.post(f"{talks}/snapshots").json()["id"]
    assert finished(f"/v1/tasks/{task}")["state"] == "succeeded"
    archive = client.get(f"{talks}/snapshots/{task}").content
    headers = {"content-type": "application/x-tar"}
    sent = client.put("/v1/collections/told-again/restore", content=archive, headers=headers)
    assert sent.status_code == 201, sent.text
    again = "/v1/collections/told-again"
    assert sent.json()["turns"] == client.get(talks).json()["turns"]
    assert client.get(f"{again}/export").text == client.get(f"{talks}/export").text
    asked = {"turns": about(2), "mode": "dense", "k": 20}
    found = hits(client, talks, **asked)
    assert hits(client, again, **asked) == found
    rebuilt = client.post(f"{again}/rebuild").json()["id"]
    assert finished(f"/v1/tasks/{rebuilt}")["state"] == "succeeded"
    assert sorted(hits(client, again, **asked)) == sorted(found)
    refused = client.get(f"{again}/export", params={"format": "parquet"})
    assert refused.status_code == 422
    assert "no column for turns" in refused.json()["detail"]
