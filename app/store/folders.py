"""The folders of collections: made, replaced and removed by renames, so that a stop leaves the old or the new.

Beside the collections lie `.creating-*`, `.restoring-*`, `.deleted-*` and `.replaced-*`: what is on its way in, and on
its way out. ``sweep`` ends what a stopped process began.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from uuid import uuid4

from app.errors import Conflict, SheafError, SystemFault
from app.store.database import Database
from app.store.directory import Directory, Lock
from app.store.faults import reach
from app.store.layout import DATABASE, NAME, SEGMENTS, TAIL, WRITER_LOCK
from app.store.system import room

log = logging.getLogger(__name__)

Staged = Callable[[], str | None]
"""The folder that is to have a name: another one, the one that has it, or none."""
Exchange = Callable[[str, Staged, Callable[[], bool]], bool]
"""Closes the copy of a name, and gives the name to what is staged then; not where this is not wanted any more, once it
is its turn. Whether it was."""

_REPLACED: Final = re.compile(r"\.replaced-(.+)-[0-9a-f]{32}")


def names(root: Directory) -> list[str]:
    """Folders that hold a collection, by name; those that cannot be looked into, too."""
    return [name for name in root.list() if NAME.fullmatch(name) and _holds_collection(root.folder(name))]


def holds(root: Directory, name: str) -> bool:
    """Whether a collection has the name, as ``names`` has it: looked up, however many others there are."""
    return NAME.fullmatch(name) is not None and root.has(name) and _holds_collection(root.folder(name))


def _holds_collection(folder: Directory) -> bool:
    try:
        return folder.has(DATABASE)
    except SystemFault:
        return True


def taken(name: str) -> Conflict:
    """The error for a name that is in use."""
    return Conflict(f"the name {name!r} is taken", code="collection_exists")


def put_back(root: Directory) -> None:
    """Gives folders their names again where a stop between the two renames of ``put_in_place`` took them.

    For whoever opens the folder, so that nobody makes a new collection of the name.
    """
    for aside in root.list():
        found = _REPLACED.fullmatch(aside)
        if found is None or root.has(found[1]):
            continue
        # Held by the process that is just between them.
        lock = root.folder(aside).lock(WRITER_LOCK)
        if lock.acquire():
            with suppress(OSError):
                root.publish(aside, found[1])
                root.sync()
        lock.release()


def sweep(root: Directory) -> None:
    """Removes what was interrupted; for the one server of the folder, before it opens a collection."""
    put_back(root)
    for name in root.list():
        if name.startswith(".replaced-"):
            root.remove(name)
        elif name.startswith((".creating-", ".deleted-", ".restoring-")):
            # Held by a process that is just making the collection (which may rename it now), or free for good.
            lock = root.folder(name).lock(WRITER_LOCK)
            with suppress(FileNotFoundError):
                if lock.acquire():
                    root.remove(name)
            lock.release()


@contextmanager
def making(
    root: Directory, name: str, meta: dict[str, Any], also: Callable[[sqlite3.Connection], None] | None = None
) -> Iterator[Directory]:
    """A new collection without documents, which has no name yet: ``place`` gives it, inside the block; without it
    nothing of the collection is left. also: as in ``Database.create``."""
    temporary = root.folder(f".creating-{name}-{uuid4().hex}")
    lock = temporary.lock(WRITER_LOCK)
    try:
        with room():
            _make(temporary, lock)
            for part in (SEGMENTS, TAIL):
                temporary.folder(part).make()
            Database.create(temporary.path, name, meta, also)
            temporary.sync()
            reach("collection.made")
            yield temporary
    except (OSError, SheafError):
        _give_up(root, temporary)
        raise
    finally:
        # The next opener takes the lock again.
        lock.release()


def place(root: Directory, made: Directory, name: str) -> None:
    """Gives it the name, durably. Raises Conflict (the name is taken)."""
    try:
        # A folder takes the place of none but an empty one: the one atomic test of whether the name is free.
        root.publish(made.name, name)
    except OSError as error:
        if root.has(name):
            raise taken(name) from error
        raise
    root.sync()


@contextmanager
def aside(root: Directory) -> Iterator[Directory]:
    """An empty folder for the time of the block, which no start takes for a collection; one that a kill leaves is
    removed at the next."""
    temporary = root.folder(f".creating-aside-{uuid4().hex}")
    lock = temporary.lock(WRITER_LOCK)
    try:
        with room():
            _make(temporary, lock)
        inner = temporary.folder("collections")
        inner.make()
        yield inner
    finally:
        _give_up(root, temporary)
        lock.release()


def _make(temporary: Directory, lock: Lock) -> None:
    """A folder that is held from its first moment on. Raises Conflict (folder_busy)."""
    temporary.make()
    if not lock.acquire():
        raise Conflict("a server that is just starting cleans the folder: try again", code="folder_busy")


def _give_up(root: Directory, temporary: Directory) -> None:
    with suppress(OSError):  # the next start removes what is left
        root.remove(temporary.name)


def put_in_place(root: Directory, staged: str, name: str) -> str | None:
    """Gives a complete folder the name; that of the folder that had it before, to be removed. Durable when this
    returns.

    The caller has closed the one that had it, and holds its writer's lock.
    """
    old = None
    if root.has(name):
        old = f".replaced-{name}-{uuid4().hex}"
        root.publish(name, old)
        reach("collection.set_aside")
    try:
        root.publish(staged, name)
        reach("collection.placed")
    except OSError:
        if old is not None:
            root.publish(old, name)
        raise
    root.sync()
    return old


def take_back(root: Directory, staged: str, name: str, old: str | None) -> None:
    """Undoes ``put_in_place``, which gave ``staged`` the name that ``old`` had."""
    root.publish(name, staged)
    if old is not None:
        root.publish(old, name)
    root.sync()


def take_away(root: Directory, name: str) -> str:
    """Takes the name from a folder, which is then to be removed. Durable when this returns."""
    gone = f".deleted-{name}-{uuid4().hex}"
    root.publish(name, gone)
    reach("collection.renamed")
    root.sync()
    return gone


def exchange(root: Directory, staged: str | None, name: str) -> str | None:
    """Gives the name to a complete folder, which may have it already, or to none; that of the folder that had it
    before, to be removed. Durable when this returns."""
    if staged == name:
        return None
    return take_away(root, name) if staged is None else put_in_place(root, staged, name)


def discard(root: Directory, folder: str) -> None:
    """Removes a folder that has no name any more."""
    try:
        root.remove(folder)
    except OSError as error:
        log.warning("%s is not removed before the next start: %s", folder, error)
