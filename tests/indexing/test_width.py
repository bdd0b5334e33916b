"""The width of a learned first stage, held to where its encoding ranks the exact best of the whole collection."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import unit_rows
from made import OpenCatalogue

from app.collection.collection import Collection
from app.collection.part import tokens
from app.encodings.recipes import RidgeRecipe
from app.encodings.ridge import RidgeParameters
from app.indexing import width as settling
from app.indexing.fitting import described, draw_sample, learn, learn_if_due
from app.indexing.sealing import seal
from app.indexing.width import BEST, Settled, settle
from app.ingest import delete_ids, write_documents
from app.types import F32, Document, TokenVectors

DIM = 16
COUNT = 600
POOR = RidgeRecipe(RidgeParameters(rank=8, samples=200, landmarks=100, probes=80))
"""So few numbers that the best are not among the first."""


def own(seed: int) -> F32:
    random = np.random.default_rng(seed)
    return unit_rows(random.standard_normal((6, DIM)).astype(np.float32))


@pytest.fixture
def collection(open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch) -> Collection:
    monkeypatch.setattr(settling, "LEAST", 20)
    monkeypatch.setattr(settling, "STEP", 1)
    made = open_catalogue(learn_documents=100).create("c", model=None, kind="multi_vector", dim=DIM)
    for start in range(0, COUNT, 250):
        write_documents(made, [Document(f"d{i}", vectors=own(i)) for i in range(start, min(start + 250, COUNT))])
        seal(made)
    delete_ids(made, [f"d{i}" for i in range(0, COUNT, 7)])
    return made


def settled(collection: Collection, part: int = 1) -> tuple[Settled, list[int]]:
    """The width settled by one document in ``part``; and the truth: the ranks of the best, by brute force."""
    sample, probes, _ = draw_sample(collection, count=80)
    encoding = POOR.fit(sample, collection.resources.background, lambda: None)
    sampled = encoding.encode_documents(sample.documents)[::part]
    with collection.snapshot() as snapshot:
        views = snapshot.published.segments
        found = settle(views, encoding, sampled, probes, collection.resources.background)
        rows = [tokens(view.part, row, row + 1).values for view in views for row in np.flatnonzero(view.alive)]
    assert found is not None
    encoded = encoding.encode_documents(TokenVectors.join(rows))
    ranks: list[int] = []
    for query, near in zip(probes, encoding.encode_queries(probes), strict=True):
        exact = [float((query.astype(np.float64) @ row.T).max(axis=1).sum()) for row in rows]
        best = np.argsort(-np.array(exact), kind="stable")[1 : BEST + 1]
        scores = encoded @ near
        ranks += [int((scores > scores[row]).sum()) for row in best]
    return found, ranks


def test_it_is_the_least_that_holds_so_many_of_the_best(collection: Collection) -> None:
    found, ranks = settled(collection)
    held = [float(np.mean([rank < width for rank in ranks])) for width in (found.width - 1, found.width)]
    assert held[0] < settling.TARGET <= held[1]
    assert found.found == pytest.approx(held[1], abs=1e-4)
    assert found.width > 60, "an encoding that finds all at once would test nothing"


def test_a_part_of_the_documents_tells_it_too(collection: Collection) -> None:
    found, ranks = settled(collection, part=4)
    held = float(np.mean([rank < found.width for rank in ranks]))
    assert abs(held - settling.TARGET) < 0.03


def test_it_is_never_too_narrow_nor_too_wide(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "MOST", 30)
    found, ranks = settled(collection)
    assert found.width == 30
    assert found.found == pytest.approx(np.mean([rank < 30 for rank in ranks]), abs=1e-4)
    monkeypatch.setattr(settling, "MOST", 4_000)
    monkeypatch.setattr(settling, "LEAST", 500)
    assert settled(collection)[0].width == 500


def test_a_first_stage_gets_the_width_that_its_collection_needs(collection: Collection) -> None:
    learn(collection, POOR)
    report = described(collection)["report"]["candidates"]
    assert described(collection)["candidates"] == report["width"] > 60
    assert report["found"] >= report["target"] == settling.TARGET
    # Learned again, it is found again; a width that was given stays.
    write_documents(collection, [Document(f"n{i}", vectors=own(10_000 + i)) for i in range(COUNT)])
    seal(collection)
    assert learn_if_due(collection)
    assert described(collection)["candidates"] > 1.4 * report["width"]
    learn(collection, POOR, width=33)
    write_documents(collection, [Document(f"m{i}", vectors=own(20_000 + i)) for i in range(2 * COUNT)])
    seal(collection)
    assert learn_if_due(collection)
    assert described(collection)["candidates"] == 33
    assert "candidates" not in described(collection)["report"]


def test_of_few_documents_nothing_is_asked(open_catalogue: OpenCatalogue) -> None:
    few = open_catalogue(learn_documents=100).create("c", model=None, kind="multi_vector", dim=DIM)
    write_documents(few, [Document(f"d{i}", vectors=own(i)) for i in range(150)])
    seal(few)
    learn(few, POOR)
    assert described(few)["candidates"] == settling.LEAST == 200
    assert described(few)["report"]["candidates"] == {"width": 200}
