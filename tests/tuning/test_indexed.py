"""Kinds of index, tried: what the trial says is held to the cascade itself, and what was chosen to what was built."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import OpenCatalogue
from small_codes import code_everything

from app import vector_index
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage
from app.errors import Invalid
from app.indexing.reindexing import reindex
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.search import Query, search
from app.tuning import indexed
from app.tuning import tune as module
from app.tuning.indexed import KINDS, WIDENINGS, Indexed
from app.tuning.options import STORED, Option
from app.tuning.trials import TrialSet
from app.tuning.tune import Goal, tune
from app.types import F32, Document, TokenVectors
from app.vector_index.refined import Refined

DIM = 12
COUNT = 300


def vectors(seed: int) -> F32:
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(seed % 23 + 1_000).standard_normal(DIM)
    return (centre + 0.9 * random.standard_normal((5, DIM))).astype(np.float32)


def queries(count: int = 12) -> list[Query]:
    return [Query(vectors=vectors(10_000 + i)[:3]) for i in range(count)]


def filled(open_catalogue: OpenCatalogue, kind: Any = "multi_vector") -> Collection:
    collection = open_catalogue().create("c", model=None, kind=kind, dim=DIM)
    taken = 1 if kind == "dense" else 5
    for start in range(0, COUNT, COUNT // 2):
        write_documents(
            collection, [Document(f"d{i}", vectors=vectors(i)[:taken]) for i in range(start, start + COUNT // 2)]
        )
        seal(collection)
    return collection


def cost_nothing(patch: pytest.MonkeyPatch) -> None:
    """So little to rescore and to read that every option could be the fastest with every code."""
    patch.setattr(module, "candidate_ms", lambda collection, query: 0.0)
    patch.setattr(module, "query_ms", lambda option, trial: 0.0)
    patch.setattr(indexed, "scan_ms", lambda index, queries, depth, size: 0.0)


def kinds(collection: Collection) -> set[str]:
    """As the manifests say."""
    return {
        kind
        for view in collection.published.segments
        for kind in json.loads(view.part.folder.read("manifest.json"))["indexes"].values()
    }


def share(collection: Collection, k: int) -> float:
    shares = []
    for query in queries():
        exact, quick = (
            {hit.id for hit in search(collection, replace(query, k=k, exact=path)).hits} for path in (True, False)
        )
        shares.append(len(exact & quick) / len(exact))
    return float(np.mean(shares))


@pytest.fixture
def trial() -> tuple[TrialSet, Option]:
    """400 vectors of 16 numbers, which are the whole collection; the best 10 by another order than the vectors'."""
    random = np.random.default_rng(3)
    scales = np.exp(-np.arange(16) / 4)
    documents = (random.standard_normal((400, 16)) * scales).astype(STORED).astype(np.float32)
    asked = random.standard_normal((20, 16)).astype(np.float32)
    noisy = asked @ documents.T + 0.2 * random.standard_normal((20, 400))
    truth = tuple(np.argsort(-row)[:10] for row in noisy)
    tokens = TokenVectors.join([row[None] for row in documents])
    made = TrialSet(
        tokens, documents, 400, 400, TokenVectors.join([row[None] for row in asked]), asked, truth, np.full(20, -1)
    )
    stage = FirstStage(("fde",), None, 10)
    return made, Option("o", stage, None, {"fde": (documents, asked)})


@pytest.mark.parametrize("target", [0.7, 0.95])
def test_a_kind_finds_what_its_trial_promised(trial: tuple[TrialSet, Option], target: float) -> None:
    made, option = trial
    documents, asked = option.vectors["fde"]
    stored = documents.astype(STORED)
    flat = Indexed(option, made, target, 0.0, 0.001).flat()
    found = list(Indexed(option, made, target, 0.0, 0.001).coded())
    assert [one.kind for one in found] == list(KINDS)
    for one in found:
        cascade = Refined(vector_index.build(one.kind, stored), lambda rows: stored)
        got = [
            np.isin(best, cascade.search(query, one.width, allowed=None, wide=one.widening * one.width).rows).mean()
            for query, best in zip(asked, made.truth, strict=True)
        ]
        assert np.mean(got) >= one.recall - 1e-9
        assert one.reaches == (one.recall >= target)
        assert one.widening in WIDENINGS
        assert one.width >= flat.width, "codes cannot order better than the vectors"
        assert one.memory < flat.memory + 16


def test_the_kind_that_fits_the_memory_is_built(
    open_catalogue: OpenCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code_everything(monkeypatch)
    cost_nothing(monkeypatch)
    collection = filled(open_catalogue)
    report = tune(collection, Goal(0.9, k=5, max_memory_per_document=20), queries())
    tried = report["tried"]
    assert {one["index"] for one in tried} == {"flat", *KINDS}
    assert not any(one["fits"] for one in tried if one["index"] == "flat")
    chosen = next(one for one in tried if one["name"] == report["chosen"])
    assert chosen["index"] in KINDS
    assert chosen["memory"] <= 20
    stage = collection.published.stage
    assert (stage.index, stage.widening) == (chosen["index"], chosen["widening"])
    assert kinds(collection) == {chosen["index"]}
    assert share(collection, 5) == pytest.approx(report["measured"]["recall"])
    assert report["measured"]["recall"] >= 0.9
    # Later documents are indexed the same, and whoever opens a copy finds the same.
    write_documents(collection, [Document(f"e{i}", vectors=vectors(5_000 + i)) for i in range(40)])
    seal(collection)
    assert kinds(collection) == {chosen["index"]}
    copied = Path(shutil.copytree(collection.folder.parent, tmp_path / "copy"))
    copy = open_catalogue(copied).get("c")
    assert copy.published.stage.index == chosen["index"]
    assert [search(copy, query).hits for query in queries()] == [search(collection, query).hits for query in queries()]


def test_what_cannot_be_faster_is_not_tried(open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    code_everything(monkeypatch)
    # Rescoring is all that costs: no code makes the option that needs the fewest candidates faster.
    monkeypatch.setattr(module, "candidate_ms", lambda collection, query: 1e6)
    collection = filled(open_catalogue)
    report = tune(collection, Goal(0.9, k=5), queries())
    narrowest = min(one["width"] for one in report["tried"] if one["index"] == "flat" and one["reaches"])
    coded = [one["name"].rsplit(", ", 1)[0] for one in report["tried"] if one["index"] != "flat"]
    flat = {one["name"]: one["width"] for one in report["tried"] if one["index"] == "flat"}
    assert {flat[name] for name in coded} <= {narrowest}


def test_lists_are_tried_on_the_collection_itself(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    code_everything(monkeypatch)
    monkeypatch.setattr(module, "LISTS_FROM", 0)
    collection = filled(open_catalogue)
    report = tune(collection, Goal(0.9, k=5), queries())
    chosen = next(one for one in report["tried"] if one["name"] == report["chosen"])
    code = "pq1" if chosen["index"] == "flat" else chosen["index"]
    assert [one["index"] for one in report["indexes"]] == [chosen["index"], f"ivf_{code}"]
    fastest = min((one for one in report["indexes"] if one["reached"]), key=lambda one: one["ms"])
    assert report["measured"] == fastest
    assert kinds(collection) == {fastest["index"]}
    assert collection.published.stage.index == fastest["index"]
    assert share(collection, 5) >= 0.9


def test_a_dense_collection_gets_codes_too(open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    code_everything(monkeypatch)
    cost_nothing(monkeypatch)
    collection = filled(open_catalogue, "dense")
    report = tune(collection, Goal(0.9, k=5, max_memory_per_document=30), 20)
    assert {one["index"] for one in report["tried"]} == {"flat", *KINDS}
    assert kinds(collection) == {report["measured"]["index"]} <= set(KINDS)
    assert report["measured"]["reached"]


def test_few_passages_are_tried_without_codes(open_catalogue: OpenCatalogue) -> None:
    collection = filled(open_catalogue)
    report = tune(collection, Goal(0.9, k=5), queries(4))
    assert {one["index"] for one in report["tried"]} == {"flat"}
    assert kinds(collection) == {"flat"}


def test_another_index_over_the_same_vectors(open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    code_everything(monkeypatch, numbers=2**30)
    collection = filled(open_catalogue)
    before = [search(collection, replace(query, exact=True)).hits for query in queries()]
    inodes = {(view.part.folder.path / "tokens.npy").stat().st_ino for view in collection.published.segments}
    folders = {view.part.folder for view in collection.published.segments}
    reindex(collection, "pq1", 3, {"why": "asked"}, reason="tried")
    assert kinds(collection) == {"pq1"}
    assert {(view.part.folder.path / "tokens.npy").stat().st_ino for view in collection.published.segments} == inodes
    assert not any(folder.path.exists() for folder in folders)
    assert [search(collection, replace(query, exact=True)).hits for query in queries()] == before
    stage = collection.published.generation.stage
    assert stage is not None
    assert (stage.report, collection.published.generation.reason) == ({"why": "asked"}, "tried")
    assert collection.published.stage.widening == 3


def test_an_index_that_cannot_be_made_changes_nothing(open_catalogue: OpenCatalogue) -> None:
    collection = filled(open_catalogue)
    before, there = collection.published, sorted((collection.folder / "segments").iterdir())

    def stop() -> None:
        if len(list((collection.folder / "segments").iterdir())) > len(there):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reindex(collection, "flat", 4, {}, reason="tried", check=stop)
    assert collection.published is before
    assert sorted((collection.folder / "segments").iterdir()) == there
    with pytest.raises(Invalid, match="kind of vector index"):
        FirstStage.from_json({**FirstStage.default(collection.spec).to_json(), "index": "faiss"})


def test_a_graph_is_no_way_around_what_memory_allows(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its codes and links take some 144 bytes of these documents."""
    code_everything(monkeypatch)
    cost_nothing(monkeypatch)
    collection = filled(open_catalogue, "dense")
    for most, tried in ((None, True), (100, False)):
        report = tune(collection, Goal(0.9, k=5, max_memory_per_document=most), 20)
        assert ("hnsw" in {one["index"] for one in report["indexes"]}) is tried
