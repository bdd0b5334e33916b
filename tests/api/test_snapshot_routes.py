"""Snapshots over HTTP: taken, listed, fetched, restored; what is refused; and kills in the middle of each."""

from __future__ import annotations

import hashlib
import io
import json
import random
import socket
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

TAR = {"Content-Type": "application/x-tar"}
Finished = Callable[[str], Any]


def take(client: httpx.Client, address: str, finished: Finished) -> str:
    accepted = client.post(f"{address}/snapshots")
    assert accepted.status_code == 202, accepted.text
    assert accepted.headers["location"] == f"/v1/tasks/{accepted.json()['id']}"
    task = finished(accepted.headers["location"])
    assert (task["kind"], task["state"]) == ("snapshot", "succeeded")
    return str(accepted.json()["id"])


def texts(client: httpx.Client, address: str) -> dict[str, str]:
    page = client.get(f"{address}/documents", params={"limit": 1000}).json()
    return {document["id"]: document["text"] for document in page["documents"]}


def test_pinned_weights_come_along(client: httpx.Client, create: Callable[..., str], finished: Finished) -> None:
    pinned = {"words": 0.6, "tokens": 0.0, "pooled": 0.4}
    address = create(encoder={"model": "words"}, fusion=pinned)
    archive = client.get(f"{address}/snapshots/{take(client, address, finished)}").content
    restored = client.put(f"{address}-restored/restore", content=archive, headers=TAR)
    assert (restored.status_code, restored.json()["fusion"]) == (201, pinned)


def test_there_and_back(
    client: httpx.Client, collection: str, finished: Finished, create: Callable[..., str], tmp_path: Path
) -> None:
    before, name = texts(client, collection), collection.rpartition("/")[2]
    assert client.get(f"{collection}/snapshots").json() == {"snapshots": []}
    id = take(client, collection, finished)
    (listed,) = client.get(f"{collection}/snapshots").json()["snapshots"]
    assert (listed["id"], listed["collection"], listed["documents"]) == (id, name, 3)
    got = client.get(f"{collection}/snapshots/{id}")
    assert got.headers["content-type"] == "application/x-tar"
    assert (len(got.content), hashlib.sha256(got.content).hexdigest()) == (listed["size"], listed["sha256"])
    part = client.get(f"{collection}/snapshots/{id}", headers={"Range": "bytes=512-1023"})
    assert (part.status_code, part.content) == (206, got.content[512:1024])
    client.put(f"{collection}/documents/cow", json={"text": "a cow"})
    # From the list, under another name.
    made = client.post(f"/v1/collections/{name}-a/restore", json={"collection": name, "snapshot": id})
    assert made.status_code == 201, made.text
    assert (made.json()["name"], made.json()["documents"]) == (f"{name}-a", 3)
    assert made.headers["location"] == f"/v1/collections/{name}-a"
    # From an upload.
    sent = client.put(f"/v1/collections/{name}-b/restore", content=got.content, headers=TAR)
    assert sent.status_code == 201, sent.text
    # In its own place: only when told so.
    for answer in (
        client.post(f"{collection}/restore", json={"snapshot": id}),
        client.put(f"{collection}/restore", content=got.content, headers=TAR),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "collection_exists")
    assert "cow" in texts(client, collection)
    back = client.post(f"{collection}/restore", json={"snapshot": id, "replace": True})
    assert back.status_code == 200, back.text
    for address in (collection, f"{collection}-a", f"{collection}-b"):
        assert texts(client, address) == before
        hits = client.post(f"{address}/search", json={"query": "a dog barks"}).json()["hits"]
        assert (hits[0]["id"], hits[0]["text"]) == ("dog", before["dog"])
        assert client.put(f"{address}/documents/cow", json={"text": "a cow"}).status_code == 201
    again = client.put(f"{collection}/restore?replace=true", content=got.content, headers=TAR)
    assert again.status_code == 200
    assert texts(client, collection) == before
    # Snapshots outlive their collection.
    assert client.delete(collection).status_code == 204
    assert [one["id"] for one in client.get(f"{collection}/snapshots").json()["snapshots"]] == [id]
    assert client.post(f"{collection}/restore", json={"snapshot": id}).status_code == 201
    assert client.delete(f"{collection}/snapshots/{id}").status_code == 204
    for method, path in (("GET", f"snapshots/{id}"), ("DELETE", f"snapshots/{id}")):
        answer = client.request(method, f"{collection}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "snapshot_not_found")


def test_a_damaged_one_is_listed_with_its_error(
    client: httpx.Client, collection: str, finished: Finished, server: Any
) -> None:
    id, name = take(client, collection, finished), collection.rpartition("/")[2]
    (server.settings.indexes / ".snapshots" / name / f"{id}.json").write_bytes(b"{")
    (listed,) = client.get(f"{collection}/snapshots").json()["snapshots"]
    assert (listed["id"], listed["collection"]) == (id, name)
    assert f"{id}.json" in listed["error"]
    for answer in (
        client.get(f"{collection}/snapshots/{id}"),
        client.post(f"{collection}/restore", json={"snapshot": id, "replace": True}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "collection_damaged")
    assert len(texts(client, collection)) == 3
    assert client.delete(f"{collection}/snapshots/{id}").status_code == 204
    assert client.get(f"{collection}/snapshots").json() == {"snapshots": []}


def test_an_archive_that_is_not_what_was_written_is_not_restored(
    client: httpx.Client, collection: str, finished: Finished, server: Any
) -> None:
    id, name = take(client, collection, finished), collection.rpartition("/")[2]
    path = server.settings.indexes / ".snapshots" / name / f"{id}.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    answer = client.post(f"{collection}/restore", json={"snapshot": id, "replace": True})
    assert (answer.status_code, answer.json()["code"]) == (503, "collection_damaged")
    assert f"snapshot {id} of collection {name} is damaged" in answer.json()["detail"]
    assert "Delete it" in answer.json()["detail"]
    assert len(texts(client, collection)) == 3
    assert client.delete(f"{collection}/snapshots/{id}").status_code == 204


def test_what_is_not_there(client: httpx.Client, collection: str) -> None:
    for method, address, body in [
        ("POST", "/v1/collections/absent/snapshots", None),
        ("GET", "/v1/collections/absent/snapshots", None),
        ("GET", f"{collection}/snapshots/0", None),
        ("GET", f"{collection}/snapshots/..%2F..%2Fc1", None),
        ("DELETE", f"{collection}/snapshots/%2e%2e", None),
        ("POST", f"{collection}/restore", {"snapshot": "0" * 32}),
        ("POST", f"{collection}/restore", {"snapshot": "../../x", "replace": True}),
        ("PUT", "/v1/collections/UPPER/restore", None),
    ]:
        answer = client.request(method, address, json=body, headers=TAR if method == "PUT" else None)
        assert answer.status_code == 404, (address, answer.text)
    assert client.post(f"{collection}/restore", json={"snapshot": "x", "collection": "../x"}).status_code == 422
    assert client.put(f"{collection}/restore", content=b"x").status_code == 415


def names(server: Any) -> set[str]:
    return {path.name for path in server.settings.indexes.iterdir()}


def test_a_hostile_upload_leaves_nothing(
    client: httpx.Client, collection: str, finished: Finished, server: Any, eventually: Callable[..., None]
) -> None:
    id = take(client, collection, finished)
    archive = client.get(f"{collection}/snapshots/{id}").content
    before, address = names(server), "/v1/collections/hostile/restore"

    def with_member(name: str, kind: bytes) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        return out.getvalue() + archive

    changed = bytearray(archive)
    changed[len(changed) // 2] ^= 1
    for content in (
        b"", b"hello", bytes(20_000), bytes(changed), archive[:-20_000], archive[:700], archive + b"x",
        with_member("../x", b"0"), with_member("/etc/x", b"0"), with_member("x", b"2"), with_member("x", b"1"),
    ):  # fmt: skip
        answer = client.put(address, content=content, headers=TAR)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_archive"), answer.text
        assert names(server) == before

    def gives_up() -> Any:
        yield archive[:5_000]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        client.put(address, content=gives_up(), headers=TAR)
    eventually(lambda: names(server) == before)


# Kills


def begin(start: Callable[..., Any], **environment: str) -> tuple[Any, httpx.Client]:
    server = start(**environment)
    return server, httpx.Client(base_url=server.ready(), trust_env=False, timeout=60)


def state(client: httpx.Client, name: str) -> dict[str, str] | None:
    """Every document, and that each is found by its own text with a full score; None where there is no collection."""
    if client.get(f"/v1/collections/{name}").status_code == 404:
        return None
    found = texts(client, f"/v1/collections/{name}")
    searches = [{"query": text, "k": 1} for text in list(found.values())[::50]]
    answer = client.post(f"/v1/collections/{name}/search/batch", json={"searches": searches}).json()
    for search, result in zip(searches, answer["results"], strict=True):
        assert result["hits"][0]["text"] == search["query"]
        assert result["hits"][0]["score"] > 1.99
    return found


def write(client: httpx.Client, version: int, count: int = 400) -> dict[str, str]:
    documents = [{"id": f"d{n}", "text": f"n{n}v{version} m{n}v{version}"} for n in range(count)]
    answer = client.post("/v1/collections/c/documents", json={"documents": documents})
    assert answer.status_code == 200, answer.text
    return {document["id"]: document["text"] for document in documents}


def test_who_goes_away_after_the_last_byte_loses_only_the_answer(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    from app.catalogue.restoring import Restoring

    server = serve()
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        client.post("/v1/collections", json={"name": "a", "encoder": {"model": "words"}}).raise_for_status()
        client.put("/v1/collections/a/documents/x", json={"text": "a cat"}).raise_for_status()
        task = client.post("/v1/collections/a/snapshots").json()["id"]
        eventually(lambda: client.get(f"/v1/tasks/{task}").json()["state"] == "succeeded")
        archive = client.get(f"/v1/collections/a/snapshots/{task}").content
        verifying, gone, real = threading.Event(), threading.Event(), Restoring.commit

        def slow(restoring: Restoring) -> bool:
            verifying.set()
            assert gone.wait(60)
            return real(restoring)

        monkeypatch.setattr(Restoring, "commit", slow)
        head = (
            f"PUT /v1/collections/b/restore HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {TAR['Content-Type']}\r\n"
            f"Content-Length: {len(archive)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + archive)
            assert verifying.wait(60)
            # Others who ask meanwhile are served: no piece of another upload waits for this one.
            assert client.get("/v1/collections/b").status_code == 404
        gone.set()
        eventually(lambda: client.get("/v1/collections/b").status_code == 200)
        assert client.get("/v1/collections/b/documents/x").json()["text"] == "a cat"


def test_kills_while_snapshots_are_taken_and_restored(start: Callable[..., Any]) -> None:
    """After each: the old or the new, whole; a snapshot that is listed is whole; nothing else lies about."""
    dice = random.Random(11)
    server, client = begin(start, SHEAF_SEAL_DOCUMENTS="150")
    assert client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}}).status_code == 201
    old = write(client, 1)
    first = client.post("/v1/collections/c/snapshots").json()["id"]
    while client.get(f"/v1/tasks/{first}").json()["state"] != "succeeded":
        time.sleep(0.01)
    new = write(client, 2)
    archive = client.get(f"/v1/collections/c/snapshots/{first}").content
    root: Path = server.folder
    for number in range(8):
        killer = threading.Timer(dice.uniform(0.0, 0.12), server.process.kill)
        what, task = ("snapshot", "restore", "upload", "other")[number % 4], None
        if what == "snapshot":
            task = client.post("/v1/collections/c/snapshots").json()["id"]
        killer.start()
        try:
            if what == "restore":
                client.post("/v1/collections/c/restore", json={"snapshot": first, "replace": True})
            elif what == "upload":
                client.put("/v1/collections/c/restore?replace=true", content=archive, headers=TAR)
            elif what == "other":
                client.post("/v1/collections/o/restore", json={"collection": "c", "snapshot": first, "replace": True})
        except httpx.TransportError:
            pass  # killed
        killer.join()
        server.end()
        client.close()
        server, client = begin(start, SHEAF_SEAL_DOCUMENTS="150")
        found = state(client, "c")
        assert found in (old, new), what
        assert state(client, "o") in (None, old)
        if task is not None:
            # The accepted snapshot is taken after all, of what stands now.
            while client.get(f"/v1/tasks/{task}").json()["state"] != "succeeded":
                time.sleep(0.01)
        for saved in client.get("/v1/collections/c/snapshots").json()["snapshots"]:
            content = client.get(f"/v1/collections/c/snapshots/{saved['id']}").content
            assert hashlib.sha256(content).hexdigest() == saved["sha256"]
        assert {path.name for path in root.iterdir()} - {"c", "o"} == {".server.lock", ".snapshots"}
        assert {p.suffix for p in (root / ".snapshots/c").iterdir()} == {".tar", ".json"}
        if found == old:
            new = write(client, number + 3)
    client.close()


def test_a_snapshot_is_json_and_tar_to_anyone(client: httpx.Client, collection: str, finished: Finished) -> None:
    id = take(client, collection, finished)
    archive = client.get(f"{collection}/snapshots/{id}").content
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        first, *others = tar.getmembers()
        listing = json.loads(tar.extractfile(first).read())  # type: ignore[union-attr]
        assert [(m.name, m.size) for m in others] == [(f["path"], f["size"]) for f in listing["files"]]
        for file, m in zip(listing["files"], others, strict=True):
            content = tar.extractfile(m).read()  # type: ignore[union-attr]
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
