"""Document rows and live ids: how they are written, summed, and read without trusting the disk."""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final

from pydantic_core import from_json

from app.errors import Damaged
from app.store.layout import DATABASE
from app.types import DEFAULT_INCLUDE, Document, Metadata, Turn, spoken

_TYPES: Final = (int, bytes, str, str, str, int, int)
"""Of a row of ``documents``."""


def row_sum(*values: int | str | bytes | None) -> int:
    """The CRC-32 of a row: of its values, their types and lengths, so that nothing can pass from one to the next."""
    parts: list[bytes] = []
    for value in values:
        content = value if isinstance(value, bytes) else str(value).encode()
        parts += (f"{type(value).__name__} {len(content)} ".encode(), content)
    return zlib.crc32(b"".join(parts))


def document_sum(seq: int, key: bytes, title: str, text: str, metadata: str, truncated: int) -> int:
    """``row_sum`` of a row of ``documents``, in a third of the time: a search reads as many rows as it has hits.

    >>> document_sum(7, b"a", "", "Owls.", "{}", 0) == row_sum(7, b"a", "", "Owls.", "{}", 0)
    True
    """
    number, cut = b"%d" % seq, b"%d" % truncated
    head, body, own = title.encode(), text.encode(), metadata.encode()
    return zlib.crc32(
        b"int %d %bbytes %d %bstr %d %bstr %d %bstr %d %bint %d %b"
        % (len(number), number, len(key), key, len(head), head, len(body), body, len(own), own, len(cut), cut)
    )


def live_sum(key: bytes, seq: int) -> int:
    """One live id's share of the digest."""
    return zlib.crc32(key, zlib.crc32(struct.pack("<q", seq)))


def insert_document(connection: sqlite3.Connection, seq: int, document: Document, truncated: bool) -> None:
    """A new version. truncated: whether the encoder's limit cut its text."""
    key = document.id.encode()
    metadata = json.dumps(_held(document), ensure_ascii=False, separators=(",", ":"))
    values = (seq, key, document.title, document.text, metadata, int(truncated))
    connection.execute(
        "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*values, row_sum(*values)),
    )


def fetch_documents(connection: sqlite3.Connection, seqs: Sequence[int], name: str) -> dict[int, Document]:
    """The versions with these sequence numbers. Raises Damaged when one is missing or not what was written."""
    found: dict[int, Document] = {}
    for start in range(0, len(seqs), 500):
        part = [int(seq) for seq in seqs[start : start + 500]]
        marks = ",".join("?" * len(part))
        rows = connection.execute(
            f"SELECT * FROM documents WHERE seq IN ({marks})",
            part,
        )
        for row in rows:
            found[row[0]] = parse_row(row, name)
    require_rows(found, seqs, name)
    return found


def require_rows(found: Mapping[int, Any], seqs: Sequence[int], name: str) -> None:
    """Raises Damaged unless every document row was found."""
    for seq in seqs:
        if int(seq) not in found:
            raise missing(seq, name)


def documents_in_order(
    connection: sqlite3.Connection, seqs: Sequence[int], name: str, include: Set[str] = DEFAULT_INCLUDE
) -> Iterator[Document]:
    """The same one by one, in the order asked for, so that memory holds no more of them than the caller keeps; with
    what is included of each."""
    rows = connection.execute(
        "SELECT wanted.value, d.* FROM json_each(?) wanted LEFT JOIN documents d ON d.seq = wanted.value",
        (json.dumps([int(seq) for seq in seqs]),),
    )
    for row in rows:
        if row[1] is None:
            raise missing(row[0], name)
        yield parse_row(row[1:], name, include)


def missing(seq: int, name: str) -> Damaged:
    return Damaged(f"{DATABASE} of collection {name} is damaged: document row {seq} is missing; restore a backup")


def parse_row(row: Sequence[Any], name: str, include: Set[str] = DEFAULT_INCLUDE) -> Document:
    """A row of the table ``documents`` -> Document, with what is included of it. Raises Damaged."""
    seq, key, title, text, metadata, truncated, crc = row
    if not _as_declared(row) or document_sum(seq, key, title, text, metadata, truncated) != crc:
        raise Damaged(
            f"{DATABASE} of collection {name} is damaged: the checksum of document row {seq} differs. Restore a backup."
        )
    if metadata.startswith("["):
        return _conversation(Document(key.decode(), text, title), metadata, include)
    parsed: Metadata = from_json(metadata) if "metadata" in include else {}
    return Document(key.decode(), text if "text" in include else "", title, parsed)


def _held(document: Document) -> Any:
    """The content of the column of metadata: an object, or of a conversation an array of these, of the turns, each by
    its role and how many characters it has in the text, and of the summary."""
    if not document.turns:
        return document.metadata
    return [document.metadata, [[turn.role, len(turn.text)] for turn in document.turns], document.summary]


def _conversation(document: Document, held: str, include: Set[str]) -> Document:
    """With what ``_held`` said of it. Raises ValueError where that is of another text."""
    metadata, spans, summary = json.loads(held)
    turns, place = [], 0
    try:
        for role, length in spans:
            start = place + len(role) + 2
            turns.append(Turn(str(role), document.text[start : start + length]))
            place = start + length + 1
    except TypeError as error:
        raise ValueError("expected roles and numbers of characters as turns") from error
    if not isinstance(metadata, dict) or not isinstance(summary, str) or spoken(turns) != document.text:
        raise ValueError("a conversation has a text that its turns do not make")
    found = replace(document, metadata=metadata if "metadata" in include else {}, turns=tuple(turns), summary=summary)
    return found if "text" in include else replace(found, text="", turns=(), summary="")


def _as_declared(row: Sequence[Any]) -> bool:
    """Whether each value has the type of its column: SQLite keeps any in any."""
    return tuple(map(type, row)) == _TYPES


def truncated_among(connection: sqlite3.Connection, seqs: Iterable[int]) -> set[int]:
    """Those versions whose text the encoder's limit cut."""
    found = set()
    for seq in seqs:
        row = connection.execute("SELECT truncated FROM documents WHERE seq = ?", (seq,)).fetchone()
        if row is not None and row[0]:
            found.add(seq)
    return found


def find_live(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, int]:
    """id -> sequence number of the version that stands, for those that have one."""
    found: dict[str, int] = {}
    for identifier in ids:
        row = connection.execute("SELECT seq FROM live WHERE id = ?", (identifier.encode(),)).fetchone()
        if row is not None:
            found[identifier] = row[0]
    return found
