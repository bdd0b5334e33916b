"""One writer and readers over an object store, as their users see them: by HTTP, and as processes that are killed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from s3_server import S3Server

from app.api.edge.access import ACCESS
from app.settings import DeterministicModel, Settings

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
Wait = Callable[[Callable[[], bool]], None]


@contextmanager
def two(place: Path, store: str, running: Callable[[Settings], Any]) -> Iterator[list[httpx.Client]]:
    """A writer, and a reader that begins with nothing."""
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    with ExitStack() as stack:
        found = []
        for role in ("writer", "reader"):
            chosen: dict[str, Any] = {"models": models, "threads": 1, "seal_documents": 30, "store": store}
            settings = Settings(indexes=place / role, role=role, **chosen)
            server = running(settings).opened()
            stack.callback(server.stop)
            found.append(stack.enter_context(closing(httpx.Client(base_url=server.url, trust_env=False, timeout=60))))
        yield found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, running: Callable[[Settings], Any]) -> Iterator[list[httpx.Client]]:
    place = tmp_path_factory.mktemp("cluster")
    with two(place, f"file://{place}/store", running) as found:
        yield found


def make(client: httpx.Client, name: str, **body: Any) -> None:
    answer = client.post("/v1/collections", json={"name": name, "encoder": {"model": "words"}, **body})
    assert answer.status_code == 201, answer.text


def write(client: httpx.Client, name: str, numbers: range, version: int = 0) -> None:
    documents = [
        {"id": f"d{i}", "text": f"owl {i} hunts {version}", "metadata": {"n": i, "v": version}} for i in numbers
    ]
    answer = client.post(f"/v1/collections/{name}/documents", json={"documents": documents})
    assert answer.status_code == 200, answer.text


def documents(client: httpx.Client, name: str) -> dict[str, Any]:
    answer = client.get(f"/v1/collections/{name}/documents", params={"limit": 1_000})
    return {one["id"]: one for one in answer.json()["documents"]} if answer.status_code == 200 else {}


def answers(client: httpx.Client, name: str) -> list[Any]:
    """Of searches of every way, without their times."""
    found = []
    for query in ("owl 3", "hunts 1", "owl 17 hunts"):
        for body in ({"exact": True}, {}, {"mode": "hybrid"}, {"mode": "lexical"}, {"filter": {"n": {"lt": 20}}}):
            asked = {"query": query, "k": 20, "explain": True, **body}
            answer = client.post(f"/v1/collections/{name}/search", json=asked).json()
            found.append((answer["hits"], answer["exact"], answer["generation"]))
    return found


def test_a_reader_answers_as_the_writer_does(pair: list[httpx.Client], eventually: Wait):
    writer, reader = pair
    make(writer, "owls", lexical={"language": "english"})
    for version in range(3):
        write(writer, "owls", range(version * 20, version * 20 + 40), version)
    assert writer.post("/v1/collections/owls/delete", json={"ids": ["d3", "d50"]}).json() == {"deleted": 2}
    # Sealed in the background.
    eventually(lambda: writer.get("/v1/collections/owls").json()["tail"] == 0)
    eventually(lambda: documents(reader, "owls") == documents(writer, "owls"))
    assert len(documents(reader, "owls")) == 78
    # Of one generation, which may still be merged.
    eventually(lambda: answers(reader, "owls") == answers(writer, "owls"))


def test_the_same_over_s3_that_loses_answers(
    tmp_path: Path, running: Callable[[Settings], Any], eventually: Wait, monkeypatch: pytest.MonkeyPatch
):
    with closing(S3Server()) as s3:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3.endpoint}.items():
            monkeypatch.setenv(name, value)
        with two(tmp_path, f"s3://{s3.bucket}/sheaf", running) as (writer, reader):
            make(writer, "owls", lexical={"language": "english"})
            # Refused, applied and answered with an error, applied and not answered.
            s3.fail("500", "applied 500", "applied reset", name="/log/")
            for version in range(3):
                write(writer, "owls", range(version * 20, version * 20 + 40), version)
            assert s3.faults == []
            eventually(lambda: writer.get("/v1/collections/owls").json()["tail"] == 0)
            eventually(lambda: documents(reader, "owls") == documents(writer, "owls"))
            assert len(documents(reader, "owls")) == 80
            # Of one generation, which may still be merged.
            eventually(lambda: answers(reader, "owls") == answers(writer, "owls"))


def test_a_reader_says_how_far_it_is(pair: list[httpx.Client], eventually: Wait):
    writer, reader = pair
    make(writer, "told")
    eventually(lambda: reader.get("/v1/collections/told").status_code == 200)
    eventually(lambda: (reader.get("/v1/collections/told").json()["copy"] or {}).get("age_s") is not None)
    copy = reader.get("/v1/collections/told").json()["copy"]
    assert (copy["role"], copy["commits"]) == ("reader", 0)
    assert writer.get("/v1/collections/told").json()["copy"] == {"role": "writer", "commits": 0, "age_s": 0.0}
    assert reader.get("/health/ready").json()["copies"]["told"]["role"] == "reader"
    figures = reader.get("/metrics").text
    assert re.search(r'sheaf_copy_behind_commits\{collection="told"\} 0\.0', figures)
    assert re.search(r'sheaf_copy_age_seconds\{collection="told"\} \d', figures)
    asked = reader.post("/v1/collections/told/search", json={"query": "owl"})
    for answer in (asked, reader.get("/v1/collections/told/documents"), reader.get("/v1/collections/told")):
        assert answer.headers["sheaf-copy-commits"] == "0"
        assert 0 <= float(answer.headers["sheaf-copy-age"]) < 60
    assert "sheaf-copy-age" not in writer.get("/v1/collections/told").headers
    assert "sheaf-copy-age" not in reader.get("/v1/collections").headers
    assert "reader of file:///" in reader.get("/v1/collections/told").json()["read_only"]


def test_every_route_that_writes_is_refused_by_a_reader(pair: list[httpx.Client], eventually: Wait):
    writer, reader = pair
    make(writer, "kept")
    write(writer, "kept", range(3))
    eventually(lambda: len(documents(reader, "kept")) == 3)
    bodies: dict[tuple[str, str], Any] = {
        ("POST", "/v1/collections"): {"name": "new", "encoder": {"model": "words"}},
        ("PATCH", "/v1/collections/{name}"): {"schema": {"n": "integer"}},
        ("DELETE", "/v1/collections/{name}"): None,
        ("POST", "/v1/collections/{name}/documents"): {"documents": [{"id": "a", "text": "b"}]},
        ("PUT", "/v1/collections/{name}/documents/{id}"): {"text": "b"},
        ("PATCH", "/v1/collections/{name}/documents/{id}"): {"metadata": {"n": 1}},
        ("DELETE", "/v1/collections/{name}/documents/{id}"): None,
        ("POST", "/v1/collections/{name}/delete"): {"ids": ["d1"]},
        ("POST", "/v1/collections/{name}/rebuild"): None,
        ("POST", "/v1/collections/{name}/tune"): {"target_recall": 0.9},
        ("POST", "/v1/collections/{name}/snapshots"): None,
        ("POST", "/v1/collections/{name}/restore"): {"collection": "kept", "snapshot": "0" * 32},
        ("PUT", "/v1/aliases/{alias}"): {"collection": "kept"},
    }
    before = documents(reader, "kept")
    assert bodies.keys() <= ACCESS.keys()
    for (method, path), body in bodies.items():
        address = path.format(name="kept", id="d1", alias="other")
        answer = reader.request(method, address, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "server_is_reader"), (method, path, answer.text)
        assert "SHEAF_ROLE=writer" in answer.json()["detail"]
    upload = reader.post("/v1/collections/kept/import", content=b"", headers={"content-type": "application/x-ndjson"})
    assert (upload.status_code, upload.json()["code"]) == (409, "server_is_reader")
    assert documents(reader, "kept") == before


def test_collections_and_aliases_come_and_go_on_a_reader(pair: list[httpx.Client], eventually: Wait):
    writer, reader = pair

    def names(client: httpx.Client) -> set[str]:
        return {one["name"] for one in client.get("/v1/collections").json()["collections"]}

    make(writer, "first")
    write(writer, "first", range(5))
    assert writer.put("/v1/aliases/live", json={"collection": "first"}).status_code in (200, 201)
    eventually(lambda: len(documents(reader, "live")) == 5)
    # Another collection of the same name is another history.
    assert writer.delete("/v1/collections/first").status_code in (200, 204)
    make(writer, "first")
    write(writer, "first", range(10, 12))
    eventually(lambda: set(documents(reader, "first")) == {"d10", "d11"})
    eventually(lambda: reader.get("/v1/aliases").json()["aliases"] == [])
    assert writer.delete("/v1/collections/first").status_code in (200, 204)
    eventually(lambda: "first" not in names(reader))
    assert names(reader) == names(writer)


def test_a_later_writer_takes_over_and_the_former_follows(
    tmp_path: Path, running: Callable[[Settings], Any], eventually: Wait
):
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    with ExitStack() as stack:

        def server(name: str) -> httpx.Client:
            settings = Settings(indexes=tmp_path / name, models=models, threads=1, store=f"file://{tmp_path}/store")
            one = running(settings).opened()
            stack.callback(one.stop)
            return stack.enter_context(closing(httpx.Client(base_url=one.url, trust_env=False, timeout=60)))

        first = server("first")
        make(first, "owls")
        write(first, "owls", range(4))
        second = server("second")
        write(second, "owls", range(4, 6))
        body = {"documents": [{"id": "late", "text": "owl"}]}
        for _ in range(2):
            refused = first.post("/v1/collections/owls/documents", json=body)
            assert (refused.status_code, refused.json()["code"]) == (409, "collection_busy"), refused.text
            assert "another server has become the writer" in refused.json()["detail"]
        eventually(lambda: set(documents(first, "owls")) == {f"d{i}" for i in range(6)})
        assert set(documents(second, "owls")) == {f"d{i}" for i in range(6)}
        assert first.get("/v1/collections/owls").json()["copy"]["role"] == "reader"


def test_writers_and_readers_that_are_killed_come_back(tmp_path: Path, start: Callable[..., Any], eventually: Wait):
    """A writer on another machine, that is with an empty folder, and a reader on its own."""
    common = {"SHEAF_STORE": f"file://{tmp_path}/store", "SHEAF_SEAL_DOCUMENTS": "30"}
    clients = ExitStack()

    def begin(folder: str, role: str) -> tuple[Any, httpx.Client]:
        process = start(SHEAF_INDEXES=str(tmp_path / folder), SHEAF_ROLE=role, **common)
        client = httpx.Client(base_url=process.ready(), trust_env=False, timeout=60)
        return process, clients.enter_context(closing(client))

    with clients:
        writer, client = begin("a", "writer")
        make(client, "owls")
        for version in range(3):
            write(client, "owls", range(20 * version, 20 * version + 25), version)
        stands = documents(client, "owls")
        writer.process.kill()
        writer.end()
        reader, reading = begin("r", "reader")
        assert documents(reading, "owls") == stands
        writer, client = begin("b", "writer")
        assert documents(client, "owls") == stands
        write(client, "owls", range(100, 110))
        eventually(lambda: len(documents(reading, "owls")) == 75)
        reader.process.kill()
        reader.end()
        write(client, "owls", range(110, 120))
        reader, reading = begin("r", "reader")
        eventually(lambda: documents(reading, "owls") == documents(client, "owls"))
        eventually(lambda: answers(reading, "owls") == answers(client, "owls"))
        for process in (reader, writer):
            process.process.terminate()
            status, errors = process.end()
            assert status == 0, errors


def test_a_reader_without_a_store_does_not_start(start: Callable[..., Any]):
    refused = start(SHEAF_ROLE="reader")
    status, errors = refused.end()
    assert status == 2
    assert "SHEAF_ROLE: " in errors
    assert "SHEAF_STORE" in errors
