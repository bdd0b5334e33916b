"""Sequences: a document is its segments in order, a query lies on it at an offset; held to plain loops."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brute_force import unit_rows
from made import MakeCollection, OpenCatalogue, pages, write_in_segments

from app import search as engine
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, StageChoice
from app.collection.spec import CollectionSpec
from app.diversity.order import Diversity
from app.errors import Invalid
from app.filters import parse
from app.indexing.restaging import restage
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, write_documents
from app.measure.recall import measure_recall
from app.query.examples import Example, Like
from app.results.grouping import GroupBy
from app.scoring.similarities import alignment
from app.search import Query, search
from app.tasks.rebuild import run_rebuild
from app.tasks.tasks import Running, Tasks
from app.tuning.tune import Goal, tune
from app.types import F32, Document

DIM = 8
by_candidates = pytest.mark.usefixtures("searched_by_candidates")
Found = tuple[str, float, int, int]
"""A document, its score, the offset, and how many segments lie on each other."""


def walk(random: np.random.Generator, count: int) -> F32:
    """Segments that are like their neighbours, as those of music are."""
    steps = random.standard_normal((count, DIM)) * 0.7
    return np.cumsum(steps, axis=0).astype(np.float32) + np.float32(0.1)


def made(count: int, seed: int = 1) -> list[Document]:
    random = np.random.default_rng(seed)
    return [
        Document(f"d{i}", f"tune {i % 5}", metadata={"n": i, "of": f"album {i % 7}"}, vectors=walk(random, length))
        for i, length in enumerate(random.integers(1, 40, count).tolist())
    ]


def heard(documents: list[Document], which: int, start: int, length: int, noise: float = 0.2) -> F32:
    """A part of a document with noise; beyond its end, noise alone."""
    random = np.random.default_rng([start + 10, length])
    vectors = documents[which].vectors
    assert vectors is not None
    found = random.standard_normal((length, DIM)) * noise
    part = vectors[max(0, start) : start + length]
    found[max(0, -start) :][: len(part)] += part
    return found.astype(np.float32)


def truth(documents: list[Document], query: F32, *, cosine: bool = True) -> list[Found]:
    """By every offset of every document: the scores of all, best first."""
    asked = unit_rows(query) if cosine else query
    found: list[Found] = []
    for document in documents:
        assert document.vectors is not None
        own = unit_rows(document.vectors) if cosine else document.vectors
        count, best = len(own), list[tuple[float, int]]()
        # Equal ones: those not above 0 from 0 on, then the least.
        for offset in [*range(0, -len(asked), -1), *range(1, count)]:
            best.append((alignment.reference(asked, own, offset), offset))
        score, offset = max(best, key=lambda pair: pair[0])
        found.append((document.id, score, offset, min(len(asked), count - offset) - max(0, -offset)))
    return sorted(found, key=lambda one: (-one[1], one[0].encode()))


def answers(collection: Collection, query: F32, **asked: Any) -> list[Found]:
    hits = search(collection, Query(vectors=query, **asked)).hits
    return [(hit.id, hit.score, hit.alignment.offset, hit.alignment.segments) for hit in hits if hit.alignment]


QUERIES = [(3, 5, 6), (8, -3, 7), (11, 2, 1), (20, -1, 45), (30, 0, 3)]
"""Documents, where in them they begin, and lengths: before the beginning, one segment, longer than any document."""


def test_a_life_of_a_collection(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    """In the tail, sealed, merged, rebuilt, opened again, deleted from: the order of the plain loops, to the bit."""
    written = made(60)
    catalogue = open_catalogue(tmp_path / "life")
    collection = catalogue.create("c", model=None, kind="sequence", dim=DIM, segments_per_second=2)
    queries = [heard(written, *one) for one in QUERIES]

    def check(there: list[Document]) -> None:
        few = [one for one in there if one.metadata["n"] % 4 == 1]
        some = parse({"n": {"in": [one.metadata["n"] for one in few]}})
        for query in queries:
            expected = truth(there, query)
            assert answers(collection, query, k=len(there), exact=True) == expected
            assert answers(collection, query, k=5) == expected[:5]
            assert answers(collection, query, k=4, filter=some, exact=True) == truth(few, query)[:4]
            assert answers(collection, query, k=4, filter=some) == truth(few, query)[:4]

    write_documents(collection, written[:35])
    check(written[:35])
    seal(collection)
    write_documents(collection, written[35:])
    check(written)
    seal(collection)
    while merge(collection):
        pass
    check(written)
    tasks = Tasks(collection, {})
    run_rebuild(collection, Running(tasks, len(tasks.all()), tasks.submit("rebuild", {})))
    # Written again as it is, nothing changes; with its segments in another order, it is another document.
    assert write_documents(collection, written[:3]).changed == 0
    turned = Document("d3", "tune 3", metadata=written[3].metadata, vectors=written[3].vectors[::-1].copy())  # type: ignore[index]
    assert write_documents(collection, [turned]).changed == 1
    delete_ids(collection, ["d8"])
    catalogue.close()
    collection = open_catalogue(tmp_path / "life").get("c")
    now = [turned if one.id == "d3" else one for one in written if one.id != "d8"]
    check(now)
    assert collection.spec == CollectionSpec.from_json(json.loads(json.dumps(collection.spec.to_json())))
    (hit,) = search(collection, Query(vectors=queries[0], k=1, include=frozenset({"vectors"}))).hits
    own = next(one.vectors for one in now if one.id == hit.id)
    np.testing.assert_array_equal(hit.vectors, own)
    assert hit.alignment is not None
    assert hit.alignment.seconds == hit.alignment.offset / 2


@pytest.fixture
def searched_by_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a collection is that has more segments than are scored one and all."""
    monkeypatch.setattr(engine, "FEW_SEGMENTS", 0)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return made(200, 2)


@pytest.fixture
def collection(make_collection: MakeCollection, documents: list[Document]) -> Collection:
    """Of several segments and a tail."""
    found = make_collection(kind="sequence", dim=DIM, similarity="inner_product", keep_vectors=False)
    write_in_segments(found, documents, 75)
    return found


@by_candidates
def test_what_else_a_search_does(collection: Collection, documents: list[Document]) -> None:
    query = heard(documents, 17, 2, 6)
    expected = truth(documents, query, cosine=False)
    assert answers(collection, query, k=200, exact=True) == expected
    # Approximate search gives a document the score that exact search does, wherever it found it.
    scores = {one[0]: one for one in expected}
    found = answers(collection, query, k=60)
    assert all(scores[one[0]] == one for one in found)
    assert found[:3] == expected[:3]
    # Pages are pieces of one list, and groups of it.
    for exact in (True, False):
        asked = Query(vectors=query, k=40, exact=exact)
        paged = [
            hit.id
            for page in pages(lambda cursor, of=asked: search(collection, replace(of, cursor=cursor)))
            for hit in page.hits
        ]
        assert paged[:100] == [one[0] for one in answers(collection, query, k=100, exact=exact)]
        assert sorted(paged) == sorted(scores)
    grouped = search(collection, Query(vectors=query, k=3, exact=True, group_by=GroupBy("of", 2)))
    albums = [one[0] for one in expected]
    assert grouped.groups is not None
    assert grouped.groups[0].hits[0].id == albums[0]
    assert all(hit.alignment is not None for group in grouped.groups for hit in group.hits)
    # Reasons: each segment that lies on one, with its place and its product.
    for hit in search(collection, Query(vectors=query, k=5, explain=True, exact=True)).hits:
        shares = hit.explanation.shares
        assert hit.alignment is not None
        assert [one.row - one.query for one in shares] == [hit.alignment.offset] * hit.alignment.segments
        assert sum(one.product for one in shares) == pytest.approx(hit.score, rel=1e-6)
        assert hit.explanation.passage == max(hit.alignment.offset, 0)
    # Beside words, by rank or weight; by words alone nothing is aligned.
    both = search(
        collection, Query("tune 2", query, mode="hybrid", k=5, exact=True, weights={"words": 0.2, "pooled": 0.8})
    )
    assert all(hit.alignment is not None for hit in both.hits)
    only = search(collection, Query("tune 2", query, mode="hybrid", k=5, exact=True, weights={"words": 0, "pooled": 1}))
    assert [hit.id for hit in only.hits] == [one[0] for one in expected[:5]]
    assert search(collection, Query("tune 2", mode="lexical", k=1)).hits[0].alignment is None
    assert (
        search(collection, Query(vectors=query, k=3, exact=True, min_score=expected[1][1])).hits[-1].id
        == expected[1][0]
    )
    assert search(collection, Query(vectors=query, k=3, partial=True)).hits[0].id == expected[0][0]


@by_candidates
def test_recall_is_measured_and_widths_are_tuned(make_collection: MakeCollection, documents: list[Document]) -> None:
    collection = make_collection(kind="sequence", dim=DIM)
    write_documents(collection, documents)
    seal(collection)
    measured = measure_recall(collection, 12, 5, float32=True)
    assert (measured.recall, measured.recall_float32) == (pytest.approx(1, abs=0.1), pytest.approx(1, abs=0.1))
    narrow = measure_recall(collection, 12, 5, 5)
    assert narrow.recall <= measured.recall
    report = tune(collection, Goal(target_recall=0.9, k=5), 8)
    assert report["chosen"] == "segments"
    assert report["measured"]["recall"] >= 0.9
    assert collection.published.stage.sources == ("segments",)


@by_candidates
def test_votes_find_what_no_segment_finds_alone(make_collection: MakeCollection) -> None:
    """Each segment of the query is nearest to other documents; the one in which all of them follow each other is far
    down each list, and first by votes."""
    random = np.random.default_rng(7)
    unit = np.eye(DIM, dtype=np.float32)
    order = [0, 1, 2, 3, 4, 5]
    decoys = [
        Document(f"x{i}", vectors=unit[[i % 6]] + 1e-3 * random.random((1, DIM), np.float32)) for i in range(3_000)
    ]
    wanted = Document("wanted", vectors=unit[order] + np.float32(0.4) * unit[7])
    shuffled = [Document(f"s{i}", vectors=wanted.vectors[random.permutation(6)]) for i in range(3)]  # type: ignore[index]
    collection = make_collection(kind="sequence", dim=DIM)
    write_documents(collection, [*decoys, *shuffled, wanted])
    seal(collection)
    (best, *_) = answers(collection, unit[order], k=2, candidates=600)
    assert (best[0], best[2], best[3]) == ("wanted", 0, 6)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"similarity": "euclidean"}, "/similarity"),
    ({"similarity": "lorentz"}, "/similarity"),
    ({"token_pooling": 2}, "/token_pooling"),
    ({"precision": "8bit"}, "/precision"),
    ({"segments_per_second": 0}, "/segments_per_second"),
    ({"segments_per_second": float("nan")}, "/segments_per_second"),
    ({"kind": "dense", "segments_per_second": 2}, "/segments_per_second"),
    ({"dim": None}, "/encoder/kind"),
    ({"fusion": {"tokens": 1}}, "/fusion/tokens"),
]


@pytest.mark.parametrize(("choices", "pointer"), REFUSED)
def test_collections_that_are_none(make_collection: MakeCollection, choices: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        make_collection(**{"kind": "sequence", "dim": DIM, **choices})
    assert [one.pointer for one in refused.value.problems] == [pointer]


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"mode": "dense"}, "/mode"),
        ({"passages": 2}, "/passages"),
        ({"diversity": Diversity(weight=0.5)}, "/diversity"),
        ({"vectors": None, "like": Like([Example(id="d1")])}, "/like"),
        ({"vectors": np.ones((2, DIM + 1), np.float32)}, "/vectors"),
        ({"vectors": np.ones((0, DIM), np.float32)}, "/vectors"),
    ],
)
def test_searches_that_no_sequence_has(make_collection: MakeCollection, asked: dict[str, Any], pointer: str) -> None:
    collection = make_collection(kind="sequence", dim=DIM)
    write_documents(collection, made(3))
    with pytest.raises(Invalid) as refused:
        search(collection, Query(**{"vectors": np.ones((2, DIM), np.float32), **asked}))
    assert [one.pointer for one in refused.value.problems] == [pointer]


def test_documents_that_are_none(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="sequence", dim=DIM)
    silent = np.ones((4, DIM), np.float32)
    silent[2] = 0
    for vectors in (None, np.ones((2, DIM + 1), np.float32), np.ones((0, DIM), np.float32), silent):
        with pytest.raises(Invalid) as refused:
            write_documents(collection, [Document("a", "text", vectors=vectors)])
        assert [one.pointer for one in refused.value.problems] == ["/documents/0/vectors"]
    assert "2" in refused.value.problems[0].message
    # A first stage of another kind is none of it.
    write_documents(collection, made(2))
    with pytest.raises(Invalid):
        restage(collection, StageChoice(FirstStage(("pooled",), None, 10), "by hand"))


@by_candidates
def test_an_hour_is_one_document(make_collection: MakeCollection) -> None:
    """7,200 segments, found to the segment; a query of a minute too."""
    random = np.random.default_rng(3)
    hour = random.standard_normal((7_200, DIM)).astype(np.float32)
    collection = make_collection(kind="sequence", dim=DIM, segments_per_second=2, lexical=None)
    write_documents(collection, [Document("hour", vectors=hour), Document("other", vectors=hour[::-1].copy())])
    seal(collection)
    for start, length in ((5_000, 4), (6_900, 120)):
        query = hour[start : start + length] + 0.3 * random.standard_normal((length, DIM)).astype(np.float32)
        (best, *_) = search(collection, Query(vectors=query, k=1)).hits
        assert best.alignment is not None
        assert (best.id, best.alignment.offset, best.alignment.seconds) == ("hour", start, start / 2)
