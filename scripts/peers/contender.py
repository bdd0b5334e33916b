"""The work of every contender of ``scripts/bench.py``: reads the same vectors, builds, searches one query at a time.

Each contender runs as a process of its own, in an environment that has what it needs and NumPy; so this file imports
nothing else. A contender is called as ``NAME.py VECTORS.npz RESULT.json WORK_FOLDER``.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

WARM_UP = 5
"""Searches that are not measured."""
K = 10
"""Hits asked for."""


class Vectors:
    """The documents' and the queries' vectors.

    values (t, dim) and offsets (n + 1,): token vectors of n documents, float32. pooled (n, dim'). query_values,
    query_offsets, query_pooled: the same of the queries.
    """

    def __init__(self, path):
        with np.load(path, allow_pickle=False) as stored:
            for name in stored.files:
                setattr(self, name, stored[name])

    @property
    def documents(self):
        """Token vectors of each document."""
        return np.split(self.values, self.offsets[1:-1])

    @property
    def queries(self):
        """Token vectors of each query."""
        return np.split(self.query_values, self.query_offsets[1:-1])


def contend(build, settings):
    """Builds once, then searches with every setting; writes ``RESULT.json``.

    build: (vectors, work folder) -> search, bytes that queries read. search: (number of the query, one of settings, k)
    -> rows of the documents, best first. settings: name -> whatever search understands.
    """
    source, result, work = map(Path, sys.argv[1:4])
    vectors = Vectors(source)
    start = time.perf_counter()
    search, size = build(vectors, work)
    build_s = time.perf_counter() - start
    count = len(vectors.query_offsets) - 1
    runs = {}
    for name, setting in settings.items():
        for query in range(min(WARM_UP, count)):
            search(query, setting, K)
        rows, times = [], []
        for query in range(count):
            start = time.perf_counter()
            found = search(query, setting, K)
            times.append(1e3 * (time.perf_counter() - start))
            rows.append([int(row) for row in found][:K])
        runs[name] = {"rows": rows, "ms": times}
    result.write_text(json.dumps({"build_s": build_s, "bytes": size, "runs": runs}))


def folder_size(folder):
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
