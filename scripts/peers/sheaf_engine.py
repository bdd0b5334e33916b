"""Sheaf's own engine, in this process: callers' vectors through the bulk build, then the query flow.

Built is what `scripts/build_index.py` builds: written durably, sealed, merged, a first stage learned from the
documents. It sees no query before it is timed.
"""

import numpy as np
from contender import contend

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.load.bulk import fill
from app.search import Query, search
from app.settings import Settings
from app.sources.protocol import Entry
from app.types import Document

PRECISION = "8bit"
"""Of the token codes: recall is held against float32 here, and 8 bits lose nothing of it."""


class Given:
    """The vectors as a source of documents, named by their rows."""

    name, unit, skipped = "vectors", "documents", 0

    def __init__(self, documents):
        self._documents = documents
        self.total, self.done = len(documents), 0

    def entries(self):
        for row, vectors in enumerate(self._documents):
            self.done = row + 1
            yield Entry(row + 1, Document(str(row), vectors=vectors))


def build(vectors, work):
    settings = Settings(indexes=work)
    catalogue = Catalogue(work, Encoders({}), settings)
    collection = catalogue.create(
        "bench", model=None, kind="multi_vector", dim=vectors.values.shape[1], keep_vectors=False, precision=PRECISION
    )
    fill(
        collection,
        Given(vectors.documents),
        on_error="stop",
        bad_line=lambda line, error: None,
        progress=lambda done: None,
    )
    queries = vectors.queries

    def search_with(query, candidates, k):
        found = search(collection, Query(vectors=queries[query], k=k, candidates=candidates, include=frozenset()))
        return np.array([int(hit.id) for hit in found.hits])

    return search_with, collection.nbytes


contend(build, {"default width": None, "50": 50, "100": 100, "150": 150, "220": 220, "300": 300})
