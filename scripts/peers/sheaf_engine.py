"""Sheaf's own engine, in this process: callers' vectors through the document flow, then the query flow.

Built is what a server would build: written durably, sealed, its first stage fitted. It sees no query before.
"""

import numpy as np
from contender import contend

from app.collection.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.ingest import write_documents
from app.search import Query, search
from app.settings import Settings
from app.types import Document

PRECISION = "8bit"
"""Of the token codes: recall is held against float32 here, and 8 bits lose nothing of it."""


def build(vectors, work):
    catalogue = Catalogue(work, Encoders({}), Settings(indexes=work), None)
    collection = catalogue.create(
        "bench", model=None, kind="multi_vector", dim=vectors.values.shape[1], keep_vectors=False, precision=PRECISION
    )
    documents = vectors.documents
    for start in range(0, len(documents), 1_000):
        rows = range(start, min(start + 1_000, len(documents)))
        write_documents(collection, [Document(str(row), vectors=documents[row]) for row in rows])
    queries = vectors.queries

    def search_with(query, candidates, k):
        found = search(collection, Query(vectors=queries[query], k=k, candidates=candidates, include=frozenset()))
        return np.array([int(hit.id) for hit in found.hits])

    return search_with, collection.nbytes


contend(build, {"default width": None, "100": 100, "200": 200, "300": 300, "400": 400})
