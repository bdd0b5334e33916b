"""One pooled vector a document in a FAISS flat index of float32: what most vector databases are asked to do."""

import faiss
import numpy as np
from contender import contend


def build(vectors, work):
    pooled = np.ascontiguousarray(vectors.pooled, np.float32)
    index = faiss.IndexFlatIP(pooled.shape[1])
    index.add(pooled)

    def search(query, setting, k):
        return index.search(vectors.query_pooled[query : query + 1], k)[1][0]

    return search, pooled.nbytes


contend(build, {"flat": None})
