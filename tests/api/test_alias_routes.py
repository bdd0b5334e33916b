"""Aliases over HTTP: one step, durable, one set of names, and no gap while they are pointed elsewhere."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx
import pytest

_NUMBERS = count(1)


@pytest.fixture
def alias() -> str:
    """A name that no other test uses."""
    return f"alias{next(_NUMBERS)}"


def name_of(address: str) -> str:
    return address.rpartition("/")[2]


def test_an_alias_works_wherever_a_name_does(
    client: httpx.Client, collection: str, alias: str, finished: Callable[[str], Any]
) -> None:
    name = name_of(collection)
    made = client.put(f"/v1/aliases/{alias}", json={"collection": name})
    assert (made.status_code, made.json()) == (201, {"alias": alias, "collection": name})
    again = client.put(f"/v1/aliases/{alias}", json={"collection": name})
    assert again.status_code == 200
    assert client.get(f"/v1/aliases/{alias}").json() == made.json()
    assert made.json() in client.get("/v1/aliases").json()["aliases"]
    address = f"/v1/collections/{alias}"
    assert client.get(address).json()["name"] == name
    assert client.get(f"{address}/documents/cat").json() == client.get(f"{collection}/documents/cat").json()
    assert client.put(f"{address}/documents/cow", json={"text": "a cow"}).status_code == 201
    assert client.post(f"{address}/search", json={"query": "a cow"}).json()["hits"][0]["id"] == "cow"
    assert client.post(f"{address}/count", json={}).json() == {"count": 4}
    assert client.post(f"{address}/delete", json={"ids": ["cow"]}).json() == {"deleted": 1}
    assert len(client.get(f"{address}/documents").json()["documents"]) == 3
    lines = b'{"id": "ox", "text": "an ox"}'
    sent = client.post(f"{address}/import", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert finished(sent.headers["location"])["collection"] == name
    for path in ("rebuild", "snapshots"):
        task = client.post(f"{address}/{path}")
        assert finished(task.headers["location"])["state"] == "succeeded"
    listed = client.get(f"{address}/snapshots").json()
    assert listed == client.get(f"{collection}/snapshots").json()
    (one,) = listed["snapshots"]
    fetched = client.get(f"{address}/snapshots/{one['id']}")
    assert (fetched.status_code, len(fetched.content)) == (200, one["size"])
    restored = client.post(
        f"{collection}/restore", params={"replace": True}, json={"collection": alias, "snapshot": one["id"]}
    )
    assert (restored.status_code, restored.json()["name"]) == (200, name)
    assert client.delete(f"{address}/snapshots/{one['id']}").status_code == 204
    assert client.get(f"{collection}/snapshots").json() == {"snapshots": []}
    # The list of collections names none twice.
    assert alias not in [one["name"] for one in client.get("/v1/collections").json()["collections"]]


def test_one_set_of_names(client: httpx.Client, collection: str, create: Callable[..., str], alias: str) -> None:
    name, other = name_of(collection), name_of(create())
    client.put(f"/v1/aliases/{alias}", json={"collection": name})
    body = {"name": alias, "encoder": {"model": "words"}}
    for answer, code in (
        (client.post("/v1/collections", json=body), "alias_exists"),
        (client.put(f"/v1/aliases/{other}", json={"collection": name}), "collection_exists"),
        (client.delete(f"/v1/collections/{alias}"), "alias_exists"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, code)
    task = client.post(f"{collection}/snapshots").json()["id"]
    while client.get(f"/v1/tasks/{task}").json()["finished"] is None:
        pass
    restored = client.post(
        f"/v1/collections/{alias}/restore", json={"collection": name, "snapshot": task, "replace": True}
    )
    assert (restored.status_code, restored.json()["code"]) == (409, "alias_exists")
    # An alias of an alias, or of what is not there.
    for target in (alias, "absent"):
        answer = client.put(f"/v1/aliases/{alias}x", json={"collection": target})
        assert (answer.status_code, answer.json()["code"]) == (404, "collection_not_found")
    assert client.put(f"/v1/aliases/{alias}", json={"collection": "../x"}).status_code == 422
    assert client.put("/v1/aliases/UPPER", json={"collection": name}).status_code == 404
    assert client.get(f"/v1/aliases/{name}").json()["code"] == "alias_not_found"
    assert client.get(collection).status_code == 200
    # Deleted, it is a free name again; and it goes with its collection.
    assert client.delete(f"/v1/aliases/{alias}").status_code == 204
    assert client.delete(f"/v1/aliases/{alias}").status_code == 404
    assert client.get(f"/v1/collections/{alias}").json()["code"] == "collection_not_found"
    assert client.post("/v1/collections", json=body).status_code == 201
    client.put(f"/v1/aliases/{alias}x", json={"collection": alias})
    assert client.delete(f"/v1/collections/{alias}").status_code == 204
    assert client.get(f"/v1/aliases/{alias}x").status_code == 404
    assert client.post(f"/v1/collections/{alias}x/count", json={}).status_code == 404


def test_searches_have_no_gap_while_it_is_pointed_elsewhere(
    client: httpx.Client, create: Callable[..., str], alias: str
) -> None:
    """Every answer is all of one collection, and after a swap was answered it is the new one's."""
    addresses = [create(), create()]
    for number, address in enumerate(addresses):
        documents = [{"id": f"d{n}", "text": f"common words of side{number}"} for n in range(10)]
        assert client.post(f"{address}/documents", json={"documents": documents}).status_code == 200
    client.put(f"/v1/aliases/{alias}", json={"collection": name_of(addresses[0])})
    stop, wrong, asked = threading.Event(), [], [0] * 3

    def ask(number: int) -> None:
        while not stop.is_set():
            answer = client.post(f"/v1/collections/{alias}/search", json={"query": "common words", "k": 10})
            texts = {hit["text"] for hit in answer.json().get("hits", [])}
            if answer.status_code != 200 or len(texts) != 1:
                wrong.append(answer.text)
            asked[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for number in range(60):
        side = number % 2
        assert client.put(f"/v1/aliases/{alias}", json={"collection": name_of(addresses[side])}).status_code == 200
        hits = client.post(f"/v1/collections/{alias}/search", json={"query": "common words", "k": 1}).json()["hits"]
        assert hits[0]["text"].endswith(f"side{side}")
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert min(asked) > 0


def test_it_survives_kills_and_says_when_it_is_damaged(start: Callable[..., Any]) -> None:
    dice = random.Random(5)
    server = start()
    client = httpx.Client(base_url=server.ready(), trust_env=False, timeout=60)
    for name in ("a", "b"):
        assert client.post("/v1/collections", json={"name": name, "encoder": {"model": "words"}}).status_code == 201
        assert client.put(f"/v1/collections/{name}/documents/x", json={"text": f"in {name}"}).status_code == 201
    stands = "a"
    client.put("/v1/aliases/live", json={"collection": stands})
    for _ in range(4):
        killer = threading.Timer(dice.uniform(0, 0.05), server.process.kill)
        killer.start()
        wanted = stands
        try:
            while True:
                wanted = "b" if stands == "a" else "a"
                assert client.put("/v1/aliases/live", json={"collection": wanted}).status_code == 200
                stands = wanted
        except httpx.TransportError:
            pass  # killed
        killer.join()
        server.end()
        client.close()
        server = start()
        client = httpx.Client(base_url=server.ready(), trust_env=False, timeout=60)
        found = client.get("/v1/aliases/live").json()["collection"]
        assert found in (stands, wanted)
        assert client.get("/v1/collections/live/documents/x").json()["text"] == f"in {found}"
        stands = found
    server.process.terminate()
    server.end()
    client.close()
    path = server.folder / ".aliases.json"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    server = start()
    with httpx.Client(base_url=server.ready(), trust_env=False, timeout=60) as client:
        assert client.get("/v1/collections/a/documents/x").status_code == 200
        for answer in (
            client.get("/v1/collections/live/documents/x"),
            client.get("/v1/aliases"),
            client.put("/v1/aliases/live", json={"collection": "a"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "collection_damaged")
            assert ".aliases.json" in answer.json()["detail"]


def test_an_import_stays_with_the_collection_that_it_began_with(
    client: httpx.Client,
    server: Any,
    create: Callable[..., str],
    alias: str,
    finished: Callable[[str], Any],
    eventually: Callable[..., None],
) -> None:
    """Though its alias is pointed elsewhere while the body comes; and so does what its key is known by."""
    first, second = create(), create()
    client.put(f"/v1/aliases/{alias}", json={"collection": name_of(first)})

    def send(elsewhere: bool) -> httpx.Response:
        def body() -> Iterator[bytes]:
            yield b'{"id": "ox", '
            if elsewhere:
                bodies = server.settings.indexes / name_of(first) / "imports"
                eventually(lambda: any(bodies.iterdir()))
                client.put(f"/v1/aliases/{alias}", json={"collection": name_of(second)})
            yield b'"text": "an ox"}'

        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"import by {alias}".replace(" ", "-")}
        return client.post(f"/v1/collections/{alias}/import", content=body(), headers=headers)

    sent = send(elsewhere=False)
    assert finished(sent.headers["location"])["collection"] == name_of(first)
    again = send(elsewhere=True)
    assert (again.status_code, again.json()["id"]) == (202, sent.json()["id"])
    assert client.get(f"/v1/collections/{alias}").json()["documents"] == 0
    assert client.get(first).json()["documents"] == 1
