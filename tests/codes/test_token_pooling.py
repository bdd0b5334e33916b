"""Laws of token pooling, a plain oracle, and collections that pool, held against brute force over pooled vectors."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brute_force import ranking, unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from made import MakeCollection, OpenCatalogue

from app.backup.saved import SavedSnapshots
from app.catalogue.restoring import restore_file
from app.codes import token_pooling
from app.codes.token_pooling import FEWEST, RUN, clusters, pool_tokens
from app.collection.collection import Collection
from app.collection.spec import CollectionSpec
from app.compute.workers import Workers
from app.errors import Invalid
from app.indexing import sealing
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.scoring import maxsim
from app.search import Query, search
from app.store.local_directory import LocalDirectory
from app.tasks.rebuild import run_rebuild
from app.tasks.tasks import Running, Tasks
from app.types import F32, Document, Few, SimilarityName, TokenVectors

lawful = settings(max_examples=40, deadline=None, derandomize=True)


def drawn(seed: int, count: int, dim: int = 6) -> F32:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32))


def plain_ward(vectors: F32, wanted: int) -> list[list[int]]:
    """Ward's criterion itself, at every step over all pairs: the merge that adds least to the sum of squares."""
    wide = vectors.astype(np.float64)
    groups = [[i] for i in range(len(vectors))]

    def spread(rows: list[int]) -> float:
        return float(((wide[rows] - wide[rows].mean(axis=0)) ** 2).sum())

    while len(groups) > wanted:
        pairs = [(a, b) for a in range(len(groups)) for b in range(a + 1, len(groups))]
        a, b = min(
            pairs, key=lambda p: spread(groups[p[0]] + groups[p[1]]) - spread(groups[p[0]]) - spread(groups[p[1]])
        )
        groups[a] = sorted(groups[a] + groups.pop(b))
    return sorted(groups)


def means(vectors: F32, groups: list[list[int]]) -> F32:
    return np.stack([vectors[rows].astype(np.float64).mean(axis=0) for rows in groups]).astype(np.float32)


@lawful
@given(seed=st.integers(0, 10_000), count=st.integers(9, 30), factor=st.integers(2, 4))
def test_every_pooled_vector_is_the_mean_of_a_cluster_of_the_plain_oracle(seed: int, count: int, factor: int) -> None:
    vectors = drawn(seed, count)
    wanted = max(-(-count // factor), FEWEST)
    found = pool_tokens(TokenVectors.join([vectors]), factor)
    np.testing.assert_allclose(found.values, means(vectors, plain_ward(vectors, wanted)), atol=1e-6)


@lawful
@given(count=st.integers(1, 40), wanted=st.integers(1, 40), kinds=st.integers(1, 40), seed=st.integers(0, 10_000))
def test_there_are_as_many_clusters_as_are_wanted_however_many_vectors_are_equal(
    count: int, wanted: int, kinds: int, seed: int
) -> None:
    wanted = min(count, wanted)
    some = np.random.default_rng(seed).integers(0, kinds, count)
    labels = clusters(drawn(seed, kinds).astype(np.float64)[some], wanted)
    _, first = np.unique(labels, return_index=True)
    assert len(first) == wanted
    assert first.tolist() == sorted(first.tolist())


def test_factor_one_changes_nothing() -> None:
    tokens = TokenVectors.join([drawn(1, 40), drawn(2, 3)])
    assert pool_tokens(tokens, 1) is tokens


@pytest.mark.parametrize("factor", [2, 3, 7, 32])
def test_a_document_keeps_its_share(factor: int) -> None:
    counts = [1, 2, FEWEST, FEWEST + 1, 100, 257, RUN, RUN + 1]
    documents = [drawn(i, n, 3) for i, n in enumerate(counts)]
    pooled = pool_tokens(TokenVectors.join(documents), factor)
    assert pooled.counts.tolist() == [max(-(-n // factor), min(n, FEWEST)) for n in counts]
    for few in range(3):
        assert pooled[few].tobytes() == documents[few].tobytes()


def test_several_threads_pool_the_same() -> None:
    random = np.random.default_rng(4)
    tokens = TokenVectors.join([random.standard_normal((n, 6)).astype(np.float32) for n in (3, 90, 8, 200, 1, 41, 90)])
    alone = pool_tokens(tokens, 3)
    workers = Workers(3)
    shared = pool_tokens(tokens, 3, workers)
    workers.close()
    assert shared.values.tobytes() == alone.values.tobytes()
    assert shared.offsets.tolist() == alone.offsets.tolist()


def test_a_write_is_pooled_by_two_threads_at_once(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = make_collection(dim=6, token_pooling=2)
    met, pooled = threading.Barrier(2, timeout=30), token_pooling._means

    def meeting(vectors: Any, factor: int) -> Any:
        met.wait()
        return pooled(vectors, factor)

    monkeypatch.setattr(token_pooling, "_means", meeting)
    write_documents(collection, [Document(f"d{i}", vectors=drawn(i, 20)) for i in range(2)])
    assert collection.published.tail.part.counts(np.arange(2))["tokens"].tolist() == [10, 10]


def test_runs_are_clustered_one_by_one() -> None:
    """The first run's means are those of its vectors alone."""
    vectors = drawn(3, RUN + 60, 3)
    run = RUN // 30 * 30
    whole = pool_tokens(TokenVectors.join([vectors]), 30)[0]
    first = pool_tokens(TokenVectors.join([vectors[:run]]), 30)[0]
    assert whole[: len(first)].tobytes() == first.tobytes()


@pytest.mark.parametrize("scale", [1, 1e-12, 1e12])
def test_equal_vectors_collapse_onto_themselves(scale: float) -> None:
    """And a MaxSim stays what it was: the clusters are the ten that there are, of any length."""
    kinds = drawn(4, 10) * np.float32(scale)
    order = np.random.default_rng(5).permutation(np.repeat(np.arange(10), 4))
    tokens = TokenVectors.join([kinds[order]])
    pooled = pool_tokens(tokens, 4)
    assert sorted(map(bytes, pooled.values)) == sorted(map(bytes, kinds))
    query = drawn(6, 5)
    np.testing.assert_allclose(maxsim.fast_scores(query, pooled), maxsim.fast_scores(query, tokens), rtol=1e-6)


def test_zeros_are_vectors_too() -> None:
    assert not pool_tokens(TokenVectors.join([np.zeros((20, 3), np.float32)]), 2).values.any()


@lawful
@given(order=st.permutations(range(6)))
def test_a_document_is_pooled_the_same_among_any_others(order: list[int]) -> None:
    documents = [drawn(i, 5 + 9 * i) for i in range(6)]
    alone = [pool_tokens(TokenVectors.join([vectors]), 3)[0] for vectors in documents]
    together = pool_tokens(TokenVectors.join([documents[i] for i in order]), 3)
    assert [found.tobytes() for found in together] == [alone[i].tobytes() for i in order]


def vectors_of(documents: list[Document]) -> list[tuple[str, F32]]:
    return [(document.id, document.vectors) for document in documents if document.vectors is not None]


def documents_of(similarity: SimilarityName) -> list[Document]:
    random = np.random.default_rng(7)
    return [Document(f"d{i}", vectors=random.standard_normal((5 + 3 * i, 8)).astype(np.float32)) for i in range(12)]


@pytest.mark.parametrize("similarity", ["cosine", "inner_product"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_pooling_collection_is_brute_force_over_pooled_vectors(
    make_collection: MakeCollection, similarity: SimilarityName, keep: bool
) -> None:
    """In the tail, sealed and rebuilt; written again, nothing is; callers' vectors stay as they came."""
    options = {"similarity": similarity, "precision": "float32", "keep_vectors": keep}
    collection = make_collection(dim=8, token_pooling=3, **options)
    documents = documents_of(similarity)
    query = np.random.default_rng(8).standard_normal((4, 8)).astype(np.float32)
    pooled = []
    for identifier, vectors in vectors_of(documents):
        scored = unit_rows(vectors) if similarity == "cosine" else vectors
        count = max(-(-len(vectors) // 3), min(len(vectors), FEWEST))
        pooled.append((identifier, means(scored, plain_ward(scored, count))))
    expected = ranking(pooled, query, 12, collection.spec)

    written = write_documents(collection, documents)

    def check() -> None:
        for exact in (True, False):
            hits = search(collection, Query(vectors=query, k=12, exact=exact)).hits
            assert [hit.id for hit in hits] == [identifier for identifier, _ in expected]
            assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], rel=1e-5, abs=1e-6)
        if keep:
            raw = collection.given_vectors([written.versions[document.id] for document in documents])
            assert [matrix.tobytes() for matrix in raw.values()] == [v.tobytes() for _, v in vectors_of(documents)]

    check()
    assert write_documents(collection, documents).versions == written.versions
    seal(collection)
    check()
    tasks = Tasks(collection, {})
    run_rebuild(collection, Running(tasks, len(tasks.all()), tasks.submit("rebuild", {})))
    check()


def test_an_encoders_vectors_are_pooled_too(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    text = " ".join(f"word{i}" for i in range(60))
    counts = {}
    for factor in (1, 4):
        catalogue = open_catalogue(tmp_path / str(factor))
        collection = catalogue.create("c", model="words", kind="multi_vector", token_pooling=factor)
        write_documents(collection, [Document("a", text=text)])
        seal(collection)
        (segment,) = [view.part for view in collection.published.segments]
        counts[factor] = int(segment.ragged("tokens").counts[0])
        catalogue.close()
        assert open_catalogue(tmp_path / str(factor)).get("c").spec.token_pooling == factor
    assert counts[4] == -(-counts[1] // 4)


def test_documents_written_while_the_tail_is_sealed_keep_all_their_vectors(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay in a tail that no longer holds callers' vectors itself, and are sealed next."""
    collection = make_collection(dim=8, token_pooling=3)
    documents = documents_of("cosine")
    write_documents(collection, documents[:6])
    late = {}
    whole = sealing.write

    def interrupted(*given: Any) -> Any:
        late.update(write_documents(collection, documents[6:]).versions)
        return whole(*given)

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "write", interrupted)
        seal(collection)
    assert collection.published.tail.part.size == 6
    seal(collection)
    assert collection.published.tail.part.size == 0
    raw = collection.given_vectors([late[document.id] for document in documents[6:]])
    assert [matrix.tobytes() for matrix in raw.values()] == [v.tobytes() for _, v in vectors_of(documents[6:])]


def test_a_reopened_and_a_restored_collection_pool_as_before(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    """Their tails and segments are the same, and so are documents that are written afterwards."""
    documents = documents_of("cosine")
    query = Query(vectors=np.ones((2, 8), np.float32), k=20)

    def scores(collection: Collection) -> list[tuple[str, float]]:
        return [(hit.id, hit.score) for hit in search(collection, query).hits]

    catalogue = open_catalogue(tmp_path)
    collection = catalogue.create("c", model=None, kind="multi_vector", dim=8, token_pooling=3)
    write_documents(collection, documents[:4])
    seal(collection)
    write_documents(collection, documents[4:8])
    SavedSnapshots(LocalDirectory(tmp_path)).take(collection, "0" * 32, lambda: None)
    archive = SavedSnapshots(LocalDirectory(tmp_path)).get("c", "0" * 32)[1]
    restore_file(catalogue, "copy", archive, replace=False)
    write_documents(collection, documents[8:])
    wanted = scores(collection)
    catalogue.close()
    again = open_catalogue(tmp_path)
    for name in ("c", "copy"):
        assert again.describe(name).token_pooling == 3
        found = again.get(name)
        written = write_documents(found, documents)
        assert scores(found) == wanted
        seal(found)
        assert scores(found) == wanted
        raw = found.given_vectors([written.versions[document.id] for document in documents])
        assert [matrix.tobytes() for matrix in raw.values()] == [v.tobytes() for _, v in vectors_of(documents)]


@lawful
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 12))
def test_few_vectors_are_the_means_of_wards_clusters(seed: int, count: int, few: int) -> None:
    """As many of every document, if it has them; each cluster is one that the criterion makes."""
    vectors = drawn(seed, count)
    found = pool_tokens(TokenVectors.join([vectors, vectors[:1]]), Few(few))
    assert found.counts.tolist() == [min(count, few), 1]
    expected = vectors if count <= few else means(vectors, plain_ward(vectors, few))
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_few_vectors_of_a_document_of_many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clustered in runs, then the clusters: all vectors count, and repeated ones are found again."""
    monkeypatch.setattr(token_pooling, "RUN", 64)
    kinds = drawn(3, 5)
    many = kinds[np.random.default_rng(4).integers(5, size=200)]
    for few in (5, 9, 40):
        (found,) = pool_tokens(TokenVectors.join([many]), Few(few))
        assert len(found) == few
        near = found @ kinds.T
        assert (near.max(axis=0) > 1 - 1e-5).all()
    (one,) = pool_tokens(TokenVectors.join([many]), Few(1))
    np.testing.assert_allclose(one[0], many.mean(axis=0), atol=1e-6)


def test_a_collection_of_few_vectors_is_brute_force_over_them(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    catalogue = open_catalogue(tmp_path / "few")
    collection = catalogue.create(
        "c", model=None, kind="multi_vector", dim=6, precision="float32", token_pooling=Few(3)
    )
    given_vectors = {f"d{i}": drawn(i, 1 + i % 9) for i in range(40)}
    write_documents(collection, [Document(name, vectors=own) for name, own in given_vectors.items()])
    query = drawn(77, 4)
    pooled = {
        name: unit_rows(pool_tokens(TokenVectors.join([unit_rows(own)]), Few(3))[0])
        for name, own in given_vectors.items()
    }
    expected = ranking(pooled.items(), query, 40, collection.spec)

    def check() -> None:
        for exact in (True, False):
            hits = search(collection, Query(vectors=query, k=40, exact=exact)).hits
            assert [(hit.id, hit.score) for hit in hits] == expected

    check()
    seal(collection)
    check()
    tasks = Tasks(collection, {})
    run_rebuild(collection, Running(tasks, len(tasks.all()), tasks.submit("rebuild", {})))
    check()
    assert catalogue.describe("c").token_pooling == Few(3)
    assert CollectionSpec.from_json(collection.spec.to_json()) == collection.spec
    catalogue.close()
    collection = open_catalogue(tmp_path / "few").get("c")
    check()


def test_refused_numbers_of_vectors(make_collection: MakeCollection) -> None:
    for few in (0, 1_025):
        with pytest.raises(Invalid) as refused:
            make_collection(dim=6, token_pooling=Few(few))
        assert [one.pointer for one in refused.value.problems] == ["/token_pooling/vectors"]
