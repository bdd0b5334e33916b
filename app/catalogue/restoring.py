"""A collection out of an archive: unpacked beside the others, verified, and only then given its name.

The sender of an archive may have made it. So its database is looked at before it is used (no table but ours, no name
that leads out of the folder), every checksum is held, its arrays are those of such a collection, its vector indexes are
made anew (``uploaded.py``), and at last the folder is opened as any collection is. An archive that does not hold is
refused, and nothing of it stays. Whether documents and vectors are true cannot be known here. Snapshots of this
server's own list bring their indexes.
"""

from __future__ import annotations

import sqlite3
import zipfile
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from uuid import uuid4

from app.backup.archive import PIECE, Listing, Unpacker
from app.backup.moment import check_rows
from app.backup.schema import check_schema
from app.backup.uploaded import check_counts, check_stage, check_tail, reindex
from app.backup.uploaded_documents import check_documents
from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, StageStore
from app.collection.segment import Segment
from app.collection.spec import CollectionSpec
from app.collection.view import Generation
from app.errors import BadArchive, Damaged, FormatTooNew, MemoryShort, SheafError, StorageFull, SystemFault
from app.store.database import Database, get_record, put_meta
from app.store.directory import Directory
from app.store.faults import reach
from app.store.files import expected
from app.store.layout import DATABASE, IMPORTS, MARK, PLAIN, SEGMENTS, WRITER_LOCK
from app.store.local_directory import LocalDirectory
from app.store.system import of_the_disk, room


class Restoring:
    """An archive on its way to becoming a collection: ``write`` pieces, then ``commit`` or ``abort``."""

    def __init__(self, catalogue: Catalogue, name: str, *, replace: bool, limit: int, own: bool = False) -> None:
        """replace: whether it may take the place of a collection. limit: bytes of the archive's files. own: whether
        this server made the archive, so that its indexes are used.

        Raises Conflict where the name is taken, StorageFull.
        """
        catalogue.require_room_for(name, replace=replace)
        self._catalogue, self._name, self._replace, self._own = catalogue, name, replace, own
        self._folder = catalogue.files.folder(f".restoring-{name}-{uuid4().hex}")
        with room():
            self._folder.make()
        self._unpacker = Unpacker(self._folder, limit)

    def write(self, piece: bytes) -> None:
        """Raises BadArchive, StorageFull; ``abort`` is to be called then."""
        self._unpacker.feed(piece)

    def commit(self) -> bool:
        """Verifies what has come and puts it in place, durably. Whether it replaced a collection.

        Raises BadArchive, StorageFull, Conflict; ``abort`` is to be called then.
        """
        listing = self._unpacker.finish()
        with room():
            reach("archive.unpacked")
            _verify(self._folder, self._name, listing, self._catalogue, own=self._own)
        reach("archive.verified")
        return self._catalogue.install(self._name, self._folder.name, replace=self._replace)

    def abort(self) -> None:
        """Leaves nothing; no error after ``commit``."""
        self._unpacker.close()
        self._catalogue.files.remove(self._folder.name)


def restore_file(catalogue: Catalogue, name: str, archive: Path, *, replace: bool) -> bool:
    """The same from a snapshot that this server took and kept.

    Raises Damaged where it is not what was written, SystemFault where it is not read now.
    """
    kept = LocalDirectory(archive.parent)
    with expected(kept, archive.name):
        file, limit = kept.open(archive.name), kept.size(archive.name)
    with file:
        return _restore_stream(catalogue, name, archive, file, limit, replace=replace)


def _restore_stream(
    catalogue: Catalogue, name: str, archive: Path, file: BufferedReader, limit: int, *, replace: bool
) -> bool:
    restoring = Restoring(catalogue, name, replace=replace, limit=limit, own=True)
    try:
        while piece := file.read(PIECE):
            restoring.write(piece)
        return restoring.commit()
    except BadArchive as error:
        if error.code != BadArchive.code:
            raise
        raise Damaged(
            f"snapshot {archive.stem} of collection {archive.parent.name} is damaged: {error.message}. Delete it, and "
            "take another."
        ) from error
    finally:
        restoring.abort()


def _verify(folder: Directory, name: str, listing: Listing, catalogue: Catalogue, *, own: bool) -> None:
    """Raises BadArchive unless the folder holds a whole collection, which then has this name and no tasks."""
    paths = {entry.path for entry in listing.files}
    if not {DATABASE, MARK} <= paths:
        raise BadArchive(f"the archive lacks {DATABASE} or {MARK}")
    for path in paths:
        first = path.partition("/")[0]
        if first in (WRITER_LOCK, IMPORTS) or first.startswith(f"{DATABASE}-"):
            raise BadArchive(f"{path} is no part of a snapshot")
    try:
        check_schema(folder.path / DATABASE)
        database = Database(folder.path, name)
        try:
            database.check()
            _check_names(database, folder)
            check_counts(database)
            check_rows(database, folder, name, lambda: None)
            with database.read() as connection:
                spec = get_record(
                    connection, "spec", name, lambda value: CollectionSpec.from_json({**value, "name": name})
                )
            if not own:
                check_documents(database)
            made = {} if own else {"generation": _anew(database, folder, spec).to_json()}
            with database.write() as txn:
                put_meta(txn, {"spec": spec.to_json(), **made})
                # Their bodies stayed behind, and a task has one id in a server.
                txn.execute("DELETE FROM tasks")
                txn.execute("DELETE FROM task_errors")
        finally:
            database.close()
        opened = Collection(folder, catalogue.resources, lambda: "")
        opened.close()
        check_stage(opened.stage, opened.spec)
    except (BadArchive, StorageFull, SystemFault, MemoryShort):
        raise
    except FormatTooNew as error:
        raise BadArchive(error.message, code="archive_too_new") from error
    except SheafError as error:
        raise BadArchive(f"the archive holds no whole collection: {error.message}") from error
    except (ValueError, TypeError, KeyError, AttributeError, LookupError, ArithmeticError, MemoryError, OSError,
            sqlite3.Error, zipfile.BadZipFile, RecursionError) as error:  # fmt: skip
        if of_the_disk(error):
            raise
        raise BadArchive(f"the archive holds no whole collection ({type(error).__name__})") from error
    folder.sync()


def _anew(database: Database, folder: Directory, spec: CollectionSpec) -> Generation:
    """The generation once everything that native code will read has been held or made anew; see ``uploaded.py``."""
    with database.read() as connection:
        generation = get_record(connection, "generation", spec.name, Generation.from_json)
        first = get_record(connection, "first_stage", spec.name, FirstStage.from_json)
    stage = first if generation.stage is None else StageStore(folder).load(generation.stage, first)
    for one in (first, stage):
        check_stage(one, spec)
    check_tail(database, folder, spec, first)
    with database.read() as connection:
        segments = folder.folder(SEGMENTS)
        parts = [
            reindex(segments.folder(record.name), record, spec, stage, connection) for record in generation.segments
        ]
    return replace(generation, segments=tuple(parts))


def _check_names(database: Database, folder: Directory) -> None:
    """No name that the database or a manifest has of a file leads out of the folder."""
    with database.read() as connection:
        generation = get_record(connection, "generation", database.name, Generation.from_json)
        tail = [str(name) for (name,) in connection.execute("SELECT file FROM tail WHERE file IS NOT NULL")]
    named = [record.name for record in generation.segments] + tail
    if generation.stage is not None and generation.stage.file is not None:
        named.append(generation.stage.file)
    for record in generation.segments:
        if PLAIN.fullmatch(record.name):
            named += Segment(folder.folder(SEGMENTS).folder(record.name), record).files
    for name in named:
        if not PLAIN.fullmatch(name):
            raise BadArchive(f"the archive names {name[:100]!r}, which no collection has")
