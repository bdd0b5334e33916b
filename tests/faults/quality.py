"""Recall, and the disk that the same data use: time and restarts must not change them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from forks import in_child
from report import Report
from writing_process import say

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, write_documents
from app.measure.recall import measure_recall
from app.search import Query
from app.settings import Settings
from app.types import F32, Document

DIM, TOKENS, DOCUMENTS, QUERIES = 48, 12, 900, 60
MOST_DISK = 3.0
"""Times the disk of one writing, after all the rewrites."""
LEAST = 0.98
"""Of the recall of a fresh build."""


def run(folder: Path, seed: int, trials: int) -> Report:
    """trials: rewrites of the same data."""
    report = Report("quality", seed)
    report.trials = trials
    for work in (_restart, _rewritten, _disk):
        ended = in_child(lambda work=work: work(folder / work.__name__.strip("_"), seed, trials, report))  # type: ignore[misc]
        if not ended.well:
            report.fail(f"{work.__name__}: {ended.errors[-1_500:]}")
        for line in ended.output.splitlines():
            name, _, value = line.strip("[]").partition(", ")
            report.figures[name.strip('"')] = value.strip('"')
    return report.done()


def _opened(folder: Path) -> Catalogue:
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(indexes=folder, threads=2, seal_documents=200)
    return Catalogue(folder, Encoders({}), settings)


def _documents(seed: int, version: int = 0) -> list[Document]:
    """Token vectors around centres that documents share, as those of texts do."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(120, DIM))
    found = []
    for i in range(DOCUMENTS):
        chosen = centres[random.integers(0, len(centres), TOKENS)]
        vectors = (chosen + 0.6 * random.normal(size=(TOKENS, DIM))).astype(np.float32)
        found.append(Document(f"d{i}", f"document {i}", metadata={"v": version}, vectors=vectors))
    return found


def _queries(documents: list[Document], seed: int) -> list[Query]:
    random = np.random.default_rng(seed + 1)
    found = []
    for i in random.choice(len(documents), QUERIES, replace=False):
        vectors = documents[i].vectors
        assert vectors is not None
        few: F32 = (vectors[:6] + 0.4 * random.normal(size=(6, DIM))).astype(np.float32)
        found.append(Query(vectors=few))
    return found


def _fill(catalogue: Catalogue, name: str, documents: list[Document]) -> None:
    collection = catalogue.create(name, model=None, kind="multi_vector", dim=DIM)
    for start in range(0, len(documents), 200):
        write_documents(collection, documents[start : start + 200])
        seal(collection)
    while merge(collection):
        pass


def _recall(catalogue: Catalogue, name: str, documents: list[Document], seed: int) -> float:
    # Few candidates, so that there is something to miss.
    return measure_recall(catalogue.get(name), _queries(documents, seed), 10, candidates=40).recall


def _restart(folder: Path, seed: int, trials: int, report: Report) -> None:
    documents = _documents(seed)
    with _opened(folder) as catalogue:
        _fill(catalogue, "c", documents)
        before = _recall(catalogue, "c", documents, seed)
    with _opened(folder) as catalogue:
        after = _recall(catalogue, "c", documents, seed)
    say("recall@10 before and after a restart", f"{before:.4f} {after:.4f}")
    assert before == after
    assert before > 0.5


def _rewritten(folder: Path, seed: int, trials: int, report: Report) -> None:
    documents = _documents(seed)
    with _opened(folder) as catalogue:
        _fill(catalogue, "old", _documents(seed + 7))
        collection = catalogue.get("old")
        half = [document.id for document in documents[::2]]
        delete_ids(collection, half)
        write_documents(collection, documents[1::2])
        seal(collection)
        write_documents(collection, documents[::2])
        seal(collection)
        while merge(collection):
            pass
        _fill(catalogue, "fresh", documents)
        old, fresh = (_recall(catalogue, name, documents, seed) for name in ("old", "fresh"))
    say("recall@10 rewritten and fresh", f"{old:.4f} {fresh:.4f}")
    assert old >= LEAST * fresh


def _disk(folder: Path, seed: int, trials: int, report: Report) -> None:
    with _opened(folder) as catalogue:
        documents = _documents(seed)[:300]
        collection = catalogue.create("c", model=None, kind="multi_vector", dim=DIM)

        def write(version: int) -> int:
            fresh = [Document(d.id, d.text, metadata={"v": version}, vectors=d.vectors) for d in documents]
            for start in range(0, len(fresh), 100):
                write_documents(collection, fresh[start : start + 100])
            # As the background does it after each sealing.
            seal(collection)
            while merge(collection):
                pass
            return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

        first = write(0)
        most = max(write(version) for version in range(1, trials + 1))
        assert collection.count() == len(documents)
    say(f"disk after {trials} rewrites, times the first", f"{most / first:.2f}")
    assert most <= MOST_DISK * first
