"""The examples of docs/deploy before a live server: real nginx and real Caddy, with a certificate of the test's own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from running import Running

from app.keys import ApiKey
from app.settings import DeterministicModel, Settings

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
KEY = "sheaf_of_the_test"
NAME = "search.example.com"
LINES = [
    json.dumps({"id": f"d{i}", "text": "a cat", "metadata": {"pad": "x" * 1_000}}).encode() + b"\n"
    for i in range(1_800)
]


@dataclass(frozen=True)
class Proxy:
    client: httpx.Client
    server: Running
    spooled: Path | None
    """Where it would keep what it did not stream; None where that is not to be seen."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def nginx(folder: Path, port: int, backend: str) -> tuple[list[str], Path]:
    """The command line, and the folder of its temporary files. Limits of size are a megabyte."""
    text = (ROOT / "docs" / "deploy" / "nginx.conf").read_text()
    text = text.replace("127.0.0.1:8000", backend).replace("listen 443", f"listen 127.0.0.1:{port}")
    text = text.replace("/etc/ssl/certs/search.example.com.pem", str(folder / "cert.pem"))
    text = text.replace("/etc/ssl/private/search.example.com.key", str(folder / "key.pem")).replace("65m", "1m")
    (folder / "sheaf.conf").write_text(text)
    spooled = folder / "spooled"
    spooled.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/errors; events {{}} http {{ access_log off; "
        + " ".join(f"{one}_temp_path {spooled}/{one};" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        + f" include {folder}/sheaf.conf; }}"
    )
    return [
        shutil.which("nginx", path=PATH) or "",
        "-c",
        str(folder / "nginx.conf"),
        "-e",
        str(folder / "errors"),
    ], spooled


def caddy(folder: Path, port: int, backend: str) -> tuple[list[str], None]:
    text = (ROOT / "docs" / "deploy" / "Caddyfile").read_text()
    text = text.replace("127.0.0.1:8000", backend)
    # A certificate of its own: nothing is fetched. Neither its port for changes nor that for redirections is taken.
    text = text.replace("{\n\tservers", "{\n\tadmin off\n\tauto_https off\n\tservers", 1)
    text = text.replace(f"\n{NAME} {{", f"\n:{port} {{\n\tbind 127.0.0.1\n\ttls {folder}/cert.pem {folder}/key.pem", 1)
    (folder / "Caddyfile").write_text(text)
    return [shutil.which("caddy", path=PATH) or "", "run", "--config", str(folder / "Caddyfile")], None


PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
COMMANDS = {"nginx": nginx, "caddy": caddy}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    key = ApiKey(name="test", sha256=hashlib.sha256(KEY.encode()).hexdigest(), scopes=("admin",))
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    folder = tmp_path_factory.mktemp("indexes")
    settings = Settings(indexes=folder, models=models, keys=(key,), hosts=(NAME,), max_body_bytes=1_900_000)
    running = Running(settings).opened()
    yield running
    running.stop()


@pytest.fixture(scope="module", params=list(COMMANDS))
def proxy(request: pytest.FixtureRequest, server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    if shutil.which(request.param, path=PATH) is None:
        if os.environ.get("SHEAF_REQUIRE_DEPLOYMENT"):
            pytest.fail(f"{request.param} is not installed; CI must not skip this test")
        pytest.skip(f"{request.param} is not installed")
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    made = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={NAME}"
    files = [
        "-addext",
        f"subjectAltName=DNS:{NAME}",
        "-keyout",
        str(folder / "key.pem"),
        "-out",
        str(folder / "cert.pem"),
    ]
    subprocess.run([*made.split(), *files], check=True, capture_output=True)
    line, spooled = COMMANDS[request.param](folder, port, f"127.0.0.1:{server.port}")
    home = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "log").open("wb") as log, subprocess.Popen(line, env=home, stdout=log, stderr=log) as process:
        try:
            for _ in range(500):
                assert process.poll() is None, (folder / "log").read_text()
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.02)
            trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            trusted.load_verify_locations(folder / "cert.pem")
            trusted.check_hostname = False
            client = httpx.Client(
                base_url=f"https://127.0.0.1:{port}",
                verify=trusted,
                trust_env=False,
                timeout=60,
                headers={"Host": NAME, "Authorization": f"Bearer {KEY}"},
            )
            with client:
                yield Proxy(client, server, spooled)
        finally:
            process.terminate()
            process.wait(30)


def spooled(proxy: Proxy) -> list[Path]:
    """Files of bodies that lie on the proxy's disk."""
    return [] if proxy.spooled is None else [path for path in proxy.spooled.rglob("*") if path.is_file()]


@pytest.fixture
def collection(proxy: Proxy) -> Iterator[str]:
    body = {"name": "papers", "encoder": {"model": "words"}}
    assert proxy.client.post("/v1/collections", json=body).status_code == 201
    yield "/v1/collections/papers"
    assert proxy.client.delete("/v1/collections/papers").status_code == 204


def test_a_search_passes_and_needs_its_key(proxy: Proxy, collection: str) -> None:
    client = proxy.client
    written = client.post(f"{collection}/documents", json={"documents": [{"id": "a", "text": "a cat"}]})
    assert written.status_code == 200
    found = client.post(f"{collection}/search", json={"query": "cat"})
    assert [hit["id"] for hit in found.json()["hits"]] == ["a"]
    refused = client.post(f"{collection}/search", json={"query": "cat"}, headers={"Authorization": "Bearer other"})
    assert (refused.status_code, refused.json()["code"]) == (401, "key_refused")


def test_another_host_is_refused_by_sheaf(proxy: Proxy) -> None:
    refused = proxy.client.get("/v1/collections", headers={"Host": "rebound.example"})
    assert (refused.status_code, refused.json()["code"]) == (400, "host_refused")
    assert "rebound.example" in refused.json()["detail"]


def test_large_bodies_stream_in_and_out(proxy: Proxy, collection: str) -> None:
    on_disk: list[int] = []

    def lines() -> Iterator[bytes]:
        yield from LINES
        on_disk.append(len(spooled(proxy)))

    assert sum(map(len, LINES)) > 1.5 * 2**20, "more than the limit of other bodies"
    answer = proxy.client.post(
        f"{collection}/import", content=lines(), headers={"Content-Type": "application/x-ndjson"}
    )
    assert answer.status_code == 202, answer.text
    task = answer.json()
    for _ in range(6_000):
        if (task := proxy.client.get(f"/v1/tasks/{task['id']}").json())["finished"] is not None:
            break
        time.sleep(0.01)
    assert (task["state"], proxy.client.get(collection).json()["documents"]) == ("succeeded", len(LINES))
    with proxy.client.stream("GET", f"{collection}/export") as exported:
        assert exported.status_code == 200
        got = [json.loads(line)["id"] for line in exported.iter_lines()]
        on_disk.append(len(spooled(proxy)))
    assert sorted(got) == sorted(f"d{i}" for i in range(len(LINES)))
    assert on_disk == [0, 0]


def test_a_body_beyond_the_limit_is_refused_as_such(proxy: Proxy, collection: str) -> None:
    refused = proxy.client.post(
        f"{collection}/documents", content=b" " * 2_000_000, headers={"Content-Type": "application/json"}
    )
    assert refused.status_code == 413


def test_a_snapshot_is_fetched_in_ranges_and_put_back(proxy: Proxy, collection: str) -> None:
    client = proxy.client
    documents = [json.loads(line) for line in LINES[:50]]
    client.post(f"{collection}/documents", json={"documents": documents}).raise_for_status()
    task = client.post(f"{collection}/snapshots").json()
    for _ in range(6_000):
        if client.get(f"/v1/tasks/{task['id']}").json()["finished"] is not None:
            break
        time.sleep(0.01)
    address = f"{collection}/snapshots/{task['id']}"
    whole = client.get(address).content
    part = client.get(address, headers={"Range": "bytes=512-1023"})
    assert (part.status_code, part.content) == (206, whole[512:1024])
    pieces = (whole[at : at + 65_536] for at in range(0, len(whole), 65_536))
    made = client.put("/v1/collections/copy/restore", content=pieces, headers={"Content-Type": "application/x-tar"})
    assert (made.status_code, made.json()["documents"]) == (201, 50)
    assert re.fullmatch(r"/v1/collections/copy", made.headers["Location"])
    client.delete("/v1/collections/copy").raise_for_status()
    client.delete(address).raise_for_status()
