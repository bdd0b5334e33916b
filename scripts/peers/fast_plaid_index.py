"""fast-plaid: centroids and 4-bit residuals, by its own defaults and with fewer and more documents scored in full."""

import torch
from contender import contend, folder_size
from fast_plaid.search import FastPlaid


def build(vectors, work):
    work.mkdir(parents=True, exist_ok=True)
    index = FastPlaid(index=str(work / "plaid"), device="cpu")
    index.create(documents_embeddings=[torch.from_numpy(document) for document in vectors.documents])
    queries = [torch.from_numpy(query)[None] for query in vectors.queries]

    def search(query, setting, k):
        found = index.search(queries[query], top_k=k, show_progress=False, **setting)
        return [row for row, _ in found[0]]

    return search, folder_size(work)


contend(
    build,
    {
        "defaults": {},
        "512 scored in full": {"n_full_scores": 512},
        "n_ivf_probe 16": {"n_ivf_probe": 16},
        "n_ivf_probe 32": {"n_ivf_probe": 32},
    },
)
