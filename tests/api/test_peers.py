"""The clients for other people's benchmarks (scripts/peers), each driven through its interface against a live server.

VectorDBBench's own base classes where it is installed, else its interface as it is documented; ann-benchmarks is in no
registry, so its base class stands here.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from pydantic import BaseModel
from running import Running

PEERS = Path(__file__).parents[2] / "scripts" / "peers"
BASE = """
class BaseANN:
    def done(self): ...
    def get_memory_usage(self): return 1.0
    def fit(self, X): ...
    def query(self, q, n): return []
    def batch_query(self, X, n): self.res = [self.query(q, n) for q in X]
    def get_batch_results(self): return self.res
    def get_additional(self): return {}
    def __str__(self): return self.name
"""
"""ann-benchmarks' `algorithms/base/module.py`, without its bodies."""


def drawn(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)


def nearest(vectors: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1)
    return np.argsort(-cosines, kind="stable")[:k].tolist()


def loaded(name: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_ann_benchmarks(server: Running, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithms = tmp_path / "ann_benchmarks_tree" / "algorithms"
    (algorithms / "base").mkdir(parents=True)
    (algorithms / "base" / "module.py").write_text(BASE)
    shutil.copytree(PEERS / "ann_benchmarks", algorithms / "sheaf", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SHEAF_URL", server.url)
    (group,) = yaml.safe_load((PEERS / "ann_benchmarks" / "config.yml").read_text())["float"]["angular"]
    module = importlib.import_module("ann_benchmarks_tree.algorithms.sheaf.module")
    kind = getattr(module, group["constructor"])
    with pytest.raises(NotImplementedError, match="euclidean"):
        kind("euclidean")
    algorithm = kind(*["angular" if one == "@metric" else one for one in group["base_args"]])
    vectors, queries = drawn(400), drawn(5, 1)
    try:
        algorithm.fit(vectors)
        assert client.get("/v1/collections/ann-benchmarks").json()["tail"] == 0
        for candidates in group["run_groups"]["dense"]["query_args"][0]:
            algorithm.set_query_arguments(candidates)
            assert str(candidates or "default") in str(algorithm)
            found = [algorithm.query(query, 10).tolist() for query in queries]
            algorithm.batch_query(queries, 10)
            assert [one.tolist() for one in algorithm.get_batch_results()] == found
            if candidates == 400:
                assert found == [nearest(vectors, query, 10) for query in queries]
        assert algorithm.get_memory_usage() > 0
        # Fitted again, it has other rows.
        algorithm.fit(vectors[:7])
        assert sorted(algorithm.query(queries[0], 10).tolist()) == list(range(7))
    finally:
        algorithm.done()
    assert client.get("/v1/collections/ann-benchmarks").status_code == 404


@pytest.fixture
def server(serve: Callable[..., Running]) -> Running:
    """With the limits that a server has by itself."""
    return serve()


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def vectordbbench(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its interface, where it is not installed."""
    if importlib.util.find_spec("vectordb_bench") is not None:
        return

    class MetricType(StrEnum):
        L2 = "L2"
        COSINE = "COSINE"
        IP = "IP"

    class FilterOp(StrEnum):
        NumGE = "NumGE"
        StrEqual = "Label"
        NonFilter = "NonFilter"

    class DBConfig(BaseModel):
        db_label: str = ""

    api = SimpleNamespace(
        MetricType=MetricType, DBConfig=DBConfig, DBCaseConfig=type("C", (), {}), VectorDB=type("V", (), {})
    )
    filters = SimpleNamespace(Filter=object, FilterOp=FilterOp)
    for name in ("vectordb_bench", "vectordb_bench.backend", "vectordb_bench.backend.clients"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "vectordb_bench.backend.clients.api", api)
    monkeypatch.setitem(sys.modules, "vectordb_bench.backend.filter", filters)


@pytest.mark.parametrize("metric", ["COSINE", "IP"])
@pytest.mark.usefixtures("vectordbbench")
def test_vectordbbench(server: Running, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, metric: str) -> None:
    module = loaded("vectordbbench_sheaf", PEERS / "vectordbbench" / "sheaf.py", monkeypatch)
    operator = sys.modules["vectordb_bench.backend.filter"].FilterOp
    kinds = sys.modules["vectordb_bench.backend.clients.api"].MetricType
    vectors, query = drawn(60), drawn(1, 2)[0]
    make: Callable[..., Any] = module.Sheaf
    config = module.SheafConfig(url=server.url).to_dict()
    case = module.SheafCaseConfig(metric_type=getattr(kinds, metric), candidates=60)
    try:
        for _ in range(2):  # the second drops what the first made
            database = make(16, config, case, "vdbbench", drop_old=True, with_scalar_labels=True)
        labels = [f"label_{i % 3}p" for i in range(60)]
        with database.init():
            for start in range(0, 60, 25):
                part = slice(start, start + 25)
                rows = [*range(60)][part]
                written = database.insert_embeddings(vectors[part].tolist(), rows, labels_data=labels[part])
                assert written == (len(rows), None)
            database.optimize(60)
            assert client.get("/v1/collections/vdbbench").json()["tail"] == 0
            order = nearest(vectors, query, 60) if metric == "COSINE" else np.argsort(-(vectors @ query)).tolist()
            assert database.search_embedding(query.tolist(), 10) == order[:10]
            database.prepare_filter(SimpleNamespace(type=operator.NumGE, int_value=30))
            assert database.search_embedding(query.tolist(), 5) == [i for i in order if i >= 30][:5]
            database.prepare_filter(SimpleNamespace(type=operator.StrEqual, label_value="label_2p"))
            assert database.search_embedding(query.tolist(), 5) == [i for i in order if i % 3 == 2][:5]
            database.prepare_filter(SimpleNamespace(type=operator.NonFilter))
            assert database.search_embedding(query.tolist(), 5) == order[:5]
            count, error = database.insert_embeddings([[1.0, 2.0]], [99])
            assert (count, "dimensions" in str(error)) == (0, True)
        # Another process finds it as it is.
        again = make(16, config, case, "vdbbench", drop_old=False)
        with again.init():
            assert again.search_embedding(query.tolist(), 5) == order[:5]
        with pytest.raises(ValueError, match="L2"):
            module.SheafCaseConfig(metric_type=kinds.L2).index_param()
    finally:
        client.delete("/v1/collections/vdbbench")


def test_the_order_of_hits_outlives_their_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """What mteb is given is ordered by scores alone."""
    module = loaded("mteb_sheaf", PEERS / "mteb_sheaf.py", monkeypatch)
    hits = [("b", 2.0), ("a", 2.0), ("c", 2.0), ("d", 0.0), ("e", 0.0), ("f", -3.5), ("g", -3.5)]
    scores = module.below(hits)
    assert sorted(scores, key=scores.__getitem__, reverse=True) == [name for name, _ in hits]
    assert all(abs(scores[name] - score) < 1e-6 for name, score in hits)


@pytest.mark.parametrize("kind", ["dense", "multi_vector"])
def test_what_mteb_asks_of_a_model(server: Running, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Its SearchProtocol, without mteb: a corpus, queries, and of a reranking task the documents of each query."""
    module = loaded("mteb_sheaf", PEERS / "mteb_sheaf.py", monkeypatch)
    model = module.SheafSearch(server.url, "words", kind)
    told: dict[str, Any] = {
        "task_metadata": SimpleNamespace(name="A Task"), "hf_split": "test", "hf_subset": "en", "encode_kwargs": {},
        "num_proc": None,
    }  # fmt: skip
    corpus = [{"id": f"d{i}", "title": "", "text": f"word{i} other{i}"} for i in range(50)] + [{"id": "e", "text": " "}]
    queries = [{"id": f"q{i}", "text": f"word{i} other{i}"} for i in range(40)]
    try:
        for _ in range(2):
            model.index(corpus, **told)
        found = model.search(queries, top_k=5, **told)
        assert {query: max(own, key=own.__getitem__) for query, own in found.items()} == {
            f"q{i}": f"d{i}" for i in range(40)
        }
        assert all(len(own) == 5 for own in found.values())
        among = {"q1": ["d7", "d1"], "q2": ["d2"]}
        ranked = model.search(queries[1:3], top_k=5, top_ranked=among, **told)
        assert {query: sorted(own) for query, own in ranked.items()} == {"q1": ["d1", "d7"], "q2": ["d2"]}
    finally:
        model.drop()
        model.sheaf.close()
