"""The documents of an uploaded archive: each as a write would have taken it, and the columns of a segment made of them.

A row's checksum says that it is what its sender wrote, which may be an id with control characters, or metadata that are
NaN, nested or no object at all. A later reader of such a document would meet text that no other reads.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from pydantic_core import PydanticCustomError

from app.collection.spec import CollectionSpec
from app.columns.columns import Columns, ColumnsBuilder
from app.documents import ROLE, read_metadata
from app.errors import BadArchive
from app.lexical.sequences import Sequences, Vocabulary
from app.schema.ids import read_id
from app.store.database import Database
from app.store.rows import fetch_documents, parse_row
from app.types import I64, Document

_BATCH: Final = 1_000


def check_documents(database: Database) -> None:
    """Raises BadArchive for a row that is no document, Damaged for one that is not what was written."""
    with database.read() as connection:
        other = "SELECT count(*) FROM live JOIN documents USING (seq) WHERE live.id IS NOT documents.id"
        if connection.execute(other).fetchone() != (0,):
            raise BadArchive("the archive has documents that stand under another id than their own")
        for row in connection.execute("SELECT * FROM documents"):
            if not all(isinstance(value, kind) for value, kind in zip(row, _KINDS, strict=True)):
                raise _wrong(row[0])
            try:
                document = parse_row(row, database.name)
                read_id(document.id)
                read_metadata(document.metadata)
                if not all(ROLE.fullmatch(turn.role) and turn.text.strip() for turn in document.turns):
                    raise _wrong(row[0])
            except (PydanticCustomError, ValueError, RecursionError) as error:
                raise _wrong(row[0]) from error


def derived(connection: sqlite3.Connection, seqs: I64, spec: CollectionSpec) -> tuple[Columns, list[Sequences]]:
    """The metadata and the words of a segment's documents, none of those that are gone. seqs: (documents,)."""
    columns = ColumnsBuilder()
    words: list[Sequences] = []
    vocabulary = Vocabulary()
    for start in range(0, len(seqs), _BATCH):
        batch = seqs[start : start + _BATCH].tolist()
        marks = ",".join("?" * len(batch))
        there = connection.execute(f"SELECT seq FROM documents WHERE seq IN ({marks})", batch).fetchall()
        found = fetch_documents(connection, [seq for (seq,) in there], spec.name)
        documents = [found.get(seq, Document("")) for seq in batch]
        columns.add([document.metadata for document in documents])
        if spoken := spec.words(documents, vocabulary):
            words.append(spoken)
    return columns.finish(), words


_KINDS: Final = (int, bytes, str, str, str, int, int)
"""seq, id, title, text, metadata, truncated, checksum."""


def _wrong(seq: object) -> BadArchive:
    return BadArchive(f"document row {seq!r:.20} of the archive is none that a write takes")
