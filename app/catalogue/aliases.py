"""Aliases: further names of collections, which one step points elsewhere, so that a rebuild goes live without a gap.

All of them are one small file that is replaced as a whole (written, fsynced, renamed), so a stop leaves the old or the
new. Aliases and collections share one set of names; an alias never names another alias. They go with their collection,
as Qdrant's and Elasticsearch's do, and a collection is never deleted through one.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from app.errors import Conflict, Damaged, NotFound, StorageFull
from app.store import folders
from app.store.faults import reach
from app.store.files import room, sync_folder, write_file
from app.store.layout import check_name

ALIASES: Final = ".aliases.json"
FORMAT: Final = 1


class Aliases:
    """Of the collections in one folder; safe from any thread."""

    def __init__(self, root: Path, lock: threading.RLock) -> None:
        """lock: held by whoever makes or removes a collection, so that no name is taken twice."""
        self._root, self._lock = root, lock
        self._damage: Damaged | None = None
        self._names: Mapping[str, str] = {}
        try:
            self._names = read_aliases(root)
        except Damaged as error:
            self._damage = error

    def resolve(self, name: str) -> str:
        """The collection that is meant: the name itself where it is no alias. Raises Damaged where nobody knows."""
        if self._damage is not None and name not in folders.names(self._root):
            raise self._damage
        return self._names.get(name, name)

    @property
    def known(self) -> Mapping[str, str]:
        """Alias -> collection; none where the file is damaged."""
        return self._names

    def all(self) -> dict[str, str]:
        """Alias -> collection, by name. Raises Damaged."""
        if self._damage is not None:
            raise self._damage
        return dict(sorted(self._names.items()))

    def set(self, alias: str, collection: str) -> bool:
        """Makes the alias, or points it elsewhere, durably. Whether it is new.

        Raises Invalid (no such name can be), NotFound (no such collection), Conflict (a collection has the name),
        StorageFull, Damaged.
        """
        check_name(alias)
        with self._lock:
            now, names = self.all(), folders.names(self._root)
            if alias in names:
                raise folders.taken(alias)
            if collection not in names:
                raise NotFound(f"there is no collection {collection!r}", code="collection_not_found")
            self._replace({**now, alias: collection})
        return alias not in now

    def delete(self, alias: str) -> None:
        """Raises NotFound, StorageFull, Damaged."""
        with self._lock:
            now = self.all()
            if now.pop(alias, None) is None:
                raise unknown(alias)
            self._replace(now)

    def require_none(self, name: str) -> None:
        """Raises Conflict where the name is an alias."""
        if name in self._names:
            raise Conflict(
                f"the name {name!r} is an alias of collection {self._names[name]}: use that, or delete the alias",
                code="alias_exists",
            )

    def prune(self) -> None:
        """Forgets those whose collection is gone; on a full disk only until the next start, which does it again."""
        with self._lock:
            names = folders.names(self._root)
            kept = {alias: collection for alias, collection in self._names.items() if collection in names}
            if kept != self._names:
                self._names = kept
                with suppress(StorageFull):
                    self._replace(kept)

    def _replace(self, names: Mapping[str, str]) -> None:
        path = self._root / ALIASES
        part = path.with_name(f"{ALIASES}.part")
        text = json.dumps(dict(sorted(names.items())))
        with room():
            part.unlink(missing_ok=True)
            write_file(
                part, json.dumps({"format": FORMAT, "aliases": text, "crc32": zlib.crc32(text.encode())}).encode()
            )
            os.replace(part, path)  # noqa: PTH105
            reach("aliases.replaced")
            sync_folder(self._root)
        self._names = dict(names)


def unknown(alias: str) -> NotFound:
    return NotFound(f"there is no alias {alias[:100]!r}", code="alias_not_found")


def read_aliases(root: Path) -> dict[str, str]:
    """Alias -> collection, as the file has it. Raises Damaged."""
    try:
        value = json.loads((root / ALIASES).read_bytes())
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
