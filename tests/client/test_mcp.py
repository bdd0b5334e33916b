"""Assistants' tools, asked by the SDK's own client: in this process, by standard streams, over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from running import Running

from app.client import Document, Sheaf
from app.keys import ApiKey, hash_of, make_key
from app.mcp.__main__ import main
from app.mcp.server import Tools
from app.settings import DeterministicModel, Settings

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
KEYS = {name: make_key() for name in ("reader", "writer", "narrow")}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with two collections, open to keys alone."""
    keys = [
        ApiKey(name="boss", sha256=hash_of(boss := make_key()), scopes=("admin",)),
        ApiKey(name="reader", sha256=hash_of(KEYS["reader"]), scopes=("read",)),
        ApiKey(name="writer", sha256=hash_of(KEYS["writer"]), scopes=("read", "write")),
        ApiKey(name="narrow", sha256=hash_of(KEYS["narrow"]), scopes=("read",), collections=("notes",)),
    ]
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    folder = tmp_path_factory.mktemp("shelf")
    running = Running(Settings(indexes=folder, models=models, keys=tuple(keys))).opened()
    with Sheaf(running.url, boss) as sheaf:
        papers = sheaf.create("papers", model="words")
        papers.write(
            [
                Document("zip", "Reads a zip archive. " * 60, "Zip", {"url": "https://x.example/zip", "year": 2024}),
                Document("a:b/c", "Sends an email to somebody", metadata={"source": "mail.txt"}),
            ]
        )
        sheaf.create("notes", model="words").write([Document("n", "null is a word", "Null")])
    yield running.url
    running.stop()


def tools(url: str, key: str = "reader", *names: str, writes: bool = False) -> Any:
    return Tools(url, KEYS[key], names, "https://public.example", writes=writes).server()


def read(result: Any) -> Any:
    assert not result.is_error, result.content
    (content,) = result.content
    return json.loads(content.text)


def refusal(result: Any) -> str:
    assert result.is_error
    (content,) = result.content
    text: str = content.text
    return text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_search_and_fetch_are_as_connectors_want_them(shelf: str, mode: Any) -> None:
    async with Client(tools(shelf), mode=mode) as client:
        found = await client.call_tool("search", {"query": "zip archive"})
        assert found.structured_content is None
        results = read(found)["results"]
        # Lists of several collections are merged by ranks: the first of each is among the first.
        (first,) = (one for one in results[:2] if one["id"] == "papers:zip")
        assert (first["id"], first["title"], first["url"]) == ("papers:zip", "Zip", "https://x.example/zip")
        assert len(first["text"]) <= 402
        assert {one["id"] for one in results} == {"papers:zip", "papers:a:b/c", "notes:n"}
        whole = await client.call_tool("fetch", {"id": "papers:zip"})
        assert whole.structured_content is None
        assert read(whole) == {
            "id": "papers:zip",
            "title": "Zip",
            "text": "Reads a zip archive. " * 60,
            "url": "https://x.example/zip",
            "metadata": {"url": "https://x.example/zip", "year": 2024},
        }
        plain = read(await client.call_tool("fetch", {"id": "papers:a:b/c"}))
        assert plain["url"] == "https://public.example/v1/collections/papers/documents/a%3Ab%2Fc"
        assert plain["title"] == "Sends an email to somebody"


async def test_tools_are_described_and_what_writes_is_asked_for(shelf: str) -> None:
    async with Client(tools(shelf)) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(listed) == {"search", "fetch", "list_collections"}
        assert listed["search"].output_schema is None
        assert listed["search"].input_schema["required"] == ["query"]
        assert listed["search"].input_schema["additionalProperties"] is False
        assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in listed.values())
        assert "there is no tool 'add_documents'" in refusal(await client.call_tool("add_documents", {}))
    async with Client(tools(shelf, "writer", writes=True)) as client:
        assert "add_documents" in {tool.name for tool in (await client.list_tools()).tools}


async def test_collections_are_listed_as_far_as_they_are_seen(shelf: str) -> None:
    async with Client(tools(shelf)) as client:
        found = await client.call_tool("list_collections", {})
        assert read(found) == found.structured_content
        assert {one["name"]: one["documents"] for one in read(found)["collections"]} == {"papers": 2, "notes": 1}
    for server in (tools(shelf, "narrow"), tools(shelf, "reader", "notes")):
        async with Client(server) as client:
            listed = read(await client.call_tool("list_collections", {}))["collections"]
            assert [one["name"] for one in listed] == ["notes"]
            results = read(await client.call_tool("search", {"query": "zip"}))["results"]
            assert [one["id"] for one in results] == ["notes:n"]
            for name, arguments in (
                ("fetch", {"id": "papers:zip"}),
                ("search", {"query": "a", "collection": "papers"}),
            ):
                assert "papers" in refusal(await client.call_tool(name, arguments))


@pytest.mark.parametrize("query", ["null", "true", "12", '{"a": 1}', "[1]"])
async def test_a_query_that_looks_like_json_is_a_query(shelf: str, query: str) -> None:
    async with Client(tools(shelf)) as client:
        assert read(await client.call_tool("search", {"query": query, "collection": "notes"}))["results"]


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search", {}, "/query: required, but missing"),
        ("search", {"query": ""}, "/query"),
        ("search", {"query": None}, "/query"),
        ("search", {"query": "a", "limt": 3}, "/limt: unknown field; the fields are query, collection, limit"),
        ("search", {"query": "a", "limit": "3"}, "/limit"),
        ("search", {"query": "a", "limit": 51}, "/limit: expected 50 or less"),
        ("search", {"query": "a", "collection": "none"}, "there is no collection 'none'"),
        ("fetch", {"id": "zip"}, "expected the id of a result, such as papers:a, got 'zip'"),
        ("fetch", {"id": "papers:none"}, "has no document 'none'"),
        ("serch", {}, "there is no tool 'serch'; there are search, fetch"),
    ],
)
async def test_what_is_wrong_reaches_the_assistant_in_words(shelf: str, tool: str, arguments: Any, said: str) -> None:
    async with Client(tools(shelf)) as client:
        assert said in refusal(await client.call_tool(tool, arguments))


async def test_documents_are_added_where_the_key_may(shelf: str) -> None:
    document = {"text": "A note about beekeeping", "title": "Bees", "metadata": {"by": "me"}}
    async with Client(tools(shelf, "writer", writes=True)) as client:
        added = await client.call_tool(
            "add_documents", {"collection": "notes", "documents": [document, {**document, "id": "b"}]}
        )
        assert read(added) == added.structured_content
        assert (read(added)["written"], read(added)["ids"][1]) == (2, "notes:b")
        found = read(await client.call_tool("fetch", {"id": read(added)["ids"][0]}))
        assert (found["text"], found["metadata"]) == ("A note about beekeeping", {"by": "me"})
        wrong = {"collection": "notes", "documents": [{"text": "a", "metadata": ["x"]}]}
        assert "/documents/0/metadata: expected an object" in refusal(await client.call_tool("add_documents", wrong))
        large = {"collection": "notes", "documents": [{"text": "a", "metadata": {"by": {"n": [1, 10**400]}}}]}
        said = refusal(await client.call_tool("add_documents", large))
        assert "/documents/0/metadata/by/n/1" in said
        assert "at most 308 digits" in said
    async with Client(tools(shelf, "reader", writes=True)) as client:
        call = {"collection": "notes", "documents": [document]}
        assert "has not the scope write" in refusal(await client.call_tool("add_documents", call))
    with Sheaf(shelf, KEYS["writer"]) as sheaf:
        sheaf.collection("notes").delete(filter={"by": {"eq": "me"}})


async def test_a_result_shows_the_passage_that_answers(shelf: str) -> None:
    text = "# Else\n\n" + "Nothing of it. " * 400 + "\n\n# Bees\n\n" + "On beekeeping. " * 200
    document = {"id": "long", "text": text, "metadata": {"by": "me"}}
    async with Client(tools(shelf, "writer", writes=True)) as client:
        read(await client.call_tool("add_documents", {"collection": "notes", "documents": [document]}))
        for asked in ({"query": "beekeeping", "collection": "notes"}, {"query": "beekeeping"}):
            results = read(await client.call_tool("search", asked))["results"]
            (shown,) = (one["text"] for one in results if one["id"] == "notes:long")
            assert shown.startswith("… ")
            assert "beekeeping" in shown
            assert len(shown) <= 404
    with Sheaf(shelf, KEYS["writer"]) as sheaf:
        sheaf.collection("notes").delete(filter={"by": {"eq": "me"}})


def test_without_its_library_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise ImportError")
    places = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "app.mcp", "--help"]
    done = subprocess.run(command, env=places, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("the tools need the library mcp: pip install '.[mcp]'")


async def test_by_standard_streams(shelf: str) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "app.mcp", "--url", shelf, "--collection", "papers"],
        env={"SHEAF_API_KEY": KEYS["reader"], "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    async with Client(server) as client:
        results = read(await client.call_tool("search", {"query": "zip archive", "limit": 1}))["results"]
        assert [one["id"] for one in results] == ["papers:zip"]
        assert results[0]["url"].startswith("https://x.example")


@pytest.fixture
def over_http(shelf: str) -> Iterator[Callable[[str | None], str]]:
    """Starts the tools over HTTP, with a key of their own or none."""
    started: list[tuple[uvicorn.Server, threading.Thread]] = []

    def begin(key: str | None) -> str:
        app = (
            Tools(shelf, key, (), shelf, writes=False)
            .server()
            .streamable_http_app(json_response=True, stateless_http=True)
        )
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run)
        started.append((server, thread))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/mcp"

    yield begin
    for server, thread in started:
        server.should_exit = True
        thread.join()


async def test_over_http_each_asks_by_his_own_key(over_http: Callable[[str | None], str]) -> None:
    url = over_http(None)
    for key, names in (("reader", {"papers", "notes"}), ("narrow", {"notes"})):
        headers = {"Authorization": f"Bearer {KEYS[key]}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            listed = read(await client.call_tool("list_collections", {}))["collections"]
            assert {one["name"] for one in listed} == names
    async with Client(url) as client:
        assert "asks for a key" in refusal(await client.call_tool("search", {"query": "zip"}))
    async with Client(over_http(KEYS["reader"])) as client:
        assert read(await client.call_tool("search", {"query": "zip", "collection": "papers"}))["results"]


def test_a_key_of_its_own_is_for_loopback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SHEAF_API_KEY", KEYS["reader"])
    for given, said in (("0.0.0.0:0", "listens on loopback alone"), ("8100", "expected HOST:PORT, got '8100'")):
        with pytest.raises(SystemExit):
            main(["--http", given])
        assert said in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("SHEAF_PORT", "none")
    assert main([]) == 2
    assert "SHEAF_PORT" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    async def ask() -> str:
        async with Client(Tools(f"http://127.0.0.1:{port}", None, (), "", writes=False).server()) as client:
            return refusal(await client.call_tool("search", {"query": "a"}))

    assert "does not answer" in asyncio.run(ask())
