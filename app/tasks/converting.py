"""Imports of other forms than lines: a file as people have it, turned into the lines that an import is applied from.

The body lies on the disk as it came, so it is read where it lies, by the same readers as the bulk build's
(app.sources), into a file of lines beside it; a stop begins that anew, which gives the same lines. A document is on the
line of its number in the file (line, row, page), as far as numbers ascend, and a fault is on its own, so that checking,
applying and the places of faults are those of any import.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from app.collection.collection import Collection
from app.collection.spec import CollectionSpec
from app.documents import to_line
from app.errors import RequestError
from app.sources.choose import Reading, open_body
from app.sources.fields import Fields, renames
from app.sources.files.content import known_charset
from app.sources.protocol import LeftOut, Source
from app.sources.table import selected
from app.store.layout import IMPORTS
from app.store.system import room
from app.tasks.forms import FAULT, SINGLE, Asked, parse_fault
from app.tasks.records import TaskError
from app.tasks.tasks import Failed, Running
from app.types import Kind

_AT_ONCE: Final = 256
"""Entries between two looks at whether the work is to end."""


def convert(collection: Collection, running: Running) -> None:
    """Makes the file of lines, whole and on the disk, and notes its checksum. Raises Failed where the source cannot be
    read, or with on_error=stop a part of it; nothing is applied then."""
    assert running.task.params is not None
    params, stop = dict(running.task.params), running.task.params["on_error"] == "stop"
    asked = Asked.from_params(params["file"])
    folder, most = running.folder, collection.resources.settings.max_import_bytes
    left_out, number, size, crc = Counter[str](), 0, 0, 0
    body, reading = collection.folder / IMPORTS / running.file, reading_of(asked, collection.spec)
    with open_body(body, asked.form, asked.id, asked.compression, reading) as source:
        folder.remove(running.lines)
        with room():
            file = folder.create(running.lines)
        try:
            for count, (after, line) in enumerate(_lines(source, asked, collection.spec.kind, left_out)):
                if count % _AT_ONCE == 0:
                    running.check()
                if stop and line.startswith(FAULT):
                    fault = parse_fault(line)
                    running.fail_lines([TaskError(after, fault.code, f"{fault.message}; nothing was applied")])
                    raise Failed
                # A number that does not ascend is of another part; it follows.
                piece = b"\n" * max(0, after - number - 1) + line
                number = max(after, number + 1)
                size += len(piece)
                if size > most:
                    what = f"read, the file has more than {most:,} bytes, the limit of this server: send it in parts"
                    running.fail_lines([TaskError(number, "too_large", what)])
                    raise Failed
                with room():
                    file.write(piece)
                crc = zlib.crc32(piece, crc)
            with room():
                file.finish()
                folder.sync()
        except BaseException:
            file.close()
            raise
    # Beside what was told before, where lines are made anew while some are applied.
    result = dict(running.task.result or {})
    if source.skipped:
        result["skipped"] = source.skipped
    if left_out:
        result["left_out"] = left_out
    running.update(params={**params, "lines_crc32": crc}, result=result or None)


def _lines(source: Source, asked: Asked, kind: Kind, left_out: Counter[str]) -> Iterator[tuple[int, bytes]]:
    """Each document, or fault, with its number in the file, or 0."""
    for entry in source.entries():
        found = entry.found
        if isinstance(found, LeftOut):
            left_out[found.reason] += found.count
        elif isinstance(found, RequestError):
            place = entry.place if entry.unit != "line" or (entry.file and asked.form not in SINGLE) else ""
            message = f"{place}: {found.message}" if place else found.message
            yield entry.line, FAULT + json.dumps([found.code, message]).encode() + b"}\n"
        else:
            yield entry.line, to_line(found if asked.id is None else replace(found, id=asked.id), kind)


def reading_of(asked: Asked, spec: CollectionSpec) -> Reading:
    """Raises Invalid."""
    names = None if asked.select is None else selected([name for name in asked.select.split(",") if name])
    charset = None if asked.charset is None else known_charset(asked.charset)
    fields = Fields(
        asked.id_field,
        asked.text_field,
        asked.title_field,
        asked.vector_field,
        names,
        renames(asked.rename, "rename"),
        spec.kind,
        values=spec.values is not None,
    )
    return Reading(fields, asked.header, asked.delimiter, charset=charset)
