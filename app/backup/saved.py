"""The snapshots that are kept beside the collections: `.snapshots/NAME/ID.tar`, each described by `ID.json`.

A snapshot is there once its description is: the archive is written, fsynced and renamed first. They stay when the
collection goes, since that is what they are for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.backup.archive import write_archive
from app.backup.moment import Check, copy_moment
from app.collection.collection import Collection
from app.errors import Damaged, NotFound, StorageFull
from app.store.faults import reach
from app.store.files import file_size, room, sync_folder, write_file
from app.store.layout import NAME, SNAPSHOTS

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
    """What is wrong with it; then only its id, its collection and the size are known, and it can only be deleted."""


class SavedSnapshots:
    """Of the collections in one folder; safe from any thread."""

    def __init__(self, indexes: Path) -> None:
        self._root = indexes / SNAPSHOTS

    def of(self, name: str) -> list[Saved]:
        """Of one collection, which may be gone; the newest first."""
        if not NAME.fullmatch(name):
            return []
        paths = (path for path in (self._root / name).glob("*.json") if _ID.fullmatch(path.stem))
        found = (_read(path) for path in paths)
        return sorted((one for one in found if one is not None), key=lambda one: (one.created, one.id), reverse=True)

    def get(self, name: str, identifier: str) -> tuple[Saved, Path]:
        """One, and its archive. Raises NotFound, Damaged."""
        found, archive = self._find(name, identifier)
        if found.error is not None:
            raise Damaged(f"snapshot {identifier} of collection {name} is damaged: {found.error}")
        return found, archive

    def _find(self, name: str, identifier: str) -> tuple[Saved, Path]:
        if NAME.fullmatch(name) and _ID.fullmatch(identifier):
            found = _read(self._root / name / f"{identifier}.json")
            if found is not None:
                return found, self._root / name / f"{identifier}.tar"
        raise NotFound(f"collection {name} has no snapshot {identifier[:100]!r}", code="snapshot_not_found")

    def delete(self, name: str, identifier: str) -> None:
        """For good, a damaged one too. Raises NotFound."""
        _, archive = self._find(name, identifier)
        with suppress(FileNotFoundError):
            archive.with_suffix(".json").unlink()
            reach("snapshot.forgotten")
            sync_folder(archive.parent)
            archive.unlink()
        with suppress(OSError):
            archive.parent.rmdir()

    def take(self, collection: Collection, identifier: str, check: Check) -> Saved:
        """A new snapshot, durable when this returns; one that is there already stays as it is.

        Raises Damaged, StorageFull, Conflict, and whatever ``check`` does; nothing is left then.
        """
        name = collection.name
        with suppress(NotFound, Damaged):
            return self.get(name, identifier)[0]
        folder = self._root / name
        free = shutil.disk_usage(self._root.parent).free
        if collection.nbytes > free:
            raise StorageFull(f"the snapshot needs {collection.nbytes:,} bytes, the disk has room for {free:,}")
        with room():
            folder.mkdir(parents=True, exist_ok=True)
            self._discard(folder, identifier)
            try:
                return self._take(collection, folder, identifier, check)
            finally:
                self._discard(folder, identifier)
                with suppress(OSError):
                    # Only an empty one can be removed.
                    folder.rmdir()

    def _take(self, collection: Collection, folder: Path, identifier: str, check: Check) -> Saved:
        moment, part = folder / f"{identifier}.moment", folder / f"{identifier}.tar.part"
        listing = copy_moment(collection, moment, check)
        with part.open("xb") as file:
            sha256 = write_archive(file, listing, moment, check)
            file.flush()
            reach("archive.written")
            os.fsync(file.fileno())
            reach("archive.synced")
            size = file.tell()
        saved = Saved(identifier, collection.name, listing.created, listing.documents, listing.generation, size, sha256)
        described = folder / f"{identifier}.json.part"
        value = {name: getattr(saved, name) for name in _TYPES}
        write_file(described, json.dumps({**value, "crc32": _checksum(value)}, indent=1).encode())
        part.rename(folder / f"{identifier}.tar")
        reach("snapshot.placed")
        described.rename(folder / f"{identifier}.json")
        reach("snapshot.described")
        for one in (folder, self._root, self._root.parent):
            sync_folder(one)
        return saved

    def sweep(self) -> None:
        """Removes what a stopped server left unfinished; for the one that has the folder."""
        for folder in self._root.glob("*"):
            for path in folder.iterdir():
                if path.name.endswith(_UNFINISHED) or not path.with_suffix(".json").exists():
                    _remove(path)

    def _discard(self, folder: Path, identifier: str) -> None:
        for path in folder.glob(f"{identifier}.*"):
            if path.name.endswith(_UNFINISHED) or not (folder / f"{identifier}.json").exists():
                _remove(path)


def read_description(path: Path) -> Saved:
    """What `ID.json` says. Raises FileNotFoundError, Damaged."""
    try:
        value = json.loads(path.read_bytes())
        # Descriptions that were written before they had a checksum are held to their types alone.
        crc = value.pop("crc32", None)
        found = Saved(**value)
        fits = set(value) == set(_TYPES) and all(type(value[name]) is kind for name, kind in _TYPES.items())
        if fits and crc in (None, _checksum(value)) and (found.id, found.collection) == (path.stem, path.parent.name):
            return found
        reason = "its checksum differs, or it is no description of this snapshot"
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = f"the disk cannot read it: {error.strerror}"
    except (ValueError, TypeError, AttributeError, RecursionError):
        reason = "it is no description of a snapshot"
    raise Damaged(f"{path.name} is damaged: {reason}")


def _checksum(described: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(described, sort_keys=True).encode())


def _read(path: Path) -> Saved | None:
    """A snapshot, with its error where it is not what was written. None where there is none."""
    # Whether the archive's content is what was written is held at restoring, file by file.
    size = file_size(path.with_suffix(".tar"))
    try:
        found = read_description(path)
        if found.size == size:
            return found
        what = f"its archive has {size:,} bytes, {found.size:,} were written"
    except FileNotFoundError:
        return None
    except Damaged as error:
        what = error.message
    if not os.path.lexists(path):
        return None  # deleted meanwhile
    return Saved(path.stem, path.parent.name, "", 0, 0, size, "", f"{what}. Delete it, and take another.")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
