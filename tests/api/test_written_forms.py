"""The forms in which documents are written: one, an array, an object with one, lines; and the ids that they get."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}


def lines(*documents: Any) -> bytes:
    return "".join(json.dumps(one) + "\n" for one in documents).encode()


def ids(client: httpx.Client, address: str) -> list[str]:
    return [one["id"] for one in client.get(f"{address}/documents").json()["documents"]]


def test_every_form_writes_the_same(client: httpx.Client, create: Callable[..., str]) -> None:
    first, second = {"id": "a", "text": "a wren", "metadata": {"n": 1}}, {"id": 7, "title": "a robin"}
    bodies: list[tuple[bytes, dict[str, str]]] = [
        (json.dumps({"documents": [first, second]}).encode(), JSON),
        (json.dumps([first, second]).encode(), JSON),
        (b" \n\t" + json.dumps([first, second]).encode(), JSON),
        (lines(first, second), NDJSON),
        (b"\xef\xbb\xbf" + lines(first) + b"\r\n\n" + lines(second).rstrip(), NDJSON),
    ]
    for body, headers in bodies:
        address = create()
        answer = client.post(f"{address}/documents", content=body, headers=headers)
        assert answer.json() == {"written": 2, "ids": ["a", "7"], "duplicates": [], "truncated": []}
        found = client.get(f"{address}/documents").json()["documents"]
        assert [(one["id"], one["title"], one["metadata"]) for one in found] == [
            ("7", "a robin", {}),
            ("a", "", {"n": 1}),
        ]
    alone = create()
    assert client.post(f"{alone}/documents", json=first).json()["ids"] == ["a"]
    assert client.get(f"{alone}/documents/a").json()["metadata"] == {"n": 1}


def test_a_document_without_an_id_is_the_same_one_again(
    client: httpx.Client, create: Callable[..., str], finished: Callable[[str], Any]
) -> None:
    address = create()
    documents = [{"text": "a wren"}, {"id": "b", "text": "a robin"}, {"text": "a wren"}, {"text": "an owl"}]
    answer = client.post(f"{address}/documents", json=documents).json()
    wren, b, again, owl = answer["ids"]
    assert (answer["written"], b, again, answer["duplicates"]) == (3, "b", wren, [wren])
    assert len({wren, owl, b}) == 3
    assert client.post(f"{address}/documents", json={"text": "a wren"}).json()["ids"] == [wren]
    assert client.get(f"{address}/documents/{wren}").json()["text"] == "a wren"
    # An import makes the same ids.
    task = client.post(f"{address}/import", content=lines(*documents), headers=NDJSON).headers["location"]
    assert finished(task)["state"] == "succeeded"
    assert ids(client, address) == sorted({wren, owl, b})


def test_an_integer_is_an_id_wherever_one_is_given(
    client: httpx.Client, create: Callable[..., str], finished: Callable[[str], Any]
) -> None:
    address = create()
    documents = [{"id": 7, "text": "a wren"}, {"id": "8", "text": "a wren and a robin"}, {"id": -9, "text": "a wren"}]
    task = client.post(f"{address}/import", content=lines(*documents), headers=NDJSON).headers["location"]
    assert finished(task)["state"] == "succeeded"
    assert client.get(f"{address}/documents/7").json()["id"] == "7"
    assert client.put(f"{address}/documents/7", json={"id": 7, "text": "a wren"}).json()["ids"] == ["7"]
    got = client.post(f"{address}/documents/get", json={"ids": [8, "7", 10]}).json()
    assert ([one["id"] for one in got["documents"]], got["missing"]) == (["8", "7"], ["10"])
    hits = client.post(f"{address}/search", json={"query": "wren", "ids": [7, 8]}).json()["hits"]
    assert {one["id"] for one in hits} == {"7", "8"}
    alike = client.post(f"{address}/search", json={"like": {"positive": [7]}}).json()["hits"]
    assert {one["id"] for one in alike} == {"8", "-9"}
    assert client.post(f"{address}/delete", json={"ids": [8, -9]}).json() == {"deleted": 2}
    assert ids(client, address) == ["7"]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ([{"id": "a", "text": "x"}, {"id": 1.5, "text": "x"}], ["/1/id"]),
        ([{"id": "a", "text": "x", "vectors": [[1]]}], ["/0/vectors"]),
        ([{"id": "a", "text": "x", "when": 1}], ["/0/when"]),
        ([], [""]),
        ([[]], ["/0"]),
        ({"id": True, "text": "x"}, ["/id"]),
        ({"id": "a", "text": "x", "vectors": [[1]]}, ["/vectors"]),
        ({"id": "a"}, ["/text"]),
        ({"documents": [{"text": "x"}], "text": "x"}, ["/text"]),
        ([{"text": "x"}] * 21, [""]),
        ({}, ["/documents"]),
    ],
)
def test_a_fault_is_pointed_at_in_the_form_that_came(
    client: httpx.Client, collection: str, body: Any, pointers: list[str]
) -> None:
    before = ids(client, collection)
    answer = client.post(f"{collection}/documents", json=body)
    assert answer.status_code == 422, answer.text
    assert [one["pointer"] for one in answer.json()["errors"]] == pointers
    assert all("line" not in one for one in answer.json()["errors"])
    assert answer.json()["detail"].startswith(pointers[0] or "the body")
    assert ids(client, collection) == before


def test_faults_of_lines_are_told_by_line_and_nothing_is_written(
    client: httpx.Client, create: Callable[..., str]
) -> None:
    address = create()
    body = lines({"text": "x"}) + b"nope\n\n" + lines({"id": False, "text": 1}, ["a"], {"text": "y"})
    answer = client.post(f"{address}/documents", content=body, headers=NDJSON)
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert [(one["line"], one["pointer"]) for one in errors] == [(2, ""), (4, "/text"), (4, "/id"), (5, "")]
    assert "an id is a string or an integer; got a boolean" in errors[2]["message"]
    assert answer.json()["detail"].startswith("4 faults; the first: line 2: expected JSON")
    assert ids(client, address) == []
    # What only the collection can tell has its line too.
    body = b"\n" + lines({"text": "x"}, {"text": "x", "vectors": [[1]]})
    (error,) = client.post(f"{address}/documents", content=body, headers=NDJSON).json()["errors"]
    assert (error["line"], error["pointer"]) == (3, "/vectors")
    assert client.post(f"{address}/documents", content=b"\n \n", headers=NDJSON).status_code == 422
    many = client.post(f"{address}/documents", content=lines({"text": "x"}) * 21, headers=NDJSON)
    assert (many.status_code, many.json()["errors"][0]["pointer"]) == (422, "")
    large = client.post(f"{address}/documents", content=lines({"text": "x" * 300_000}), headers=NDJSON)
    assert large.status_code == 413
    assert ids(client, address) == []


def test_lines_are_applied_once_under_a_key(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create()
    headers = {**NDJSON, "Idempotency-Key": "lines"}
    first = client.post(f"{address}/documents", content=lines({"text": "a wren"}), headers=headers)
    client.post(f"{address}/delete", json={"ids": first.json()["ids"]})
    again = client.post(f"{address}/documents", content=lines({"text": "a wren"}), headers=headers)
    assert again.json() == first.json()
    assert ids(client, address) == []
    other = client.post(f"{address}/documents", content=lines({"text": "an owl"}), headers=headers)
    assert other.status_code == 422
