"""The snapshots that are kept beside the collections: `.snapshots/NAME/ID.tar`, each described by `ID.json`.

A snapshot is there once its description is: the archive is written, fsynced and renamed first. They stay when the
collection goes, since that is what they are for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from app.collection.archive import write_archive
from app.collection.backup import Check, copy_moment
from app.collection.collection import Collection
from app.collection.files import room, sync_folder, write_file
from app.collection.layout import SNAPSHOTS
from app.collection.spec import NAME
from app.errors import NotFound, StorageFull

_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_UNFINISHED: Final = (".part", ".moment")


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


class SavedSnapshots:
    """Of the collections in one folder; safe from any thread."""

    def __init__(self, indexes: Path) -> None:
        self._root = indexes / SNAPSHOTS

    def of(self, name: str) -> list[Saved]:
        """Of one collection, which may be gone; the newest first."""
        found = [self._read(path) for path in (self._root / name).glob("*.json") if NAME.fullmatch(name)]
        return sorted((one for one in found if one is not None), key=lambda one: (one.created, one.id), reverse=True)

    def get(self, name: str, identifier: str) -> tuple[Saved, Path]:
        """One, and its archive. Raises NotFound."""
        if NAME.fullmatch(name) and _ID.fullmatch(identifier):
            found = self._read(self._root / name / f"{identifier}.json")
            if found is not None:
                return found, self._root / name / f"{identifier}.tar"
        raise NotFound(f"collection {name} has no snapshot {identifier[:100]!r}", code="snapshot_not_found")

    def delete(self, name: str, identifier: str) -> None:
        """For good. Raises NotFound."""
        _, archive = self.get(name, identifier)
        with suppress(FileNotFoundError):
            archive.with_suffix(".json").unlink()
            sync_folder(archive.parent)
            archive.unlink()
        with suppress(OSError):
            archive.parent.rmdir()

    def take(self, collection: Collection, identifier: str, check: Check) -> Saved:
        """A new snapshot, durable when this returns; one that is there already stays as it is.

        Raises Damaged, StorageFull, Conflict, and whatever ``check`` does; nothing is left then.
        """
        name = collection.name
        with suppress(NotFound):
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
            os.fsync(file.fileno())
            size = file.tell()
        saved = Saved(identifier, collection.name, listing.created, listing.documents, listing.generation, size, sha256)
        described = folder / f"{identifier}.json.part"
        write_file(described, json.dumps(asdict(saved), indent=1).encode())
        part.rename(folder / f"{identifier}.tar")
        described.rename(folder / f"{identifier}.json")
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

    def _read(self, path: Path) -> Saved | None:
        """None for what is no description of a snapshot that is there."""
        try:
            found = Saved(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        # Whether the archive is what was written is held at restoring, file by file.
        return found if path.with_suffix(".tar").exists() else None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
