"""A folder in a ZIP file: read as the folder would be, one file at a time.

A file is unpacked by itself, read, and removed again, so that an archive takes no more of the disk than its largest
file. Nothing of it chooses where it is written: names that lead out of the folder, links and devices are faults, and
what all files become together is bounded.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Final, Literal, TypeAlias
from zipfile import ZipFile, ZipInfo

from app.errors import NotFound
from app.sources.extras import foreign
from app.sources.protocol import Entry, LeftOut, Source, Unreadable

MOST: Final = 64 * 2**30
"""Bytes of all files together, unpacked."""
MOST_FILES: Final = 1_000_000
_PIECE: Final = 2**20

OpenFolder: TypeAlias = Callable[[Path], Source]


class Zipped:
    """open_folder: of a folder in which one file lies, under its path."""

    unit: Literal["bytes", "documents"] = "bytes"

    def __init__(self, path: Path, open_folder: OpenFolder, most: int = MOST) -> None:
        """Raises NotFound where there is no file."""
        if not path.is_file():
            raise NotFound(f"{path} is not a file")
        self.name = str(path)
        self._path, self._open, self._left = path, open_folder, most
        self.total: int | None = path.stat().st_size
        self.done = 0
        self.skipped = 0

    def entries(self) -> Iterator[Entry]:
        with foreign("a ZIP file"):
            archive = ZipFile(self._path)
            infos = sorted((one for one in archive.infolist() if not one.is_dir()), key=_order)
        with archive:
            if len(infos) > MOST_FILES:
                raise Unreadable(f"it holds more than {MOST_FILES:,} files: send it in parts")
            for info in infos:
                try:
                    yield from self._entries(archive, info)
                except Unreadable as error:
                    yield Entry(error.number, error, _shown(info.filename), error.unit)
                self.done += info.compress_size
        self.done = self.total or 0

    def _entries(self, archive: ZipFile, info: ZipInfo) -> Iterator[Entry]:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or "\0" in info.filename or not name.parts:
            raise Unreadable("its name leads out of the folder")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            yield Entry(0, LeftOut("links, devices, pipes and sockets"), _shown(info.filename))
            return
        if any(part.startswith(".") for part in name.parts) or "__MACOSX" in name.parts:
            yield Entry(0, LeftOut("hidden files and folders"), _shown(info.filename))
            return
        with TemporaryDirectory() as place:
            file = Path(place).joinpath(*name.parts)
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("xb") as out, foreign("a file that can be unpacked"):
                    self._unpack(archive, info, out)
            except OSError as error:
                raise Unreadable(f"it cannot be unpacked: {error.strerror}") from error
            source = self._open(Path(place))
            yield from source.entries()
            self.skipped += source.skipped

    def _unpack(self, archive: ZipFile, info: ZipInfo, out: IO[bytes]) -> None:
        with archive.open(info) as packed:
            while piece := packed.read(_PIECE):
                self._left -= len(piece)
                if self._left < 0:
                    raise Unreadable("unpacked, the files are larger than may be read: send them in parts")
                out.write(piece)


def _order(info: ZipInfo) -> tuple[str, ...]:
    """As a folder's files are ordered: by the parts of their paths."""
    return PurePosixPath(info.filename).parts


def _shown(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()[:512]
