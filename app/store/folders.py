"""The folders of collections: made, replaced and removed by renames, so that a stop leaves the old or the new.

Beside the collections lie `.creating-*`, `.restoring-*`, `.deleted-*` and `.replaced-*`: what is on its way in, and on
its way out. ``sweep`` ends what a stopped process began.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from app.errors import Conflict, Damaged, SheafError
from app.store.database import Database
from app.store.faults import reach
from app.store.files import room, sync_folder
from app.store.layout import DATABASE, NAME, SEGMENTS, TAIL, WRITER_LOCK
from app.store.lock import FileLock

_REPLACED: Final = re.compile(r"\.replaced-(.+)-[0-9a-f]{32}")


def names(root: Path) -> list[str]:
    """Folders that hold a collection, by name; those that cannot be looked into, too."""
    return sorted(path.name for path in root.iterdir() if NAME.fullmatch(path.name) and _holds_collection(path))


def _holds_collection(folder: Path) -> bool:
    try:
        (folder / DATABASE).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def unreadable(folder: Path, error: OSError | sqlite3.Error) -> tuple[str, Damaged]:
    """The file of a collection that the system does not let us read (a bad disk, a wrong owner), and the error."""
    place = Path(error.filename) if isinstance(error, OSError) and error.filename else folder / DATABASE
    within = place.relative_to(folder.parent) if place.is_relative_to(folder.parent) else place.name
    why = error.strerror if isinstance(error, OSError) else str(error)
    return str(within), Damaged(
        f"{within} is damaged: it cannot be read ({why}). Look at its owner, its mode and the disk and start again, or "
        "restore a backup of the collection."
    )


def taken(name: str) -> Conflict:
    """The error for a name that is in use."""
    return Conflict(f"the name {name!r} is taken", code="collection_exists")


def put_back(root: Path) -> None:
    """What a stop between the two renames of ``put_in_place`` has left without a name has it again.

    For whoever opens the folder, so that nobody makes a new collection of the name.
    """
    for path in root.glob(".replaced-*"):
        found = _REPLACED.fullmatch(path.name)
        if found is None or (root / found[1]).exists():
            continue
        # Held by the process that is just between them.
        lock = FileLock(path / WRITER_LOCK)
        if lock.acquire():
            with suppress(OSError):
                os.rename(path, root / found[1])  # noqa: PTH104
                sync_folder(root)
        lock.release()


def sweep(root: Path) -> None:
    """Removes what was interrupted; for the one server of the folder, before it opens a collection."""
    put_back(root)
    for path in root.glob(".replaced-*"):
        shutil.rmtree(path)
    for path in [*root.glob(".creating-*"), *root.glob(".deleted-*"), *root.glob(".restoring-*")]:
        # Held by a process that is just making the collection (which may rename it now), or free for good.
        lock = FileLock(path / WRITER_LOCK)
        with suppress(FileNotFoundError):
            if lock.acquire():
                shutil.rmtree(path)
        lock.release()


def create(root: Path, name: str, meta: dict[str, Any]) -> None:
    """A new collection without documents, durable when this returns. Raises Conflict (the name is taken)."""
    temporary = root / f".creating-{name}-{uuid4().hex}"
    lock = FileLock(temporary / WRITER_LOCK)
    try:
        with room():
            temporary.mkdir()
            if not lock.acquire():
                raise Conflict("a server that is just starting cleans the folder: try again", code="folder_busy")
            for folder in (temporary / SEGMENTS, temporary / TAIL):
                folder.mkdir()
            Database.create(temporary, name, meta)
            sync_folder(temporary)
            reach("collection.made")
            # rename(2) refuses a folder that is not empty: the one atomic test of whether the name is free.
            os.rename(temporary, root / name)  # noqa: PTH104
            sync_folder(root)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if (root / name).exists():
            raise taken(name) from error
        raise
    except SheafError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        # What opens it next takes the lock again.
        lock.release()


def put_in_place(root: Path, staged: Path, name: str) -> Path | None:
    """Gives a complete folder the name; the folder that had it before, to be removed. Durable when this returns.

    The caller has closed the one that had it, and holds its writer's lock.
    """
    old = None
    if (root / name).exists():
        old = root / f".replaced-{name}-{uuid4().hex}"
        os.rename(root / name, old)  # noqa: PTH104
        reach("collection.set_aside")
    try:
        os.rename(staged, root / name)  # noqa: PTH104
        reach("collection.placed")
    except OSError:
        if old is not None:
            os.rename(old, root / name)  # noqa: PTH104
        raise
    sync_folder(root)
    return old


def take_away(root: Path, name: str) -> Path:
    """Takes the name from a folder, which is then to be removed. Durable when this returns."""
    gone = root / f".deleted-{name}-{uuid4().hex}"
    os.rename(root / name, gone)  # noqa: PTH104
    reach("collection.renamed")
    sync_folder(root)
    return gone
