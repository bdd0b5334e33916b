"""The sparse vectors of rows: a model's, of the text of each, or callers' own, of a document's first row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from app.collection.layers import SPARSE
from app.collection.passages import Passages
from app.collection.spec import CollectionSpec
from app.errors import TextRefused
from app.sparse.rows import of_documents, unpacked
from app.types import Document, EncodedSparse, Mask

EncodeSparse: TypeAlias = Callable[[Sequence[str]], EncodedSparse]


def with_sparse(
    passages: Passages, documents: Sequence[Document], spec: CollectionSpec, encode: EncodeSparse | None
) -> tuple[Passages, Mask]:
    """The passages of these documents with their sparse vectors, if the collection has some, and of which documents the
    sparse encoder cut the text, (documents,).

    Rows that were encoded have theirs already (``encoded_rows``). Where a caller brings the other vectors, the text of
    a document is encoded as a whole, into its first row. encode: None where callers bring the sparse vectors. Raises
    TextRefused with places of documents, EncoderError.
    """
    cut = np.zeros(len(documents), bool)
    if spec.given_sparse:
        given = [document.sparse for document in documents]
        return passages.with_layer(SPARSE, of_documents(given, passages.owners)), cut
    if encode is None or spec.sparse is None or SPARSE in passages:
        return passages, cut
    spoken = [i for i, document in enumerate(documents) if document.passage]
    try:
        made = encode([documents[i].passage for i in spoken])
    except TextRefused as error:
        raise TextRefused({spoken[i]: why for i, why in error.texts.items()}) from error
    cut[spoken] = made.truncated
    found = dict(zip(spoken, map(unpacked, made.rows), strict=True))
    rows = of_documents([found.get(i) for i in range(len(documents))], passages.owners)
    return passages.with_layer(SPARSE, rows), cut
