"""The document flow: validate -> encode -> store durably -> searchable in the tail -> sealed in the background.

Everything here blocks; the HTTP layer calls it in worker threads. A write is applied whole or not at all.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeVar

from app.changes.patch import Patch, Standing, changed_rows
from app.changes.plan import Made, Plan
from app.collection.collection import Collection
from app.collection.layers import vector_field
from app.collection.passages import check_vectors
from app.collection.writes.changes import Raced, Written
from app.errors import Invalid, NotFound, NotIndexed, PreconditionFailed, StorageFull, TextRefused
from app.filters import Filter
from app.indexing.causal import causal_due, learn_causal
from app.indexing.newcomers import seal_known
from app.indexing.summaries import learn_summaries, summaries_due
from app.metadata import reading
from app.metadata.declared import check
from app.schema.faults import pointer as joined
from app.store.rows import find_live
from app.types import Document

R = TypeVar("R")

NAMED = 10
"""Ids of cut texts that a report names."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """written: documents that stand as the request has them. ids: of all, in its order. changed: of those that stand,
    the ones that did not before. created: ids that were not there. duplicates: ids that came more than once, of which
    the last won. truncated: ids whose text the encoder's limit cut. versions: of every document, by id."""

    written: int
    ids: list[str]
    changed: int
    created: int
    duplicates: list[str]
    truncated: list[str]
    versions: dict[str, int]


class Patched(NamedTuple):
    """A document as it is now, and its version. cut: whether the encoder's limit cuts its text."""

    document: Document
    version: int
    cut: bool


@dataclass(frozen=True, slots=True)
class Condition:
    """The conditions on the one document that a write is about. versions: one of them stands. exists: whether there is
    one; None: either."""

    versions: frozenset[int] | None = None
    exists: bool | None = None

    def check(self, identifier: str, version: int | None) -> None:
        """version: the one that stands, if one does. Raises PreconditionFailed."""
        stands = "there is no such document" if version is None else f"version {version} stands"
        if self.versions is not None and version not in self.versions:
            asked = ", ".join(map(str, sorted(self.versions))) or "none"
            raise PreconditionFailed(f"document {identifier!r}: expected version {asked}; {stands}")
        if self.exists is not None and self.exists != (version is not None):
            asked = "a document" if self.exists else "no document"
            raise PreconditionFailed(f"document {identifier!r}: expected {asked}; {stands}")


def write_documents(
    collection: Collection,
    documents: Sequence[Document],
    also: Callable[[sqlite3.Connection, WriteResult], None] | None = None,
    condition: Condition | None = None,
    made: Made | None = None,
) -> WriteResult:
    """Upserts. Durable and searchable when this returns.

    A document that is there already, equal in every field, is left as it is; one whose text alone did not change is
    not encoded again. also: more to do in the same transaction. condition: must hold of every document in it. made:
    rows of documents of this write that are made elsewhere.
    Raises Invalid with pointers into ``{"documents": [...]}`` (TextRefused for what the encoder cannot take),
    PreconditionFailed, Conflict, EncoderUnavailable, StorageFull.
    """
    for i, document in enumerate(documents):
        check_document(collection, document, f"/documents/{i}")
    # Before anything is encoded for nothing.
    collection.require_writer()
    last = {document.id: document for document in documents}
    seen: dict[str, int] = {}
    for document in documents:
        seen[document.id] = seen.get(document.id, 0) + 1
    duplicates = [identifier for identifier, count in seen.items() if count > 1]
    while True:
        plan = Plan.make(collection, list(last.values()))
        expected: dict[str, int | None] = dict(plan.standing)
        if condition is not None:
            expected = {identifier: plan.live.get(identifier) for identifier in last}
            for identifier, version in expected.items():
                condition.check(identifier, version)
        try:
            changed, parts = plan.encode(collection, made)
        except TextRefused as error:
            places = {document.id: i for i, document in enumerate(documents)}
            why = {places[plan.changed[i].id]: reason for i, reason in error.texts.items()}
            raise TextRefused(why, "/documents/{}/text") from error
        flags = [document.id in plan.truncated for document in changed]
        result = partial(_result, plan, changed, [document.id for document in documents], duplicates)
        try:
            written = result(collection.write(changed, flags, parts, expected=expected, also=_then(also, result)))
        except Raced:
            continue
        if causal_due(collection):
            learn_causal(collection)
        if summaries_due(collection):
            learn_summaries(collection)
        return written


def _result(
    plan: Plan, changed: Sequence[Document], ids: Sequence[str], duplicates: list[str], written: Written
) -> WriteResult:
    each = dict.fromkeys(ids)
    cut = [identifier for identifier in each if identifier in plan.truncated]
    fresh = {document.id: written.first + i for i, document in enumerate(changed)}
    versions = {**plan.standing, **fresh}
    return WriteResult(len(each), list(ids), len(changed), written.created, duplicates, cut, versions)


def _then(
    also: Callable[[sqlite3.Connection, R], None] | None, result: Callable[[Written], R]
) -> Callable[[sqlite3.Connection, Written], None] | None:
    """``also``, told what the write comes to."""
    return None if also is None else lambda txn, written: also(txn, result(written))


def beyond_the_limit(count: int, ids: Sequence[str]) -> str:
    """The warning about texts that the encoder's limit cut. ids: of the first ones."""
    named = ", ".join(ids) + (", ..." if count > len(ids) else "")
    return f"{count:,} texts are longer than the encoder reads; what lies beyond is not searched: {named}"


def check_document(collection: Collection, document: Document, pointer: str, *, keeps: bool = False) -> None:
    """Whether the collection can hold the document. keeps: one without vectors has those that stand.

    Raises Invalid, Conflict (read-only: see Collection.encoder)."""
    try:
        check(document.metadata, collection.published.declared)
    except reading.Unfit as error:
        raise Invalid.at(pointer + joined(["metadata", *error.at]), error.message) from None
    spec = collection.spec
    if document.turns and spec.turns is None:
        raise Invalid.at(
            f"{pointer}/turns", f"collection {spec.name} has no turns: create one with `turns`, or give text"
        )
    field = vector_field(spec)
    if spec.model is None:
        if document.vectors is None and not keeps:
            raise Invalid.at(f"{pointer}/{field}", f"expected {field}, for the collection has no encoder")
        if (
            document.vectors is not None
            and document.splits
            and (min(document.splits) < 1 or sum(document.splits) != len(document.vectors))
        ):
            raise Invalid.at(f"{pointer}/{field}", f"expected {sum(document.splits)} vectors, one or more a passage")
        # A sequence is checked at once, so that a fault names the segment.
        for matrix in [document.vectors] if spec.ordered and document.vectors is not None else document.matrices:
            check_vectors(matrix, spec, pointer)
    elif document.vectors is not None:
        raise Invalid.at(f"{pointer}/{field}", f"the collection's encoder {spec.model!r} makes the vectors")
    elif not document.passage:
        raise Invalid.at(f"{pointer}/text", "text and title are empty: there is nothing to encode")
    if document.sparse is not None and not spec.given_sparse:
        why = f"the collection's sparse encoder {spec.sparse_model!r} makes them"
        if spec.sparse is None:
            why = "the collection has no sparse vectors: its `sparse` is null"
        raise Invalid.at(f"{pointer}/sparse_vector", why)

    if document.values is not None:
        if spec.values is None:
            raise Invalid.at(f"{pointer}/values", "the collection's documents carry none: its `values` is null")
        if document.values.shape[1] != spec.values.dim:
            got = document.values.shape[1]
            raise Invalid.at(f"{pointer}/values", f"expected vectors of {spec.values.dim:,} dimensions, got {got:,}")


def patch_document(
    collection: Collection,
    identifier: str,
    patch: Patch,
    also: Callable[[sqlite3.Connection, Patched], None] | None = None,
    condition: Condition | None = None,
) -> Patched:
    """Changes what the patch names of a document; all else stays, and of its vectors what the change leaves true. The
    version that stands stays where nothing is changed.

    Encodes texts that it changed, of several passages those alone, and nothing else. Raises NotFound, Invalid with
    pointers into the patch (TextRefused), PreconditionFailed, Conflict, EncoderUnavailable, StorageFull.
    """
    collection.require_writer()
    while True:
        with collection.snapshot() as snapshot:
            live = find_live(snapshot.connection, [identifier])
            if condition is not None:
                condition.check(identifier, live.get(identifier))
            if identifier not in live:
                raise NotFound(
                    f"collection {collection.name} has no document {identifier!r}", code="document_not_found"
                )
            standing = Standing.read(collection, snapshot, live[identifier])
        if standing is None:
            continue
        patched = patch.applied(standing.document)
        try:
            reading.read(patched.metadata)
        except reading.Unfit as error:
            raise Invalid.at(joined(["metadata", *error.at]), error.message) from None
        check_document(collection, patched, "", keeps=patch.vectors is None)
        if patch.leaves(standing.document, patched):
            result = partial(_stands, patched, standing)
            try:
                return result(collection.write([], [], [], expected=live, also=_then(also, result)))
            except Raced:
                continue
        try:
            rows, cut = changed_rows(collection, standing, patched)
        except TextRefused as error:
            raise TextRefused(dict.fromkeys([0], error.texts[0]), "/text") from error
        kept = replace(patched, vectors=None, values=None)
        result = partial(_patched, kept, cut)
        try:
            bare = replace(kept, sparse=None)
            return result(collection.write([bare], [cut], [rows], expected=live, also=_then(also, result)))
        except Raced:
            continue


def _patched(document: Document, cut: bool, written: Written) -> Patched:
    return Patched(document, written.first, cut)


def _stands(document: Document, standing: Standing, _: Written) -> Patched:
    return Patched(document, standing.seq, standing.cut)


Counted = Callable[[sqlite3.Connection, int], None]
"""More to do in the transaction of a deletion, which is told how many are gone."""


def delete_ids(collection: Collection, identifiers: Iterable[str], also: Counted | None = None) -> int:
    """How many documents were there and are gone; absent and repeated ids are no error."""
    return collection.delete(list(identifiers), also=also)


def delete_one(
    collection: Collection, identifier: str, also: Counted | None = None, condition: Condition | None = None
) -> None:
    """Raises NotFound, PreconditionFailed."""
    while True:
        with collection.database.read() as connection:
            version = find_live(connection, [identifier]).get(identifier)
        if condition is not None:
            condition.check(identifier, version)
        if version is None:
            raise NotFound(f"collection {collection.name} has no document {identifier!r}", code="document_not_found")
        try:
            collection.delete([identifier], expected={identifier: version}, also=also)
        except Raced:
            continue
        return


def delete_matching(collection: Collection, condition: Filter, also: Counted | None = None) -> int:
    """How many documents matched and are gone."""
    return collection.delete_matching(condition, also=also)


def index_now(collection: Collection, until: float = math.inf) -> bool:
    """Puts all that was written before into a generation. Whether it is there: not while other work makes the
    collection's indexes, which is not waited for.

    until: when it is given up, as ``time.monotonic``. Raises NotIndexed, StorageFull: it is durable all the same.
    """

    def check() -> None:
        if time.monotonic() > until:
            raise not_indexed()

    if not len(collection.published.tail.part.seqs):
        return True
    with collection.structure.attempt() as mine:
        if not mine:
            return False
        try:
            seal_known(collection, check)
        except StorageFull as error:
            raise StorageFull("the documents are written and found, but there is no room to index them now") from error
    return True


def not_indexed() -> NotIndexed:
    return NotIndexed(
        "the documents are written and found, but not indexed yet, for the collection's indexes are being made; they "
        "are indexed with what is written next. Nothing is to be sent again"
    )
