"""Documents over HTTP: written, read, changed, deleted, listed, counted, imported."""

from __future__ import annotations

import codecs
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

NDJSON = {"Content-Type": "application/x-ndjson"}
AWKWARD = [
    "a/b",
    "/",
    "..",
    "../..",
    "a//b",
    "a?b=c#d",
    "100%",
    "%2F",
    "get",
    "a b",
    "é",
    "e\u0301",
    "\u2028",
    "🐈",
    "a+b",
]


def hits(client: httpx.Client, address: str, query: str, **more: Any) -> list[str]:
    answer = client.post(f"{address}/search", json={"query": query, **more})
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def test_what_is_written_is_read_and_found_at_once(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create()
    metadata = {"s": "x", "yes": True, "n": 1, "big": 2**63 - 1, "x": 1.0, "small": -1e-300, "l": ["a", ""], "e": []}
    document = {"id": "a\u00a0b", "title": "", "text": "unusual\u0000 words \U0001f408", "metadata": metadata}
    written = client.post(f"{address}/documents", json={"documents": [document]})
    assert written.json() == {"written": 1, "ids": ["a\u00a0b"], "duplicates": [], "truncated": []}
    read = client.get(f"{address}/documents/a%C2%A0b")
    assert read.json() == {**document, "version": 1}
    assert [type(value) for value in read.json()["metadata"].values()] == [type(v) for v in metadata.values()]
    assert hits(client, address, "unusual words") == ["a\u00a0b"]


def test_the_last_of_two_wins(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create()
    documents = [{"id": "a", "text": "first"}, {"id": "b", "text": "other"}, {"id": "a", "text": "last"}]
    answer = client.post(f"{address}/documents", json={"documents": documents})
    assert answer.json() == {"written": 2, "ids": ["a", "b", "a"], "duplicates": ["a"], "truncated": []}
    assert client.get(f"{address}/documents/a").json()["text"] == "last"


@pytest.mark.parametrize("id", AWKWARD)
def test_any_id_fits_into_a_path(client: httpx.Client, create: Callable[..., str], id: str) -> None:
    address = create()
    path = f"{address}/documents/{quote(id, safe='')}".replace("..", "%2E%2E")
    made = client.put(path, json={"text": "a cat"})
    assert made.status_code == 201, made.text
    assert client.get(path).json()["id"] == id
    assert client.put(path, json={"id": id, "text": "a dog", "metadata": {"n": 1}}).status_code == 200
    assert client.patch(path, json={"metadata": {"m": 2}}).json() == {
        "id": id,
        "title": "",
        "text": "a dog",
        "metadata": {"n": 1, "m": 2},
        "version": 3,
    }
    assert client.post(f"{address}/documents/get", json={"ids": [id]}).json()["documents"][0]["id"] == id
    assert client.delete(path).json() == {"deleted": 1}
    assert client.delete(path).json()["code"] == "document_not_found"
    assert client.get(path).status_code == 404


def test_an_id_is_decoded_once(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create()
    assert client.put(f"{address}/documents/a%252Fb", json={"text": "x"}).status_code == 201
    assert client.get(f"{address}/documents/a%252Fb").json()["id"] == "a%2Fb"
    assert client.get(f"{address}/documents/a%2Fb").status_code == 404
    assert client.get(f"{address}/documents/a/b").status_code == 404
    # An encoded slash in a collection's name is no slash of the route.
    assert client.get(f"{address}%2Fdocuments/a%252Fb").json()["code"] == "not_found"


def test_a_patch_merges(client: httpx.Client, collection: str) -> None:
    changed = client.patch(f"{collection}/documents/cat", json={"metadata": {"legs": None, "x": 1, "none": None}})
    assert changed.json()["metadata"] == {"tags": ["pet"], "x": 1}
    assert changed.json()["text"] == "a cat sleeps on the mat"
    assert client.get(f"{collection}/documents/cat").json() == changed.json()
    assert hits(client, collection, "cat mat", filter={"x": {"eq": 1}}) == ["cat"]
    assert client.patch(f"{collection}/documents/cow", json={"metadata": {}}).status_code == 404


def test_some_of_many(client: httpx.Client, collection: str) -> None:
    answer = client.post(f"{collection}/documents/get", json={"ids": ["hen", "cow", "cat", "hen", "cow"]}).json()
    assert [document["id"] for document in answer["documents"]] == ["hen", "cat"]
    assert answer["missing"] == ["cow"]
    assert client.post(f"{collection}/documents/get", json={"ids": []}).json() == {"documents": [], "missing": []}


def test_deleting_and_counting(client: httpx.Client, collection: str) -> None:
    def count(**filter: Any) -> int:
        found: int = client.post(f"{collection}/count", json=filter).json()["count"]
        return found

    def delete(**body: Any) -> int:
        found: int = client.post(f"{collection}/delete", json=body).json()["deleted"]
        return found

    assert (count(), count(filter={"legs": {"eq": 4}}), count(filter={"legs": {"eq": True}})) == (3, 2, 0)
    assert delete(filter={"legs": {"lt": 4}}) == 1
    assert (count(), hits(client, collection, "hen eggs", k=1)) == (2, ["cat"]) or count() == 2
    assert "hen" not in hits(client, collection, "hen eggs")
    assert delete(ids=["cat", "cat", "cow"]) == 1
    assert delete(ids=[]) == 0
    assert count() == 1


def test_a_listing_goes_page_by_page(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create()
    ids = ["B", "a", "a/b", "é", "z", "\u00a0", "10", "9"]
    documents = [{"id": id, "text": "x", "metadata": {"n": i}} for i, id in enumerate(ids)]
    client.post(f"{address}/documents", json={"documents": documents})

    def pages(**query: Any) -> Iterator[list[str]]:
        cursor: str | None = ""
        while cursor is not None:
            parameters = {**query, **({"cursor": cursor} if cursor else {})}
            answer = client.get(f"{address}/documents", params=parameters).json()
            yield [document["id"] for document in answer["documents"]]
            cursor = answer["next"]

    in_order = sorted(ids, key=str.encode)
    assert list(pages(limit=3)) == [in_order[:3], in_order[3:6], in_order[6:]]
    assert list(pages()) == [in_order]
    odd = sorted((ids[i] for i in (1, 3, 5, 7)), key=str.encode)
    condition = json.dumps({"n": {"in": [1, 3, 5, 7]}})
    assert [id for page in pages(limit=1, filter=condition) for id in page] == odd


def test_own_vectors(client: httpx.Client, create: Callable[..., str]) -> None:
    dense = create(encoder={"model": None, "kind": "dense", "dim": 2}, similarity="inner_product")
    many = create(encoder={"model": None, "dim": 2})
    packed = {"base64": "AACAPwAAAAA=", "dtype": "float32", "shape": [2]}
    documents = [{"id": "x", "text": "", "vector": packed}, {"id": "y", "vector": [0, 3]}]
    assert client.post(f"{dense}/documents", json={"documents": documents}).json()["written"] == 2
    answer = client.post(f"{dense}/search", json={"vector": [1, 1], "include": ["vectors"]}).json()
    assert [(hit["id"], hit["score"], hit["vector"]) for hit in answer["hits"]] == [
        ("y", 3.0, [0.0, 3.0]),
        ("x", 1.0, [1.0, 0.0]),
    ]
    assert client.put(f"{many}/documents/m", json={"vectors": [[1, 0], [0, 2]]}).status_code == 201
    answer = client.post(f"{many}/search", json={"vectors": [[1, 0]], "include": ["vectors"]}).json()
    assert answer["hits"][0]["vectors"] == [[1.0, 0.0], [0.0, 2.0]]

    def pointers(address: str, body: Any, where: str = "search") -> list[str]:
        refused = client.post(f"{address}/{where}", json=body)
        assert refused.status_code == 422, refused.text
        return [error["pointer"] for error in refused.json()["errors"]]

    assert pointers(dense, {"vectors": [[1, 1]]}) == ["/vectors"]
    assert pointers(dense, {"vector": [1]}) == ["/vector"]
    assert pointers(many, {"vector": [1, 1]}) == ["/vector"]
    assert pointers(many, {"vectors": [[0, 0]]}) == ["/vectors"]
    assert pointers(many, {"documents": [{"id": "a", "text": "x"}]}, "documents") == ["/documents/0/vectors"]
    assert pointers(many, {"documents": [{"id": "a", "vector": [1, 1]}]}, "documents") == ["/documents/0/vector"]
    assert pointers(many, {"documents": [{"id": "a", "vectors": [[1]]}]}, "documents") == ["/documents/0/vectors"]
    assert pointers(many, {"documents": [{"id": "a", "vectors": [[0, 0]]}]}, "documents") == ["/documents/0/vectors"]
    assert client.post(f"{many}/search", json={"query": "text"}).json()["mode"] == "lexical"
    refused = client.post(f"{many}/search", json={"query": "text", "mode": "semantic"})
    assert (refused.status_code, refused.json()["code"]) == (409, "no_encoder")


def test_a_filter_that_asks_for_what_is_not_there_is_answered_with_a_warning(
    client: httpx.Client, collection: str
) -> None:
    def said(filter: dict[str, Any]) -> list[Any]:
        answers = [
            client.post(f"{collection}/search", json={"query": "cat", "filter": filter}),
            client.post(f"{collection}/count", json={"filter": filter}),
            client.get(f"{collection}/documents", params={"filter": json.dumps(filter)}),
            client.post(f"{collection}/delete", json={"filter": filter}),
        ]
        assert [answer.status_code for answer in answers] == [200] * 4
        return [answer.json().get("warnings") for answer in answers]

    for unknown in ("lges", "id"):
        ((warning,), *others) = said({unknown: {"eq": "cat"}})
        assert others == [[warning]] * 3
        assert (warning["code"], warning["pointer"]) == ("unknown_field", f"/filter/{unknown}/eq")
        assert unknown in warning["message"]
        assert "'legs'" in warning["message"]
    ((warning,), *others) = said({"legs": {"gt": "3"}})
    assert others == [[warning]] * 3
    assert (warning["code"], warning["pointer"]) == ("other_type", "/filter/legs/gt")
    assert "numbers" in warning["message"]
    assert said({"legs": {"gt": 1_000}}) == [None] * 4


def lines(count: int) -> bytes:
    return b"".join(b'{"id": "%d", "text": "number %d"}\n' % (i, i) for i in range(count))


@pytest.mark.parametrize(
    "content_type", ["application/x-ndjson", "application/ndjson; charset=utf-8", "application/jsonl"]
)
def test_an_import(
    client: httpx.Client, create: Callable[..., str], finished: Callable[[str], Any], content_type: str
) -> None:
    address = create()
    answer = client.post(f"{address}/import", content=lines(300), headers={"Content-Type": content_type})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/tasks/{answer.json()['id']}"
    task = finished(answer.headers["location"])
    assert (task["kind"], task["state"], task["done"], task["total"], task["errors"]) == (
        "import",
        "succeeded",
        300,
        300,
        [],
    )
    info = client.get(address).json()
    assert (info["documents"], info["tail"]) == (300, 0)
    assert task["id"] in [one["id"] for one in client.get("/v1/tasks").json()["tasks"]]
    cancelled = client.post(f"{answer.headers['location']}/cancel")
    assert cancelled.json()["state"] == "succeeded"


def test_bad_lines_stop_an_import_or_are_skipped(
    client: httpx.Client, create: Callable[..., str], finished: Callable[[str], Any]
) -> None:
    body = codecs.BOM_UTF8 + lines(2) + b'nope\n\n{"id": "", "text": "x"}\n{"id": "z", "text": "x"}'
    stopped, skipped = create(), create()
    answer = client.post(f"{stopped}/import", content=body, headers=NDJSON)
    task = finished(answer.headers["location"])
    assert task["state"] == "failed"
    assert client.post(f"{stopped}/count", json={}).json() == {"count": 0}
    answer = client.post(f"{skipped}/import?on_error=skip", content=body, headers=NDJSON)
    task = finished(answer.headers["location"])
    assert task["state"] == "succeeded"
    assert [(error["line"], error["code"]) for error in task["errors"]] == [(3, "malformed_body"), (5, "invalid")]
    assert task["errors"][0]["message"].endswith("at column 2")
    assert task["errors_total"] == 2
    later = client.get(answer.headers["location"], params={"errors_after": 3}).json()
    assert [error["line"] for error in later["errors"]] == [5]
    assert client.post(f"{skipped}/count", json={}).json() == {"count": 3}


def test_what_an_import_refuses(client: httpx.Client, create: Callable[..., str], tmp_path: Path) -> None:
    address = create()
    for content_type in ("application/octet-stream", "image/png", ""):
        answer = client.post(f"{address}/import", content=lines(1), headers={"Content-Type": content_type})
        assert answer.status_code == 415
    assert client.post(f"{address}/import?on_error=guess", content=b"", headers=NDJSON).status_code == 422
    assert client.post("/v1/collections/absent/import", content=b"", headers=NDJSON).status_code == 404
    assert client.post(f"{address}/import", content=b"x" * 400_001, headers=NDJSON).status_code == 413


def files(server: Any, address: str) -> set[Path]:
    """The collection's files but for those that its database makes and drops."""
    folder: Path = server.settings.indexes / address.rpartition("/")[2]
    return {path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm"))}


def test_an_upload_that_ends_early_leaves_nothing(
    client: httpx.Client, create: Callable[..., str], server: Any, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    address = create()
    before = files(server, address)

    def endless() -> Iterator[bytes]:
        for _ in range(50):
            yield b" " * 10_000

    assert client.post(f"{address}/import", content=endless(), headers=NDJSON).status_code == 413
    assert files(server, address) == before
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        head = f"POST {address}/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        connection.sendall(f"{head}Content-Length: 300000\r\n\r\n".encode() + lines(100))
        eventually(lambda: len(files(server, address) - before) == 1)
    eventually(lambda: files(server, address) == before)
    tasks = client.get("/v1/tasks").json()["tasks"]
    assert [task for task in tasks if task["collection"] == address.rpartition("/")[2]] == []


def test_files_are_imported_as_they_are(
    client: httpx.Client, create: Callable[..., str], finished: Callable[[str], Any]
) -> None:
    """By content type, or by name; faults by their place; what cannot be read is told before or by the task."""
    address = f"{create()}/import"

    def send(content: bytes, media: str, **params: str | list[str]) -> Any:
        return client.post(address, content=content, params=params, headers={"Content-Type": media})

    csv = "id,title,body,n\na,Größe,one,1\nb,Two,two,2\n".encode("latin-1")
    sent = send(csv, "text/csv; charset=latin-1", text_field="body", select="n:int", file="größe.csv")
    assert (sent.status_code, sent.json()["file"]) == (202, "größe.csv")
    task = finished(sent.headers["location"])
    assert (task["state"], task["file"]) == ("succeeded", "größe.csv")
    assert {one["id"]: one["file"] for one in client.get("/v1/tasks").json()["tasks"]}[task["id"]] == "größe.csv"
    found = client.get(f"{address.removesuffix('/import')}/documents/a").json()
    assert (found["title"], found["text"], found["metadata"]) == ("Größe", "one", {"n": 1})
    sent = send(b"# The heron\n\nIt stands.", "application/octet-stream", format="markdown", id="birds/heron.md")
    assert finished(sent.headers["location"])["state"] == "succeeded"
    hits = client.post(f"{address.removesuffix('/import')}/search", json={"query": "heron stands"}).json()["hits"]
    assert hits[0]["id"] == "birds/heron.md"
    assert sent.json()["file"] is None
    assert send(csv, "text/csv", file="x" * 513).status_code == 422
    task = finished(send(b"id,text\nc,three\n,four\n", "text/csv", id_field="id").headers["location"])
    assert (task["state"], [error["line"] for error in task["errors"]]) == ("failed", [3])
    task = finished(send(b'[{"id": "d", "text": " "}, {"id": "e", "text": "x"}]', "application/json").headers["location"])  # fmt: skip  # noqa: E501
    assert (task["state"], task["result"]) == ("succeeded", {"skipped": 1})
    for content, media, params in (
        (b"x", "text/markdown", {}),
        (b"x", "application/pdf", {"id_field": "a"}),
        (b"x", "text/csv", {"charset": "latin-1"}),
        (b"x", "text/csv", {"select": "a:complex"}),
        (b"x", "text/csv; charset=none-such", {}),
        (b"x", "application/x-ndjson", {"format": "msword"}),
    ):
        assert send(content, media, **params).status_code == 422, (media, params)
