"""A disk that remembers what was fsynced: a recorded log of changes is replayed onto it, and the power is cut anywhere.

POSIX's promises, and no more: data are durable once their file was fsynced, and a name (new, removed or renamed)
once its folder was. Of the rest anything may be there: nothing, all, or some of it, with writes torn at 512 bytes.
Names of one folder change in their order, as every journalling file system has it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SECTOR = 512
HEAD = struct.Struct("<cIIqI")
Loss = Literal["all", "some", "none"]
"""The share of unsynced changes that is lost."""


@dataclass(frozen=True)
class Change:
    """One record of recorder.c."""

    kind: str
    path: str
    second: str
    number: int
    data: bytes


def read_log(path: Path) -> Iterator[Change]:
    content = path.read_bytes()
    at = 0
    while at < len(content):
        kind, one, two, number, size = HEAD.unpack_from(content, at)
        at += HEAD.size
        parts = []
        for length in (one, two, size):
            parts.append(content[at : at + length])
            at += length
        yield Change(kind.decode(), parts[0].decode(), parts[1].decode(), number, parts[2])


@dataclass(eq=False)
class File:
    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, data) of a write, or (size, None) of a truncation."""

    def content(self, loss: Loss, chance: random.Random) -> bytes:
        made = bytearray(self.durable)
        for at, data in self.pending if loss != "all" else []:
            if loss == "some" and chance.random() < 0.5:
                continue
            if loss == "some" and data is not None and chance.random() < 0.3:
                data = data[: chance.randrange(0, len(data) + 1, SECTOR) if len(data) > SECTOR else 0]
            _apply(made, at, data)
        return bytes(made)


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
        content.extend(bytes(at - len(content)))
    else:
        content.extend(bytes(max(0, at - len(content))))
        content[at : at + len(data)] = data


@dataclass(eq=False)
class Folder:
    durable: dict[str, File | Folder] = field(default_factory=dict)
    now: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[Callable[[dict[str, File | Folder]], None]] = field(default_factory=list)

    def change(self, work: Callable[[dict[str, File | Folder]], None]) -> None:
        work(self.now)
        self.pending.append(work)

    def entries(self, loss: Loss, chance: random.Random) -> dict[str, File | Folder]:
        made = dict(self.durable)
        kept = {"all": 0, "none": len(self.pending)}.get(loss, chance.randint(0, len(self.pending)))
        for work in self.pending[:kept]:
            work(made)
        return made


class Disk:
    """root: the recorded folder, which is empty when the record begins."""

    def __init__(self, root: str) -> None:
        self._root, self._top = root.rstrip("/"), Folder()

    def replay(self, change: Change) -> None:
        folder, name = self._parent(change.path)
        found = self._top if change.path == self._root else folder.now.get(name)
        match change.kind:
            case "c":
                made = File()
                folder.change(lambda entries: entries.__setitem__(name, made))
            case "m":
                below = Folder()
                folder.change(lambda entries: entries.__setitem__(name, below))
            case "u" | "x":
                assert found is not None, f"the record misses how {change.path} was made"
                folder.change(lambda entries: entries.pop(name, None))
            case "r":
                assert found is not None
                other, new = self._parent(change.second)
                assert other is folder, "a rename from one folder to another is not modelled"

                def rename(entries: dict[str, File | Folder]) -> None:
                    entries.pop(name, None)
                    entries[new] = found

                folder.change(rename)
            case "l":
                assert isinstance(found, File), change.path
                linked, (beside, new) = found, self._parent(change.second)
                beside.change(lambda entries: entries.__setitem__(new, linked))
            case "w" | "t":
                assert isinstance(found, File), change.path
                found.pending.append((change.number, change.data if change.kind == "w" else None))
            case "s":
                # A file whose name is gone already may still be fsynced.
                if isinstance(found, File):
                    content = bytearray(found.durable)
                    for at, data in found.pending:
                        _apply(content, at, data)
                    found.durable, found.pending = bytes(content), []
            case "d":
                assert isinstance(found, Folder)
                found.durable, found.pending = dict(found.now), []

    def cut(self, place: Path, loss: Loss, chance: random.Random) -> None:
        """Writes what is there after the power came back to a new folder."""
        place.mkdir(parents=True)
        for name, entry in self._top.entries(loss, chance).items():
            self._write(place / name, entry, loss, chance)

    def _write(self, place: Path, entry: File | Folder, loss: Loss, chance: random.Random) -> None:
        if isinstance(entry, File):
            place.write_bytes(entry.content(loss, chance))
            return
        place.mkdir()
        for name, below in entry.entries(loss, chance).items():
            self._write(place / name, below, loss, chance)

    def _parent(self, path: str) -> tuple[Folder, str]:
        *folders, name = path[len(self._root) + 1 :].split("/")
        at = self._top
        for one in folders:
            below = at.now[one]
            assert isinstance(below, Folder)
            at = below
        return at, name
