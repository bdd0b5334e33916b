"""The server as a process: settings, the ready line, signals, one server a folder, clients that misbehave."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.__main__ import main
from app.keys import hash_of
from app.settings import Settings

ROOT = Path(__file__).parents[2]
WRITE = {"documents": [{"id": "a", "text": "a cat"}]}


def make(url: str) -> None:
    body = {"name": "c", "encoder": {"model": "words"}}
    assert httpx.post(f"{url}/v1/collections", json=body, trust_env=False).status_code == 201
    assert httpx.post(f"{url}/v1/collections/c/documents", json=WRITE, trust_env=False).status_code == 200


@pytest.fixture
def logging_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of ``main`` in this process leave the levels and filters of its loggers as later tests need them."""
    monkeypatch.setattr("app.__main__.log_to_stderr", lambda level, form: None)


@pytest.mark.usefixtures("logging_untouched")
def test_a_search_has_the_interpreters_lock_back_soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHEAF_INDEXES", str(tmp_path))
    monkeypatch.setenv("SHEAF_PORT", "0")
    intervals, before = list[float](), sys.getswitchinterval()
    monkeypatch.setattr("app.__main__._Server.run", lambda _, sockets: intervals.append(sys.getswitchinterval()))
    try:
        assert main() == 0
    finally:
        sys.setswitchinterval(before)
    assert intervals[0] < 0.001


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


@pytest.mark.usefixtures("logging_untouched")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHEAF_PORT", "x"),
        ("SHEAF_PORT", "65536"),
        ("SHEAF_HOSTS", "not json"),
        ("SHEAF_HOSTS", '{"a": 1}'),
        ("SHEAF_HOSTS", '["a"'),
        ("SHEAF_HOSTS", "b, https://a.example"),
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


def test_a_folder_that_cannot_be_is_named_and_refused(start: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, log = start(SHEAF_INDEXES=str(tmp_path / "file")).end()
    assert status == 3
    assert f"cannot start: SHEAF_INDEXES: {tmp_path / 'file'}: File exists" in log
    assert "Traceback" not in log


def test_a_misspelt_setting_is_told(start: Callable[..., Any]) -> None:
    server = start(SHEAF_PROT="1")
    server.ready()
    server.process.send_signal(signal.SIGTERM)
    log = server.end()[1]
    assert "SHEAF_PROT: no setting has this name" in log
    assert log.count("no setting has this name") == 1


ENTRY = json.dumps([{"name": "a", "sha256": hash_of("a-key"), "scopes": ["read"]}])


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_a_key_it_listens_on_loopback_alone(start: Callable[..., Any], host: str) -> None:
    status, log = start(SHEAF_HOST=host).end()
    assert status == 2
    assert log.startswith(f"SHEAF_HOST: {host} is not loopback, and no key is set")
    assert "SHEAF_ALLOW_ANONYMOUS" in log


def test_without_a_key_it_says_so_at_start(start: Callable[..., Any]) -> None:
    server = start()
    server.ready()
    server.process.send_signal(signal.SIGTERM)
    assert "no keys: anyone who reaches 127.0.0.1 may do everything" in server.end()[1]


@pytest.mark.parametrize("settings", [{"SHEAF_KEYS": ENTRY}, {"SHEAF_ALLOW_ANONYMOUS": "true"}])
def test_with_a_key_or_told_to_it_listens_elsewhere(start: Callable[..., Any], settings: dict[str, str]) -> None:
    server = start(SHEAF_HOST="0.0.0.0", **settings)
    url = server.ready().replace("0.0.0.0", "127.0.0.1")
    status = 401 if "SHEAF_KEYS" in settings else 200
    assert httpx.get(f"{url}/v1/collections", trust_env=False).status_code == status
    headers = {"X-API-Key": "a-key"}
    assert httpx.get(f"{url}/v1/collections", headers=headers, trust_env=False).status_code == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.end()[0] == 0


def test_keys_are_asked_for_wherever_there_are_any(start: Callable[..., Any]) -> None:
    url = start(SHEAF_KEYS=ENTRY, SHEAF_ALLOW_ANONYMOUS="true").ready()
    assert httpx.get(f"{url}/v1/collections", trust_env=False).status_code == 401


def test_no_key_is_logged(start: Callable[..., Any]) -> None:
    server = start(SHEAF_KEYS=ENTRY, SHEAF_LOG_LEVEL="debug")
    url = server.ready()
    for headers in ({"X-API-Key": "a-key"}, {"Authorization": "Bearer a-key"}, {"Authorization": "Bearer a-guess"}):
        httpx.get(f"{url}/v1/collections", headers=headers, trust_env=False)
        httpx.get(f"{url}/v1/tasks?key=a-key", headers=headers, trust_env=False)
    httpx.get(f"{url}/a-key", trust_env=False)
    server.process.send_signal(signal.SIGTERM)
    log = server.end()[1]
    assert log.count("/v1/collections 200") == 2
    for secret in ("a-key", "a-guess", hash_of("a-key")):
        assert secret not in log


@pytest.mark.usefixtures("logging_untouched")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHEAF_KEYS", "hidden"),
        ("SHEAF_KEYS", '[{"name": "a", "sha256": "hidden", "scopes": ["read"]}]'),
        ("SHEAF_KEYS", '["hidden"]'),
        ("SHEAF_KEYS", json.dumps(json.loads(ENTRY) * 2)),
        ("SHEAF_KEYS_FILE", "/dev/null/none"),
        ("SHEAF_RATE", "-1"),
    ],
)
def test_wrong_keys_are_refused_and_not_repeated(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main() == 2
    said = capsys.readouterr().err
    assert name in said
    assert "hidden" not in said


def test_memory_does_not_grow_with_the_body_of_an_import(start: Callable[..., Any]) -> None:
    server = start()
    url = server.ready()
    make(url)
    path = Path(f"/proc/{server.process.pid}/status")

    def peak() -> int:
        return int(re.search(r"VmHWM:\s+(\d+) kB", path.read_text())[1]) * 1024  # type: ignore[index]

    def body(size: int) -> Iterator[bytes]:
        # The first line is none, so that nothing of it is applied.
        yield b"no document\n"
        line = b'{"id": "a", "text": "' + b"word " * 200 + b'"}\n'
        for _ in range(size // (1_000 * len(line))):
            yield line * 1_000

    headers = {"content-type": "application/x-ndjson"}
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        peaks = []
        for size in (2**23, 2**28):
            answer = client.post("/v1/collections/c/import", content=body(size), headers=headers)
            assert answer.status_code == 202
            while (task := client.get(answer.headers["location"]).json())["finished"] is None:
                time.sleep(0.01)
            assert [error["line"] for error in task["errors"]] == [1]
            peaks.append(peak())
    assert peaks[1] - peaks[0] < 2**25


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


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_note_of_a_server_on_all_addresses_leads_to_it(start: Callable[..., Any], host: str) -> None:
    server = start(SHEAF_HOST=host, SHEAF_PORT="0", SHEAF_ALLOW_ANONYMOUS="true")
    url = server.ready()
    assert url.startswith("http://127.0.0.1:")
    assert (server.folder / ".server.lock").read_text() == url
    assert httpx.get(f"{url}/v1/collections", trust_env=False).status_code == 200


def test_empty_settings_are_settings_that_are_not_set(start: Callable[..., Any]) -> None:
    server = start(**{f"SHEAF_{name.upper()}": "" for name in Settings.model_fields if name not in ("port", "indexes")})
    url = server.ready()
    assert url.startswith("http://127.0.0.1:")
    assert httpx.get(f"{url}/v1/info", trust_env=False).json()["limits"]["k"] == Settings.model_fields["max_k"].default


def test_words_of_a_list_may_have_commas_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHEAF_HOSTS", "search.example, 192.168.1.5,")
    monkeypatch.setenv("SHEAF_CORS_ORIGINS", "https://a.example,https://b.example:81")
    settings = Settings()
    assert settings.hosts == ("search.example", "192.168.1.5")
    assert settings.cors_origins == ("https://a.example", "https://b.example:81")
    monkeypatch.setenv("SHEAF_HOSTS", '["search.example"]')
    assert Settings().hosts == ("search.example",)


AS_ANOTHER_USER = """
import os, sys
import uvicorn.lifespan.on, uvicorn.loops.uvloop
from app.__main__ import main
os.umask(0o077)
os.makedirs(os.environ["SHEAF_INDEXES"])
if os.geteuid() == 0:
    os.setgid(10001)
    os.setuid(10001)
else:
    os.chmod(os.environ["SHEAF_INDEXES"], 0)
sys.exit(main())
"""


@pytest.mark.slow
def test_a_folder_of_another_user_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER_USER],
        env={**kept, "SHEAF_INDEXES": str(folder), "SHEAF_PORT": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    owner = "10001:10001" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"
    assert done.returncode == 3, done.stderr
    assert "SHEAF_INDEXES" in done.stderr
    assert f"chown -R {owner} {folder}" in done.stderr
    assert "Traceback" not in done.stderr
