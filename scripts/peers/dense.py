"""Peers of ``scripts/bench_dense.py`` on the same vectors: each is built, and answers one query at a time, one thread.

    python dense.py DATA [faiss_flat] [faiss_hnsw] [hnswlib] [usearch]

DATA: .npz of docs, queries, part and, for each filter and k, the exact nearest. A line of JSON a peer, setting, filter
and k: recall, milliseconds of the processor at the median. All vectors have length 1.
"""

import json
import sys
import time

import numpy as np

WARM = 10


class FaissFlat:
    settings = (None,)

    def __init__(self, docs, part):
        import faiss

        faiss.omp_set_num_threads(1)
        self.faiss, self.said = faiss, f"faiss {faiss.__version__} flat"
        self.index = faiss.IndexFlatIP(docs.shape[1])
        self.index.add(docs)

    def ask(self, query, k, mask, setting):
        parameters = None if mask is None else self.faiss.SearchParameters(sel=mask[0])
        return self.index.search(query[None], k, params=parameters)[1][0]

    def masked(self, mask):
        bits = np.packbits(mask, bitorder="little")
        return self.faiss.IDSelectorBitmap(bits), bits


class FaissHnsw(FaissFlat):
    settings = (
        32,
        64,
        96,
        128,
        256,
        512,
    )

    def __init__(self, docs, part):
        import faiss

        faiss.omp_set_num_threads(1)
        self.faiss, self.said = faiss, f"faiss {faiss.__version__} HNSW32, efConstruction 100"
        self.index = faiss.IndexHNSWFlat(docs.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = 100
        self.index.add(docs)

    def ask(self, query, k, mask, setting):
        more = {} if mask is None else {"sel": mask[0]}
        parameters = self.faiss.SearchParametersHNSW(efSearch=setting, **more)
        return self.index.search(query[None], k, params=parameters)[1][0]


class Hnswlib:
    settings = (
        32,
        64,
        96,
        128,
        256,
        512,
    )

    def __init__(self, docs, part):
        import hnswlib

        self.said = "hnswlib 0.8.0, M 16, ef_construction 200"
        self.index = hnswlib.Index("ip", docs.shape[1])
        self.index.init_index(len(docs), M=16, ef_construction=200)
        self.index.set_num_threads(1)
        self.index.add_items(docs, num_threads=1)

    def ask(self, query, k, mask, setting):
        self.index.set_ef(max(setting, k))
        if mask is None:
            return self.index.knn_query(query, k=k, num_threads=1)[0][0]
        return self.index.knn_query(query, k=k, num_threads=1, filter=mask.__contains__)[0][0]

    def masked(self, mask):
        return set(np.flatnonzero(mask).tolist())


class Usearch:
    settings = (
        32,
        64,
        128,
        256,
    )

    def __init__(self, docs, part):
        import usearch.index

        self.said = f"usearch {usearch.__version__} bf16, connectivity 16, expansion_add 128"
        self.index = usearch.index.Index(ndim=docs.shape[1], metric="ip", dtype="bf16", connectivity=16)
        self.index.add(np.arange(len(docs)), docs, threads=1)

    def ask(self, query, k, mask, setting):
        self.index.expansion_search = max(setting, k)
        return self.index.search(query, k, threads=1).keys

    masked = None


PEERS = {"faiss_flat": FaissFlat, "faiss_hnsw": FaissHnsw, "hnswlib": Hnswlib, "usearch": Usearch}


def main():
    data = np.load(sys.argv[1])
    docs, queries, part = data["docs"], data["queries"], data["part"]
    for name in sys.argv[2:] or PEERS:
        began = time.process_time()
        peer = PEERS[name](docs, part)
        built = time.process_time() - began
        print(json.dumps({"peer": name, "said": peer.said, "built_s": round(built, 1)}), flush=True)
        for key in (one for one in data.files if one.startswith("truth_")):
            share, k = map(int, key.split("_")[1:])
            if share and peer.masked is None:
                continue
            mask = peer.masked(part < share) if share else None
            for setting in peer.settings:
                if setting is not None and setting < k:
                    continue
                # A callback of Python for every vector that is met.
                some = 20 if name == "hnswlib" and share else len(queries)
                took, found = [], []
                for query in queries[: min(WARM, some)]:
                    peer.ask(query, k, mask, setting)
                for query, wanted in zip(queries[:some], data[key][:some], strict=True):
                    began = time.process_time()
                    try:
                        rows = peer.ask(query, k, mask, setting)
                    except RuntimeError:
                        # hnswlib: fewer were found than asked for.
                        rows = []
                    took.append((time.process_time() - began) * 1e3)
                    there = set(wanted[wanted >= 0].tolist())
                    found.append(len(there & {int(row) for row in rows}) / max(1, len(there)))
                asked = f"{share / 10:g} %" if share else "all"
                print(json.dumps({"peer": name, "setting": setting, "asked": asked, "k": k, "recall": round(float(
                    np.mean(found)), 4), "ms": round(float(np.median(took)), 3)}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
