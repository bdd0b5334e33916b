"""A folder in a ZIP file is the folder; and nothing in it chooses where it is written, or how much."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from files_made import make

from app.sources.choose import format_of, open_source
from app.sources.protocol import Entry, LeftOut, Unreadable
from app.sources.zipped import Zipped
from app.types import Document


def told(entries: list[Entry]) -> list[tuple[str, object]]:
    """Of each entry its place, and what it says."""
    return [
        (one.place, (one.found.id, one.found.title, one.found.text, one.found.metadata))
        if isinstance(one.found, Document)
        else (one.place, one.found.reason if isinstance(one.found, LeftOut) else one.found.message)
        for one in entries
    ]


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def test_what_is_read_of_it_is_what_is_read_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("a.md", "b/c.html", "b/d.csv", "b/e/f.parquet", "z.docx", "b-/g.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        make(folder / name)
    (folder / "b/bad.json").write_text('[{"text": "one"}, 7]')
    (folder / "b/empty.txt").write_text("")
    (folder / "picture.png").write_bytes(b"x")
    path = zipped(folder, tmp_path / "folder.zip")
    assert format_of(str(path)) == "zip"
    of_folder, of_zip = open_source(str(folder)), open_source(str(path))
    expected, found = told(list(of_folder.entries())), told(list(of_zip.entries()))
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert len(found) > 9
    assert (of_zip.done, of_zip.skipped) == (of_zip.total, of_folder.skipped)


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/out.txt", "..\\out.txt"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "text")
        archive.writestr("zoo.txt", "the heron")
    found = told(list(open_source(str(tmp_path / "a.zip")).entries()))
    assert [what for place, what in found if "out" in place] == ["its name leads out of the folder"]
    assert [place for place, _ in found if place == "zoo.txt"] == ["zoo.txt"]
    assert not list(tmp_path.rglob("*out.txt"))


def test_links_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/hostname")
        archive.writestr(".hidden/x.txt", "x")
        archive.writestr("__MACOSX/x.txt", "x")
        archive.writestr("a.txt", "the heron")
    found = told(list(open_source(str(tmp_path / "a.zip")).entries()))
    assert [place for place, what in found if isinstance(what, tuple)] == ["a.txt"]
    assert len(found) == 4


def test_what_its_files_become_is_bounded(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "x" * 5_000)
        archive.writestr("b.txt", "y" * 50_000)

    def read(most: int) -> list[tuple[str, object]]:
        return told(list(Zipped(tmp_path / "a.zip", lambda root: open_source(str(root)), most).entries()))

    assert [place for place, what in read(60_000) if isinstance(what, tuple)] == ["a.txt", "b.txt"]
    first, second = read(20_000)
    assert first[0] == "a.txt"
    assert "larger than may be read" in str(second[1])


def test_one_that_is_damaged_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "the first text")
        archive.writestr("b.txt", "the second text")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"the first text", b"the fIrst text"))
    first, second = told(list(open_source(str(path)).entries()))
    assert first[0] == "a.txt"
    assert str(first[1]).startswith("not a file that can be unpacked")
    assert str(tmp_path) not in str(first[1])
    assert second[0] == "b.txt"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Unreadable, match="not a ZIP file, or not whole"):
        list(open_source(str(path)).entries())
