"""A record of the log as bytes: a commit, or the seal that ends an epoch.

Layout: 8 bytes ``SHEAFLOG``, 32 bytes SHA-256 of all that follows, 4 bytes length of the header (little-endian), the
header as JSON, the commit's content. The header names the checksum of the record before, so the last checksum stands
for the whole history: records that were mixed up, or are of another log, do not fit together.

Names of records: ``log/{epoch}/{number}``, so a listing has them in the order of the log. A seal has the number that
its epoch's next commit would have had, and the next epoch goes on with that number.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from app.errors import Damaged, FormatTooNew

Kind: TypeAlias = Literal["commit", "seal"]

_MAGIC: Final = b"SHEAFLOG"
_FORMAT: Final = 1
_START: Final = len(_MAGIC) + 32


@dataclass(frozen=True, slots=True)
class Record:
    """epoch, number: its place. before: the checksum of the record before, 64 hex digits. nonce: nobody else's. files:
    see ``Commit``. note: of who sealed, for messages."""

    kind: Kind
    epoch: int
    number: int
    before: str
    nonce: str
    files: tuple[str, ...] = ()
    note: str = ""
    content: bytes = b""


def record_name(epoch: int, number: int) -> str:
    """
    >>> record_name(3, 41)
    'log/000000000003/0000000000000041'
    """
    return f"log/{epoch:012}/{number:016}"


def place_of(name: str) -> tuple[int, int] | None:
    """(epoch, number) of a record's name; None for others.

    >>> place_of("log/000000000003/0000000000000041"), place_of("log/x")
    ((3, 41), None)
    """
    match name.split("/"):
        case ["log", epoch, number] if epoch.isdecimal() and number.isdecimal():
            return int(epoch), int(number)
    return None


def encode(record: Record) -> tuple[bytes, str]:
    """Its bytes, and their checksum (what the next record names as ``before``).

    >>> record = Record("commit", 1, 7, "0" * 64, "n", ("files/a",), content=b"rows")
    >>> content, chain = encode(record)
    >>> decode(content, "log/x") == (record, chain)
    True
    """
    header: dict[str, Any] = {
        "format": _FORMAT,
        "kind": record.kind,
        "epoch": record.epoch,
        "number": record.number,
        "before": record.before,
        "nonce": record.nonce,
        "size": len(record.content),
    }
    if record.files:
        header["files"] = record.files
    if record.note:
        header["note"] = record.note
    head = json.dumps(header, separators=(",", ":")).encode()
    rest = len(head).to_bytes(4, "little") + head + record.content
    checksum = hashlib.sha256(rest)
    return _MAGIC + checksum.digest() + rest, checksum.hexdigest()


def decode(content: bytes, name: str) -> tuple[Record, str]:
    """The inverse. Raises Damaged, FormatTooNew. name: for messages."""
    checksum = hashlib.sha256(memoryview(content)[_START:])
    if not content.startswith(_MAGIC) or content[len(_MAGIC) : _START] != checksum.digest():
        raise Damaged(f"{name}: {len(content):,} bytes that are no record of a log, or not as they were written")
    size = int.from_bytes(content[_START : _START + 4], "little")
    header = json.loads(content[_START + 4 : _START + 4 + size])
    if header["format"] != _FORMAT:
        raise FormatTooNew(f"{name}: format {header['format']} of the log, this version reads {_FORMAT}")
    body = content[_START + 4 + size :]
    if header["size"] != len(body):
        raise Damaged(f"{name}: expected {header['size']:,} bytes of a commit, got {len(body):,}")
    record = Record(
        header["kind"],
        header["epoch"],
        header["number"],
        header["before"],
        header["nonce"],
        tuple(header.get("files", ())),
        header.get("note", ""),
        body,
    )
    return record, checksum.hexdigest()
