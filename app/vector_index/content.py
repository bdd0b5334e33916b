"""The file's content: 64 bytes of header, and what faiss wrote.

The header lets the size, the dim and the length be checked before native code reads a byte; faiss's own reader trusts
the counts that it finds. Little-endian: magic (8 bytes), name (16, padded with NUL), dim, size, exponent (int64), where
faiss's part begins, how long it is (int64).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.errors import Damaged

Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]

MAGIC = b"SHEAFVI1"
_LAYOUT = struct.Struct("<8s16sqqqqq")


@dataclass(frozen=True, slots=True)
class Header:
    """The header before faiss's part. exponent: vectors are stored times 2**-exponent."""

    name: str
    dim: int
    size: int
    exponent: int
    start: int
    length: int


def write_header(write: Callable[[bytes], Any], name: str, *, dim: int, size: int, exponent: int, length: int) -> None:
    """Writes the header before the ``length`` bytes of faiss."""
    write(_LAYOUT.pack(MAGIC, name.encode("ascii"), dim, size, exponent, _LAYOUT.size, length))


def read_header(content: Buffer, *, name: str, size: int | None, dim: int | None) -> Header:
    """The header, held against the content's length and what the caller expects; raises Damaged."""
    view = np.frombuffer(content, np.uint8)
    if len(view) < _LAYOUT.size:
        raise Damaged(f"a vector index of {len(view)} bytes is cut short; rebuild it from the documents")
    magic, kind, *numbers = _LAYOUT.unpack_from(view.data)
    header = Header(kind.rstrip(b"\0").decode("ascii", "replace"), *numbers)
    expected = {
        "magic": (MAGIC, magic),
        "kind": (name, header.name),
        "dim": (header.dim if dim is None else dim, header.dim),
        "size": (header.size if size is None else size, header.size),
        "length": (header.start + header.length, len(view)),
    }
    for what, (wanted, found) in expected.items():
        if wanted != found:
            raise Damaged(f"a vector index has {what} {found!r}, not {wanted!r}; rebuild it from the documents")
    if header.dim < 1 or header.size < 0 or header.start < _LAYOUT.size or header.length < 0:
        raise Damaged("a vector index has a header with impossible numbers; rebuild it from the documents")
    return header
