"""Exports: one moment -> the documents that stand, in the order of their last writes -> a few at a time.

Memory holds a few documents, and a mark of each that a filter passes: the order comes from the parts themselves, whose
sequence numbers ascend. What is written, deleted, sealed or merged meanwhile changes nothing: the moment is a read
transaction, segments are mapped, and so are the files of the tail that hold callers' vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import replace
from heapq import merge
from itertools import islice
from typing import Final

from app.collection.collection import Collection
from app.collection.view import Snapshot
from app.filters import Filter
from app.types import I64, Document, Mask, Room

AHEAD: Final = 64
"""Documents that are read at a time."""
PIECE: Final = 2**20
"""Bytes of documents and vectors at a time; one that has more is alone."""
_STRIDE: Final = 4_096
"""Sequence numbers of a part that are looked at together."""


def export_documents(collection: Collection, include: Set[str], condition: Filter | None) -> Iterator[list[Document]]:
    """All documents of one moment that match, by sequence number, as an import takes them: vectors where they are
    included and callers bring them, as they came where they are kept, else as they are stored.

    The moment ends when the iterator is closed; any thread may take the next. Raises Unavailable, Damaged.
    """
    spec = collection.spec
    vectors = "vectors" in include and spec.model is None
    sparse = "vectors" in include and spec.given_sparse
    read = include if vectors else include - {"vectors"}
    with collection.held(vectors=vectors) as (snapshot, chunks):
        order, waiting = _standing(snapshot, condition), list[int]()
        while waiting := waiting + list(islice(order, AHEAD - len(waiting))):
            room, now = Room(PIECE), snapshot.published
            found = collection.documents(snapshot.connection, now, waiting, read, room, chunks)
            seqs, waiting = waiting[: len(found)], waiting[len(found) :]
            if sparse and not vectors:
                given = collection.given_sparse(seqs, now)
                found = [replace(one, sparse=given[seq]) for seq, one in zip(seqs, found, strict=True)]
            yield found


def _standing(snapshot: Snapshot, condition: Filter | None) -> Iterator[int]:
    """Ascending sequence numbers of the documents that match."""
    masks = snapshot.allowed(condition)
    parts = (_chosen(view.part.seqs, mask) for view, mask in zip(snapshot.views, masks, strict=True))
    return merge(*parts)


def _chosen(seqs: I64, mask: Mask) -> Iterator[int]:
    for start in range(0, len(seqs), _STRIDE):
        yield from seqs[start : start + _STRIDE][mask[start : start + _STRIDE]].tolist()
