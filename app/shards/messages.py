"""What goes between a server and the shards: names of segments, pieces of work, masks and rows in few bytes.

The bytes are pickled, as all that Ray carries is: whoever reaches a cluster's ports may run code there, and a cluster
has a network of its own (docs/security.md). The fourth protocol gives arrays that may be written to, as the loops of
searches were compiled for.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.collection.segment import SegmentRecord
from app.errors import SheafError
from app.replication.protocol import Stored

COMING: Final = "it is being fetched"
"""Why a shard does not have a segment yet that it is to hold, where nothing is wrong."""


class Key(NamedTuple):
    """A segment, for good: of one history of a collection, by its name and the checksum of its manifest. So what is
    asked of it is never answered by another."""

    history: str
    name: str
    crc: int


@dataclass(frozen=True, slots=True)
class Held:
    """A segment that a shard is to hold. files: where each of its files lies in the store."""

    history: str
    record: SegmentRecord
    files: Mapping[str, Stored]

    @property
    def key(self) -> Key:
        return Key(self.history, self.record.name, self.record.crc)


@dataclass(frozen=True, slots=True)
class Lacking:
    """A shard's answer in the place of a segment's that it does not have."""


@dataclass(frozen=True, slots=True)
class Raised:
    """A shard's answer where the work raised an error: errors do not travel whole by themselves."""

    kind: type[SheafError]
    given: tuple[Any, ...]
    told: dict[str, Any]

    @classmethod
    def of(cls, error: SheafError) -> Raised:
        return cls(type(error), error.args, dict(error.__dict__))

    def error(self) -> SheafError:
        made = self.kind.__new__(self.kind, *self.given)
        made.args = self.given
        made.__dict__.update(self.told)
        return made


@dataclass(frozen=True, slots=True)
class _Mask:
    """Bits of so many; None: all are true."""

    size: int
    bits: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True)
class _Run:
    """The numbers start to stop."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Narrow:
    """Numbers that fit in 32 bits."""

    numbers: NDArray[np.int32]


def packed(value: Any) -> Any:
    """With masks, and whole numbers, of one axis in few bytes.

    >>> unpacked(packed((np.array([True, False]), np.arange(3), None)))
    (array([ True, False]), array([0, 1, 2]), None)
    """
    if isinstance(value, tuple):
        return tuple(packed(one) for one in value)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        if value.dtype == np.bool_:
            return _Mask(len(value), None if value.all() else np.packbits(value))
        if value.dtype == np.int64 and len(value):
            first, last = int(value[0]), int(value[-1])
            if last - first == len(value) - 1 and bool((np.diff(value) == 1).all()):
                return _Run(first, last + 1)
            if value.min() >= 0 and value.max() < 2**31:
                return _Narrow(value.astype(np.int32))
    return value


def unpacked(value: Any) -> Any:
    match value:
        case tuple():
            return tuple(unpacked(one) for one in value)
        case _Mask(size, bits):
            return np.ones(size, bool) if bits is None else np.unpackbits(bits, count=size).astype(bool)
        case _Run(start, stop):
            return np.arange(start, stop, dtype=np.int64)
        case _Narrow(numbers):
            return numbers.astype(np.int64)
    return value


def sent(value: Any) -> bytes:
    return pickle.dumps(value, protocol=4)


def received(content: bytes) -> Any:
    """What came from another process of the same cluster."""
    return pickle.loads(content)  # noqa: S301
