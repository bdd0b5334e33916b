"""scripts/scrub.py as it is typed, beside a folder that nobody serves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from commands import Command
from made import OpenCatalogue

from app.indexing.sealing import seal
from app.ingest import write_documents
from app.store.requests import Answer
from app.types import Document


def test_it_finds_the_block_that_rotted_and_says_what_to_do(
    command: Command, open_catalogue: OpenCatalogue, tmp_path: Path
) -> None:
    folder = tmp_path / "indexes"
    with open_catalogue(folder) as catalogue:
        for name in ("good", "rotten"):
            collection = catalogue.create(name, model=None, kind="multi_vector", dim=64)
            for i in range(2):
                own = np.random.default_rng(i).normal(size=(9_000, 64)).astype(np.float32)
                write_documents(collection, [Document(f"d{i}", vectors=own)])
            seal(collection)
    assert command("scrub", "--all").returncode == 0
    (path,) = (folder / "rotten").glob("segments/*/raw.npy")
    content = bytearray(path.read_bytes())
    content[2 * 2**20 + 5] ^= 1
    path.write_bytes(content)
    assert command("scrub", "good").returncode == 0
    told = command("scrub", "--all")
    assert told.returncode == 1
    assert "good: whole" in told.stdout
    assert "raw.npy, block 2: the checksum differs" in told.stdout
    assert "restore a backup" in told.stdout
    (line,) = command("scrub", "rotten", "--json").stdout.splitlines()
    found = json.loads(line)
    assert found["file"] == str(path.relative_to(folder))
    assert found["block"] == 2
    # It changes nothing: what it said it says again.
    assert command("scrub", "rotten", "--json").stdout.splitlines() == [line]


def test_aliases_and_descriptions_of_snapshots_are_read_too(
    command: Command, open_catalogue: OpenCatalogue, tmp_path: Path
) -> None:
    folder = tmp_path / "indexes"
    with open_catalogue(folder) as catalogue:
        collection = catalogue.create("c", model=None, kind="dense", dim=2)
        catalogue.aliases.set("live", "c")
        catalogue.snapshots.take(collection, "1" * 32, lambda: None)
    for path, way_out in (
        (folder / ".aliases.json", "set the aliases again"),
        (folder / ".snapshots/c" / f"{'1' * 32}.json", "delete the snapshot"),
    ):
        assert command("scrub", "--all").returncode == 0
        content = path.read_bytes()
        for harmed in (b"", content[:-9], content.replace(b"c", b"d", 1), b"[]", b"\xff", b"[" * 100_000):
            path.write_bytes(harmed)
            told = command("scrub", "--all", "--json")
            (line,) = told.stdout.splitlines()
            found = json.loads(line)
            assert (told.returncode, found["file"]) == (1, str(path.relative_to(folder)))
            assert way_out in found["remedy"]
        path.write_bytes(content)


def test_what_requests_were_answered_is_read_too(
    command: Command, open_catalogue: OpenCatalogue, tmp_path: Path
) -> None:
    with open_catalogue(tmp_path / "indexes") as catalogue:
        collection = catalogue.create("c", model=None, kind="dense", dim=2)
        answer = Answer("{}", 200, {})
        with collection.database.write() as txn:
            collection.requests.note(txn, "key", "digest", answer)
        assert command("scrub", "c").returncode == 0
        with collection.database.write() as txn:
            txn.execute("UPDATE requests SET body = replace(body, '200', '201')")
        told = command("scrub", "c")
        assert told.returncode == 1
        assert "what a request was answered" in told.stdout


def test_what_is_not_there_is_said(command: Command) -> None:
    for arguments in (["none"], []):
        assert command("scrub", *arguments).returncode == 2
