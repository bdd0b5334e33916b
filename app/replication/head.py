"""The one object that changes: whose the log is, where it begins, and what waits to be removed.

It is replaced by compare-and-swap alone, by a claim, a rebase or a collection of garbage; every content has a nonce, so
no state comes twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from app.errors import Damaged, FormatTooNew
from app.objects.protocol import Objects, Tag
from app.replication.protocol import Stored

HEAD: Final = "head"
_FORMAT: Final = 1


class Position(NamedTuple):
    """After commit ``number``: the next record is looked for in ``epoch``, and names ``chain`` as the one before."""

    epoch: int
    number: int
    chain: str


class Records(NamedTuple):
    """Records ``first`` to ``last`` of an epoch, both included."""

    epoch: int
    first: int
    last: int


class Gone(NamedTuple):
    """What states from ``number`` on do not need. since: when that was so first, seconds since 1970. names: of objects;
    records: of the log."""

    number: int
    since: float
    names: tuple[str, ...]
    records: tuple[Records, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """epoch: of the last claim. nonce: of this content. note: of who claimed, for messages. start: where readers begin.
    base: what it holds, None as long as nobody wrote one. files: what its state needs. gone: oldest first."""

    epoch: int
    nonce: str
    note: str
    grace_s: float
    lease_s: float
    start: Position
    base: Stored | None = None
    files: tuple[str, ...] = ()
    gone: tuple[Gone, ...] = field(default=())


def encode_head(head: Head) -> bytes:
    """A line with the SHA-256 of the rest, and JSON."""
    body = {
        "format": _FORMAT,
        "epoch": head.epoch,
        "nonce": head.nonce,
        "note": head.note,
        "grace_s": head.grace_s,
        "lease_s": head.lease_s,
        "start": head.start,
        "base": head.base,
        "files": head.files,
        "gone": head.gone,
    }
    text = json.dumps(body, indent=1).encode()
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def decode_head(content: bytes, place: str) -> Head:
    """The inverse. Raises Damaged, FormatTooNew. place: for messages."""
    checksum, _, text = content.partition(b"\n")
    if checksum != hashlib.sha256(text).hexdigest().encode():
        raise Damaged(f"{HEAD} in {place}: {len(content):,} bytes that are not as they were written")
    body: dict[str, Any] = json.loads(text)
    if body["format"] != _FORMAT:
        raise FormatTooNew(f"{HEAD} in {place}: format {body['format']}, this version reads {_FORMAT}")
    return Head(
        body["epoch"],
        body["nonce"],
        body["note"],
        body["grace_s"],
        body["lease_s"],
        Position(*body["start"]),
        Stored(*body["base"]) if body["base"] else None,
        tuple(body["files"]),
        tuple(
            Gone(number, since, tuple(names), tuple(Records(*one) for one in records))
            for number, since, names, records in body["gone"]
        ),
    )


def read_head(objects: Objects) -> tuple[Head, Tag]:
    """Raises ObjectMissing where there is no log."""
    content, tag = objects.get(HEAD)
    return decode_head(content, objects.place), tag
