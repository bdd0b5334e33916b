"""Bulk import: a body on disk before it is accepted, applied by a durable task.

The body is spooled, fsynced and named in the collection's folder before the 202; the task checks every line, applies
them in batches whose transactions note how far it has come, and seals what is left, so that all of it is indexed. A
body of another form than lines is turned into lines first (app.tasks.converting).
"""

from __future__ import annotations

import sqlite3
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Any, Final, Literal
from uuid import uuid4

from app.collection.collection import Collection
from app.documents import ONE_A_LINE, parse_document
from app.errors import Damaged, Invalid, RequestError, TextRefused
from app.indexing.newcomers import seal_known
from app.ingest import NAMED, WriteResult, check_document, write_documents
from app.store.directory import Directory
from app.store.faults import reach
from app.store.layout import IMPORTS
from app.store.system import room
from app.tasks.forms import FAULT, Asked, parse_fault
from app.tasks.records import LISTED, Task, TaskError
from app.tasks.tasks import Also, Failed, Running, Tasks
from app.types import Document

BATCH_LINES: Final = 256
BATCH_BYTES: Final = 8 * 2**20
LONGEST_LINE: Final = 64 * 2**20
"""Bytes of one document; a longer line is refused without being held."""


class ImportUpload:
    """A body on its way to disk: ``write`` pieces, then ``commit`` or ``abort``."""

    def __init__(
        self,
        collection: Collection,
        tasks: Tasks,
        on_error: Literal["stop", "skip"],
        asked: Asked | None = None,
        source: str | None = None,
    ) -> None:
        """asked: how a body that is no NDJSON is read. source: the name of its file, as the caller says it. Raises
        Invalid for what there is no reading of, Conflict where another process writes the collection, or its encoder is
        another."""
        collection.require_writer()
        if asked is not None:
            asked.check()
            _converting().reading_of(asked, collection.spec)
        if collection.spec.model is not None:
            collection.encoder()
        self._tasks, self._on_error, self._asked, self._source = tasks, on_error, asked, source
        self._id = uuid4().hex
        self._folder, self._name = collection.make_folder(IMPORTS), tasks.file(self._id)
        with room():
            self._file = self._folder.create(self._name)
        self._crc = 0

    def write(self, piece: bytes) -> None:
        """Raises StorageFull."""
        with room():
            self._file.write(piece)
        self._crc = zlib.crc32(piece, self._crc)

    def commit(self, also: Also | None = None) -> Task:
        """The accepted task: the whole body and the task are durable. also: as in ``Tasks.submit``.

        Raises StorageFull.
        """
        with room():
            reach("body.written")
            size = self._file.finish()
            reach("body.synced")
            self._folder.sync()
            self._folder.parent.sync()
        params: dict[str, Any] = {"on_error": self._on_error, "bytes": size, "crc32": self._crc, "position": 0}
        if self._asked is not None:
            params["file"] = self._asked.to_params()
        if self._source is not None:
            params["source"] = self._source
        return self._tasks.submit("import", params, self._id, also)

    def abort(self) -> None:
        """Leaves nothing."""
        with suppress(OSError):
            # On a full disk what is still to be written cannot be; it is not wanted either.
            self._file.close()
        self._folder.remove(self._name)


def run_import(collection: Collection, running: Running) -> None:
    """The task's handler: check, apply, index. Interrupted while it applies, it goes on from its last batch."""
    if running.task.phase != "indexing":
        _hold_to_sum(running)
        _make_lines(collection, running)
    if running.task.phase not in ("applying", "indexing"):
        _check(collection, running)
        running.update(phase="applying", done=0)
    if running.task.phase == "applying":
        _apply(collection, running)
        running.update(phase="indexing")
    seal_known(collection, running.check)


def body_sum(folder: Directory, name: str) -> int | None:
    """The CRC-32 of a file; None where there is none. Raises SystemFault, OSError for one that is not read."""
    crc = 0
    try:
        with folder.open(name) as file:
            while piece := file.read(2**20):
                crc = zlib.crc32(piece, crc)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    return crc


def _hold_to_sum(running: Running) -> None:
    """Whether the body is what was accepted: it may have lain there while the server was down. Raises Failed."""
    assert running.task.params is not None
    expected = running.task.params.get("crc32")  # what an older Sheaf accepted has none
    if expected is not None and body_sum(running.folder, running.file) != expected:
        what = f"{running.file} is damaged: it is not the body that was accepted; send the import again"
        running.fail_lines([TaskError(0, Damaged.code, what)])
        raise Failed


def _make_lines(collection: Collection, running: Running) -> None:
    """Of a body of another form, unless they lie there as they were made."""
    params = running.task.params or {}
    if "file" in params and body_sum(running.folder, running.lines) != params.get("lines_crc32", -1):
        if running.task.phase != "applying":
            running.update(phase="reading")
        _converting().convert(collection, running)


def _converting() -> Any:
    """Loads the readers of all forms, for which no start waits."""
    return import_module("app.tasks.converting")


def _check(collection: Collection, running: Running) -> None:
    """Reads every line before the first is applied: with on_error=stop a bad one leaves the collection as it was."""
    assert running.task.params is not None
    stop = running.task.params["on_error"] == "stop"
    running.update(phase="checking", done=0, errors_total=0)
    errors: list[TaskError] = []
    lines = bad = 0
    for number, line, _ in _lines(running, 0, 0):
        lines = number
        if number % BATCH_LINES == 0:
            running.check()
        try:
            _parse(collection, line, made="file" in running.task.params)
        except RequestError as error:
            if stop:
                running.fail_lines([TaskError(number, error.code, f"{error.message}; nothing was applied")])
                raise Failed from None
            bad += 1
            if bad <= LISTED:
                errors.append(TaskError(number, error.code, error.message))
    if not lines:
        form = (running.task.params.get("file") or {}).get("form")
        what = f"the file holds no document, read as {form}" if form else f"the body holds no document: {ONE_A_LINE}"
        running.fail_lines([TaskError(0, Invalid.code, what)])
        raise Failed
    collection.record(running.listing(errors, bad, total=lines))


def _apply(collection: Collection, running: Running) -> None:
    """Writes batch after batch. A text that the encoder alone can refuse, too long for a remote one, is found
    here: with on_error=stop the batches before it are applied."""
    assert running.task.params is not None
    params = dict(running.task.params)
    batch: list[tuple[int, Document]] = []
    size, done, position = 0, running.task.done, params["position"]

    def write() -> None:
        taken, refused = batch, list[TaskError]()

        def note(txn: sqlite3.Connection, result: WriteResult) -> None:
            cut = _cut(running.task.result, result.truncated)
            noted = {**params, "position": position}
            running.listing(refused, params=noted, done=done, result=cut)(txn)

        while True:
            try:
                write_documents(collection, [document for _, document in taken], also=note)
            except TextRefused as error:
                refused += [TaskError(taken[i][0], error.code, why) for i, why in error.texts.items()]
                taken = [one for i, one in enumerate(taken) if i not in error.texts]
                if params["on_error"] == "stop":
                    applied = f"; of the lines before {batch[0][0]:,} all are applied, of those after none"
                    running.fail_lines([replace(fault, message=fault.message + applied) for fault in refused])
                    raise Failed from None
                continue
            return

    for number, line, end in _lines(running, position, done):
        done, position = number, end
        try:
            batch.append((number, _parse(collection, line, made="file" in params)))
        except RequestError:
            # Listed by the check.
            continue
        size += len(line)
        if len(batch) == BATCH_LINES or size >= BATCH_BYTES:
            running.check()
            write()
            batch, size = [], 0
    write()


def _cut(so_far: Mapping[str, Any] | None, ids: Sequence[str]) -> Mapping[str, Any] | None:
    """The task's result on texts that the encoder's limit cut, with those of one more batch."""
    if not ids:
        return so_far
    before = {"truncated": 0, "truncated_ids": [], **(so_far or {})}
    return {
        **before,
        "truncated": before["truncated"] + len(ids),
        "truncated_ids": [*before["truncated_ids"], *ids][:NAMED],
    }


def _parse(collection: Collection, line: bytes, *, made: bool) -> Document:
    """made: whether the line was made of a file."""
    if made and line.startswith(FAULT):
        raise parse_fault(line)
    if len(line) > LONGEST_LINE:
        raise Invalid(f"the line is longer than {LONGEST_LINE:,} bytes: {ONE_A_LINE}")
    document = parse_document(line, collection.spec.kind, collection.resources.settings.limits)
    check_document(collection, document, "")
    return document


def _lines(running: Running, position: int, number: int) -> Iterator[tuple[int, bytes, int]]:
    """(line number from 1, line, position after it) for each line that is not blank, from a position."""
    made = "file" in (running.task.params or {})
    with running.folder.open(running.lines if made else running.file) as file:
        file.seek(position)
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            position += len(line)
            rest = line
            while len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):
                rest = file.readline(LONGEST_LINE + 1)
                position += len(rest)
            if number == 1:
                line = line.removeprefix(BOM_UTF8)
            if line.strip():
                yield number, line, position
