"""The search on one page against the service: equal exact answers on a small set, and each compiled kernel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from made import MakeCollection

from app import reference
from app.codes.choose import code_for
from app.codes.rotation import rotated
from app.codes.token_pooling import pool_tokens
from app.encoders.deterministic import DeterministicEncoder
from app.encodings.mapping import WholeMap, mapped
from app.encodings.muvera import Muvera, MuveraParameters
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.scoring.choose import scorer
from app.scoring.inner_product import reference as inner_product
from app.search import Query, search
from app.types import F32, Document, Kind, Precision, SimilarityName, TokenVectors

SET = json.loads(Path(__file__).with_name("reference_set.json").read_text())
DIM = 24
GRIDS: list[Precision] = ["8bit", "4bit", "2bit", "1.25bit", "1bit"]
DIMS = [1, 2, 3, 7, 16, 65, 100, 128, 384]


def vectors_of(kind: Kind, texts: list[str]) -> list[F32]:
    encoded = DeterministicEncoder(DIM, kind).encode_documents(texts)
    return [encoded.pooled[i : i + 1] for i in range(len(texts))] if encoded.tokens is None else list(encoded.tokens)


def documents(kind: Kind) -> dict[str, list[F32]]:
    return {identifier: vectors_of(kind, texts) for identifier, texts in SET["documents"].items()}


def written(given: Mapping[str, list[F32]]) -> list[Document]:
    return [
        Document(identifier, vectors=np.concatenate(own), splits=tuple(map(len, own)))
        for identifier, own in given.items()
    ]


@pytest.mark.parametrize(
    ("kind", "similarity", "precision"),
    [
        *(("multi_vector", "cosine", precision) for precision in ("float32", "float16", *GRIDS)),
        *(("multi_vector", "inner_product", precision) for precision in ("float32", "8bit", "1.25bit")),
        ("dense", "cosine", "float32"),
        ("dense", "inner_product", "float32"),
    ],
)
@pytest.mark.parametrize("sealed", [False, True])
def test_exact_answers_are_those_of_the_one_page(
    make_collection: MakeCollection, kind: Kind, similarity: SimilarityName, precision: Precision, sealed: bool
) -> None:
    given = documents(kind)
    collection = make_collection(kind=kind, dim=DIM, similarity=similarity, precision=precision)
    write_documents(collection, written(given))
    if sealed:
        seal(collection)
    for vectors in vectors_of(kind, SET["queries"]):
        for k in (3, 100):
            hits = search(collection, Query(vectors=vectors, k=k, exact=True)).hits
            expected = reference.exact_search(given, vectors, k, kind=kind, similarity=similarity, precision=precision)
            assert [(hit.id, hit.score) for hit in hits] == expected


def test_candidates_are_those_of_the_one_page(make_collection: MakeCollection) -> None:
    """Of the first stage that needs no data: the same ones at every width, and so the same answers."""
    given = {identifier: own[:1] for identifier, own in documents("multi_vector").items()}
    collection = make_collection(dim=DIM, precision="float32")
    write_documents(collection, written(given))
    parameters = collection.stage.encoding.parameters
    options = {
        "repetitions": parameters.repetitions, "hyperplanes": parameters.hyperplanes, "fill": parameters.fill,
        "projection": parameters.projection or DIM, "final": parameters.final_projection or 0,
    }  # fmt: skip
    for vectors in vectors_of("multi_vector", SET["queries"]):
        for width in (3, 6, 15):
            hits = search(collection, Query(vectors=vectors, k=3, candidates=width)).hits
            assert [(hit.id, hit.score) for hit in hits] == reference.search(given, vectors, 3, width, **options)


def drawn(dim: int, n: int = 13, seed: int = 0) -> F32:
    """Ordinary vectors, one of zeros, one that is tiny and one that is huge."""
    vectors = np.random.default_rng([seed, dim]).standard_normal((n, dim)).astype(np.float32)
    vectors[1] = 0
    vectors[2] *= np.float32(1e-30)
    vectors[3] *= np.float32(1e12)
    return vectors


@pytest.mark.parametrize("dim", DIMS)
def test_rotations(dim: int) -> None:
    vectors = drawn(dim)
    assert rotated(vectors).tobytes() == reference.turned(vectors).tobytes()


@pytest.mark.parametrize("precision", GRIDS)
@pytest.mark.parametrize("dim", DIMS)
def test_codes(precision: Precision, dim: int) -> None:
    code, vectors = code_for(precision, dim), drawn(dim)
    rows = code.encode(vectors)
    assert rows.tobytes() == reference.encoded(vectors, precision).tobytes()
    assert code.decode(rows).tobytes() == reference.decoded(rows, precision, dim).tobytes()
    lengths = np.linalg.norm(reference.numbers_of(rows, precision, dim).astype(np.float64), axis=1)
    np.testing.assert_allclose(code.norms(rows), reference.scales_of(rows) * lengths, rtol=1e-6, atol=1e-40)


@pytest.mark.parametrize("precision", ["float32", "float16", *GRIDS])
@pytest.mark.parametrize("dim", DIMS)
def test_scores(precision: Precision, dim: int) -> None:
    """Of the compiled references to the bit, and of the fast passes within their bounds."""
    code, random = code_for(precision, dim), np.random.default_rng(dim)
    queries = random.standard_normal((5, dim)).astype(np.float32)
    passages = [random.standard_normal((count, dim)).astype(np.float32) for count in (1, 3, 30)]
    tokens = TokenVectors.join([code.encode(passage) for passage in passages])
    norms = np.maximum.reduceat(code.norms(tokens.values), tokens.offsets[:-1])
    made = scorer(queries, code)
    truth = [reference.maxsim(queries, passage, precision) for passage in tokens]
    assert made.references(tokens, np.arange(3), norms) == truth
    assert (np.abs(made.scores(tokens) - np.array(truth)) <= made.error_bound(norms)).all()
    dense = passages[2][0]
    assert inner_product(queries[0], dense) == reference.inner_product(queries[0], dense)


def test_token_pooling() -> None:
    vectors = reference.normalised(np.random.default_rng(5).standard_normal((40, 8)).astype(np.float32))
    pooled = pool_tokens(TokenVectors.join([vectors]), 4)
    np.testing.assert_allclose(pooled.values, reference.merged(vectors, 10), atol=1e-6)


@pytest.mark.parametrize(("projection", "final", "fill"), [(None, None, True), (8, None, False), (8, 64, True)])
def test_encodings(projection: int | None, final: int | None, fill: bool) -> None:
    options = {"repetitions": 5, "hyperplanes": 3}
    encoding = Muvera(DIM, MuveraParameters(**options, projection=projection, final_projection=final, fill=fill))
    passages = vectors_of("multi_vector", SET["queries"])
    tokens = TokenVectors.join(passages)
    for query, made in ((True, encoding.encode_queries(tokens)), (False, encoding.encode_documents(tokens))):
        plain = [
            reference.fde(passage, query=query, **options, projection=projection or DIM, final=final or 0, fill=fill)
            for passage in passages
        ]
        np.testing.assert_allclose(made, plain, atol=1e-5)


def test_maps_of_queries() -> None:
    random = np.random.default_rng(6)
    rows, matrix = random.standard_normal((7, 50), np.float32), random.standard_normal((50, 9), np.float32)
    np.testing.assert_allclose(mapped(rows, matrix), rows @ matrix, atol=1e-5)
    np.testing.assert_allclose(WholeMap(matrix)(rows), rows @ matrix, atol=2e-3)
