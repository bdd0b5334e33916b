"""Acknowledged documents are found by their own vectors: odd ones among equals, and kinds that came after the fit."""

from __future__ import annotations

import numpy as np
import pytest
from made import MakeCollection

from app.collection.collection import Collection
from app.encodings.recipes import RidgeRecipe
from app.encodings.ridge import RidgeParameters
from app.indexing.fitting import learn
from app.indexing.newcomers import seal_known, unknown
from app.indexing.sealing import seal
from app.ingest import index_now, write_documents
from app.measure.recall import measure_recall
from app.search import Query, search
from app.types import F32, Document

RECIPE = RidgeRecipe(RidgeParameters(rank=48, samples=512, landmarks=256))
TOKENS, DIM = 6, 32


def kind(seed: int, count: int, noise: float = 0.3) -> list[F32]:
    """Passages around one direction."""
    random = np.random.default_rng(seed)
    direction = random.standard_normal(DIM)
    direction /= np.linalg.norm(direction)
    return list((direction + noise / np.sqrt(DIM) * random.standard_normal((count, TOKENS, DIM))).astype(np.float32))


def named(prefix: str, passages: list[F32]) -> list[Document]:
    return [Document(f"{prefix}{i}", vectors=vectors) for i, vectors in enumerate(passages)]


def not_first(collection: Collection, passages: list[F32], prefix: str) -> list[str]:
    """Ids of documents that a search by their own vectors does not answer first."""
    found = [search(collection, Query(vectors=vectors, k=1)).hits[0].id for vectors in passages]
    return [identifier for i, identifier in enumerate(found) if identifier != f"{prefix}{i}"]


def learned(collection: Collection, width: int = 60) -> Collection:
    learn(collection, RECIPE, width=width)
    return collection


@pytest.mark.parametrize(("equal", "odd"), [(1_200, 40), (1_500, 10)])
def test_odd_ones_among_equals_are_found(make_collection: MakeCollection, equal: int, odd: int) -> None:
    random = np.random.default_rng(0)
    same = random.standard_normal((TOKENS, DIM)).astype(np.float32)
    others = list(random.standard_normal((odd, TOKENS, DIM)).astype(np.float32))
    collection = make_collection(dim=DIM, precision="float32")
    write_documents(collection, named("same", [same] * equal) + named("odd", others))
    seal(collection)
    learned(collection)
    assert not_first(collection, others, "odd") == []


def test_recall_is_told_of_distinct_documents_too(make_collection: MakeCollection) -> None:
    """Which of many equal ones are answered says nothing about what is missed."""
    random = np.random.default_rng(1)
    same = random.standard_normal((TOKENS, DIM)).astype(np.float32)
    collection = make_collection(dim=DIM, precision="float32")
    others = list(random.standard_normal((30, TOKENS, DIM)).astype(np.float32))
    write_documents(collection, named("same", [same] * 600) + named("odd", others))
    seal(collection)
    measured = measure_recall(collection, 31, 10, 60)
    assert measured.queries == 31, "as many as differ"
    assert measured.recall_distinct == 1.0
    assert measured.recall < 1.0


def test_another_kind_is_found_as_soon_as_it_is_indexed(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=DIM, precision="float32")
    old = kind(1, 900)
    write_documents(collection, named("old", old))
    seal(collection)
    learned(collection, 200)
    fit = collection.published.generation.stage
    more = kind(1, 60)
    write_documents(collection, named("more", [vectors + np.float32(0.01) for vectors in more]))
    assert not unknown(collection), "of the kind that the fit knows"
    index_now(collection)
    assert collection.published.generation.stage == fit
    new = kind(2, 80)
    write_documents(collection, named("new", new))
    assert unknown(collection)
    index_now(collection)
    assert not len(collection.published.tail.part.seqs)
    record = collection.published.generation.stage
    assert record is not None
    assert record != fit
    assert record.recipe == RECIPE.to_json()
    assert not_first(collection, new[:25], "new") == []
    assert not_first(collection, old[:25], "old") == []


def test_what_the_fit_has_seen_is_sealed_without_another(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=DIM, precision="float32")
    write_documents(collection, named("old", kind(1, 600)))
    seal(collection)
    write_documents(collection, named("new", kind(2, 40)))
    learned(collection)
    record = collection.published.generation.stage
    assert seal_known(collection)
    assert collection.published.generation.stage == record
    assert not_first(collection, kind(2, 40)[:20], "new") == []
