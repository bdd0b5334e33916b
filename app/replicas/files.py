"""The files that a state needs: put into the store before the commit that names them, and fetched
(``app.replicas.fetching``) before it is applied.

The database says where each lies, in a record for each segment, chunk of the tail, first stage and body of an import
(``stored:`` in the table ``meta``). So the records go with commits and copies of the database like all else, and a
state that names a file says where it is, how large, and what its SHA-256 is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from app.collection.segment import Segment
from app.collection.view import Generation
from app.errors import Damaged, Invalid
from app.objects.protocol import Objects, check_name
from app.replication.protocol import Stored, Writer
from app.store.database import get_meta, get_record, put_meta
from app.store.directory import Directory
from app.store.faults import reach
from app.store.files import expected
from app.store.layout import ENCODINGS, IMPORTS, PLAIN, SEGMENTS, TAIL
from app.tasks.records import ENDED, read_task

_KEY: Final = "stored:"
FOLDERS: Final = (SEGMENTS, TAIL, ENCODINGS, IMPORTS)


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """What is stored together: a whole folder, or a file. folder: the one of the collection that it lies in."""

    folder: str
    name: str

    @property
    def key(self) -> str:
        return f"{_KEY}{self.folder}/{self.name}"

    @classmethod
    def of(cls, key: str) -> Unit:
        folder, _, name = key.removeprefix(_KEY).partition("/")
        if folder not in FOLDERS or not PLAIN.fullmatch(name):
            raise Damaged(f"the record {key!r} names nothing that a collection has. Restore a backup of it.")
        return cls(folder, name)

    def within(self, files: Directory) -> Directory:
        """The folder of its files. files: of the collection."""
        folder = files.folder(self.folder)
        return folder.folder(self.name) if self.folder == SEGMENTS else folder


def needed(connection: sqlite3.Connection, name: str) -> set[Unit]:
    """All that the state of the connection names, but bodies of imports."""
    generation = get_record(connection, "generation", name, Generation.from_json)
    found = {Unit(SEGMENTS, record.name) for record in generation.segments}
    if generation.stage is not None and generation.stage.file is not None:
        found.add(Unit(ENCODINGS, generation.stage.file))
    rows = connection.execute("SELECT file FROM tail WHERE file IS NOT NULL")
    return found | {Unit(TAIL, file) for (file,) in rows}


def stored(connection: sqlite3.Connection, name: str) -> dict[Unit, dict[str, Stored]]:
    """The records: each unit's files, by name. Raises Damaged."""
    keys = connection.execute("SELECT key FROM meta WHERE key >= ? AND key < ?", (_KEY, f"{_KEY}\uffff")).fetchall()
    return {Unit.of(key): _record(connection, key, name) for (key,) in keys}


def _record(connection: sqlite3.Connection, key: str, name: str) -> dict[str, Stored]:
    """One unit's files. What is not held here would become a path, or an object's name."""
    try:
        files = {str(file): Stored(*one) for file, one in get_meta(connection, key, name).items()}
        for file, one in files.items():
            _require_plain(file, key)
            check_name(one.name)
            if type(one.size) is not int or one.size < 0 or not isinstance(one.sha256, str):
                raise ValueError(f"{file} has no size, or no checksum")
    except (Invalid, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(
            f"the record {key!r} of collection {name} is none of files: {error}. Restore a backup."
        ) from error
    return files


def _require_plain(file: object, by: str) -> None:
    if not isinstance(file, str) or not PLAIN.fullmatch(file):
        raise Damaged(f"{by} names the file {str(file)[:100]!r}, which no collection has. Restore a backup of it.")


def check_names(connection: sqlite3.Connection, name: str) -> None:
    """No name that a state from the store has of a file leads out of the collection's folder. Raises Damaged."""
    for unit in needed(connection, name):
        _require_plain(unit.name, f"collection {name}")


def check_manifests(
    connection: sqlite3.Connection, files: Directory, name: str, records: Mapping[Unit, Mapping[str, Stored]]
) -> None:
    """The same of what segments that were fetched say themselves. Raises Damaged."""
    for record in get_record(connection, "generation", name, Generation.from_json).segments:
        if (unit := Unit(SEGMENTS, record.name)) in records:
            for file in Segment(unit.within(files), record).files:
                _require_plain(file, f"segment {record.name} of collection {name}")


def names_of(records: Mapping[Unit, Mapping[str, Stored]]) -> list[str]:
    """Of objects."""
    return [one.name for files in records.values() for one in files.values()]


def forget_records(connection: sqlite3.Connection) -> None:
    """Of a collection that is to have another history."""
    connection.execute("DELETE FROM meta WHERE key >= ? AND key < ?", (_KEY, f"{_KEY}\uffff"))


class Sending:
    """Brings a writer's records up to its state, once a transaction."""

    def __init__(
        self,
        files: Directory,
        name: str,
        objects: Objects,
        writer: Writer,
        sent: Mapping[Unit, Mapping[str, Stored]] = MappingProxyType({}),
    ) -> None:
        """files: of the collection. sent: what was put before."""
        self._files, self._name, self._objects, self._writer, self._sent = files, name, objects, writer, sent

    def send(self, connection: sqlite3.Connection, *, whole: bool = False) -> list[str]:
        """Puts what the transaction under way names and no record has, and writes the records: names of new objects.
        whole: whether all is looked at, not only what the transaction has changed.

        Raises StoreUnavailable, Damaged.
        """
        records = {
            Unit.of(key) for (key,) in connection.execute(
                "SELECT key FROM meta WHERE key >= ? AND key < ?", (_KEY, f"{_KEY}\uffff")
            )
        }  # fmt: skip
        wanted = {unit for unit in records if unit.folder == IMPORTS}
        wanted |= self._bodies(connection, wanted, whole=whole)
        if whole or _changed(connection):
            wanted |= needed(connection, self._name)
        else:
            wanted |= {unit for unit in records if unit.folder != IMPORTS}
        for unit in records - wanted:
            connection.execute("DELETE FROM meta WHERE key = ?", (unit.key,))
        missing = wanted - records
        found = {unit: self._sent[unit] for unit in missing & self._sent.keys()}
        found |= self.put(sorted(missing - found.keys()))
        put_meta(connection, {unit.key: files for unit, files in found.items()})
        if found:
            reach("files.sent")
        return names_of(found)

    def put(self, units: Sequence[Unit]) -> dict[Unit, Mapping[str, Stored]]:
        """Puts all of their files, at a time; what no record names yet. Raises StoreUnavailable, Damaged."""
        calls: list[Callable[[], Stored]] = []
        places = []
        for unit in units:
            folder = unit.within(self._files)
            for file in folder.list() if unit.folder == SEGMENTS else [unit.name]:
                places.append((unit, file))
                calls.append(partial(self._put_file, folder, file))
        found: dict[Unit, dict[str, Stored]] = {unit: {} for unit in units}
        for (unit, file), one in zip(places, self._objects.together(calls), strict=True):
            found[unit][file] = one
        return {**found}

    def _put_file(self, folder: Directory, file: str) -> Stored:
        with expected(folder, file):
            stream = folder.open(file)
        with stream:
            return self._writer.put_file(stream, file)

    def _bodies(self, connection: sqlite3.Connection, known: set[Unit], *, whole: bool) -> set[Unit]:
        """Of imports that have been accepted; those that have ended are taken out of what is known."""
        table = "tasks" if whole else "changed_tasks"
        found = set()
        for (number,) in connection.execute(f"SELECT number FROM {table}").fetchall():
            if connection.execute("SELECT 1 FROM tasks WHERE number = ?", (number,)).fetchone() is None:
                continue
            task = read_task(connection, number, self._name)
            unit = Unit(IMPORTS, f"{task.id}.ndjson")
            if task.state in ENDED:
                known.discard(unit)
            elif task.kind == "import" and self._files.folder(IMPORTS).has(unit.name):
                found.add(unit)
        return found


def _changed(connection: sqlite3.Connection) -> bool:
    """Whether the transaction under way may name other files than before."""
    if connection.execute("SELECT 1 FROM changed_meta WHERE key = 'generation'").fetchone() is not None:
        return True
    return connection.execute("SELECT 1 FROM changed_tail LIMIT 1").fetchone() is not None


def sweep(files: Directory, records: Mapping[Unit, Mapping[str, Stored]]) -> None:
    """Removes what no record has, from a copy that nobody writes."""
    for place in FOLDERS:
        folder = files.folder(place)
        named = {unit.name for unit in records if unit.folder == place}
        for name in folder.list():
            if name not in named:
                folder.remove(name)


def finished(files: Directory) -> int:
    """Files that are whole in a copy that is being fetched."""
    places = [files.folder(place) for place in FOLDERS if place != SEGMENTS]
    segments = files.folder(SEGMENTS)
    places += [segments.folder(name) for name in segments.list()]
    return sum(not file.endswith(".part") for place in places for file in place.list())
