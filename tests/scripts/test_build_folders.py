"""Building from folders and tables by the command: the counts, what is marked and deleted, a server in between."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from commands import Command, OpenCatalogue

from app.types import Document


def stored(open_catalogue: OpenCatalogue) -> dict[str, Document]:
    with open_catalogue() as catalogue:
        documents, _ = catalogue.get("c").listing(None, 1000, None)
        return {document.id: document for document in documents}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "sub").mkdir(parents=True)
    (root / "a.md").write_text("# Birds\n\nThe wren sings.")
    (root / "sub" / "b.txt").write_text("The owl does not.")
    (root / "t.csv").write_text("text,n\nfirst row,1\nsecond row,2\n")
    (root / "x.png").write_bytes(b"\x89PNG")
    return root


IDS = ["a.md", "sub/b.txt", "t.csv#2", "t.csv#3"]


def test_a_folder_is_built_and_repeats_without_change(
    command: Command, folder: Path, open_catalogue: OpenCatalogue
) -> None:
    done = command("build_index", folder, "--collection", "c", "--model", "words")
    assert (done.returncode, done.stdout) == (
        0,
        "collection c: 4 written, 0 unchanged, 0 faults, 0 without title and text\n"
        "left out: 1 files of other forms (.png)\n",
    )
    assert "(100%)" in done.stderr
    assert stored(open_catalogue)["t.csv#3"] == Document("t.csv#3", "second row", metadata={"n": "2"})
    (folder / "a.md").write_text("# Birds\n\nThe wren sings loudly.")
    again = command("build_index", folder, "--collection", "c")
    assert again.stdout.startswith("collection c: 1 written, 3 unchanged")


def test_ids_that_come_again_are_counted(command: Command, open_catalogue: OpenCatalogue) -> None:
    lines = b"".join(b'{"id": "%d", "text": "%d"}\n' % (i % 150, i) for i in range(160))
    done = command("build_index", "-", "--collection", "c", "--model", "words", stdin=lines)
    assert "ids that came again: 10; of each the last document stands\n" in done.stdout
    assert len(stored(open_catalogue)) == 150
    assert stored(open_catalogue)["3"].text == "153"
    again = command("build_index", "-", "--collection", "c", stdin=lines)
    assert "came again" not in again.stdout


def test_a_fault_stops_with_its_place_or_is_skipped(
    command: Command, folder: Path, open_catalogue: OpenCatalogue
) -> None:
    (folder / "bad.txt").write_bytes(b"one\ntwo \xff")
    done = command("build_index", folder, "--collection", "c", "--model", "words")
    assert done.returncode == 1
    assert f"{folder}, bad.txt, line 2: not UTF-8" in done.stderr
    done = command("build_index", folder, "--collection", "c", "--model", "words", "--on-error", "skip")
    assert done.returncode == 0
    assert "bad.txt, line 2: not UTF-8" in done.stderr
    assert "1 faults" in done.stdout
    assert list(stored(open_catalogue)) == IDS


def test_a_dry_run_shows_documents_and_writes_nothing(command: Command, folder: Path, tmp_path: Path) -> None:
    done = command("build_index", folder, "--collection", "c", "--dry-run", "--source", "s")
    assert (done.returncode, done.stderr) == (0, "")
    shown, end = done.stdout.rsplit("}\n", 1)
    documents = json.loads("[" + (shown + "}").replace("}\n{", "},{") + "]")
    assert [one["id"] for one in documents] == ["a.md", "t.csv#2", "t.csv#3"]
    assert documents[0]["metadata"] == {"_source": "s"}
    assert end == "nothing is written (--dry-run)\n"
    assert not (tmp_path / "indexes" / "c").exists()


def test_only_what_came_from_the_source_and_is_gone_is_deleted(
    command: Command, folder: Path, open_catalogue: OpenCatalogue
) -> None:
    def build(*options: str, stdin: bytes = b"") -> str:
        source = "-" if stdin else str(folder)
        done = command("build_index", source, "--collection", "c", *options, stdin=stdin)
        return done.stdout + done.stderr

    others = b'{"id": "own", "text": "x"}\n{"id": "a.md/old", "text": "y"}\n'
    build("--model", "words", stdin=others)
    build("--source", "other", stdin=b'{"id": "of another", "text": "z"}\n')
    assert "deleted: 0 documents" in build("--source", "docs", "--sync")
    (folder / "sub" / "b.txt").unlink()
    (folder / "t.csv").write_text("text,n\nfirst row,1\n")
    # Without being asked, or while a part cannot be read, nothing goes.
    build("--source", "docs")
    (folder / "bad.txt").write_bytes(b"\xff")
    assert "deleted: nothing, for of the source there were 1 faults" in build(
        "--source", "docs", "--sync", "--on-error", "skip"
    )
    build("--source", "docs", "--sync")
    (folder / "bad.txt").unlink()
    kept = folder.rename(folder.with_name("kept"))
    folder.mkdir()
    assert "holds no document" in build("--source", "docs", "--sync")
    folder.rmdir()
    kept.rename(folder)
    assert sorted(stored(open_catalogue)) == sorted([*IDS, "own", "a.md/old", "of another"])
    assert "deleted: 2 documents of source 'docs'" in build("--source", "docs", "--sync")
    assert sorted(stored(open_catalogue)) == sorted(["a.md", "t.csv#2", "own", "a.md/old", "of another"])
    # A mark of the document's own is never written over.
    told = build("--source", "s", stdin=b'{"id": "m", "text": "x", "metadata": {"_source": "mine"}}\n')
    assert "line 1: /metadata/_source" in told


def test_a_server_gets_the_folder_and_loses_what_is_gone(command: Command, folder: Path, server: str) -> None:
    body = {"name": "c", "encoder": {"model": "words", "kind": "multi_vector"}}
    assert httpx.post(f"{server}/v1/collections", json=body).status_code == 201
    documents = f"{server}/v1/collections/c/documents"
    httpx.post(documents, json={"documents": [{"id": "own", "text": "x"}]})
    (folder / "bad.txt").write_bytes(b"\xff")
    options = ("--collection", "c", "--server", server, "--source", "docs", "--sync", "--on-error", "skip")
    done = command("build_index", folder, *options)
    assert done.returncode == 0, done.stderr
    assert "bad.txt, line 1: not UTF-8" in done.stderr
    assert "left out: 1 files of other forms (.png)" in done.stdout
    assert "deleted: nothing" in done.stdout
    (folder / "bad.txt").unlink()
    (folder / "a.md").unlink()
    done = command("build_index", folder, *options)
    assert "deleted: 1 documents of source 'docs'" in done.stdout, done.stderr
    assert [one["id"] for one in httpx.get(documents).json()["documents"]] == ["own", *IDS[1:]]
