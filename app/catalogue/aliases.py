"""Aliases: further names of collections, which one step points elsewhere, so that a rebuild goes live without a gap.

All of them are one small file that is replaced as a whole (written, fsynced, renamed), so a stop leaves the old or the
new. Aliases and collections share one set of names; an alias never names another alias. They go with their collection,
as Qdrant's and Elasticsearch's do, and a collection is never deleted through one.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from app.errors import Conflict, Damaged, NotFound, StorageFull, SystemFault
from app.store import folders
from app.store.directory import Directory
from app.store.faults import reach
from app.store.files import write_file
from app.store.layout import check_name
from app.store.system import room

ALIASES: Final = ".aliases.json"
FORMAT: Final = 1


class Aliases:
    """Of the collections in one folder; safe from any thread."""

    def __init__(self, root: Directory, lock: threading.RLock) -> None:
        """lock: held by whoever makes or removes a collection, so that no name is taken twice."""
        self._root, self._lock = root, lock
        self._changing = threading.Lock()
        """Held for a whole change, which may wait for a store; taken before the other."""
        self.publish: Callable[[str, str | None], Mapping[str, str] | None] = lambda alias, collection: None
        """Told that an alias is to be of a collection, or of none, before it is so here; what it raises is raised. All
        that stand by then, where they stand elsewhere."""
        self._fault: Damaged | SystemFault | None = None
        self._names: Mapping[str, str] = {}
        self._read()

    def _read(self) -> None:
        with self._lock:
            try:
                self._names, self._fault = read_aliases(self._root), None
            except (Damaged, SystemFault) as error:
                self._fault = error

    def _unknown(self) -> Damaged | SystemFault | None:
        """Why nobody knows them, if so; a fault of the system may have passed by now."""
        if isinstance(self._fault, SystemFault):
            self._read()
        return self._fault

    def resolve(self, name: str) -> str:
        """The collection that is meant: the name itself where it is no alias.

        Raises Damaged, SystemFault where nobody knows.
        """
        fault = self._unknown()
        if fault is not None and not folders.holds(self._root, name):
            raise fault
        return self._names.get(name, name)

    @property
    def known(self) -> Mapping[str, str]:
        """Alias -> collection; none where the file is damaged."""
        return self._names

    def all(self) -> dict[str, str]:
        """Alias -> collection, by name. Raises Damaged, SystemFault."""
        fault = self._unknown()
        if fault is not None:
            raise fault
        return dict(sorted(self._names.items()))

    def set(self, alias: str, collection: str) -> bool:
        """Makes the alias, or points it elsewhere, durably. Whether it is new.

        Raises Invalid (no such name can be), NotFound (no such collection), Conflict (a collection has the name),
        StorageFull, Damaged.
        """
        check_name(alias)
        with self._changing:
            with self._lock:
                self._require_possible(alias, collection)
            published = self.publish(alias, collection)
            with self._lock:
                self._require_possible(alias, collection)
                now = self.all()
                self._replace({**now, alias: collection} if published is None else published)
        return alias not in now

    def _require_possible(self, alias: str, collection: str) -> None:
        self.all()
        if folders.holds(self._root, alias):
            raise folders.taken(alias)
        if not folders.holds(self._root, collection):
            raise NotFound(f"there is no collection {collection!r}", code="collection_not_found")

    def delete(self, alias: str) -> None:
        """Raises NotFound, StorageFull, Damaged."""
        with self._changing:
            if alias not in self.all():
                raise unknown(alias)
            published = self.publish(alias, None)
            with self._lock:
                now = self.all()
                now.pop(alias, None)
                self._replace(now if published is None else published)

    def require_none(self, name: str) -> None:
        """Raises Conflict where the name is an alias, SystemFault where that cannot be told now."""
        if isinstance(fault := self._unknown(), SystemFault):
            raise fault
        if name in self._names:
            raise Conflict(
                f"the name {name!r} is an alias of collection {self._names[name]}: use that, or delete the alias",
                code="alias_exists",
            )

    def prune(self) -> None:
        """Forgets those whose collection is gone; on a full disk only until the next start, which does it again."""
        with self._lock:
            kept = {alias: name for alias, name in self._names.items() if folders.holds(self._root, name)}
            if kept != self._names:
                self._names = kept
                with suppress(StorageFull):
                    self._replace(kept)

    def adopt(self, names: Mapping[str, str]) -> None:
        """Makes these stand, as a store of collections has them. Raises StorageFull."""
        with self._lock:
            if names != self._names or self._fault is not None:
                self._replace(names)
                self._fault = None

    def _replace(self, names: Mapping[str, str]) -> None:
        part = f"{ALIASES}.part"
        text = json.dumps(dict(sorted(names.items())))
        with room():
            self._root.remove(part)
            value = {"format": FORMAT, "aliases": text, "crc32": zlib.crc32(text.encode())}
            write_file(self._root, part, json.dumps(value).encode())
            self._root.publish(part, ALIASES)
            reach("aliases.replaced")
            self._root.sync()
        self._names = dict(names)


def unknown(alias: str) -> NotFound:
    return NotFound(f"there is no alias {alias[:100]!r}", code="alias_not_found")


def read_aliases(root: Directory) -> dict[str, str]:
    """Alias -> collection, as the file has it. Raises Damaged, SystemFault."""
    try:
        value = json.loads(root.read(ALIASES))
        names: dict[str, str] = json.loads(value["aliases"])
        if value["format"] == FORMAT and value["crc32"] == zlib.crc32(value["aliases"].encode()):
            return names
        reason = "its checksum or its format is another"
    except FileNotFoundError:
        return {}
    except OSError as error:
        reason = f"the disk cannot read it ({error.strerror})"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"it cannot be read ({type(error).__name__})"
    raise Damaged(f"{ALIASES} is damaged: {reason}. Remove it, start again and set the aliases again.")
