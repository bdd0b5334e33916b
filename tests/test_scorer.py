"""A search by a network of the caller's: every document by it, in any part, under every similarity."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from brute_force import network_score
from made import OpenCatalogue, pages, write_in_segments

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.segment import NEIGHBOURS
from app.errors import Damaged, Invalid
from app.filters import parse
from app.indexing.fitting import described
from app.indexing.reindexing import link
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, write_documents
from app.measure.recall import measure_recall
from app.query.examples import Example, Like
from app.results.grouping import GroupBy
from app.scoring.networks.forward import scores
from app.scoring.networks.network import Layer, Network
from app.scoring.similarities.measures import SIMILARITIES
from app.search import Query, search, search_batch
from app.tasks.rebuild import run_rebuild
from app.tasks.tasks import Running, Tasks
from app.types import F32, Document, SimilarityName

DIM = 6


def network(seed: int = 0, dim: int = DIM) -> Network:
    random = np.random.default_rng(seed)
    widths = [dim, dim, 12, 1]
    layers = [
        Layer(random.standard_normal((a, b)).astype(np.float32), random.standard_normal(b).astype(np.float32))
        for a, b in itertools.pairwise(widths)
    ]
    return Network(tuple(layers), residual="inner", norm="before")


def documents(count: int, similarity: SimilarityName = "cosine", seed: int = 1) -> list[Document]:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM))
    if similarity == "poincare":
        vectors /= 1 + np.linalg.norm(vectors, axis=1, keepdims=True)
    if similarity == "lorentz":
        vectors[:, 0] = np.sqrt(1 + np.square(vectors[:, 1:]).sum(axis=1))
    return [
        Document(f"d{i}", f"number {i}", metadata={"n": i, "tens": i % 10}, vectors=one[None].astype(np.float32))
        for i, one in enumerate(vectors)
    ]


def unit(vectors: F32) -> F32:
    wide = vectors.astype(np.float64)
    return (wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))).astype(np.float32)


def truth(by: Network, of: Sequence[Document], *, kept: bool = True) -> list[tuple[str, float]]:
    """kept: as a collection under cosine keeps vectors, with length 1."""
    scored = [(one.id, network_score(by, (unit(one.vectors) if kept else one.vectors)[0])) for one in of]  # type: ignore[arg-type,index]
    return sorted(scored, key=lambda item: (-item[1], item[0].encode()))


@pytest.fixture
def catalogue(open_catalogue: OpenCatalogue) -> Catalogue:
    return open_catalogue()


def dense(catalogue: Catalogue, name: str = "dense", similarity: SimilarityName = "cosine") -> Collection:
    return catalogue.create(name, model=None, kind="dense", dim=DIM, similarity=similarity)


def found(collection: Collection, query: Query) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in search(collection, query).hits]


def test_exact_is_brute_force_in_segments_and_tail(catalogue: Catalogue) -> None:
    collection, given, by = dense(catalogue), documents(130), network()
    write_in_segments(collection, given, 30)
    expected = truth(by, given)
    for exact in (True, False):
        assert found(collection, Query(scorer=by, k=130, exact=exact)) == expected
    while merge(collection):
        pass
    assert found(collection, Query(scorer=by, k=7)) == expected[:7]
    some = parse({"n": {"gte": 60}})
    kept = [one for one in expected if int(one[0][1:]) >= 60]
    assert found(collection, Query(scorer=by, k=200, filter=some)) == kept
    delete_ids(collection, [expected[0][0], expected[2][0]])
    assert found(collection, Query(scorer=by, k=3)) == [expected[1], *expected[3:5]]


@pytest.mark.parametrize("similarity", ["inner_product", "euclidean", "lorentz", "poincare"])
def test_vectors_go_through_it_as_they_were_given(catalogue: Catalogue, similarity: SimilarityName) -> None:
    assert similarity in SIMILARITIES
    collection, given, by = dense(catalogue, similarity=similarity), documents(40, similarity), network()
    write_in_segments(collection, given, 25)
    expected, hits = truth(by, given, kept=False), found(collection, Query(scorer=by, k=40))
    if similarity == "poincare":
        # Its points are kept as points of a hyperboloid, and come back within rounding.
        assert dict(hits) == pytest.approx(dict(expected), rel=1e-3, abs=1e-3)
    else:
        assert hits == expected


def test_pages_groups_reasons_boosts_and_batches(catalogue: Catalogue) -> None:
    collection, given, by = dense(catalogue), documents(70), network()
    write_in_segments(collection, given, 30)
    expected = truth(by, given)
    listed = [
        (hit.id, hit.score)
        for page in pages(lambda cursor: search(collection, Query(scorer=by, k=9, cursor=cursor)))
        for hit in page.hits
    ]
    assert listed == expected
    first = search(collection, Query(scorer=by, k=9))
    with pytest.raises(Invalid, match="another search"):
        search(collection, Query(scorer=network(1), k=9, cursor=first.next))
    groups = search(collection, Query(scorer=by, k=3, group_by=GroupBy("tens", 2))).groups
    assert groups is not None
    best: dict[int, list[str]] = {}
    for identifier, _ in expected:
        best.setdefault(int(identifier[1:]) % 10, []).append(identifier)
    assert [[hit.id for hit in group.hits] for group in groups] == [own[:2] for own in list(best.values())[:3]]
    hit = search(collection, Query(scorer=by, k=1, explain=True)).hits[0]
    assert hit.explanation is not None
    assert [one.product for one in hit.explanation.shares] == [hit.score] == [expected[0][1]]
    assert hit.explanation.approximate is True
    least = expected[4][1]
    assert found(collection, Query(scorer=by, k=50, min_score=least)) == expected[:5]
    several = search_batch(collection, [Query(scorer=by, k=2), Query(scorer=network(1), k=2)])
    assert [[hit.id for hit in one.hits] for one in several] == [
        [identifier for identifier, _ in truth(one, given)[:2]] for one in (by, network(1))
    ]


def test_recall_is_measured_by_it(catalogue: Catalogue) -> None:
    collection = dense(catalogue)
    write_in_segments(collection, documents(60), 20)
    measured = measure_recall(collection, [Query(scorer=network(i)) for i in range(3)], 5, float32=True)
    assert (measured.queries, measured.recall, measured.recall_float32) == (3, 1.0, 1.0)


def test_what_does_not_go_with_it_is_told_at_its_place(catalogue: Catalogue) -> None:
    collection, several = dense(catalogue), catalogue.create("several", model=None, kind="multi_vector", dim=DIM)
    write_in_segments(collection, documents(20), 30)
    asked, vector = Query(scorer=network(), at="/searches/1"), np.ones((1, DIM), np.float32)
    cases = [
        (replace(asked, vectors=vector), "/scorer", "by a scorer, or by"),
        (replace(asked, text="a"), "/scorer", "by a scorer, or by"),
        (replace(asked, like=Like([Example("d1")])), "/scorer", "by a scorer, or by"),
        (replace(asked, mode="hybrid"), "/mode", "not of a hybrid one"),
        (replace(asked, mode="lexical"), "/mode", "not of a lexical one"),
        (replace(asked, relevance=True), "/relevance", "not of a scorer's"),
        (replace(asked, scorer=network(dim=5)), "/scorer/layers/0/weights", "expected 6 rows"),
        (
            replace(asked, scorer=Network((Layer(np.ones((DIM, 2), np.float32)),))),
            "/scorer/layers/0/weights",
            "1 column",
        ),
    ]
    for query, pointer, said in cases:
        with pytest.raises(Invalid, match=said) as raised:
            search(collection, query)
        assert raised.value.problems[0].pointer == f"/searches/1{pointer}"
    with pytest.raises(Invalid, match="is multi_vector") as raised:
        search(several, asked)
    assert raised.value.problems[0].pointer == "/searches/1/scorer"
    far = dense(catalogue, "far", "inner_product")
    write_in_segments(far, [replace(one, vectors=one.vectors * 1e12) for one in documents(3)], 3)  # type: ignore[operator]
    steep = Layer(np.full((DIM, DIM), 1e13, np.float32))
    with pytest.raises(Invalid, match="beyond float32"):
        search(far, Query(scorer=Network((steep, steep, Layer(np.ones((DIM, 1), np.float32))))))


@pytest.fixture
def linked(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """A graph over two segments; a third is too small, and the tail has none."""
    monkeypatch.setattr("app.collection.segment_writing.FEWEST", 100)
    monkeypatch.setattr("app.vector_index.neighbours.REACH", 10)
    monkeypatch.setattr("app.vector_index.neighbours.STEP", 16)
    monkeypatch.setattr("app.vector_index.neighbours.ENTRIES", 50)
    monkeypatch.setattr("app.vector_index.neighbours.SCORED", 8)
    monkeypatch.setattr("app.search.FEW", 100)
    collection, given = dense(catalogue), documents(2_500)
    for some in (given[:1_200], given[1_200:2_400], given[2_400:2_450]):
        write_documents(collection, some)
        seal(collection)
    link(collection, 12, reason="for a test")
    write_documents(collection, given[2_450:])
    return collection


def recall(collection: Collection, given: Sequence[Document], **options: Any) -> float:
    shares = []
    for seed in range(8):
        expected = [name for name, _ in truth(network(seed), given)[:10]]
        hits = found(collection, Query(scorer=network(seed), k=10, **options))
        assert len(hits) == 10
        shares.append(len({name for name, _ in hits} & set(expected)) / 10)
    return float(np.mean(shares))


def scored(collection: Collection, monkeypatch: pytest.MonkeyPatch, query: Query) -> int:
    """Vectors that one search puts through its network."""
    counts: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(
            "app.query.encoded.scores", lambda by, vectors: counts.append(len(vectors)) or scores(by, vectors)
        )
        search(collection, query)
    return sum(counts)


def test_along_a_graph_few_are_scored_and_the_best_found(linked: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    given, by = documents(2_500), network()
    assert [view.part.is_linked for view in linked.published.segments] == [True, True, False]
    assert described(linked)["neighbours"] == {"links": 12, "passages": 2_400}
    assert recall(linked, given) >= 0.9
    assert scored(linked, monkeypatch, Query(scorer=by, k=10)) < 1_500
    assert scored(linked, monkeypatch, Query(scorer=by, k=10, exact=True)) >= 2_500
    # The scores are those of an exact search, whoever is found, and what was written since is.
    exact = dict(found(linked, Query(scorer=by, k=2_500, exact=True)))
    hits = found(linked, Query(scorer=by, k=100))
    assert all(exact[name] == score for name, score in hits)
    assert found(linked, Query(scorer=by, k=10)) == hits[:10]
    listed = [
        (hit.id, hit.score)
        for page in itertools.islice(pages(lambda cursor: search(linked, Query(scorer=by, k=40, cursor=cursor))), 4)
        for hit in page.hits
    ]
    assert listed[:100] == hits
    late = {f"d{i}" for i in range(2_450, 2_500)} & {name for name, _ in truth(by, given)[:200]}
    assert late <= {name for name, _ in found(linked, Query(scorer=by, k=1_000))}
    for keep in (2, 10, 500):
        some = [one for one in given if int(one.id[1:]) % keep == 0]
        only = parse({"or": [{"n": {"eq": int(one.id[1:])}} for one in some]}) if keep == 500 else None
        ids = None if only is not None else [one.id for one in some]
        wanted, hits = truth(by, some)[:10], found(linked, Query(scorer=by, k=10, filter=only, ids=ids))
        assert len(hits) == len(wanted)
        assert {name for name, _ in hits} <= {one.id for one in some}
    measured = measure_recall(linked, [Query(scorer=network(i)) for i in range(6)], 10)
    assert 0.9 <= measured.recall <= 1.0


def test_a_graph_goes_where_its_segments_go(
    linked: Collection, catalogue: Catalogue, open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, by = documents(2_500), network()
    hits = found(linked, Query(scorer=by, k=20))
    gone = [name for name, _ in hits[:5]]
    delete_ids(linked, gone)
    assert not set(gone) & {name for name, _ in found(linked, Query(scorer=by, k=20))}
    write_documents(linked, [one for one in given if one.id in gone])
    assert found(linked, Query(scorer=by, k=20)) == hits
    folder = linked.files
    catalogue.close()
    again = open_catalogue().get("dense")
    assert again.files.name == folder.name
    assert [view.part.is_linked for view in again.published.segments] == [True, True, False]
    assert found(again, Query(scorer=by, k=20)) == hits
    # What the index is made of next is linked as well.
    write_documents(again, [replace(one, id=f"e{one.id}") for one in given[:300]])
    seal(again)
    assert [view.part.is_linked for view in again.published.segments] == [True, True, False, True]
    while merge(again):
        pass
    assert all(view.part.is_linked for view in again.published.segments if view.part.size > 100)
    assert scored(again, monkeypatch, Query(scorer=by, k=10)) < 1_500
    link(again, 0, reason="for a test")
    assert not any(view.part.is_linked for view in again.published.segments)
    assert "neighbours" not in described(again)
    assert scored(again, monkeypatch, Query(scorer=by, k=10)) >= 2_500


def test_a_damaged_graph_is_told_and_a_rebuild_makes_it_anew(linked: Collection) -> None:
    by = network()
    hits = found(linked, Query(scorer=by, k=10))
    segment = linked.published.segments[0].part
    path = linked.resources.settings.indexes / "dense" / "segments" / segment.folder.name / NEIGHBOURS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    del segment.__dict__["neighbours"]
    with pytest.raises(Damaged, match=r"neighbours\.index"):
        search(linked, Query(scorer=by, k=10))
    # Whoever asks no scorer does not need it.
    assert len(search(linked, Query(vectors=np.ones((1, DIM), np.float32))).hits) == 10
    tasks = Tasks(linked, {"rebuild": run_rebuild})
    run_rebuild(linked, Running(tasks, 0, tasks.submit("rebuild", {})))
    assert all(view.part.is_linked for view in linked.published.segments if view.part.size > 100)
    assert len({name for name, _ in found(linked, Query(scorer=by, k=10))} & {name for name, _ in hits}) >= 9
