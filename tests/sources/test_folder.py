"""Folders: which files are read, in which order, under which ids, and what becomes of the others."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from files_made import pdf

from app.errors import Invalid, NotFound, RequestError
from app.sources.choose import Reading, open_source, open_sources
from app.sources.folder import Chosen, Folder
from app.sources.protocol import Entry, LeftOut, Source
from app.types import Document


def read(source: Source) -> dict[str, list[object]]:
    """Ids in order, faults and what is left out, with places."""
    found: dict[str, list[object]] = {"ids": [], "faults": [], "left": []}
    for entry in source.entries():
        match entry.found:
            case Document(id=identifier):
                found["ids"].append(identifier)
            case RequestError(message=message):
                found["faults"].append((entry.place, message))
            case LeftOut(reason=reason):
                found["left"].append((entry.file, reason))
    assert source.done == source.total
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    for name in ("b.md", "a.txt", "sub/deep/c.md", "sub/B.html", ".git/x.md", ".hidden.md", "drafts/d.md", "e.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"text of {name}")
    return root


def test_files_are_read_in_order_under_their_paths(folder: Path) -> None:
    found = read(open_source(str(folder)))
    assert found["ids"] == ["a.txt", "b.md", "drafts/d.md", "sub/B.html", "sub/deep/c.md"]
    assert found["faults"] == []
    assert found["left"] == [
        (".git", "hidden files and folders"),
        (".hidden.md", "hidden files and folders"),
        ("e.png", "files of other forms (.png)"),
    ]
    (entry,) = (one for one in Folder(folder / "b.md").entries())
    assert entry == Entry(0, Document("b.md", "text of b.md", "b"), "b.md")


def test_patterns_choose_files_and_folders(folder: Path) -> None:
    def chosen(include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> list[object]:
        return read(open_source(str(folder), reading=Reading(chosen=Chosen(include, exclude))))["ids"]

    assert chosen(("*.md",)) == ["b.md", "drafts/d.md", "sub/deep/c.md"]
    assert chosen(("sub/*",)) == ["sub/B.html", "sub/deep/c.md"]
    assert chosen(exclude=("drafts", "*.html", "deep")) == ["a.txt", "b.md"]
    assert chosen(("*.md",), ("sub/*",)) == ["b.md", "drafts/d.md"]


def test_links_that_leave_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("outside")
    (folder / "out.md").symlink_to(tmp_path / "secret.md")
    (folder / "up").symlink_to(tmp_path)
    (folder / "round").symlink_to(folder / "sub")
    (folder / "gone.md").symlink_to(folder / "nothing.md")
    (folder / "in.md").symlink_to(folder / "b.md")
    found = read(open_source(str(folder)))
    assert found["ids"] == ["a.txt", "b.md", "in.md", "drafts/d.md", "sub/B.html", "sub/deep/c.md"]
    links = [file for file, reason in found["left"] if "links" in reason]  # type: ignore[misc]
    assert links == ["gone.md", "out.md", "round", "up"]


def test_faults_have_their_file_and_the_others_are_read(folder: Path) -> None:
    (folder / "bad.txt").write_bytes(b"one\n\xff")
    (folder / "bad.pdf").write_bytes(b"%PDF-1.4")
    (folder / "empty.txt").write_text(" \n")
    (folder / "scan.pdf").write_bytes(pdf([[], []]))
    long = folder / "sub" / ("ä" * 120) / ("ö" * 120)
    long.mkdir(parents=True)
    (long / ("ü" * 20 + ".md")).write_text("x")
    (long / "y.md").write_text("x")
    if sys.platform == "linux":
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.md")).write_text("x")
        os.mkfifo(folder / "pipe.md")
    found = read(open_source(str(folder)))
    places = dict(found["faults"])  # type: ignore[call-overload]
    assert "not PDF" in places["bad.pdf"]
    assert "not UTF-8 (byte 0xff)" in places["bad.txt, line 2"]
    assert [message for message in places.values() if "an id has 1 to 512 bytes of UTF-8; got 529" in message]
    if sys.platform == "linux":
        assert "not UTF-8" in places["\\udcff.md"]
        assert ("pipe.md", "devices, pipes and sockets") in found["left"]
    assert ("empty.txt", "files without text") in found["left"]
    assert ("scan.pdf", "PDF pages without text (scanned?)") in found["left"]
    *others, last = found["ids"]
    assert others == ["a.txt", "b.md", "drafts/d.md", "sub/B.html", "sub/deep/c.md"]
    assert str(last).endswith("/y.md")


def test_several_sources_have_ids_apart(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "notes"
    other.mkdir()
    (other / "b.md").write_text("another")
    (tmp_path / "d.ndjson").write_text('{"id": "n", "text": "x"}\n{broken\n')
    given = [str(folder), str(other), str(tmp_path / "d.ndjson")]
    found = read(open_sources(given, None, Reading(chosen=Chosen(("b.md",)))))
    assert found["ids"] == ["docs/b.md", "notes/b.md", "n"]
    ((place, _),) = found["faults"]  # type: ignore[misc]
    assert place == f"{tmp_path / 'd.ndjson'}, line 2"
    with pytest.raises(Invalid, match="2 sources are called 'docs'"):
        open_sources([str(folder), str(folder)], None, Reading())
    with pytest.raises(NotFound):
        open_source(str(tmp_path / "none.pdf"))
