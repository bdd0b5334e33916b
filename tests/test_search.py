"""Search against the truth: exact equals brute force, approximate gives the same scores and never a short page."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from brute_force import ranking, score
from made import DIM, MakeCollection
from small_codes import code_everything

from app.collection.collection import Collection
from app.collection.first_stage import DENSE_WIDTH
from app.encoders.deterministic import DeterministicEncoder
from app.errors import Invalid
from app.filters import Filter, parse
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.search import Query, search, search_batch
from app.types import F32, Document, Encoded
from app.vector_index import choose
from app.vector_index.coded import Coded
from app.vector_index.graph import Graph
from app.vector_index.refined import LEAST

KINDS = ["multi_vector", "dense"]
SIMILARITIES = ["cosine", "inner_product"]
Random = np.random.Generator


def vectors(random: Random, kind: str, dim: int) -> F32:
    """Whole numbers, so that many scores are equal."""
    count = 1 if kind == "dense" else int(random.integers(1, 5))
    values = random.integers(-2, 3, (count, dim)).astype(np.float32)
    values[~values.any(axis=1), 0] = 1
    return values


def fill(
    collection: Collection, random: Random, count: int, sealed_every: int, deleted: float = 0.1
) -> dict[str, Document]:
    """Writes documents over several segments and a tail, replaces and deletes some; what stands."""
    spec = collection.spec
    documents: dict[str, Document] = {}
    for start in range(0, count, sealed_every):
        batch = []
        for i in range(start, min(start + sealed_every, count)):
            # Ids in no order of writing, some of them not ASCII.
            identifier = f"{random.integers(10**6)}-{'é' if i % 7 == 0 else ''}{i}"
            batch.append(Document(identifier, metadata={"n": i}, vectors=vectors(random, spec.kind, spec.dim)))
        old = random.choice(list(documents), min(len(documents), 5), replace=False).tolist() if documents else []
        batch += [Document(i, metadata={"n": -1}, vectors=vectors(random, spec.kind, spec.dim)) for i in old]
        write_documents(collection, batch)
        documents.update((d.id, d) for d in batch)
        gone = [i for i in documents if random.random() < deleted]
        delete_ids(collection, gone)
        for i in gone:
            del documents[i]
        if start + sealed_every < count:
            seal(collection)
    return documents


def pairs(collection: Collection, query: Query) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in search(collection, query).hits]


def truth(
    documents: dict[str, Document], query: F32, k: int, collection: Collection, condition: Filter | None = None
) -> list[tuple[str, float]]:
    allowed = [
        (d.id, d.vectors)
        for d in documents.values()
        if d.vectors is not None and (condition is None or condition.matches(d.metadata))
    ]
    return ranking(allowed, query, k, collection.spec)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_exact_search_is_brute_force(make_collection: MakeCollection, kind: str, similarity: str) -> None:
    random = np.random.default_rng(7)
    collection = make_collection(kind=kind, dim=3, similarity=similarity)
    documents = fill(collection, random, 300, 80)
    assert len(collection.published.views) == 4
    for k in (1, 2, 10, 37, 1000):
        for _ in range(4):
            query = vectors(random, kind, 3)
            expected = truth(documents, query, k, collection)
            assert pairs(collection, Query(vectors=query, k=k, exact=True)) == expected
            low = parse({"n": {"lt": int(random.integers(0, 300))}})
            expected = truth(documents, query, k, collection, low)
            assert pairs(collection, Query(vectors=query, k=k, exact=True, filter=low)) == expected


def test_ties_go_by_the_bytes_of_the_id(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=2)
    ids = ["b", "a", "B", "é", "e\u0301", "\U0001f600", "\uffee", "aa", "Z", "10", "9", " "]
    same = np.array([[3, 4]], np.float32)
    for start in range(0, len(ids), 4):
        write_documents(collection, [Document(i, vectors=same) for i in ids[start : start + 4]])
        if start < 8:
            seal(collection)
    expected = sorted(ids, key=str.encode)
    assert expected.index("\uffee") < expected.index("\U0001f600")
    for exact in (True, False):
        for k in range(1, len(ids) + 1):
            hits = search(collection, Query(vectors=same, k=k, exact=exact)).hits
            assert [hit.id for hit in hits] == expected[:k]
            assert {hit.score for hit in hits} == {hits[0].score}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_approximate_search_has_the_exact_scores(make_collection: MakeCollection, kind: str, similarity: str) -> None:
    random = np.random.default_rng(8)
    collection = make_collection(kind=kind, dim=5, similarity=similarity)
    documents = fill(collection, random, 600, 170)
    for width in (None, 20, 60):
        for _ in range(5):
            query = vectors(random, kind, 5)
            found = pairs(collection, Query(vectors=query, k=15, candidates=width))
            assert len(found) == 15
            assert found == sorted(found, key=lambda item: (-item[1], item[0].encode()))
            for identifier, value in found:
                document = documents[identifier].vectors
                assert document is not None
                assert value == score(query, document, collection.spec)
    # All of them are candidates: then it is the exact search.
    query = vectors(random, kind, 5)
    everything = pairs(collection, Query(vectors=query, k=50, candidates=10_000))
    assert everything == truth(documents, query, 50, collection)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_vectors_of_any_length(make_collection: MakeCollection, kind: str, similarity: str) -> None:
    """From the smallest that float32 holds to the longest that is taken: nothing overflows or is lost."""
    random = np.random.default_rng(10)
    collection = make_collection(kind=kind, dim=5, similarity=similarity)
    documents: dict[str, Document] = {}
    for start in (0, 150):
        batch = []
        for i in range(start, start + 150):
            shape = (1 if kind == "dense" else 2, 5)
            scale = 10.0 ** random.integers(-44, 15, shape)
            own = (random.uniform(0.1, 0.4, shape) * scale * random.choice([-1, 1], shape)).astype(np.float32)
            own[~own.any(axis=1), 0] = 1e-45
            batch.append(Document(f"d{i}", vectors=own))
        write_documents(collection, batch)
        documents.update((d.id, d) for d in batch)
        if start == 0:
            seal(collection)
    for length in (1e-44, 1.0, 3e14):
        query = (random.normal(size=(1 if kind == "dense" else 3, 5)) * length).astype(np.float32)
        query[~query.any(axis=1), 0] = 1e-45
        assert pairs(collection, Query(vectors=query, k=20, exact=True)) == truth(documents, query, 20, collection)
        found = pairs(collection, Query(vectors=query, k=20, candidates=40))
        assert len(found) == 20
        for identifier, value in found:
            own_vectors = documents[identifier].vectors
            assert own_vectors is not None
            assert value == score(query, own_vectors, collection.spec)


@pytest.fixture
def small_ivf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Approximate indexes for small segments too."""
    code_everything(monkeypatch, 4_000)


@pytest.mark.slow
@pytest.mark.usefixtures("small_ivf")
@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_never_gives_a_short_page(make_collection: MakeCollection, kind: str) -> None:
    random = np.random.default_rng(9)
    collection = make_collection(kind=kind, dim=8)
    assert choose(700, 8) != "flat"
    documents: dict[str, Document] = {}
    for start in (0, 700, 1400):
        batch = []
        for i in range(start, start + 700):
            own = random.normal(size=(1 if kind == "dense" else 3, 8)).astype(np.float32)
            batch.append(Document(f"d{i}", metadata={"n": i % 1000, "half": i % 2 == 0}, vectors=own))
        write_documents(collection, batch)
        documents.update((d.id, d) for d in batch)
        if start < 1400:
            seal(collection)
    gone = [f"d{i}" for i in range(0, 2100, 3)]
    delete_ids(collection, gone)
    for identifier in gone:
        del documents[identifier]
    assert len(collection.published.segments) == 2
    for bound in (1, 3, 10, 60, 400, 1000):
        for width in (10, 40, None):
            condition = parse({"and": [{"n": {"lt": bound}}, {"half": {"eq": True}}]})
            allowed = {i for i, d in documents.items() if condition.matches(d.metadata)}
            query = random.normal(size=(1 if kind == "dense" else 2, 8)).astype(np.float32)
            found = pairs(collection, Query(vectors=query, k=10, filter=condition, candidates=width))
            assert len(found) == min(10, len(allowed))
            assert {identifier for identifier, _ in found} <= allowed
            if len(allowed) <= (width or collection.stage.width):
                assert found == truth(documents, query, 10, collection, condition)
            assert collection.count(condition) == len(allowed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exact", [True, False])
def test_fewer_documents_than_asked_for(make_collection: MakeCollection, kind: str, exact: bool) -> None:
    collection = make_collection(kind=kind, dim=2)
    query = Query(vectors=np.ones((1, 2), np.float32), k=1000, exact=exact)
    assert search(collection, query).hits == []
    write_documents(collection, [Document("a", vectors=np.ones((1, 2), np.float32))])
    assert [hit.id for hit in search(collection, query).hits] == ["a"]
    seal(collection)
    write_documents(collection, [Document("b", vectors=np.ones((1, 2), np.float32))])
    assert [hit.id for hit in search(collection, query).hits] == ["a", "b"]
    delete_ids(collection, ["a", "b"])
    assert search(collection, query).hits == []
    seal(collection)
    assert search(collection, query).hits == []


def test_the_candidates_width_is_respected(make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    collection = make_collection(dim=4)
    fill(collection, random, 500, 200, deleted=0)
    from app.query import reaching

    asked: list[int] = []
    original: Callable[..., Any] = reaching.rank

    def counting(views: Any, rows: list[Any], *rest: Any) -> Any:
        asked.append(sum(map(len, rows)))
        return original(views, rows, *rest)

    monkeypatch.setattr(reaching, "rank", counting)
    query = Query(vectors=random.integers(1, 3, (12, 4)).astype(np.float32), k=5)
    for options in ({}, {"candidates": 17}, {"candidates": 2}, {"candidates": 10_000}, {"exact": True}):
        search(collection, Query(vectors=query.vectors, k=5, **options))
    count = collection.count()
    # Two candidates are too few for five hits: then as many more, and as many as these together.
    assert asked == [collection.stage.width, 17, 2, 2, 4, count, count]


def test_text_queries_are_scored_by_the_encoders_vectors(make_collection: MakeCollection) -> None:
    collection = make_collection()
    texts = {f"d{i}": f"word{i % 5} word{i % 3} and more {i}" for i in range(40)}
    write_documents(collection, [Document(i, text) for i, text in texts.items()])
    encoder = DeterministicEncoder(DIM, "multi_vector")

    def tokens(text: str) -> F32:
        encoded = encoder.encode_documents([text]).tokens
        assert encoded is not None
        return encoded[0]

    asked = ["word1 word2", "more 7", "nothing of this"]
    expected = [ranking(((i, tokens(t)) for i, t in texts.items()), tokens(q), 10, collection.spec) for q in asked]
    for exact in (True, False):
        results = search_batch(collection, [Query(text=q, exact=exact) for q in asked])
        assert [[(hit.id, hit.score) for hit in result.hits] for result in results] == expected
        assert [result.exact for result in results] == [exact] * 3


def test_many_threads_find_what_each_finds_alone(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their texts are encoded together, their searches take turns; nobody gets another's answer or another's error."""
    real, passes = DeterministicEncoder.encode_queries, []

    def slow(self: DeterministicEncoder, texts: Sequence[str]) -> Encoded:
        passes.append(len(texts))
        time.sleep(0.002)
        return real(self, texts)

    monkeypatch.setattr(DeterministicEncoder, "encode_queries", slow)
    collection = make_collection()
    write_documents(collection, [Document(f"d{i}", f"word{i % 7} word{i % 3} and more {i}") for i in range(60)])
    asked = [Query(text=f"word{n % 7} more {n}", k=3) for n in range(60)]
    expected = [[(hit.id, hit.score) for hit in search(collection, query).hits] for query in asked]
    assert passes == [1] * len(asked)
    passes.clear()

    def ask(query: Query) -> list[tuple[str, float]] | str:
        try:
            return [(hit.id, hit.score) for hit in search(collection, query).hits]
        except Invalid as error:
            return error.message

    wrong = Query(vectors=np.ones((1, DIM + 1), np.float32))
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(ask, [query for each in asked for query in (each, wrong)]))
    assert found[::2] == expected
    assert all(isinstance(said, str) for said in found[1::2])
    assert sum(passes) == len(asked)
    assert len(passes) < len(asked)


def test_a_result_has_its_parts(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=2)
    own = np.array([[3, 4]], np.float32)
    write_documents(collection, [Document("a", "text", "title", {"n": 1}, own)])
    seal(collection)
    result = search(collection, Query(vectors=own, include=frozenset()))
    hit = result.hits[0]
    assert (hit.id, hit.title, hit.text, hit.metadata, hit.vectors) == ("a", "title", None, None, None)
    assert result.generation == 1
    assert set(result.stages) == {"encode_ms", "filter_ms", "candidates_ms", "rescore_ms", "fetch_ms"}
    assert result.took_ms >= sum(result.stages.values()) > 0
    hit = search(collection, Query(vectors=own, include=frozenset({"vectors", "text", "metadata"}))).hits[0]
    assert (hit.text, hit.metadata) == ("text", {"n": 1})
    assert np.array_equal(hit.vectors, own)


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ({"dim": 2}, {}),
        ({"dim": 2}, {"text": "x", "vectors": np.ones((1, 2), np.float32)}),
        ({"dim": 2}, {"vectors": np.ones((1, 3), np.float32)}),
        ({"dim": 2}, {"vectors": np.ones((0, 2), np.float32)}),
        ({"dim": 2}, {"vectors": np.zeros((1, 2), np.float32)}),
        ({"dim": 2}, {"vectors": np.array([[1, np.nan]], np.float32)}),
        ({"dim": 2, "kind": "dense"}, {"vectors": np.ones((2, 2), np.float32)}),
        ({}, {"vectors": np.ones((1, DIM + 1), np.float32)}),
    ],
)
def test_a_wrong_query_is_refused(
    make_collection: MakeCollection, options: dict[str, Any], query: dict[str, Any]
) -> None:
    with pytest.raises(Invalid):
        search(make_collection(**options), Query(**query))


def test_sources_are_searched_side_by_side_with_the_same_result(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    collection = make_collection(dim=8)
    write_documents(
        collection, [Document(f"d{i}", vectors=random.normal(size=(3, 8)).astype(np.float32)) for i in range(300)]
    )
    seal(collection)
    assert len(collection.stage.sources) == 2
    query = Query(vectors=random.normal(size=(2, 8)).astype(np.float32), k=20, candidates=30)
    alone = pairs(collection, query)
    used: list[int] = []
    slices = collection.resources.workers.map_slices

    def counted(size: int, *args: Any, **named: Any) -> Any:
        used.append(size)
        return slices(size, *args, **named)

    monkeypatch.setattr(collection.resources.workers, "map_slices", counted)
    monkeypatch.setattr("app.query.candidates.SIDE_BY_SIDE", 0)
    assert pairs(collection, query) == alone
    assert 2 in used


def test_a_text_of_few_vectors_has_more_candidates(make_collection: MakeCollection) -> None:
    """As many as it was found to need, by the square of how few they are; those that are asked for as they are."""
    collection = make_collection()
    texts = [" ".join(f"w{(i * step) % 89}" for step in range(1, 4)) for i in range(1_500)]
    write_documents(collection, [Document(f"d{i}", text) for i, text in enumerate(texts)])
    assert collection.published.stage.width == 400

    def candidates(vectors: int, **options: Any) -> int | None:
        text = " ".join(f"w{i}" for i in range(vectors))
        assert len(collection.encode_queries([text]).tokens[0]) == vectors
        found = search(collection, Query(text=text, partial=True, **options)).coverage
        assert found is not None
        return found.of

    assert [candidates(count) for count in (32, 20, 16, 11, 1)] == [400, 400, 625, 1_323, 1_500]
    assert candidates(7, candidates=300) == 300
    own = Query(vectors=np.eye(7, DIM, dtype=np.float32), partial=True)
    found = search(collection, own).coverage
    assert found is not None
    assert found.of == 400, "callers' vectors are as many as they mean"


def test_dense_rows_are_candidates_by_what_scores_them_so_fewer_are_needed(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes of one bit, which order worse, are asked for as many as make up for it."""
    code_everything(monkeypatch)
    monkeypatch.setattr(sys.modules["app.vector_index.choose"], "TWO_BITS", 0)
    collection = make_collection(kind="dense", dim=8, similarity="inner_product")
    random = np.random.default_rng(11)
    rows = random.normal(size=(2_500, 1, 8)).astype(np.float32)
    write_documents(collection, [Document(f"d{i}", vectors=row) for i, row in enumerate(rows)])
    seal(collection)
    assert collection.published.stage.width == DENSE_WIDTH == 32
    asked: list[int] = []
    original = Coded.search

    def counting(self: Coded, queries: F32, k: int, **named: Any) -> Any:
        asked.append(k)
        return original(self, queries, k, **named)

    monkeypatch.setattr(Coded, "search", counting)
    query = Query(vectors=random.normal(size=(1, 8)).astype(np.float32), k=100)
    first = pairs(collection, query)
    assert set(asked) == {LEAST["pq1"]}
    assert pairs(collection, replace(query, k=10)) == first[:10]


def test_unit_vectors_of_a_dense_collection_are_found_along_a_graph(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under any filter, with documents gone; with the scores of exact search, and nearly all of what it finds."""
    code_everything(monkeypatch)
    monkeypatch.setattr("app.vector_index.refined.DIRECT", 50)
    collection = make_collection(kind="dense", dim=24)
    random = np.random.default_rng(5)
    rows = random.normal(size=(9_000, 1, 24)).astype(np.float32)
    write_documents(collection, [Document(f"d{i}", metadata={"n": i}, vectors=row) for i, row in enumerate(rows)])
    seal(collection)
    (segment,) = collection.published.segments
    assert segment.part.kinds == {"pooled": "hnsw"}
    delete_ids(collection, [f"d{i}" for i in range(0, 9_000, 10)])
    walks: list[int] = []
    original = Graph._walk

    def counting(self: Graph, query: F32, depth: int, reach: int) -> Any:
        walks.append(reach)
        return original(self, query, depth, reach)

    monkeypatch.setattr(Graph, "_walk", counting)
    for least, some in ((None, 20), (4_500, 20), (8_900, 5), (8_995, 5)):
        found = wanted = 0
        condition = None if least is None else parse({"n": {"gte": least}}, "")
        for vector in random.normal(size=(some, 1, 24)).astype(np.float32):
            query = Query(vectors=vector, k=100, filter=condition)
            approximate, exact = pairs(collection, query), pairs(collection, replace(query, exact=True))
            assert len(approximate) == len(exact)
            both = {(identifier, score) for identifier, score in approximate}.intersection(exact)
            assert len(both) == len({identifier for identifier, _ in approximate} & {one for one, _ in exact})
            found, wanted = found + len(both), wanted + len(exact)
            assert pairs(collection, replace(query, k=10)) == approximate[:10]
        assert found >= 0.97 * wanted, least
    assert walks


def test_vectors_of_which_a_graph_finds_few_are_found_by_codes(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    code_everything(monkeypatch)
    monkeypatch.setattr("app.search.FEW", 0)
    # As among a great many equal ones (tests/vector_index/test_graph.py).
    monkeypatch.setattr(Graph, "holds", lambda self, vectors: False)
    collection = make_collection(kind="dense", dim=16)
    vectors = np.random.default_rng(1).normal(size=(1_000, 16)).astype(np.float32)
    write_documents(collection, [Document(f"d{i}", vectors=one[None]) for i, one in enumerate(vectors)])
    seal(collection)
    (segment,) = collection.published.segments
    assert segment.part.kinds == {"pooled": "pq2"}
    query = Query(vectors=vectors[7:8] + 0.1, k=10)
    found, exact = pairs(collection, query), pairs(collection, replace(query, exact=True))
    assert [score for _, score in found] == [score for _, score in exact]
