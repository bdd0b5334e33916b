"""Exact search before coding, against brute force over the vectors as they were given or encoded."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from brute_force import unit_rows
from made import MakeCollection

from app.collection.spec import PassageSpec
from app.errors import Conflict
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.measure.recall import measure_recall
from app.measure.truth import BATCH, best_in_float32, given_in_float32
from app.query.preparing import encode_queries
from app.search import Query, search
from app.types import F32, Document

DIM = 24


def vectors(seed: int) -> F32:
    return np.random.default_rng(seed).standard_normal((3, DIM)).astype(np.float32)


def best(given: dict[str, F32], query: F32, k: int) -> list[str]:
    scores = {
        name: (unit_rows(matrix).astype(float) @ unit_rows(query).T.astype(float)).max(axis=0).sum()
        for name, matrix in given.items()
    }
    return sorted(scores, key=lambda name: (-scores[name], name.encode()))[:k]


def test_callers_vectors_are_those_that_were_given(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=DIM, precision="1bit")
    given = {f"d{i}": vectors(i) for i in range(BATCH + 40)}
    documents = [Document(name, vectors=matrix) for name, matrix in given.items()]
    write_documents(collection, documents[:200])
    seal(collection)
    write_documents(collection, documents[200:])
    delete_ids(collection, ["d3", "d250"])
    del given["d3"], given["d250"]
    queries = [Query(vectors=vectors(1_000 + i)) for i in range(8)]
    found = best_in_float32(collection, encode_queries(collection, queries), 10)
    truth = [best(given, vectors(1_000 + i), 10) for i in range(8)]
    assert found == truth
    coded = [[hit.id for hit in search(collection, replace(query, exact=True)).hits] for query in queries]
    assert coded != truth, "codes of one bit that lose nothing would test nothing"
    measured = measure_recall(collection, queries, 10, 300, float32=True)
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(coded, truth, strict=True)]
    assert measured.recall == 1.0
    assert measured.recall_float32 == pytest.approx(np.mean(shares))


def test_texts_are_encoded_anew(make_collection: MakeCollection) -> None:
    collection = make_collection(precision="float32")
    write_documents(collection, [Document(f"d{i}", f"w{i} w{i % 5} w{i % 3}") for i in range(60)])
    queries = [Query(text=f"w{i} w2") for i in range(5)]
    exact = [[hit.id for hit in search(collection, replace(query, exact=True)).hits] for query in queries]
    assert best_in_float32(collection, encode_queries(collection, queries), 10) == exact
    assert measure_recall(collection, 5).recall_float32 is None
    assert measure_recall(collection, 5, float32=True).recall_float32 == 1.0


def test_a_dense_collection_has_one_vector_a_document(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=DIM, kind="dense")
    given = {f"d{i}": vectors(i)[:1] for i in range(50)}
    write_documents(collection, [Document(name, vectors=matrix) for name, matrix in given.items()])
    query = vectors(99)[:1]
    (found,) = best_in_float32(collection, encode_queries(collection, [Query(vectors=query)]), 7)
    assert found == best(given, query, 7)


def test_documents_that_go_while_it_looks_are_left_out(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = make_collection(dim=DIM)
    documents = [Document(f"d{i}", vectors=vectors(i)) for i in range(3)]
    write_documents(collection, documents)
    delete_ids(collection, ["d1"])
    standing, _, left = given_in_float32(collection, documents)
    assert ([document.id for document in standing], left.counts.tolist()) == (["d0", "d2"], [3, 3])
    assert np.array_equal(left[1], unit_rows(vectors(2)))
    seal(collection)
    write_documents(collection, [Document("late", vectors=vectors(4))])
    given = collection.chunks.given

    def sealed_meanwhile(connection: sqlite3.Connection, seqs: Sequence[int]) -> dict[int, F32]:
        monkeypatch.undo()
        seal(collection)
        with collection.database.read() as now:
            return given(now, seqs)

    monkeypatch.setattr(collection.chunks, "given", sealed_meanwhile)
    late = Document("late")
    assert [d.id for d in given_in_float32(collection, [*documents, late])[0]] == ["d0", "d2", "late"]
    delete_ids(collection, ["d0", "d2", "late"])
    standing, _, left = given_in_float32(collection, documents)
    assert (standing, len(left), left.dim) == ([], 0, DIM)
    query = encode_queries(collection, [Query(vectors=vectors(9))])
    monkeypatch.setattr(collection, "listing", lambda after, count: (documents, None))
    assert best_in_float32(collection, query, 5) == [[]]


def test_vectors_that_were_not_kept_are_missed(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=DIM, keep_vectors=False)
    write_documents(collection, [Document("a", vectors=vectors(1))])
    with pytest.raises(Conflict, match="keep_vectors") as caught:
        measure_recall(collection, [Query(vectors=vectors(2))], float32=True)
    assert caught.value.code == "vectors_not_kept"


@pytest.mark.parametrize("kind", ["multi_vector", "dense"])
def test_texts_of_several_passages_are_scored_as_they_are_searched(make_collection: MakeCollection, kind: str) -> None:
    collection = make_collection(kind=kind, precision="float32", passages=PassageSpec(size=8, overlap=2))
    texts = [" ".join(f"w{i * j % 17}" for j in range(1 + i)) for i in range(120)]
    write_documents(collection, [Document(f"d{i}", text, f"t{i % 7}") for i, text in enumerate(texts)])
    assert collection.published.passages > 1_000
    queries = [Query(text=f"w{i} w2 t{i}") for i in range(5)]
    exact = [[hit.id for hit in search(collection, replace(query, exact=True)).hits] for query in queries]
    found = best_in_float32(collection, encode_queries(collection, queries), 10)
    # Equal scores of two texts may be rounded apart.
    assert [len(set(a) & set(b)) >= 9 for a, b in zip(found, exact, strict=True)] == [True] * 5
    assert [a[0] for a in found] == [b[0] for b in exact]
