"""Every error that Sheaf raises on purpose, in one tree.

    SheafError                      500 internal
    ├── RequestError                4xx: the caller can mend it
    │   ├── MalformedBody           400 malformed_body
    │   ├── HostRefused             400 host_refused
    │   ├── BadArchive              400 bad_archive, archive_too_new: not a snapshot, or a damaged one
    │   ├── KeyRefused              401 key_required, key_refused
    │   ├── NotAllowed              403 scope_missing, collection_not_allowed
    │   ├── NotFound                404 collection_not_found, document_not_found, task_not_found, not_found, ...
    │   ├── Conflict                409 collection_exists, collection_busy, collection_empty, encoder_changed, ...
    │   ├── PreconditionFailed      412 precondition_failed: If-Match, If-None-Match
    │   ├── TooLarge                413 body_too_large
    │   ├── UnsupportedMediaType    415 unsupported_media_type
    │   ├── AnswerTooLarge          422 answer_too_large: what is asked for is more than one answer may hold
    │   ├── Invalid                 422 invalid: a value that cannot be; carries pointers into the body
    │   │   └── TextRefused         422 text_refused: texts that the encoder takes from nobody
    │   └── TooOften                429 too_often: more requests a second than a key may send
    ├── StoreError                  what the disk says
    │   ├── Damaged                 503 collection_damaged: a checksum, a size or a format is not what was written
    │   ├── SystemFault             503 system_fault: the system gives no file or no memory now; try again later
    │   │   └── StoreUnavailable    503 store_unavailable: an object store refuses, or is not reached; not applied
    │   │       ├── StoreRefused    503 store_refused: it refuses a key, a right or a request; a person has to look
    │   │       └── Unsure          503 write_unsure: its answer was lost, so it may be applied
    │   ├── ObjectMissing           503 object_missing: an object store has none of the name
    │   ├── ObjectTaken             503 object_taken: it has one already
    │   ├── ObjectChanged           503 object_changed: it has another than the one to be replaced
    │   ├── Fenced                  503 writer_fenced: another writer has taken over
    │   ├── ReaderBehind            503 reader_behind: what it would read is collected; it opens anew
    │   ├── Diverged                503 copy_diverged: a local copy has another history than an object store
    │   ├── FormatTooNew            503 format_too_new
    │   ├── MemoryShort             503 memory_short: what is to be loaded does not fit
    │   └── StorageFull             507 storage_full
    ├── EncoderError                what a model or a remote says
    │   ├── EncoderRefused          503 encoder_refused: the model is not what it claims, or would mislead
    │   └── EncoderUnavailable      503 encoder_unavailable: try again later
    ├── TooSlow                     504 search_timeout: a search took longer than it may
    ├── PartsUnreached              503 shards_unreached: no shard that holds some segments answers for them
    ├── NotIndexed                  504 not_indexed: written, durable and found, but not indexed in time
    └── Unavailable                 503 unavailable: it changes, is closed, or is damaged until it is rebuilt
        ├── Closed                  503 collection_closed: it is being replaced; of one that is deleted 404
        ├── NotReady                503 unavailable: starting, stopping
        └── Overloaded              503 overloaded: too much waits already

Each has an HTTP status and a stable ``code``; the message names what was expected, what came, and what to do.
The HTTP layer turns them into problem details (RFC 9457) in one handler; scripts print the message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a request: where (JSON pointer, RFC 6901; empty for the whole) and what. line: of a body of lines,
    from 1; the pointer is into that line then."""

    pointer: str
    message: str
    line: int | None = None

    @property
    def place(self) -> str:
        """For messages.

        >>> Problem("/text", "empty", 3).place, Problem("", "empty").place
        ('line 3, /text', 'the body')
        """
        where = self.pointer or ("" if self.line else "the body")
        return where if self.line is None else f"line {self.line:,}" + (where and f", {where}")


class SheafError(Exception):
    """The root: an error that Sheaf raises on purpose. headers: of the answer. request_id: of the request that a server
    answered with it, where a client raises it (``app.client``)."""

    status = 500
    code = "internal"
    request_id = ""
    headers: Mapping[str, str] = {}

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class RequestError(SheafError):
    """The caller can mend it."""

    status = 400
    code = "bad_request"


class MalformedBody(RequestError):
    """The body is not JSON (or not NDJSON, or not UTF-8)."""

    code = "malformed_body"


class HostRefused(RequestError):
    """The Host header names neither loopback nor a configured host."""

    code = "host_refused"


class KeyRefused(RequestError):
    """The request has no key, or none that the server knows."""

    status = 401
    code = "key_refused"


class NotAllowed(RequestError):
    """The key may not do this. ``scope``: what it would need, where that is the reason."""

    status = 403
    code = "scope_missing"

    def __init__(self, message: str, *, scope: str = "", code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.scope = scope


class BadArchive(RequestError):
    """An archive that is no snapshot, is damaged, or holds what no snapshot may hold. Nothing of it was kept."""

    code = "bad_archive"


class NotFound(RequestError):
    """Nothing has the name in the path."""

    status = 404
    code = "not_found"


class Conflict(RequestError):
    """The state of the collection does not allow it now."""

    status = 409
    code = "conflict"


class PreconditionFailed(RequestError):
    """The document is not as If-Match or If-None-Match wants it; nothing was changed."""

    status = 412
    code = "precondition_failed"


class TooLarge(RequestError):
    """The body is over the limit."""

    status = 413
    code = "body_too_large"


class UnsupportedMediaType(RequestError):
    """The body has another content type than the route takes."""

    status = 415
    code = "unsupported_media_type"


class AnswerTooLarge(RequestError):
    """The documents and vectors that are asked for are more than one answer may hold."""

    status = 422
    code = "answer_too_large"


class Invalid(RequestError, ValueError):
    """A value that cannot be. ``problems`` point at the places in the request body."""

    status = 422
    code = "invalid"

    def __init__(self, message: str, problems: Sequence[Problem] = (), *, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.problems = tuple(problems)

    @classmethod
    def at(cls, pointer: str, message: str) -> Invalid:
        """One fault at one place."""
        return cls(f"{pointer or 'the body'}: {message}", [Problem(pointer, message)])


class TextRefused(Invalid):
    """The encoder makes no vectors of these texts, and would of the others. texts: the place of each in what it was
    given, and why."""

    code = "text_refused"

    def __init__(self, texts: Mapping[int, str], pointer: str = "/{}") -> None:
        """pointer: to the text at place ``{}`` in the body."""
        problems = [Problem(pointer.format(place), why) for place, why in texts.items()]
        first = f"{problems[0].pointer}: {problems[0].message}"
        super().__init__(
            first if len(texts) == 1 else f"{len(texts):,} texts are refused; the first: {first}", problems
        )
        self.texts = dict(texts)


class TooOften(RequestError):
    """More requests a second than a key may send."""

    status = 429
    code = "too_often"

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(math.ceil(wait_s))}


class StoreError(SheafError):
    """The disk does not give what was written to it, or takes no more."""

    status = 503
    code = "store"


class Damaged(StoreError):
    """A checksum, a size or a count is not what was written. Names the file and the way out."""

    code = "collection_damaged"


class SystemFault(StoreError):
    """The system refuses a file for now: too many are open, no memory, a disk that erred, another's owner or mode.
    Stored data is as it was. Names the file, the cause and the remedy.
    """

    code = "system_fault"
    headers: Mapping[str, str] = {"Retry-After": "5"}


class StoreUnavailable(SystemFault):
    """An object store refuses for now, or is not reached. What was asked for is not applied, and passes."""

    code = "store_unavailable"


class StoreRefused(StoreUnavailable):
    """An object store refuses a key, a right, or what is asked: not to be tried again before somebody has looked."""

    code = "store_refused"


class Unsure(StoreUnavailable):
    """An object store's answer to a write was lost: it may be applied, now or later. What is there tells."""

    code = "write_unsure"


class ObjectMissing(StoreError):
    """An object store has nothing of that name."""

    code = "object_missing"


class ObjectTaken(StoreError):
    """An object store has something of that name already; nothing was changed. content: what it is."""

    code = "object_taken"

    def __init__(self, message: str, content: bytes = b"", *, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.content = content


class ObjectChanged(StoreError):
    """An object store has another object than the one to be replaced, or none; nothing was changed."""

    code = "object_changed"


class Fenced(StoreError):
    """Another writer has taken over: this one commits nothing any more. Nothing acknowledged is lost."""

    code = "writer_fenced"


class ReaderBehind(StoreError):
    """A reader did not follow in time, and what it would read next is collected. It opens anew, at the latest state."""

    code = "reader_behind"


class Diverged(StoreError):
    """A local copy and an object store have different histories of a collection; neither was changed."""

    code = "copy_diverged"

    @classmethod
    def of(cls, name: str, why: str) -> Diverged:
        """Of a collection, with the ways out."""
        return cls(
            f"the local copy of collection {name} and the store differ: {why}. To have the store's, move the folder "
            f"{name} out of SHEAF_INDEXES and start again; to keep the local one, start without SHEAF_STORE, take a "
            "snapshot of it, and restore that under another name with SHEAF_STORE"
        )


class FormatTooNew(StoreError):
    """Written by another version of Sheaf, in a format that this one does not read."""

    code = "format_too_new"


class MemoryShort(StoreError):
    """A collection or model to be loaded does not fit into memory."""

    code = "memory_short"


class StorageFull(StoreError):
    """No room; nothing of the request was kept."""

    status = 507
    code = "storage_full"


class EncoderError(SheafError):
    """A model or a remote encoder."""

    status = 503
    code = "encoder"


class EncoderRefused(EncoderError):
    """The model is not what it claims to be, or would give misleading vectors."""

    code = "encoder_refused"


class EncoderUnavailable(EncoderError):
    """The encoder does not answer now."""

    code = "encoder_unavailable"
    headers: Mapping[str, str] = {"Retry-After": "5"}


class Unavailable(SheafError):
    """Not now."""

    status = 503
    code = "unavailable"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class Closed(Unavailable):
    """The collection was closed or moved while something was asked of it: it is deleted, replaced, or taken out of
    service. Who knows that it is deleted says NotFound instead (``Catalogue.standing``)."""

    code = "collection_closed"


class NotReady(Unavailable):
    """The service is starting or stopping, as it should: no fault, so the log has no error for it."""


class Overloaded(Unavailable):
    """More waits already than the operator allows."""

    code = "overloaded"


class TooSlow(SheafError):
    """A search took longer than it may."""

    status = 504
    code = "search_timeout"


class PartsUnreached(SheafError):
    """Nobody who holds some segments of a collection answered in time (app.shards). names: of these."""

    status = 503
    code = "shards_unreached"

    def __init__(self, message: str, names: Sequence[str] = (), *, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.names = frozenset(names)


class NotIndexed(SheafError):
    """The write is durable and found; that it is in a generation too was waited for as long as a request may.
    Nothing is to be sent again.
    """

    status = 504
    code = "not_indexed"
