"""Bulk build: everything of a source into a collection that this process writes.

The flow: read -> check -> encode, here or on a cluster -> write in batches, each durable -> seal the tail in long runs
-> seal the rest -> merge once. Nothing is remembered beside the collection itself: interrupted at any moment, the same
call passes over the documents that stand already, as every write does, without encoding, and goes on.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from app.changes.plan import Made, Plan
from app.collection.collection import Collection
from app.errors import Invalid, RequestError
from app.indexing.fitting import due, learn_if_due
from app.indexing.newcomers import seal_known
from app.indexing.sealing import merge, seal_due
from app.ingest import NAMED, check_document, write_documents
from app.load.cluster import Cluster
from app.sources.protocol import Entry, LeftOut, Source
from app.types import Document

BATCH_DOCUMENTS: Final = 128
BATCH_VECTORS: Final = 2_048
"""Documents of a batch that bring their vectors: nothing is encoded, so a commit is what a small one would cost."""
BATCH_BYTES: Final = 32 * 2**20
"""Of text and vectors: bounds what a batch of long documents holds in memory."""
BATCH_TEXT: Final = 8 * 2**20
"""Of texts that are encoded, of which each thousand characters or so become a passage's vectors."""
RUN: Final = 4
"""Times ``seal_documents`` that a run has. Few search a tail while it is loaded, so it may grow longer before it is
sealed; and runs are merged once, at the end, where tiers would be merged again and again."""
SEGMENTS: Final = 64
"""Segments at which they are merged before the end after all: each holds files open in memory."""

OnError: TypeAlias = Literal["stop", "skip"]
BadLine: TypeAlias = Callable[[str, RequestError], None]
"""Called with the place of each bad line that is passed over, such as `line 3`, and its error."""
Progress: TypeAlias = Callable[["Summary"], None]
"""Called after each batch, and once at the end; reads ``source.done`` beside it."""


@dataclass(slots=True)
class Summary:
    """The outcome of a load. read: documents, bad lines included. written: new or changed. unchanged: stood
    already. truncated: documents whose text the encoder's limit cut, and the ids of the first ones. skipped: neither
    title nor text. left_out: what is no document, by reasons. repeated: documents that another of the same id took the
    place of; known of a collection that was empty. phase: what goes on after the last document was written;
    empty before.
    """

    read: int = 0
    written: int = 0
    unchanged: int = 0
    truncated: int = 0
    truncated_ids: list[str] = field(default_factory=list)
    skipped: int = 0
    bad: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    phase: str = ""


class Stopped(Invalid):
    """A bad line ended the build, as asked. The message says whether what came before it is written."""


def fill(
    collection: Collection,
    source: Source,
    *,
    on_error: OnError,
    bad_line: BadLine,
    progress: Progress,
    cluster: Cluster | None = None,
) -> Summary:
    """Upserts every document of the source, and leaves all of them indexed. cluster: encodes them.

    Raises Stopped at a bad line where ``on_error`` is `stop`, Conflict (collection_busy) where another process writes
    the collection, MalformedBody for a source that cannot be read further, EncoderError, StoreError.
    """
    collection.require_writer()
    summary = Summary()
    writing = _Writing(collection, summary, cluster)
    batch: list[Document] = []
    size = 0
    encodes = collection.spec.model is not None
    empty = collection.published.live == 0
    most, room = (BATCH_DOCUMENTS, BATCH_TEXT) if encodes else (BATCH_VECTORS, BATCH_BYTES)
    for entry in source.entries():
        found = entry.found
        summary.skipped = source.skipped
        if isinstance(found, LeftOut):
            summary.left_out[found.reason] += found.count
            continue
        summary.read += 1
        error = found if isinstance(found, RequestError) else _refusal(collection, found)
        if error is not None:
            summary.bad += 1
            if on_error == "stop":
                writing.add(batch)
                writing.end()
                stands = summary.written or summary.unchanged
                said = "What came before it is written" if stands else "Nothing is written"
                raise Stopped(f"{at(source, entry)}: {error.message}. {said}; `--on-error skip` passes over such")
            bad_line(entry.place or source.name, error)
        elif isinstance(found, Document):
            batch.append(found)
            size += _bytes(found)
        if len(batch) == most or size >= room:
            writing.add(batch)
            batch, size = [], 0
            progress(summary)
    writing.add(batch)
    writing.end()
    summary.skipped = source.skipped
    if not empty:
        summary.repeated = 0
    if not (summary.read or summary.skipped):
        raise Invalid(nothing(source, summary))
    summary.phase = "indexing"
    progress(summary)
    seal_known(collection)
    _merge(collection)
    if due(collection) is not None:
        summary.phase = "learning a first stage"
        progress(summary)
        learn_if_due(collection)
    summary.phase = ""
    progress(summary)
    return summary


def at(source: Source, entry: Entry) -> str:
    """The place of an entry, for messages."""
    return ", ".join(filter(None, (source.name, entry.place)))


def nothing(source: Source, summary: Summary) -> str:
    """What there is in a source without documents."""
    left = "; left out: " + told(summary.left_out) if summary.left_out else ""
    return f"{source.name} holds no document{left}"


def told(left_out: Counter[str]) -> str:
    """
    >>> told(Counter({"hidden files": 1, "files of other forms (.png)": 1200}))
    '1,200 files of other forms (.png), 1 hidden files'
    """
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())


def _refusal(collection: Collection, document: Document) -> Invalid | None:
    try:
        check_document(collection, document, "")
    except Invalid as error:
        return error
    return None


class _Writing:
    """Batches on their way into the collection, in order."""

    def __init__(self, collection: Collection, summary: Summary, cluster: Cluster | None) -> None:
        self._collection, self._summary, self._cluster = collection, summary, cluster
        self._ahead: deque[tuple[Sequence[Document], Made | None]] = deque()

    def add(self, batch: Sequence[Document]) -> None:
        """Written now, or once those are that a cluster encodes before it."""
        made = None
        if self._cluster is not None and (texts := self._texts(batch)):
            made = self._cluster.begin(self._collection, texts)
        self._ahead.append((batch, made))
        self._write(0 if self._cluster is None else self._cluster.ahead)

    def end(self) -> None:
        """Writes all that is left."""
        self._write(0)

    def _write(self, left: int) -> None:
        while len(self._ahead) > left:
            _write(self._collection, *self._ahead.popleft(), self._summary)

    def _texts(self, batch: Sequence[Document]) -> list[Document]:
        """What of it is to be encoded, for all that is known now."""
        last = {document.id: document for document in batch}
        return Plan.make(self._collection, list(last.values())).texts


def _write(collection: Collection, batch: Sequence[Document], made: Made | None, summary: Summary) -> None:
    if not batch:
        return
    result = write_documents(collection, batch, made=made)
    summary.written += result.changed
    summary.unchanged += result.written - result.changed
    # Those of one batch, and those that stand since another.
    summary.repeated += len(batch) - result.written + result.changed - result.created
    summary.truncated += len(result.truncated)
    summary.truncated_ids += result.truncated[: NAMED - len(summary.truncated_ids)]
    if result.changed and seal_due(collection, RUN):
        seal_known(collection)
        if len(collection.published.segments) >= SEGMENTS:
            _merge(collection)


def _merge(collection: Collection) -> None:
    while merge(collection):
        pass


def _bytes(document: Document) -> int:
    vectors = 0 if document.vectors is None else document.vectors.nbytes
    vectors += 0 if document.sparse is None else 4 * document.sparse.size
    vectors += 0 if document.values is None else document.values.nbytes
    return len(document.text) + len(document.title) + vectors
