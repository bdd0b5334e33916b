"""The snapshots that are kept beside the collections: `.snapshots/NAME/ID.tar`, each described by `ID.json`.

A snapshot is there once its description is: the archive is written, fsynced and renamed first. They stay when the
collection goes, since that is what they are for.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.backup.archive import write_archive
from app.backup.moment import Check, copy_moment
from app.collection.collection import Collection
from app.errors import Damaged, NotFound, StorageFull
from app.store.directory import Directory
from app.store.faults import reach
from app.store.files import file_size, write_file
from app.store.layout import NAME, SNAPSHOTS
from app.store.system import room

_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_UNFINISHED: Final = (".part", ".moment")
_TYPES: Final = {
    "id": str, "collection": str, "created": str, "documents": int, "generation": int, "size": int, "sha256": str,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Saved:
    """One snapshot. documents, generation: of the collection at that moment. size and sha256: of the archive."""

    id: str
    collection: str
    created: str
    documents: int
    generation: int
    size: int
    sha256: str
    error: str | None = None
    """Its fault; then only its id, its collection and the size are known, and it can only be deleted."""


class SavedSnapshots:
    """Of the collections in one folder; safe from any thread. A name may be an alias wherever snapshots are read."""

    def __init__(self, indexes: Directory, resolve: Callable[[str], str] = str) -> None:
        """resolve: the collection that a name means."""
        self._root, self._resolve = indexes.folder(SNAPSHOTS), resolve

    def of(self, name: str) -> list[Saved]:
        """Of one collection, which may be gone; the newest first."""
        found = (_read(folder, identifier) for folder in self._folders(name) for identifier in described(folder))
        return sorted((one for one in found if one is not None), key=lambda one: (one.created, one.id), reverse=True)

    def _folders(self, name: str) -> list[Directory]:
        """Where those lie that a name means: of the collection that it leads to now, and of one that had it before."""
        return [self._root.folder(one) for one in dict.fromkeys([self._resolve(name), name]) if NAME.fullmatch(one)]

    def get(self, name: str, identifier: str) -> tuple[Saved, Path]:
        """One, and its archive on this disk. Raises NotFound, Damaged, SystemFault."""
        found = self._find(name, identifier)
        if found.error is not None:
            raise Damaged(f"snapshot {identifier} of collection {name} is damaged: {found.error}")
        return found, self._root.folder(found.collection).path / f"{identifier}.tar"

    def _find(self, name: str, identifier: str) -> Saved:
        for folder in self._folders(name) if _ID.fullmatch(identifier) else []:
            found = _read(folder, identifier)
            if found is not None:
                return found
        raise NotFound(f"collection {name} has no snapshot {identifier[:100]!r}", code="snapshot_not_found")

    def delete(self, name: str, identifier: str) -> None:
        """For good, a damaged one too. Raises NotFound."""
        folder = self._root.folder(self._find(name, identifier).collection)
        with suppress(FileNotFoundError):
            folder.remove(f"{identifier}.json")
            reach("snapshot.forgotten")
            folder.sync()
            folder.remove(f"{identifier}.tar")
        folder.unmake()

    def take(self, collection: Collection, identifier: str, check: Check) -> Saved:
        """A new snapshot, durable when this returns; one that is there already stays as it is.

        Raises Damaged, StorageFull, Conflict, and whatever ``check`` does; nothing is left then.
        """
        name = collection.name
        with suppress(NotFound, Damaged):
            return self.get(name, identifier)[0]
        folder = self._root.folder(name)
        free = self._root.parent.free()
        if collection.nbytes > free:
            raise StorageFull(f"the snapshot needs {collection.nbytes:,} bytes, the disk has room for {free:,}")
        with room():
            folder.make()
            self._discard(folder, identifier)
            try:
                return self._take(collection, folder, identifier, check)
            finally:
                self._discard(folder, identifier)
                folder.unmake()

    def _take(self, collection: Collection, folder: Directory, identifier: str, check: Check) -> Saved:
        moment, part = folder.folder(f"{identifier}.moment"), f"{identifier}.tar.part"
        listing = copy_moment(collection, moment, check)
        archive = folder.create(part)
        try:
            sha256 = write_archive(archive, listing, moment, check)
            reach("archive.written")
            size = archive.finish()
            reach("archive.synced")
        finally:
            archive.close()
        saved = Saved(identifier, collection.name, listing.created, listing.documents, listing.generation, size, sha256)
        value = {name: getattr(saved, name) for name in _TYPES}
        text = json.dumps({**value, "crc32": _checksum(value)}, indent=1)
        write_file(folder, f"{identifier}.json.part", text.encode())
        folder.publish(part, f"{identifier}.tar")
        reach("snapshot.placed")
        folder.publish(f"{identifier}.json.part", f"{identifier}.json")
        reach("snapshot.described")
        for one in (folder, self._root, self._root.parent):
            one.sync()
        return saved

    def sweep(self) -> None:
        """Removes what a stopped server left unfinished; for the one that has the folder."""
        for name in self._root.list():
            self._discard(self._root.folder(name))

    def _discard(self, folder: Directory, identifier: str = "") -> None:
        """Files that are no snapshot and no part of one. identifier: of that one alone."""
        for name in folder.list():
            of = name.partition(".")[0]
            if identifier in ("", of) and (name.endswith(_UNFINISHED) or not folder.has(f"{of}.json")):
                folder.remove(name)


def described(folder: Directory) -> list[str]:
    """Ids of the snapshots in the folder of a collection's."""
    names = (name.removesuffix(".json") for name in folder.list() if name.endswith(".json"))
    return [identifier for identifier in names if _ID.fullmatch(identifier)]


def read_description(folder: Directory, identifier: str) -> Saved:
    """The contents of `ID.json`. Raises FileNotFoundError, Damaged, SystemFault."""
    file = f"{identifier}.json"
    try:
        value = json.loads(folder.read(file))
        # Descriptions that were written before they had a checksum are held to their types alone.
        crc = value.pop("crc32", None)
        found = Saved(**value)
        fits = set(value) == set(_TYPES) and all(type(value[name]) is kind for name, kind in _TYPES.items())
        if fits and crc in (None, _checksum(value)) and (found.id, found.collection) == (identifier, folder.name):
            return found
        reason = "its checksum differs, or it is no description of this snapshot"
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
    except (ValueError, TypeError, AttributeError, RecursionError):
        reason = "it is no description of a snapshot"
    raise Damaged(f"{file} is damaged: {reason}")


def _checksum(described: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(described, sort_keys=True).encode())


def _read(folder: Directory, identifier: str) -> Saved | None:
    """A snapshot, with its error where it is not what was written. None where there is none."""
    # Whether the archive's content is what was written is held at restoring, file by file.
    size = file_size(folder, f"{identifier}.tar")
    try:
        found = read_description(folder, identifier)
        if found.size == size:
            return found
        what = f"its archive has {size:,} bytes, {found.size:,} were written"
    except FileNotFoundError:
        return None
    except Damaged as error:
        what = error.message
    if not folder.has(f"{identifier}.json"):
        return None  # deleted meanwhile
    return Saved(identifier, folder.name, "", 0, 0, size, "", f"{what}. Delete it, and take another.")
