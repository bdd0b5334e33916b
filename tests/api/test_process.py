"""The server as a process: settings, the ready line, signals, one server a folder, clients that misbehave."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.__main__ import main

WRITE = {"documents": [{"id": "a", "text": "a cat"}]}


def make(url: str) -> None:
    body = {"name": "c", "encoder": {"model": "words"}}
    assert httpx.post(f"{url}/v1/collections", json=body, trust_env=False).status_code == 201
    assert httpx.post(f"{url}/v1/collections/c/documents", json=WRITE, trust_env=False).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_and_nothing_is_lost(start: Callable[..., Any], number: int) -> None:
    first = start()
    make(first.ready())
    first.process.send_signal(number)
    status, log = first.end()
    assert status == 0, log
    assert "Traceback" not in log
    second = start()
    url = second.ready()
    found = httpx.post(f"{url}/v1/collections/c/search", json={"query": "cat"}, trust_env=False).json()
    assert [hit["id"] for hit in found["hits"]] == ["a"]


def test_what_was_acknowledged_survives_a_kill(start: Callable[..., Any]) -> None:
    first = start()
    make(first.ready())
    first.process.kill()
    first.end()
    url = start().ready()
    assert httpx.get(f"{url}/v1/collections/c/documents/a", trust_env=False).json()["text"] == "a cat"


def test_it_writes_nothing_outside_its_folder(start: Callable[..., Any]) -> None:
    server = start()
    make(server.ready())
    server.process.send_signal(signal.SIGTERM)
    assert server.end()[0] == 0
    assert [path.name for path in server.folder.parent.iterdir()] == ["indexes"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHEAF_PORT", "x"),
        ("SHEAF_PORT", "65536"),
        ("SHEAF_HOSTS", "not json"),
        ("SHEAF_HOSTS", '{"a": 1}'),
        ("SHEAF_MODELS", '{"m": {"type": "magic"}}'),
        ("SHEAF_MODELS", '{"UPPER": {"type": "deterministic"}}'),
        ("SHEAF_MODELS", '{"m": {"type": "remote", "url": "http://x", "model": "m", "dim": 0, "api_key": "hidden"}}'),
        ("SHEAF_MAX_BODY_BYTES", "1"),
        ("SHEAF_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_named_and_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main() == 2
    said = capsys.readouterr().err
    assert name in said
    assert "hidden" not in said


def test_a_refused_start_is_the_exit_status(start: Callable[..., Any]) -> None:
    status, log = start(SHEAF_PORT="x").end()
    assert status == 2
    assert log.startswith("SHEAF_PORT: ")
    assert "Traceback" not in log


def test_one_server_a_folder(start: Callable[..., Any]) -> None:
    url = start().ready()
    status, log = start().end()
    assert status == 3
    assert url in log
    assert "Traceback" not in log


def test_a_taken_port_is_refused(start: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        status, log = start(SHEAF_PORT=str(other.getsockname()[1])).end()
    assert status == 3
    assert "cannot listen" in log


def test_running_requests_end_before_the_server_does(start: Callable[..., Any]) -> None:
    server = start()
    url = server.ready()
    make(url)
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"documents": [{"id": "late", "text": "a dog"}]}).encode()
    with socket.create_connection((host, int(port)), 30) as connection:
        head = f"POST /v1/collections/c/documents HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
        # Answered only after the head of the other was read: the loop takes them in the order in which they come.
        assert httpx.get(f"{url}/health/live", trust_env=False).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        connection.sendall(body[10:])
        answer = b""
        while piece := connection.recv(1_000):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert server.end()[0] == 0
    url = start().ready()
    assert httpx.get(f"{url}/v1/collections/c/documents/late", trust_env=False).status_code == 200


def test_a_damaged_collection_is_listed_while_the_others_serve(start: Callable[..., Any]) -> None:
    first = start()
    url = first.ready()
    make(url)
    other = {"name": "other", "encoder": {"model": "words"}}
    assert httpx.post(f"{url}/v1/collections", json=other, trust_env=False).status_code == 201
    first.process.send_signal(signal.SIGTERM)
    assert first.end()[0] == 0
    database = max((first.folder / "c").glob("*.sqlite*"), key=lambda path: path.stat().st_size)
    database.write_bytes(b"\xff" * database.stat().st_size)
    url = start().ready()
    ready = httpx.get(f"{url}/health/ready", trust_env=False)
    assert ready.status_code == 200
    assert [one["name"] for one in ready.json()["quarantined"]] == ["c"]
    refused = httpx.post(f"{url}/v1/collections/c/search", json={"query": "cat"}, trust_env=False)
    assert (refused.status_code, refused.json()["code"]) == (503, "collection_damaged")
    assert httpx.get(f"{url}/v1/collections/c", trust_env=False).json()["state"] == "quarantined"
    assert httpx.post(f"{url}/v1/collections/other/search", json={"query": "x"}, trust_env=False).status_code == 200
