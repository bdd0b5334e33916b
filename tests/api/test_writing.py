"""Conditional writes, writes that are applied once, and what a write waits for."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from app.store.requests import Requests

LINES = {"Content-Type": "application/x-ndjson"}


def version(client: httpx.Client, address: str, id: str = "cat") -> int:
    answer = client.get(f"{address}/documents/{id}")
    found = answer.json()["version"]
    assert answer.headers["etag"] == f'"{found}"'
    return int(found)


# Conditions


def test_a_version_grows_with_every_write_and_no_other(client: httpx.Client, collection: str) -> None:
    cat, dog = version(client, collection), version(client, collection, "dog")
    document = client.get(f"{collection}/documents/cat").json()
    same = client.put(f"{collection}/documents/cat", json=document)
    assert (same.status_code, same.json()["version"], same.headers["etag"]) == (200, cat, f'"{cat}"')
    put = client.put(f"{collection}/documents/cat", json={**document, "text": "a cat purrs"})
    assert put.json()["version"] == version(client, collection) > max(cat, dog)
    patched = client.patch(f"{collection}/documents/cat", json={"metadata": {"n": 1}})
    assert patched.json()["version"] == version(client, collection) > put.json()["version"]
    assert patched.headers["etag"] == f'"{version(client, collection)}"'
    before = version(client, collection)
    assert client.post(f"{collection}/rebuild").status_code == 202
    assert client.delete(f"{collection}/documents/cat").status_code == 200
    again = client.put(f"{collection}/documents/cat", json={"text": "another cat"})
    assert again.status_code == 201
    assert version(client, collection) > before
    assert version(client, collection, "dog") == dog
    # An export can be imported: only where one document is asked for has it a version.
    assert "version" not in client.get(f"{collection}/documents").json()["documents"][0]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_another_version_than_was_asked_for(client: httpx.Client, collection: str, method: str) -> None:
    now = version(client, collection)
    body = {"PUT": {"text": "a new cat"}, "PATCH": {"metadata": {"new": True}}, "DELETE": None}[method]
    address = f"{collection}/documents/cat"
    before = client.get(address).json()
    for given in (f'"{now - 1}"', f'"{now + 1}"', f'W/"{now}"', '"0"', '"x"', f'"0{now}"', '"", "1x"'):
        answer = client.request(method, address, json=body, headers={"If-Match": given})
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed"), given
        assert client.get(address).json() == before
    for given in ("17", '"', "x", '"1" "2"', "*, *", ""):
        answer = client.request(method, address, json=body, headers={"If-Match": given})
        assert answer.status_code == 422, given
    for given in ("*", '"0"'):
        answer = client.request(method, f"{collection}/documents/absent", json=body, headers={"If-Match": given})
        assert answer.status_code == 412
    answer = client.request(method, address, json=body, headers={"If-Match": f'"0", "{now}"'})
    assert answer.status_code == 200, answer.text
    if method != "DELETE":
        assert answer.headers["etag"] == f'"{answer.json()["version"]}"'
        assert client.request(method, address, json=body, headers={"If-Match": "*"}).status_code == 200


def test_only_a_new_document(client: httpx.Client, collection: str) -> None:
    new, body = {"If-None-Match": "*"}, {"text": "a cow"}
    assert client.put(f"{collection}/documents/cow", json=body, headers=new).status_code == 201
    # Not even the same again, which would change nothing.
    assert client.put(f"{collection}/documents/cow", json=body, headers=new).status_code == 412
    assert client.delete(f"{collection}/documents/cow").status_code == 200
    assert client.put(f"{collection}/documents/cow", json=body, headers=new).status_code == 201
    both = {**new, "If-Match": "*"}
    assert client.put(f"{collection}/documents/ox", json=body, headers=both).status_code == 412
    assert client.put(f"{collection}/documents/ox", json=body, headers={"If-None-Match": '"1"'}).status_code == 422


def test_a_document_may_be_sent_back_with_its_version(client: httpx.Client, collection: str) -> None:
    read = client.get(f"{collection}/documents/cat").json()
    assert client.put(f"{collection}/documents/cat", json={**read, "title": "A"}).status_code == 200
    stale = client.put(f"{collection}/documents/cat", json={**read, "title": "B"})
    assert stale.status_code == 412
    assert client.get(f"{collection}/documents/cat").json()["title"] == "A"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_increments_of_many_are_not_lost(client: httpx.Client, collection: str, method: str) -> None:
    """Each of 8 adds one 10 times, reading, adding and writing on condition."""
    address = f"{collection}/documents/count"
    client.put(address, json={"text": "a counter", "metadata": {"n": 0}})

    def add(_: int) -> None:
        for _ in range(10):
            while True:
                read = client.get(address)
                metadata = {"n": read.json()["metadata"]["n"] + 1}
                body = {"metadata": metadata} if method == "PATCH" else {"text": "a counter", "metadata": metadata}
                answer = client.request(method, address, json=body, headers={"If-Match": read.headers["etag"]})
                if answer.status_code == 200:
                    break
                assert answer.status_code == 412, answer.text

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert client.get(address).json()["metadata"] == {"n": 80}


def test_one_of_many_creates_and_one_deletes(client: httpx.Client, collection: str) -> None:
    for number in range(5):
        address = f"{collection}/documents/new{number}"

        def create(n: int, address: str = address) -> int:
            return client.put(address, json={"text": f"the {n}th"}, headers={"If-None-Match": "*"}).status_code

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(create, range(8))) == [201] + [412] * 7
        tag = client.get(address).headers["etag"]

        def delete(_: int, address: str = address, tag: str = tag) -> int:
            return client.delete(address, headers={"If-Match": tag}).status_code

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(delete, range(8))) == [200] + [412] * 7


# Once


def test_repeated_it_is_applied_once(
    client: httpx.Client, collection: str, server: Any, finished: Callable[[str], Any]
) -> None:
    """Each write twice under its key, with something in between that a second application would undo."""
    many = {"documents": [{"id": "cat", "text": "one cat"}, {"id": "cow", "text": "a cow"}, {"id": "cat", "text": "x"}]}
    lines = b'{"id": "cat", "text": "an imported cat"}\n'
    writes: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "documents", {"json": many}),
        ("PUT", "documents/new", {"json": {"text": "new"}}),
        ("PATCH", "documents/cat", {"json": {"metadata": {"seen": 1}}}),
        ("POST", "import", {"content": lines, "headers": LINES}),
        ("POST", "delete", {"json": {"ids": ["cow", "absent"]}}),
        ("POST", "delete", {"json": {"filter": {"legs": {"eq": 2}}}}),
        ("DELETE", "documents/dog", {}),
    ]
    for method, path, sent in writes:
        headers = {**sent.pop("headers", {}), "Idempotency-Key": str(uuid.uuid4())}

        def send(
            method: str = method, path: str = path, sent: dict[str, Any] = sent, headers: dict[str, str] = headers
        ) -> httpx.Response:
            return client.request(method, f"{collection}/{path}", headers=headers, **sent)

        first = send()
        assert first.status_code in (200, 201, 202), first.text
        if first.status_code == 202:
            assert finished(first.headers["location"])["state"] == "succeeded"
        for id in ("cat", "new", "cow", "dog", "hen"):
            client.put(f"{collection}/documents/{id}", json={"text": f"{id} after {method} {path}"})
        client.patch(f"{collection}/documents/hen", json={"metadata": {"legs": 2}})
        before = client.get(f"{collection}/documents").json()
        tasks = len(client.get("/v1/tasks").json()["tasks"])
        again = send()
        assert (again.status_code, again.content) == (first.status_code, first.content)
        for header in ("etag", "location", "content-type"):
            assert again.headers.get(header) == first.headers.get(header)
        assert client.get(f"{collection}/documents").json() == before
        assert len(client.get("/v1/tasks").json()["tasks"]) == tasks
    if files := list((server.settings.indexes / collection.rpartition("/")[2] / "imports").glob("*")):
        raise AssertionError(f"left behind: {files}")


def test_a_key_is_for_one_request(client: httpx.Client, collection: str, create: Callable[..., str]) -> None:
    key, address = {"Idempotency-Key": "k"}, f"{collection}/documents"
    assert client.put(f"{address}/x", json={"text": "x"}, headers=key).status_code == 201
    for answer in (
        client.put(f"{address}/x", json={"text": "y"}, headers=key),
        client.put(f"{address}/y", json={"text": "x"}, headers=key),
        client.put(f"{address}/x", json={"text": "x"}, headers={**key, "If-Match": "*"}),
        client.patch(f"{address}/x", json={"metadata": {}}, headers=key),
        client.delete(f"{address}/x", headers=key),
        client.post(f"{collection}/delete", json={"ids": ["x"]}, headers=key),
        client.post(f"{collection}/import", content=b'{"id": "z", "text": "z"}', headers={**key, **LINES}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused"), answer.text
    assert client.get(f"{address}/x").json()["text"] == "x"
    assert client.put(f"{address}/x?wait=indexed", json={"text": "x"}, headers=key).status_code == 201
    # Of another collection it says nothing.
    other = create()
    assert client.put(f"{other}/documents/x", json={"text": "y"}, headers=key).status_code == 201
    for wrong in ("", "a b", "x" * 256, "\xe9"):
        assert (
            client.put(
                f"{address}/x", json={"text": "x"}, headers={"Idempotency-Key": wrong.encode("latin-1")}
            ).status_code
            == 422
        )


def test_what_failed_may_be_sent_again(client: httpx.Client, collection: str) -> None:
    key, address = {"Idempotency-Key": "again"}, f"{collection}/documents/late"
    assert client.delete(address, headers=key).status_code == 404
    client.put(address, json={"text": "late"})
    assert client.delete(address, headers=key).status_code == 200
    assert client.delete(address, headers=key).json() == {"deleted": 1}
    assert client.put(address, json={"text": ""}, headers={"Idempotency-Key": "bad"}).status_code == 422
    assert client.put(address, json={"text": "good"}, headers={"Idempotency-Key": "bad"}).status_code == 201


def test_many_at_once_are_applied_once(client: httpx.Client, collection: str) -> None:
    """The first is applied; while it runs the others hear so; afterwards they get its answer."""
    documents = [{"id": f"m{n}", "text": f"word{n} " * 20} for n in range(20)]
    start = threading.Barrier(6)

    def send(_: int) -> tuple[int, str]:
        start.wait()
        answer = client.post(
            f"{collection}/documents", json={"documents": documents}, headers={"Idempotency-Key": "many"}
        )
        return answer.status_code, answer.json().get("code", "")

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(send, range(6)))
    assert set(found) <= {(200, ""), (409, "request_running")}
    assert (200, "") in found
    assert version(client, collection, "m19") - version(client, collection, "m0") == 19
    last = version(client, collection, "m19")
    client.put(f"{collection}/documents/after", json={"text": "after"})
    assert version(client, collection, "after") == last + 1, "it was applied again"


def test_a_running_request_is_not_run_again(client: httpx.Client, collection: str) -> None:
    """Held in the middle, so that the second surely meets the first."""
    real, entered, go = Requests.note, threading.Event(), threading.Event()

    def slow(self: Requests, *args: Any) -> None:
        entered.set()
        assert go.wait(30)
        real(self, *args)

    def send() -> httpx.Response:
        return client.put(f"{collection}/documents/s", json={"text": "s"}, headers={"Idempotency-Key": "slow"})

    Requests.note = slow  # type: ignore[method-assign]
    try:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(send)
            assert entered.wait(30)
            second = send()
            assert (second.status_code, second.json()["code"]) == (409, "request_running")
            go.set()
            assert first.result().status_code == 201
    finally:
        Requests.note = real  # type: ignore[method-assign]
    assert send().content == first.result().content


def test_it_survives_a_kill_and_is_forgotten_in_time(start: Callable[..., Any]) -> None:
    server = start(SHEAF_IDEMPOTENCY_KEYS="3")
    with httpx.Client(base_url=server.ready(), trust_env=False, timeout=60) as client:
        client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}})

        def send(client: httpx.Client, key: str, text: str) -> httpx.Response:
            return client.put("/v1/collections/c/documents/x", json={"text": text}, headers={"Idempotency-Key": key})

        first = send(client, "0", "zero")
        assert first.status_code == 201
        server.process.kill()
    server.end()
    server = start(SHEAF_IDEMPOTENCY_KEYS="3")
    with httpx.Client(base_url=server.ready(), trust_env=False, timeout=60) as client:
        assert send(client, "0", "zero").content == first.content
        for key in "123":
            send(client, key, f"text {key}")
        assert send(client, "3", "text 3").json()["version"] == 4
        assert send(client, "1", "text 1").json()["version"] == 2
        # The fourth last is forgotten, so it is a new request.
        assert send(client, "0", "zero").json()["version"] == 5
    server.process.terminate()
    server.end()
    server = start(SHEAF_IDEMPOTENCY_HOURS="1e-9")
    with httpx.Client(base_url=server.ready(), trust_env=False, timeout=60) as client:
        assert send(client, "0", "zero again").json()["version"] == 6


# Waiting


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_indexed_means_in_a_generation(client: httpx.Client, collection: str, method: str) -> None:
    path, body = {
        "POST": ("documents", {"documents": [{"id": "cow", "text": "a cow"}]}),
        "PUT": ("documents/cow", {"text": "a cow"}),
        "PATCH": ("documents/cat", {"metadata": {"n": 1}}),
    }[method]
    before = client.get(collection).json()
    assert before["tail"] == 3
    answer = client.request(method, f"{collection}/{path}", json=body, params={"wait": "durable"})
    assert answer.status_code in (200, 201)
    assert client.get(collection).json()["generation"] == before["generation"]
    answer = client.request(method, f"{collection}/{path}", json=body, params={"wait": "indexed"})
    assert answer.status_code == 200
    after = client.get(collection).json()
    assert (after["tail"], after["generation"]) == (0, before["generation"] + 1)
    assert client.request(method, f"{collection}/{path}", json=body, params={"wait": "soon"}).status_code == 422


def test_many_wait_at_once(client: httpx.Client, collection: str) -> None:
    def send(number: int) -> int:
        address = f"{collection}/documents/w{number}"
        return client.put(address, json={"text": f"w{number}"}, params={"wait": "indexed"}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(send, range(24))) == {201}
    info = client.get(collection).json()
    assert (info["documents"], info["tail"]) == (27, 0)


@contextmanager
def indexes_being_made(server: Any, name: str) -> Iterator[None]:
    """As a rebuild holds them, for hours perhaps."""
    held, go = threading.Event(), threading.Event()
    collection = server.app.state.metrics.service.catalogue.get(name)

    def hold() -> None:
        with collection.structure:
            held.set()
            assert go.wait(300)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    try:
        yield
    finally:
        go.set()
        thread.join()


def put(server: Any, name: str, id: str) -> httpx.Response:
    address = f"{server.url}/v1/collections/{name}/documents/{id}?wait=indexed"
    return httpx.put(address, json={"text": id}, trust_env=False, timeout=300)


def made(server: Any, *names: str) -> None:
    for name in names:
        body = {"name": name, "encoder": {"model": "words"}}
        answer = httpx.post(f"{server.url}/v1/collections", json=body, trust_env=False, timeout=60)
        assert answer.status_code == 201


def described(server: Any, name: str) -> Any:
    return httpx.get(f"{server.url}/v1/collections/{name}", trust_env=False, timeout=60).json()


def test_waiting_to_be_indexed_ends(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.writing.INDEXING_S", 0.3)
    server = serve()
    made(server, "a")
    with indexes_being_made(server, "a"):
        answer = put(server, "a", "x")
        assert (answer.status_code, answer.json()["code"]) == (504, "not_indexed")
        assert "written and found" in answer.json()["detail"]
        assert described(server, "a")["documents"] == 1


def test_many_that_wait_to_be_indexed_keep_no_other_waiting(
    serve: Callable[..., Any], eventually: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold no thread; and who would be one too many is told so before anything is written."""
    monkeypatch.setattr("app.api.writing.INDEXING_S", 300.0)
    server = serve(max_queue=9)
    made(server, "a", "b")
    with ThreadPoolExecutor(9) as pool:
        with indexes_being_made(server, "a"):
            waiting = [pool.submit(put, server, "a", f"x{i}") for i in range(8)]
            eventually(lambda: described(server, "a")["documents"] == 8)
            assert put(server, "b", "y").status_code == 201
            assert described(server, "b")["tail"] == 0
            waiting.append(pool.submit(put, server, "a", "x8"))
            eventually(lambda: described(server, "a")["documents"] == 9)
            refused = put(server, "b", "z")
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert described(server, "b")["documents"] == 1
            assert not any(one.done() for one in waiting)
        # They are told when it is their turn.
        assert {one.result().status_code for one in waiting} == {201}
    assert described(server, "a")["tail"] == 0
