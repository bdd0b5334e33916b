"""Stops, and what fails outside: SIGTERM in an import, an encoder that does not answer, a full disk, strange files."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from embedding_server import EmbeddingServer
from report import Report
from servers import Server, everything, follow, serving

STOP_S = 30.0
NDJSON = {"content-type": "application/x-ndjson"}


def run(folder: Path, seed: int, trials: int) -> Report:
    """trials: how often SIGTERM is sent in the middle of an import; the others are tried once."""
    report = Report("stops", seed)
    _sigterm(folder / "sigterm", report, trials)
    scenarios: dict[str, Callable[[Path, Report], None]] = {
        "encoder": _encoder,
        "full-disk": partial(_full_disk, mount=True),
        "full-disk-by-limit": partial(_full_disk, mount=False),
        "strange-files": _strange_files,
    }
    for name, scenario in scenarios.items():
        report.trials += 1
        try:
            scenario(folder / name, report)
        except AssertionError as error:
            report.fail(f"{name}: {error}")
    return report.done()


def _sigterm(folder: Path, report: Report, trials: int) -> None:
    folder.mkdir()
    indexes, lines, slowest = folder / "indexes", 6_000, 0.0
    body = "".join(json.dumps({"id": f"d{i}", "text": f"text {i} of many words"}) + "\n" for i in range(lines))
    with serving(indexes) as server, server.client() as client:
        assert client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}}).status_code == 201
        location = client.post("/v1/collections/c/import", content=body.encode(), headers=NDJSON).headers["location"]
        for number in range(trials):
            report.trials += 1
            time.sleep(0.3)
            state = client.get(location).json()["state"]
            status, took = server.stop()
            slowest = max(slowest, took)
            if status != 0 or took > STOP_S:
                report.fail(f"SIGTERM {number}: exit status {status} after {took:.1f} s")
            report.counts[f"stopped while the import was {state}"] += 1
            server = Server(indexes)
            client = server.client()
        task = follow(client, location)
        found = everything(client, "c")
        server.kill()
    if (task["state"], task["done"], len(found)) != ("succeeded", lines, lines):
        report.fail(f"the import ended as {task['state']}, {task['done']} lines, {len(found)} documents")
    report.figures["slowest stop, s"] = round(slowest, 2)


def _encoder(folder: Path, report: Report) -> None:
    """503 with Retry-After for what needs the encoder; the rest works; then all works again."""
    folder.mkdir()
    with closing(EmbeddingServer()) as remote:
        far = {"type": "remote", "url": remote.url, "model": "m", "dim": remote.dim, "retries": 0, "timeout_s": 5}
        models = {"far": far}
        with serving(folder / "indexes", SHEAF_MODELS=json.dumps(models)) as server, server.client() as client:
            body = {"name": "c", "encoder": {"model": "far", "kind": "dense"}}
            assert client.post("/v1/collections", json=body).status_code == 201
            write = {"documents": [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}]}
            assert client.post("/v1/collections/c/documents", json=write).status_code == 200
            remote.script = [lambda _: (500, {}, b"")] * 2
            for path, body in (("search", {"query": "one"}), ("documents", {"documents": [{"id": "c", "text": "x"}]})):
                answer = client.post(f"/v1/collections/c/{path}", json=body)
                assert (answer.status_code, answer.json()["code"]) == (503, "encoder_unavailable"), answer.text
                assert int(answer.headers["retry-after"]) > 0
            assert client.get("/v1/collections/c/documents/a").status_code == 200
            assert client.post("/v1/collections/c/search", json={"vector": [1.0] * remote.dim}).status_code == 200
            assert client.post("/v1/collections/c/delete", json={"ids": ["b"]}).json() == {"deleted": 1}
            assert client.get("/health/ready").status_code == 200
            assert client.post("/v1/collections/c/search", json={"query": "one"}).status_code == 200
    report.counts["encoder failed and came back"] += 1


def _full_disk(folder: Path, report: Report, *, mount: bool) -> None:
    """mount: of a small file system of its own, where that can be mounted; else by a limit on the size of files."""
    folder.mkdir()
    indexes = folder / "disk" / "indexes"
    indexes.parent.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(indexes.parent)]
    mounted = mount and subprocess.run(line, capture_output=True, check=False).returncode == 0
    if mount and not mounted:
        report.counts["no file system can be mounted"] += 1
        return
    report.counts["disk full, of a file system" if mounted else "disk full, by a limit"] += 1
    try:
        with serving(indexes) as server, server.client() as client:
            assert client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}}).status_code == 201
            write = {"documents": [{"id": f"d{i}", "text": f"text {i}"} for i in range(20)]}
            assert client.post("/v1/collections/c/documents", json=write).status_code == 200
            before = everything(client, "c")
            ballast = indexes.parent / "ballast"
            _fill(ballast, server, full=True, mounted=mounted)
            large = {"documents": [{"id": f"n{i}", "text": "many words " * 200} for i in range(400)]}
            refused = client.post("/v1/collections/c/documents", json=large)
            assert (refused.status_code, refused.json()["code"]) == (507, "storage_full"), refused.text
            # Larger than what the server may still write of the body in any case.
            lines = (json.dumps({"id": "x", "text": "y" * 20_000}) + "\n") * 2_000
            refused = client.post("/v1/collections/c/import", content=lines.encode(), headers=NDJSON)
            assert (refused.status_code, refused.json()["code"]) == (507, "storage_full"), refused.text
            assert everything(client, "c") == before
            found = client.post("/v1/collections/c/search", json={"query": "text 7", "k": 3})
            assert found.status_code == 200
            assert client.get("/health/ready").json()["quarantined"] == []
            _fill(ballast, server, full=False, mounted=mounted)
            assert client.post("/v1/collections/c/documents", json=write).status_code == 200
            more = {"documents": [{"id": f"n{i}", "text": "many words"} for i in range(50)]}
            assert client.post("/v1/collections/c/documents", json=more).status_code == 200
            assert len(everything(client, "c")) == 70
            assert server.stop()[0] == 0
        with serving(indexes) as server, server.client() as client:
            assert len(everything(client, "c")) == 70
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(indexes.parent)], check=True)


def _fill(ballast: Path, server: Server, *, full: bool, mounted: bool) -> None:
    if mounted and full:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4_096))
            except OSError:
                pass
    elif mounted:
        ballast.unlink()
    else:
        limit = 4_096 if full else resource.RLIM_INFINITY
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def _strange_files(folder: Path, report: Report) -> None:
    """Files and folders that nobody knows, and what a stop left: ignored or removed, and everything is there."""
    folder.mkdir()
    indexes = folder / "indexes"
    with serving(indexes, SHEAF_SEAL_DOCUMENTS="10") as server, server.client() as client:
        assert client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}}).status_code == 201
        write = {"documents": [{"id": f"d{i}", "text": f"text {i}"} for i in range(25)]}
        assert client.post("/v1/collections/c/documents", json=write).status_code == 200
        before = everything(client, "c")
        assert server.stop()[0] == 0
    for path in ("notes.txt", "no-collection/x", "c/notes.txt", "c/stray/x", "c/imports/stray.ndjson", "UPPER/x"):
        (indexes / path).parent.mkdir(parents=True, exist_ok=True)
        (indexes / path).write_text("strange")
    for path in ("c/segments/half", ".creating-x-1", ".deleted-y-2"):
        (indexes / path).mkdir()
        (indexes / path / "seqs.npy").write_bytes(b"half")
    (indexes / "c/tail/9999.safetensors").write_bytes(b"half")
    shutil.copytree(indexes / "c" / "segments", indexes / "c" / "segments" / "copied", dirs_exist_ok=True)
    (indexes / "link").symlink_to("/nowhere")
    with serving(indexes) as server, server.client() as client:
        assert everything(client, "c") == before
        assert [one["name"] for one in client.get("/v1/collections").json()["collections"]] == ["c"]
        assert client.get("/health/ready").json()["quarantined"] == []
        assert (indexes / "notes.txt").exists(), "a file that is not ours was removed"
        assert (indexes / "c/notes.txt").exists(), "a file that is not ours was removed"
        left = {path.name for path in indexes.iterdir()} | {path.name for path in (indexes / "c/segments").iterdir()}
        assert not left & {"half", "copied", ".creating-x-1", ".deleted-y-2"}, left
    report.counts["strange files"] += 1
