"""MUVERA as fastembed computes it, in a FAISS flat index of float32; alone, and rescored by exact MaxSim in NumPy."""

import faiss
import numpy as np
from contender import contend
from fastembed.postprocess import Muvera


def build(vectors, work):
    documents = vectors.documents
    # fastembed's own defaults: k_sim 5, dim_proj 16, r_reps 20, empty clusters filled.
    muvera = Muvera(dim=vectors.values.shape[1])
    encoded = np.stack([muvera.process_document(document) for document in documents]).astype(np.float32)
    index = faiss.IndexFlatIP(encoded.shape[1])
    index.add(encoded)
    queries = vectors.queries

    def search(query, width, k):
        encoded_query = muvera.process_query(queries[query]).astype(np.float32)[None]
        rows = index.search(encoded_query, width or k)[1][0]
        if width is None:
            return rows
        lengths = np.array([len(documents[row]) for row in rows])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        tokens = np.concatenate([documents[row] for row in rows])
        scores = np.maximum.reduceat(tokens @ queries[query].T, starts, axis=0).sum(axis=1)
        return rows[np.argsort(-scores, kind="stable")[:k]]

    return search, encoded.nbytes + vectors.values.nbytes


contend(build, {"FDE alone": None, "200 rescored": 200, "800 rescored": 800})
