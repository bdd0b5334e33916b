"""A change of one document: which fields it names, and which vectors stay true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from app.changes.plan import Plan, alike, from_callers
from app.collection.collection import Collection
from app.collection.layers import SPARSE
from app.collection.passages import Passages
from app.collection.view import Snapshot
from app.collection.writes.changes import Raced
from app.errors import Invalid
from app.passages.sparse import with_sparse
from app.passages.values import with_values
from app.sparse.rows import of_documents, only_of
from app.store.rows import truncated_among
from app.types import F32, Document, SparseVector, Turn, spoken


@dataclass(frozen=True, slots=True)
class Patch:
    """What it names of a document; None: it stays. metadata: a merge patch (RFC 7396), in which null removes a key;
    replaces: all of the metadata instead, in which null is a value. vectors: the caller's own, (n, dim) float32.
    unsparse: takes the caller's sparse vector away. turns: of a conversation, in the place of its text; a text takes
    the place of turns and their summary. values: those that the document carries; unvalue: takes them away."""

    title: str | None = None
    text: str | None = None
    metadata: Mapping[str, Any] | None = None
    replaces: bool = False
    vectors: F32 | None = None
    sparse: SparseVector | None = None
    unsparse: bool = False
    turns: tuple[Turn, ...] = ()
    summary: str | None = None
    values: F32 | None = None
    unvalue: bool = False

    def applied(self, document: Document) -> Document:
        """The document as it is to be, with vectors where the patch has some.

        >>> Patch(text="b", metadata={"n": None, "m": 2}).applied(Document("x", "a", "t", {"n": 1})).metadata
        {'m': 2}
        """
        metadata = document.metadata
        if self.metadata is not None:
            metadata = dict(self.metadata) if self.replaces else merged(metadata, self.metadata)
        turns, summary = self.turns or document.turns, document.summary if self.summary is None else self.summary
        text = document.text if self.text is None else self.text
        if self.text is not None and not self.turns and self.text != document.text:
            turns, summary = (), self.summary or ""
        if summary and not turns:
            raise Invalid.at("/summary", "it is of a conversation: give its turns")
        return replace(
            document,
            title=document.title if self.title is None else self.title,
            text=spoken(turns) if turns else text,
            turns=turns,
            summary=summary,
            metadata=metadata,
            vectors=self.vectors,
            splits=(),
            sparse=None if self.unsparse else (self.sparse or document.sparse),
            values=None if self.unvalue else document.values if self.values is None else self.values,
        )

    def leaves(self, old: Document, new: Document) -> bool:
        """Whether ``new``, which it makes of ``old``, is the same. Vectors of a caller's are a change."""
        sparse = self.sparse is not None or (self.unsparse and old.sparse is not None)
        values = self.values is not None or (self.unvalue and old.values is not None)
        return self.vectors is None and not sparse and not values and new.stands_as(old)


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396, section 2.

    >>> merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None, "e": 4}, "d": None})
    {'a': {'c': 2, 'e': 4}}
    """
    found = dict(target)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict):
            old = found.get(key)
            found[key] = merged(old if isinstance(old, dict) else {}, value)
        else:
            found[key] = value
    return found


@dataclass(frozen=True, slots=True)
class Standing:
    """A document that is to be changed, with its sparse vector where callers bring them, and its rows. cut: whether
    the encoder's limit cuts its text."""

    document: Document
    rows: Passages
    cut: bool
    seq: int

    @classmethod
    def read(cls, collection: Collection, snapshot: Snapshot, seq: int) -> Standing | None:
        """None where the vectors are gone meanwhile, with the version. Raises Damaged."""
        stored = collection.stored_vectors([seq], snapshot.published)
        if seq not in stored:
            return None
        document = snapshot.documents([seq])[seq]
        if collection.spec.given_sparse:
            document = replace(document, sparse=collection.given_sparse([seq], snapshot.published).get(seq))
        if collection.spec.values is not None:
            document = replace(document, values=collection.values_of([seq], snapshot.published).get(seq))
        return cls(document, stored[seq], bool(truncated_among(snapshot.connection, [seq])), seq)


def changed_rows(collection: Collection, standing: Standing, new: Document) -> tuple[Passages, bool]:
    """The rows of the document as it is to be, and whether the encoder's limit cuts its text. Those that the change
    leaves true are taken as they are stored.

    Raises TextRefused with place 0, EncoderError, Conflict, Raced where another version stands by now.
    """
    spec, old, rows = collection.spec, standing.document, standing.rows
    cut = standing.cut
    if spec.model is not None and not alike(new, old, spec):
        plan = Plan.make(collection, [new])
        if plan.live.get(new.id) != standing.seq:
            raise Raced
        _, parts = plan.encode(collection)
        return Passages.join(parts), new.id in plan.truncated
    if new.vectors is not None:
        workers = collection.resources.workers
        rows = from_callers([new], spec, collection.stage.encoding, workers if spec.pools else None)
    rows = with_values(rows, [new], spec)
    if spec.given_sparse:
        return with_sparse(rows.with_layer(SPARSE, None), [new], spec, None)[0], cut
    if spec.sparse is None or spec.model is not None:
        return rows, cut
    if new.passage == old.passage:
        # Of a caller's document the first row alone has one.
        kept = only_of(standing.rows.ragged(SPARSE), standing.rows.owners, 0)
        return rows.with_layer(SPARSE, of_documents([kept], rows.owners)), cut
    found, anew = with_sparse(
        rows.with_layer(SPARSE, None), [new], spec, partial(collection.encode_sparse, task="document")
    )
    return found, bool(anew[0])
