"""A folder, and files that are one document each: every file that is read, in the order of paths.

Followed is nothing that is hidden (a name that begins with a full stop), no link to a folder, and no link that leaves
the folder. What is left out is counted by its reason.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, Literal, TypeAlias

from app.documents import parse_document
from app.errors import Invalid, NotFound, RequestError
from app.sources.files.content import Content
from app.sources.files.docx import read_docx
from app.sources.files.html import read_html
from app.sources.files.markdown import read_markdown, read_text
from app.sources.files.pdf import read_pdf
from app.sources.protocol import Entry, LeftOut, Source, Unreadable

Reader: TypeAlias = Callable[[Path, "str | None"], Content]
FileForm: TypeAlias = Literal["markdown", "text", "html", "pdf", "docx"]
READERS: Final[dict[FileForm, Reader]] = {
    "markdown": read_markdown,
    "text": read_text,
    "html": read_html,
    "pdf": read_pdf,
    "docx": read_docx,
}
FILES: Final[dict[str, FileForm]] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".docx": "docx",
}
"""Suffix -> what reads the file."""
EMPTY: Final = "files without text"

Records: TypeAlias = Callable[[Path, str], "Source | None"]
"""Opens a file of many documents, of which the path from the folder is given; None for what is none."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The files of a folder that are read. include: patterns of which one must fit; none: all do. exclude: of which
    none may, of folders too. A pattern with a slash is held to the path from the folder, another to the name; `*`
    stands for slashes too."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """
        >>> Chosen(("*.md", "notes/*"), ("draft*",)).takes("notes/a/b.txt"), Chosen(exclude=("old",)).takes("a/old")
        (True, False)
        """
        return (not self.include or _fits(path, self.include)) and not self.drops(path)

    def drops(self, path: str) -> bool:
        return _fits(path, self.exclude)


def _fits(path: str, patterns: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatch(path if "/" in one else name, one) for one in patterns)


class Folder:
    """The id of a file's document is its path from the folder, with slashes; its title is what the file gives, else its
    name."""

    unit: Literal["bytes", "documents"] = "bytes"

    def __init__(
        self,
        root: Path,
        chosen: Chosen | None = None,
        charset: str | None = None,
        records: Records = lambda path, name: None,
        read_as: FileForm | None = None,
        prefix: str = "",
    ) -> None:
        """root: a folder, or one file. charset: of text files that are not UTF-8. read_as: what every file is, where
        its name does not tell. prefix: of all ids, such as `notes/`.

        Raises NotFound where there is nothing.
        """
        if not root.exists():
            raise NotFound(f"{root} is not there")
        self.name = str(root)
        self._root = root
        self._charset = charset
        self._records = records
        self._read_as = read_as
        self._prefix = prefix
        self._before: list[Entry] = []
        self._files = list(_walk(root, chosen or Chosen(), self._before)) if root.is_dir() else [root]
        self._sizes = [path.stat().st_size for path in self._files]
        self._read = 0
        self._now: Source | None = None
        self._skipped = 0

    @property
    def total(self) -> int | None:
        return sum(self._sizes)

    @property
    def done(self) -> int:
        return self._read + (self._now.done if self._now is not None and self._now.unit == "bytes" else 0)

    @property
    def skipped(self) -> int:
        return self._skipped + (self._now.skipped if self._now is not None else 0)

    def entries(self) -> Iterator[Entry]:
        yield from self._before
        for path, size in zip(self._files, self._sizes, strict=True):
            name = self._prefix + (path.relative_to(self._root).as_posix() if path != self._root else path.name)
            shown = name.encode(errors="backslashreplace").decode()
            try:
                if shown != name:
                    raise Invalid("its name is not UTF-8, and an id is: rename it")
                for entry in self._entries(path, name):
                    yield entry._replace(file=", ".join(filter(None, (shown, entry.file))))
            except Unreadable as error:
                yield Entry(error.number, error, shown, error.unit)
            except RequestError as error:
                yield Entry(0, error, shown)
            except OSError as error:
                yield Entry(0, Unreadable(f"cannot be read: {error.strerror or error}"), shown)
            self._skipped, self._now = self.skipped, None
            self._read += size

    def _entries(self, path: Path, name: str) -> Iterator[Entry]:
        form = self._read_as or FILES.get(path.suffix.lower())
        if form is None:
            self._now = self._records(path, name)
            if self._now is not None:
                yield from self._now.entries()
            else:
                yield Entry(0, LeftOut(f"files of other forms ({path.suffix or 'no suffix'})"))
            return
        yield from document_of(READERS[form](path, self._charset), name)


def document_of(content: Content, name: str) -> Iterator[Entry]:
    """Entries of a file: its faults, what is left out of it, and its document."""
    for fault in content.faults:
        yield Entry(fault.number, fault, unit=fault.unit)
    for left_out in content.left_out:
        yield Entry(0, left_out)
    if not content.text.strip():
        if not (content.faults or content.left_out):
            yield Entry(0, LeftOut(EMPTY))
        return
    title = content.title.strip() or Path(name).stem
    body = {"id": name, "title": title, "text": content.text, "metadata": content.metadata}
    yield Entry(0, parse_document(json.dumps(body)))


def _walk(root: Path, chosen: Chosen, left: list[Entry]) -> Iterator[Path]:
    """Sorted by the parts of paths. left: gets what is not followed, and what cannot be."""
    real = root.resolve()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        at = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        try:
            with os.scandir(folder) as listing:
                found = sorted(listing, key=lambda one: one.name)
        except OSError as error:
            left.append(Entry(0, Unreadable(f"the folder cannot be read: {error.strerror or error}"), at))
            continue
        below = []
        for one in found:
            path, name = Path(one.path), at + one.name
            if one.name.startswith("."):
                left.append(Entry(0, LeftOut("hidden files and folders"), name))
            elif one.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(real)):
                left.append(Entry(0, LeftOut("links to folders, out of the folder, or to nothing"), name))
            elif one.is_dir():
                if not chosen.drops(name):
                    below.append(path)
            elif not one.is_file():
                left.append(Entry(0, LeftOut("devices, pipes and sockets"), name))
            elif chosen.takes(name):
                yield path
        waiting += reversed(below)
