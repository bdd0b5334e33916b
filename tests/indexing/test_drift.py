"""Drift: later documents of another kind are noticed and learned, later ones of the same kind are left alone."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from made import OpenCatalogue

from app.collection import first_stage as stages
from app.collection.collection import Collection
from app.collection.first_stage import Drift
from app.encodings.recipes import RidgeRecipe
from app.encodings.ridge import RidgeParameters
from app.indexing import drift
from app.indexing.drift import drift_due
from app.indexing.fitting import described, due, learn, learn_if_due, outside
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.measure.recall import measure_recall
from app.search import Query
from app.types import F32, Document

DIM = 32
RECIPE = RidgeRecipe(RidgeParameters(rank=16, samples=400, landmarks=200, probes=80))
KNOWN, LATER = 700, 400


def vectors(seed: int, kind: int, tokens: int = 10) -> F32:
    """Around three of twenty topics, in the half of the dimensions that is the kind's own."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9_000 + kind).standard_normal((20, DIM // 2))
    mine = centres[random.choice(20, 3)]
    own = mine[random.integers(0, 3, tokens)] + 0.6 * random.standard_normal((tokens, DIM // 2))
    found = 0.05 * random.standard_normal((tokens, DIM))
    found[:, kind * DIM // 2 : (kind + 1) * DIM // 2] += own
    return found.astype(np.float32)


def write(collection: Collection, start: int, stop: int, kind: int) -> None:
    write_documents(collection, [Document(f"d{i}", vectors=vectors(i, kind)) for i in range(start, stop)])
    seal(collection)


@pytest.fixture
def fitted(open_catalogue: OpenCatalogue) -> Collection:
    collection = open_catalogue(learn_documents=100).create("c", model=None, kind="multi_vector", dim=DIM)
    write(collection, 0, KNOWN, 0)
    learn(collection, RECIPE, width=40, sources=("fde",))
    return collection


def test_another_kind_is_learned_and_then_found(fitted: Collection) -> None:
    write(fitted, KNOWN, KNOWN + LATER, 1)
    assert due(fitted) is None, "they are fewer than the fit knew of"
    asked = [Query(vectors=vectors(10_000 + i, 1, 5)) for i in range(40)]
    before = measure_recall(fitted, asked).recall
    assert learn_if_due(fitted)
    assert fitted.published.generation.reason.startswith("learned again: ")
    assert "later documents" in fitted.published.generation.reason
    after = measure_recall(fitted, asked).recall
    assert after > before + 0.1
    assert (outside(fitted), due(fitted), learn_if_due(fitted)) == (0, None, False)
    record = fitted.published.generation.stage
    assert record is not None
    assert record.recipe == RECIPE.to_json()
    assert fitted.published.stage.width == 40


def test_the_same_kind_is_left_alone(fitted: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    write(fitted, KNOWN, KNOWN + LATER, 0)
    generation = fitted.published.generation
    assert not learn_if_due(fitted)
    assert fitted.published.generation == generation
    seen = described(fitted)["drift"]
    assert abs(seen["found_known"] - seen["found_later"]) < stages.LOSS / 2
    assert seen["found_later"] > 0.5
    assert seen["later"] == LATER

    # It is not looked at again before a quarter more has come.
    def looked(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("app.indexing.fitting.measure_drift", looked)
    write(fitted, 2_000, 2_000 + LATER // 4 - 1, 0)
    assert not learn_if_due(fitted)
    write(fitted, 3_000, 3_001, 0)
    with pytest.raises(AssertionError):
        learn_if_due(fitted)


def test_few_later_ones_are_not_looked_at(fitted: Collection) -> None:
    write(fitted, KNOWN, KNOWN + drift.LEAST - 1, 1)
    assert not learn_if_due(fitted)
    assert "drift" not in described(fitted)
    write(fitted, KNOWN + drift.LEAST - 1, KNOWN + drift.LEAST, 1)
    assert drift_due(fitted.published, None)
    record = fitted.published.generation.stage
    assert record is not None
    of_another_fit = Drift(int(record.fitted["next_seq"]) - 1, 10**6, 1.0, 0.0)
    fitted.drift = of_another_fit
    assert due(fitted) is None
    assert drift_due(fitted.published, of_another_fit)


def wait(done: Any) -> None:
    deadline = time.monotonic() + 100
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
