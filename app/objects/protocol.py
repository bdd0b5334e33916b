"""Named objects of one place, as a whole or by ranges, put on condition: what a collection away from its disk needs.

Two protocols, because two things are told apart: ``Requests`` is one request each, which may be refused or lose its
answer; ``Objects`` is what callers use, made of it once for all stores (``app.objects.persistent``): it tries again
what may be tried again, and finds out what became of a conditional put whose answer was lost by reading what is there.
So the one layer that is hard to get right runs over S3, over a folder, and over the simulated store of
tests/replication alike.

A name is a path of parts of ``[A-Za-z0-9._-]`` with single slashes between, at most 512 characters; no part is "." or
"..". Objects are immutable but for those that are replaced by compare-and-swap, whose contents never repeat: a tag may
be a hash of them, so the same bytes twice would be the same state twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import BinaryIO, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from app.errors import Invalid

Tag: TypeAlias = str
"""Of an object's content, for a swap; as the store says it."""

Result = TypeVar("Result")

_NAME: Final = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")


class Listed(NamedTuple):
    """One object of a listing. size: in bytes. modified: seconds since 1970, by the store's clock."""

    name: str
    size: int
    modified: float


class Requests(Protocol):
    """One request each, safe from any thread.

    Raises ObjectMissing, ObjectTaken, ObjectChanged as the answer says; StoreUnavailable where the request was surely
    not applied (refused, never sent), and Unsure where it may have been (its answer was lost).
    """

    @property
    def place(self) -> str:
        """Its address, for messages, without keys."""

    def get(self, name: str, /) -> tuple[bytes, Tag]: ...

    def read(self, name: str, start: int, length: int, /) -> bytes: ...

    def put_new(self, name: str, content: bytes, /) -> Tag: ...

    def replace(self, name: str, content: bytes, tag: Tag, /) -> Tag: ...

    def put(self, name: str, stream: BinaryIO, /) -> None: ...

    def list(self, prefix: str, after: str = "", /) -> list[Listed]: ...

    def remove(self, names: Sequence[str], /) -> None: ...


class Objects(Protocol):
    """The objects of one place, safe from any thread.

    Every call ends within the deadline that it was opened with. What passes (a store that refuses, slows down, cannot
    be reached) is tried again until then, and StoreUnavailable afterwards. A put on condition whose answer was lost
    until then is Unsure, its subclass: it may be applied, now or later.
    """

    @property
    def place(self) -> str:
        """Its address, for messages, without keys."""

    # Several at a time

    def together(self, calls: Sequence[Callable[[], Result]], /) -> list[Result]:
        """Their results, in order; they wait for the store at a time. All have ended when it returns or raises, which
        is the first error by order."""

    # Reading

    def get(self, name: str, /) -> tuple[bytes, Tag]:
        """A whole object, and its tag for ``replace``. Raises ObjectMissing."""

    def read(self, name: str, start: int, length: int, /) -> bytes:
        """``length`` bytes from the byte ``start`` on. Raises ObjectMissing, Damaged where it is shorter."""

    def list(self, prefix: str, after: str = "", /) -> list[Listed]:
        """Objects whose names begin with the prefix, which ends with "/", and come after ``after``, by name. A hint:
        some stores list late what was put, or still what was removed."""

    # Writing

    def put_new(self, name: str, content: bytes, /) -> Tag:
        """A new object, in one conditional request. The content must be nobody else's (it has a nonce): after a lost
        answer, equal bytes under the name are taken as ours. Raises ObjectTaken, with what is there; Unsure."""

    def replace(self, name: str, content: bytes, tag: Tag | None, /) -> Tag:
        """Another content in place of the one that has the tag; None: where nothing is. The content must be nobody
        else's and never have been there. Raises ObjectChanged where another one is there, or none; where an answer was
        lost, ours may have been there in between, and what is there now may be made of it. Raises Unsure."""

    def put(self, name: str, stream: BinaryIO, /) -> int:
        """A large object under a name that is used once, in parts: its size in bytes. Begun again from the stream's
        beginning where a request fails, for equal bytes in its place change nothing."""

    def remove(self, names: Sequence[str], /) -> None:
        """Those that are there. Some may be gone where it raises."""


def check_name(name: str) -> str:
    """The name, if it is one; raises Invalid.

    >>> check_name("log/000000000001/0000000000000007"), check_name("a/b.c-d_e")
    ('log/000000000001/0000000000000007', 'a/b.c-d_e')
    >>> check_name("a/../b")
    Traceback (most recent call last):
    app.errors.Invalid: 'a/../b' is no name of an object: parts of letters, digits, '.', '_' and '-' with single '/' ...
    """
    if len(name) > 512 or not _NAME.fullmatch(name):
        raise Invalid(
            f"{name[:100]!r} is no name of an object: parts of letters, digits, '.', '_' and '-' with single '/' "
            "between are, of at most 512 characters in all, none of them '.' or '..'"
        )
    return name
