"""What of some documents is to be written, and what of it is encoded: nothing that stands already.

A document that is there, equal in every field, is left as it is; of one with the same text the stored vectors are used
again; of an edited text those of the passages that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np

from app.collection.collection import Collection
from app.collection.layers import ENCODED, SPARSE, VALUES
from app.collection.passages import Passages, from_caller, matrices_of
from app.collection.spec import CollectionSpec
from app.collection.view import Published
from app.compute.workers import Workers
from app.encodings.protocol import Encoding
from app.errors import TextRefused
from app.passages.encoding import Splitter, encoded_rows, lent
from app.passages.sparse import with_sparse
from app.passages.values import with_values
from app.store.rows import find_live, truncated_among
from app.types import F32, Document, Mask, Owners, SparseVector

ENCODED_AT_ONCE: Final = 256
"""Documents whose vectors are held in float32 at one time."""
CODED: Final = 32
"""The fewest documents worth a thread of their own while their vectors are coded."""


@dataclass(frozen=True, slots=True)
class Made:
    """Rows of some documents that are made elsewhere meanwhile. places: of each document among them, by id. rows: waits
    for them, and for which of their texts the encoder cuts, (documents,); raises TextRefused, EncoderUnavailable."""

    places: Mapping[str, int]
    rows: Callable[[], tuple[Passages, Mask]]


@dataclass(slots=True)
class Plan:
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
    def make(cls, collection: Collection, documents: Sequence[Document]) -> Plan:
        with collection.snapshot() as snapshot:
            live = find_live(snapshot.connection, [document.id for document in documents])
            plan = cls(live, [], {}, {}, set())
            old = snapshot.documents(list(live.values()))
            same_text = {
                document.id: live[document.id]
                for document in documents
                if document.id in live and alike(document, old[live[document.id]], collection.spec)
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
            other |= _carrying_others(collection, documents, same_text, snapshot.published)
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

    @property
    def texts(self) -> list[Document]:
        """The documents of which nothing that stands can be used again."""
        return [one for one in self.changed if one.id not in self.stored and one.id not in self.edited]

    def encode(self, collection: Collection, made: Made | None = None) -> tuple[list[Document], list[Passages]]:
        """The documents to write, those with stored vectors first, and their vectors in parts. made: of documents as
        they are here.

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
                        lambda a, b, some=some: from_callers(some[a:b], spec, encoding, workers),  # type: ignore[misc]
                        # Pooling shares the documents itself, and slices must not wait for slices.
                        smallest=len(some) if spec.pools else CODED,
                    )
                    if spec.sparse is None and spec.values is None:
                        parts += slices
                        continue
                    rows = Passages.join(slices)
                else:
                    rows, cut = self._encoded(collection, some) if made is None else self._taken(made, collection, some)
                    self.truncated.update(some[i].id for i in np.flatnonzero(cut).tolist())
                parts.append(self._with_sparse(collection, rows, some))
            except TextRefused as error:
                raise TextRefused({len(known) + start + i: why for i, why in error.texts.items()}) from error
        bare = [replace(document, vectors=None, splits=(), sparse=None, values=None) for document in self.changed]
        return bare, parts

    def _with_sparse(self, collection: Collection, rows: Passages, documents: Sequence[Document]) -> Passages:
        """The rows of these documents with their sparse vectors, and with what they carry."""
        rows = with_values(rows, documents, collection.spec)
        found, cut = with_sparse(rows, documents, collection.spec, partial(collection.encode_sparse, task="document"))
        self.truncated.update(documents[i].id for i in np.flatnonzero(cut).tolist())
        return found

    def _taken(self, made: Made, collection: Collection, documents: Sequence[Document]) -> tuple[Passages, Mask]:
        """As ``_encoded``, with rows that were made elsewhere."""
        there = [i for i, document in enumerate(documents) if document.id in made.places]
        if not there:
            return self._encoded(collection, documents)
        try:
            rows, cut = made.rows()
        except TextRefused:
            # Refused here again, by the places of these documents.
            return self._encoded(collection, documents)
        own = [made.places[documents[i].id] for i in there]
        rows, cut = rows.take(own), cut[own]
        here = [i for i, document in enumerate(documents) if document.id not in made.places]
        if here:
            try:
                others, also = self._encoded(collection, [documents[i] for i in here])
            except TextRefused as error:
                raise TextRefused({here[i]: why for i, why in error.texts.items()}) from error
            order = np.argsort([*there, *here])
            rows, cut = Passages.join([rows, others]).take(order), np.concatenate([cut, also])[order]
        return rows, cut

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
        encode, encoder = collection.encode_documents, splitter.encoder
        return encoded_rows(windows, known, encode, collection.spec, encoding, workers, sparse, encoder)


def alike(new: Document, old: Document, spec: CollectionSpec) -> bool:
    """Whether their texts give the same rows."""
    if (new.turns, new.summary) != (old.turns, old.summary):
        return False
    return (new.title, new.text) == (old.title, old.text) if spec.splits else new.passage == old.passage


def _weighed_anew(
    collection: Collection, documents: Sequence[Document], standing: Mapping[str, int], published: Published
) -> set[str]:
    """Ids of documents whose caller gives another sparse vector than the version has that stands, by id."""
    if not collection.spec.given_sparse:
        return set()
    kept = collection.given_sparse(list(standing.values()), published)
    return {d.id for d in documents if d.id in standing and not _same(d.sparse, kept.get(standing[d.id]))}


def _carrying_others(
    collection: Collection, documents: Sequence[Document], standing: Mapping[str, int], published: Published
) -> set[str]:
    """Ids of documents that carry other values than the version that stands, by id."""
    if collection.spec.values is None:
        return set()
    kept = collection.values_of(list(standing.values()), published)

    def bits(values: F32 | None) -> bytes:
        return b"" if values is None else values.tobytes()

    # What moved meanwhile is written again.
    return {
        d.id
        for d in documents
        if d.id in standing and (standing[d.id] not in kept or bits(d.values) != bits(kept[standing[d.id]]))
    }


def _same(one: SparseVector | None, other: SparseVector | None) -> bool:
    return one is other if one is None else one.same(other)


def _of_several(seqs: Iterable[int], published: Published) -> list[int]:
    """Of these versions, those that own several rows."""
    found = published.locate(list(seqs))
    spans = ((seq, *view.part.owners.span(place, place + 1)) for seq, (view, place) in found.items())
    return [seq for seq, start, stop in spans if stop - start > 1]


def from_callers(
    documents: Sequence[Document], spec: CollectionSpec, encoding: Encoding | None, workers: Workers | None = None
) -> Passages:
    """Documents' own vectors, coded for the collection."""
    matrices = [matrices_of(document, spec) for document in documents]
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
            spec = collection.spec
            same.update(seq for seq, raw in kept.items() if _bits(list(raw)) == _bits(matrices_of(given[seq], spec)))
        else:
            coded = from_callers([given[seq] for seq in some], collection.spec, None)
            stored = collection.stored_vectors(some, published, staged=False)
            same.update(
                seq
                for i, seq in enumerate(some)
                if seq in stored
                and coded.take([i]).to_bytes() == _without(stored[seq], ENCODED, SPARSE, VALUES).to_bytes()
            )
    return same


def _without(passages: Passages, *layers: str) -> Passages:
    for layer in layers:
        passages = passages.with_layer(layer, None)
    return passages


def _bits(matrices: Sequence[F32]) -> list[tuple[tuple[int, ...], bytes]]:
    return [(matrix.shape, matrix.tobytes()) for matrix in matrices]
