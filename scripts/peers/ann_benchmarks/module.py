"""Sheaf in ann-benchmarks: this folder is `ann_benchmarks/algorithms/sheaf` there. Sheaf serves at SHEAF_URL, and its
client is installed beside (`pip install --no-deps SHEAF_FOLDER`, httpx, numpy).

Metric `angular` alone: Sheaf has cosine and inner product, and no
Euclidean distance.
"""

import contextlib
import os

import numpy as np

from app.client import Document, Sheaf
from app.errors import NotFound

from ..base.module import BaseANN

BATCH = 32
"""Searches of one request of a batch."""


class SheafDense(BaseANN):
    """similarity: by ann-benchmarks' name of it."""

    def __init__(self, metric, name="ann-benchmarks"):
        if metric != "angular":
            raise NotImplementedError(f"Sheaf has no metric {metric!r}: expected angular")
        self.name = "Sheaf()"
        self._candidates = None
        self._sheaf = Sheaf(os.environ.get("SHEAF_URL", "http://127.0.0.1:8000"), timeout_s=3_600)
        self._name, self._collection = name, None

    def fit(self, X):  # noqa: N803 (the interface's name)
        """Replaces the collection, and returns when all of it is indexed."""
        self._drop()
        self._collection = self._sheaf.create(
            self._name, model=None, kind="dense", dim=X.shape[1], keep_vectors=False, lexical=None
        )
        rows = (Document(str(i), vectors=row) for i, row in enumerate(np.asarray(X, np.float32)))
        self._sheaf.follow(self._collection.import_documents(rows))

    def set_query_arguments(self, candidates):
        """candidates: that get an exact score; 0: as many as Sheaf takes by itself."""
        self._candidates = candidates or None
        self.name = f"Sheaf(candidates={candidates or 'default'})"

    def query(self, q, n):
        """Rows of the n nearest, the nearest first."""
        return self._rows(self._collection.search(vectors=q, k=n, candidates=self._width(n), include=()))

    def batch_query(self, X, n):  # noqa: N803
        from app.client.operations import search_body

        options = {"k": n, "candidates": self._width(n), "include": []}
        bodies = [search_body(None, q, options) for q in X]
        answers = []
        for start in range(0, len(bodies), BATCH):
            answers += self._collection.search_batch(bodies[start : start + BATCH])
        self.res = [self._rows(answer) for answer in answers]

    def get_batch_results(self):
        return self.res

    def get_memory_usage(self):
        """Of the server's process there is no telling from here: the bytes of its collection on the disk, in KiB."""
        return 0.0 if self._collection is None else self._collection.describe()["bytes"] / 1024

    def done(self):
        self._drop()
        self._sheaf.close()

    def _drop(self):
        with contextlib.suppress(NotFound):
            self._sheaf.collection(self._name).drop()

    def _width(self, n):
        return None if self._candidates is None else max(n, self._candidates)

    @staticmethod
    def _rows(answer):
        return np.array([int(hit.id) for hit in answer], np.int64)
