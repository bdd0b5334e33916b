"""A backup of a whole server while it serves, and back: live servers, kills, and what must be refused."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from commands import DEADLINE_S, ROOT, Command, eventually
from running import Running

from app.client import Sheaf
from app.settings import DeterministicModel, Settings

Start = Callable[[str], Sheaf]
NAMES = [f"c{number:02}" for number in range(4)]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Start]:
    """Starts a server over a folder by its name."""
    with ExitStack() as stack:

        def start(folder: str) -> Sheaf:
            models = {"words": DeterministicModel(type="deterministic", dim=32)}
            running = Running(Settings(indexes=tmp_path / folder, models=models)).opened()
            stack.callback(running.stop)
            return stack.enter_context(Sheaf(running.url))

        yield start


def content(sheaf: Sheaf) -> dict[str, Any]:
    """All that a user sees of a server."""
    described = {one["name"]: one for one in sheaf.collections()}
    fields = ("encoder", "precision", "lexical", "passages", "documents", "fusion")
    return {
        "aliases": sheaf.aliases(),
        **{
            name: (
                {field: one[field] for field in fields},
                [(d.id, d.text, d.metadata, d.version) for d in sheaf.collection(name).documents()],
            )
            for name, one in described.items()
        },
    }


def fill(sheaf: Sheaf) -> None:
    for name in NAMES:
        own = sheaf.create(name, model="words", lexical={"language": "german"}, fusion="reciprocal_rank")
        own.write([{"id": f"{name}-{i}", "text": f"text {i} of {name}", "metadata": {"n": i}} for i in range(20)])
    sheaf.point("live", "c01")
    sheaf.point("other", "c00")


def snapshots(sheaf: Sheaf) -> list[Any]:
    return [one for name in NAMES for one in sheaf.ask("GET", f"/v1/collections/{name}/snapshots")["snapshots"]]


def begin(environment: dict[str, str], *arguments: object) -> subprocess.Popen[bytes]:
    line = [sys.executable, str(ROOT / "scripts" / "backup.py"), *map(str, arguments)]
    return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_while(process: subprocess.Popen[bytes], holds: Callable[[], bool]) -> None:
    """Kills it in a moment in which something holds."""
    while True:
        process.send_signal(signal.SIGSTOP)
        with suppress(FileNotFoundError):
            if holds():
                process.kill()
                assert process.wait(DEADLINE_S) == -signal.SIGKILL
                return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.005)
        assert process.poll() is None, "it ended before"


def test_all_is_saved_while_it_is_written_and_comes_back_into_an_empty_server(
    started: Start, command: Command, environment: dict[str, str], tmp_path: Path
) -> None:
    one, folder = started("one"), tmp_path / "saved" / "today"
    fill(one)
    # Killed in the middle: nothing under its name, and what is there is no backup.
    broken = begin(environment, "save", folder, "--server", one.url)
    half = folder.with_name("today.unfinished")
    eventually(lambda: len(list(half.glob("*.tar"))) >= 1)
    kill_while(broken, lambda: "snapshot" in (half / "begun.json").read_text())
    assert not folder.exists()
    refused = command("backup", "restore", half, "--server", one.url)
    assert (refused.returncode, "no whole backup" in refused.stderr) == (1, True)
    # Written to meanwhile, as one moment of each collection: a batch is there as a whole or not at all.
    saving = begin(environment, "save", folder, "--server", one.url)
    rounds = 0
    while saving.poll() is None:
        one.collection("c03").write([{"id": f"new{i}", "text": f"round {rounds}"} for i in range(10)])
        rounds += 1
    assert saving.returncode == 0
    assert rounds > 0
    assert snapshots(one) == [], "what was taken for the backups is deleted"
    assert not half.exists()
    assert {path.name for path in folder.iterdir()} == {"backup.json", *(f"{name}.tar" for name in NAMES)}
    again = command("backup", "save", folder, "--server", one.url)
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
    # Some of it, with what stands for it.
    done = command("backup", "save", tmp_path / "some", "--server", one.url, "--without", "c01", "--without", "c02")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "some" / "backup.json").read_text())
    assert ([c["name"] for c in manifest["collections"]], manifest["aliases"]) == (["c00", "c03"], {"other": "c00"})
    nobody = command("backup", "save", tmp_path / "none", "--server", "http://127.0.0.1:9")
    assert (nobody.returncode, "Traceback" in nobody.stderr) == (1, False)
    # Restoring: killed in the middle, refused over what is there, ended with --replace.
    two = started("two")
    broken = begin(environment, "restore", folder, "--server", two.url)
    eventually(lambda: len(two.collections()) >= 1)
    broken.kill()
    broken.wait(DEADLINE_S)
    before = content(two)
    refused = command("backup", "restore", folder, "--server", two.url)
    assert refused.returncode == 1
    assert re.search(r"the server has c00.*nothing was changed.*--replace", refused.stderr)
    assert set(before) <= set(content(two))
    done = command("backup", "restore", folder, "--server", two.url, "--replace")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "4 collections and 2 aliases are in place"
    expected, found = content(one), content(two)
    written = {text for id, text, _, _ in found["c03"][1] if id.startswith("new")}
    assert len(written) <= 1, "a batch of another moment"
    del expected["c03"], found["c03"]
    assert found == expected
    assert [hit.id for hit in two.collection("live").search("text 3").hits[:1]] == ["c01-3"]


def test_what_is_damaged_or_foreign_is_refused_before_a_server_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from backup import Refused, read

    archive, path, whole = tmp_path / "a.tar", tmp_path / "backup.json", b"an archive"
    archive.write_bytes(whole)
    saved = {"name": "a", "file": "a.tar", "bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
    text = json.dumps({"format": 1, "collections": [saved], "aliases": {"cats": "a"}})
    path.write_text(text)
    (found,), aliases = read(tmp_path)
    assert (found.name, found.file, aliases) == ("a", "a.tar", {"cats": "a"})

    def refused(change: Callable[[], object], why: str) -> None:
        change()
        with pytest.raises(Refused, match=why):
            read(tmp_path)
        path.write_text(text)
        archive.write_bytes(whole)

    refused(lambda: path.write_text(text.replace('"a.tar"', '"../a.tar"')), "which cannot be")
    refused(lambda: path.write_text(text.replace('"a"', '"../a"')), "which cannot be")
    refused(lambda: path.write_text(text.replace('"format": 1', '"format": 9')), "format 9; this Sheaf reads 1")
    refused(lambda: path.write_text(text[:-9]), "not what `save` writes")
    refused(lambda: path.write_text(text.replace('"sha256"', '"sum"')), "not what `save` writes")
    refused(lambda: archive.write_bytes(b"an archivf"), "not what was saved")
    refused(archive.unlink, "cannot be read: No such file")
    refused(path.unlink, "no whole backup")
