"""The messages of an Arrow stream, as they are described before their bodies: which would become more than they are.

The limits of a body are of its bytes. What is compressed, or told by its place in a dictionary, becomes more when it is
read, without any bound, and the library that reads it asks nobody. Source: Arrow columnar format, "Encapsulated message
format" and Message.fbs; FlatBuffers internals, for tables and their vtables.
"""

from __future__ import annotations

import struct
from typing import Final

from app.errors import MalformedBody

HEADER: Final = 2
"""The field of a Message that is the RecordBatch."""
COMPRESSION: Final = 3
"""The field of a RecordBatch that says how its buffers are compressed."""
FORMER: Final = b"ARROW:experimental_compression"
"""Where files of before Arrow 1.0 say it."""


def check_message(kind: str, metadata: bytes) -> None:
    """kind: as pyarrow names it. metadata: the FlatBuffer of a Message. Raises MalformedBody for one that is read as
    more bytes than it has, struct.error for what is no FlatBuffer."""
    if kind.startswith("dictionary"):
        raise MalformedBody("expected an Arrow stream without dictionaries: send lists of numbers, not encoded by one")
    if kind != "record batch":
        return
    (message,) = struct.unpack_from("<I", metadata)
    place = _field(metadata, message, HEADER)
    batch = None if place is None else place + struct.unpack_from("<I", metadata, place)[0]
    if FORMER in metadata or (batch is not None and _field(metadata, batch, COMPRESSION) is not None):
        raise MalformedBody("expected an Arrow stream without compression: write it with `compression=None`")


def _field(metadata: bytes, table: int, field: int) -> int | None:
    """Where a field of a table lies; None where it has none."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    if 4 + 2 * field >= struct.unpack_from("<H", metadata, vtable)[0]:
        return None
    (offset,) = struct.unpack_from("<H", metadata, vtable + 4 + 2 * field)
    return table + offset if offset else None
