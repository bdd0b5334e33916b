"""The document flow: validate -> encode -> store durably -> searchable in the tail -> sealed in the background.

Everything here blocks; the HTTP layer calls it in worker threads. A write is applied whole or not at all.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias, TypeVar

import numpy as np

from app.collection.collection import Collection, Raced, Written
from app.collection.layers import ENCODED, SPARSE, vector_field
from app.collection.passages import Passages, check_vectors, from_caller
from app.collection.spec import CollectionSpec
from app.collection.view import Published
from app.compute.workers import Workers
from app.encodings.protocol import Encoding
from app.errors import Invalid, NotFound, NotIndexed, PreconditionFailed, StorageFull, TextRefused
from app.filters import Filter
from app.indexing.newcomers import seal_known
from app.passages.encoding import Splitter, encoded_rows, lent
from app.passages.sparse import with_sparse
from app.store.rows import find_live, truncated_among
from app.types import F32, Document, Mask, MetadataValue, Owners, SparseVector

R = TypeVar("R")
Patched: TypeAlias = tuple[Document, int]
"""A document as it is now, and its version."""

ENCODED_AT_ONCE = 256
"""Documents whose vectors are held in float32 at one time."""
NAMED = 10
"""Ids of cut texts that a report names."""
CODED = 32
"""The fewest documents worth a thread of their own while their vectors are coded."""


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
) -> WriteResult:
    """Upserts. Durable and searchable when this returns.

    A document that is there already, equal in every field, is left as it is; one whose text alone did not change is
    not encoded again. also: more to do in the same transaction. condition: must hold of every document in it.
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
        plan = _Plan.make(collection, list(last.values()))
        expected: dict[str, int | None] = dict(plan.standing)
        if condition is not None:
            expected = {identifier: plan.live.get(identifier) for identifier in last}
            for identifier, version in expected.items():
                condition.check(identifier, version)
        try:
            changed, parts = plan.encode(collection)
        except TextRefused as error:
            places = {document.id: i for i, document in enumerate(documents)}
            why = {places[plan.changed[i].id]: reason for i, reason in error.texts.items()}
            raise TextRefused(why, "/documents/{}/text") from error
        flags = [document.id in plan.truncated for document in changed]
        result = partial(_result, plan, changed, [document.id for document in documents], duplicates)
        try:
            return result(collection.write(changed, flags, parts, expected=expected, also=_then(also, result)))
        except Raced:
            continue


def _result(
    plan: _Plan, changed: Sequence[Document], ids: Sequence[str], duplicates: list[str], written: Written
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


def check_document(collection: Collection, document: Document, pointer: str) -> None:
    """Whether the collection can hold the document. Raises Invalid, Conflict (read-only: see Collection.encoder)."""
    spec = collection.spec
    field = vector_field(spec)
    if spec.model is None:
        if document.vectors is None:
            raise Invalid.at(f"{pointer}/{field}", f"expected {field}, for the collection has no encoder")
        if document.splits and (min(document.splits) < 1 or sum(document.splits) != len(document.vectors)):
            raise Invalid.at(f"{pointer}/{field}", f"expected {sum(document.splits)} vectors, one or more a passage")
        for matrix in document.matrices:
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


def patch_metadata(
    collection: Collection,
    identifier: str,
    changes: Mapping[str, MetadataValue | None],
    also: Callable[[sqlite3.Connection, Patched], None] | None = None,
    condition: Condition | None = None,
) -> Patched:
    """Merges the changes into a document's metadata (RFC 7396: null removes); its vectors stay. The new document and
    its version.

    Raises NotFound, PreconditionFailed, Conflict, StorageFull.
    """
    while True:
        with collection.snapshot() as snapshot:
            live = find_live(snapshot.connection, [identifier])
            if condition is not None:
                condition.check(identifier, live.get(identifier))
            if identifier not in live:
                raise NotFound(
                    f"collection {collection.name} has no document {identifier!r}", code="document_not_found"
                )
            seq = live[identifier]
            stored = collection.stored_vectors([seq], snapshot.published)
            if seq not in stored:
                continue
            document = snapshot.documents([seq])[seq]
            cut = bool(truncated_among(snapshot.connection, [seq]))
        merged = {key: value for key, value in {**document.metadata, **changes}.items() if value is not None}
        patched = replace(document, metadata=merged)
        result = partial(_patched, patched)
        try:
            return result(collection.write([patched], [cut], [stored[seq]], expected=live, also=_then(also, result)))
        except Raced:
            continue


def _patched(document: Document, written: Written) -> Patched:
    return document, written.first


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


@dataclass(slots=True)
class _Plan:
    """The work of a write. live: versions that stood. standing: of these, those that it relies on. stored: vectors
    to use again, by id. edited: of documents with another text now the one that stood and its vectors, of which
    some passages may be the same."""

    live: dict[str, int]
    changed: list[Document]
    standing: dict[str, int]
    stored: dict[str, Passages]
    truncated: set[str]
    edited: dict[str, tuple[Document, Passages]] = field(default_factory=dict)

    @classmethod
    def make(cls, collection: Collection, documents: Sequence[Document]) -> _Plan:
        with collection.snapshot() as snapshot:
            live = find_live(snapshot.connection, [document.id for document in documents])
            plan = cls(live, [], {}, {}, set())
            old = snapshot.documents(list(live.values()))
            same_text = {
                document.id: live[document.id]
                for document in documents
                if document.id in live and _alike(document, old[live[document.id]], collection.spec)
            }
            # An encoder that is not the one of the stored vectors is refused even where none would be made.
            if collection.spec.sparse_model is not None:
                collection.sparse_encoder()
            if collection.spec.model is not None:
                collection.encoder()
            else:
                given = {same_text[document.id]: document for document in documents if document.id in same_text}
                same = _given_again(collection, given, snapshot.published)
                same_text = {identifier: seq for identifier, seq in same_text.items() if seq in same}
            other = _weighed_anew(collection, documents, same_text, snapshot.published)
            plan.changed = [
                d for d in documents if d.id not in same_text or d.id in other or not d.stands_as(old[same_text[d.id]])
            ]
            # Only of what will be written.
            again = [same_text[document.id] for document in plan.changed if document.id in same_text]
            edited = {live[d.id]: d.id for d in plan.changed if d.id in live and d.id not in same_text}
            parted = _of_several(edited, snapshot.published) if collection.spec.splits else []
            stored = collection.stored_vectors([*again, *parted], snapshot.published)
            plan.edited = {edited[seq]: (old[seq], stored[seq]) for seq in parted if seq in stored}
            cut = truncated_among(snapshot.connection, same_text.values())
        lost = set(again) - stored.keys()
        plan.standing = {identifier: seq for identifier, seq in same_text.items() if seq not in lost}
        plan.stored = {identifier: stored[seq] for identifier, seq in plan.standing.items() if seq in stored}
        plan.truncated = {identifier for identifier, seq in plan.standing.items() if seq in cut}
        return plan

    def encode(self, collection: Collection) -> tuple[list[Document], list[Passages]]:
        """The documents to write, those with stored vectors first, and their vectors in parts.

        Raises TextRefused with places in ``changed``, which then has the documents in that order too.
        """
        spec, encoding, workers = collection.spec, collection.stage.encoding, collection.resources.workers
        known = [document for document in self.changed if document.id in self.stored]
        fresh = [document for document in self.changed if document.id not in self.stored]
        self.changed = [*known, *fresh]
        parts = list[Passages]()
        if known:
            parts.append(self._with_sparse(collection, Passages.join([self.stored[one.id] for one in known]), known))
        for start in range(0, len(fresh), ENCODED_AT_ONCE):
            some = fresh[start : start + ENCODED_AT_ONCE]
            try:
                if spec.model is None:
                    slices = workers.map_slices(
                        len(some),
                        lambda a, b, some=some: _from_callers(some[a:b], spec, encoding, workers),  # type: ignore[misc]
                        # Pooling shares the documents itself, and slices must not wait for slices.
                        smallest=CODED if spec.token_pooling == 1 else len(some),
                    )
                    if spec.sparse is None:
                        parts += slices
                        continue
                    rows = Passages.join(slices)
                else:
                    rows, cut = self._encoded(collection, some)
                    self.truncated.update(some[i].id for i in np.flatnonzero(cut).tolist())
                parts.append(self._with_sparse(collection, rows, some))
            except TextRefused as error:
                raise TextRefused({len(known) + start + i: why for i, why in error.texts.items()}) from error
        return [replace(document, vectors=None, splits=(), sparse=None) for document in self.changed], parts

    def _with_sparse(self, collection: Collection, rows: Passages, documents: Sequence[Document]) -> Passages:
        """The rows of these documents with their sparse vectors."""
        found, cut = with_sparse(rows, documents, collection.spec, partial(collection.encode_sparse, task="document"))
        self.truncated.update(documents[i].id for i in np.flatnonzero(cut).tolist())
        return found

    def _encoded(self, collection: Collection, documents: Sequence[Document]) -> tuple[Passages, Mask]:
        """Rows of these documents, and which texts the encoder's limit still cut: what stands of a text is not encoded
        again."""
        splitter = Splitter(collection.spec, collection.encoder(), collection.resources.settings.max_passages)
        windows = splitter.windows(documents)
        edited = [document.id for document in documents if document.id in self.edited]
        before = replace(splitter, most=None).windows([self.edited[identifier][0] for identifier in edited])
        known: dict[str, Passages] = {}
        for identifier, own in zip(edited, before, strict=True):
            known.update(lent(own, self.edited[identifier][1]))
        encoding, workers = collection.stage.encoding, collection.resources.workers
        sparse = None
        if collection.spec.sparse_model is not None:
            sparse = partial(collection.encode_sparse, task="document")
        return encoded_rows(windows, known, collection.encode_documents, collection.spec, encoding, workers, sparse)


def _alike(new: Document, old: Document, spec: CollectionSpec) -> bool:
    """Whether their texts give the same rows."""
    return (new.title, new.text) == (old.title, old.text) if spec.splits else new.passage == old.passage


def _weighed_anew(
    collection: Collection, documents: Sequence[Document], standing: Mapping[str, int], published: Published
) -> set[str]:
    """Ids of documents whose caller gives another sparse vector than the version has that stands, by id."""
    if not collection.spec.given_sparse:
        return set()
    kept = collection.given_sparse(list(standing.values()), published)
    return {d.id for d in documents if d.id in standing and not _same(d.sparse, kept.get(standing[d.id]))}


def _same(one: SparseVector | None, other: SparseVector | None) -> bool:
    return one is other if one is None else one.same(other)


def _of_several(seqs: Iterable[int], published: Published) -> list[int]:
    """Of these versions, those that own several rows."""
    found = published.locate(list(seqs))
    spans = ((seq, *view.part.owners.span(place, place + 1)) for seq, (view, place) in found.items())
    return [seq for seq, start, stop in spans if stop - start > 1]


def _from_callers(
    documents: Sequence[Document], spec: CollectionSpec, encoding: Encoding | None, workers: Workers | None = None
) -> Passages:
    """Documents' own vectors, coded for the collection."""
    matrices = [document.matrices for document in documents]
    owners = Owners.of_counts(np.array([len(own) for own in matrices], np.int64))
    return from_caller([matrix for own in matrices for matrix in own], spec, encoding, workers, owners)


def _given_again(collection: Collection, given: Mapping[int, Document], published: Published) -> set[int]:
    """Of these versions, those that stand with the vectors that a caller gives now, to the bit."""
    same: set[int] = set()
    seqs = list(given)
    for start in range(0, len(seqs), ENCODED_AT_ONCE):
        some = seqs[start : start + ENCODED_AT_ONCE]
        if collection.spec.keeps_raw:
            kept = collection.given_passages(some, published)
            # By their bits, as they are kept: -0.0 equals 0.0.
            same.update(seq for seq, raw in kept.items() if _bits(list(raw)) == _bits(given[seq].matrices))
        else:
            coded = _from_callers([given[seq] for seq in some], collection.spec, None)
            stored = collection.stored_vectors(some, published, staged=False)
            same.update(
                seq
                for i, seq in enumerate(some)
                if seq in stored and coded.take([i]).to_bytes() == _without(stored[seq], ENCODED, SPARSE).to_bytes()
            )
    return same


def _without(passages: Passages, *layers: str) -> Passages:
    for layer in layers:
        passages = passages.with_layer(layer, None)
    return passages


def _bits(matrices: Sequence[F32]) -> list[tuple[tuple[int, ...], bytes]]:
    return [(matrix.shape, matrix.tobytes()) for matrix in matrices]
