"""Every similarity does what a collection does, and its scores are the formula's own numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import MakeCollection, OpenCatalogue

from app import reference
from app.api.schemas.similarities import SimilarityChoice
from app.catalogue.info import info_of
from app.catalogue.similarities import options_of
from app.collection.collection import Collection
from app.collection.layers import layers
from app.collection.spec import CollectionSpec
from app.diversity.order import Diversity
from app.errors import Invalid
from app.filters import parse
from app.indexing.fitting import due, learn
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, write_documents
from app.measure.recall import measure_recall
from app.query.examples import Example, Like
from app.scoring.similarities import hyperbolic
from app.scoring.similarities.bilinear import causal_matrix
from app.scoring.similarities.hyperbolic import Lorentz, Poincare
from app.scoring.similarities.kernels import Kernel
from app.scoring.similarities.measures import SIMILARITIES, Matrix, Options, similarity
from app.scoring.similarity import Euclidean
from app.search import Query, search
from app.tasks.rebuild import run_rebuild
from app.tasks.tasks import Running, Tasks
from app.tuning.tune import Goal, tune
from app.types import F32, Document, Kind, Precision, SimilarityName

DIM = 6
MATRIX = np.random.default_rng(3).standard_normal((4, DIM)).astype(np.float32)
SAMPLE = np.random.default_rng(4).standard_normal((200, DIM)).astype(np.float32) * np.array(
    [5, 1, 1, 1, 1, 0.2], np.float32
)
OPTIONS: Mapping[SimilarityName, Options] = {
    "euclidean": Options(length=2.0),
    "bilinear": Options(matrix=Matrix.of(MATRIX)),
    "causal": options_of({}, sample=SAMPLE),
    "lorentz": Options(),
    "poincare": Options(),
}
KINDS: list[Kind] = ["dense", "multi_vector"]


def points(random: np.random.Generator, name: SimilarityName, n: int, *, asked: bool = False) -> F32:
    """Vectors that a similarity is defined for, some of them far out."""
    wide = random.standard_normal((n, 4 if asked and name == "bilinear" else DIM)) * random.choice([0.3, 1, 3], (n, 1))
    if name == "poincare":
        size = np.linalg.norm(wide, axis=1, keepdims=True)
        return (wide / size * np.tanh(size) * 0.9999).astype(np.float32)
    if name == "lorentz":
        wide[:, 0] = np.sqrt(1 + np.square(wide[:, 1:]).sum(axis=1))
    return wide.astype(np.float32)


def documents(name: SimilarityName, kind: Kind, n: int = 120, seed: int = 1) -> list[Document]:
    random = np.random.default_rng(seed)
    counts = [1 if kind == "dense" else int(random.integers(1, 5)) for _ in range(n)]
    return [Document(f"d{i}", metadata={"n": i}, vectors=points(random, name, count)) for i, count in enumerate(counts)]


def truth(of: list[Document], query: F32, k: int, name: SimilarityName, kind: Kind) -> list[tuple[str, float]]:
    given = {one.id: [one.vectors] for one in of if one.vectors is not None}
    matrix = None if OPTIONS[name].matrix is None else OPTIONS[name].matrix.array
    return reference.exact_search(given, query, k, kind=kind, similarity=name, matrix=matrix)


def alike(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
    """The same order, and the same scores but for the last bit: they are of other sums in float64."""
    assert [name for name, _ in found] == [name for name, _ in expected]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], rtol=3e-7, atol=1e-6)


def pairs(collection: Collection, query: Query) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in search(collection, query).hits]


@pytest.mark.parametrize(("name", "kind"), list(product(OPTIONS, KINDS)))
def test_a_life_of_a_collection(
    open_catalogue: OpenCatalogue, tmp_path: Path, name: SimilarityName, kind: Kind
) -> None:
    """In the tail, sealed, merged, rebuilt, opened again: the formula's order, exactly or not, filtered or not."""
    catalogue = open_catalogue(tmp_path / "life")
    keep = kind == "dense"
    collection = catalogue.create(
        "c", model=None, kind=kind, dim=DIM, similarity=name, options=OPTIONS[name], keep_vectors=keep
    )
    written = documents(name, kind)
    queries = [points(np.random.default_rng(seed), name, 1 if kind == "dense" else 3, asked=True) for seed in (8, 9)]

    def check(there: list[Document]) -> None:
        low = parse({"n": {"lt": 40}})
        few = [one for one in there if one.metadata["n"] < 40]
        for query, exact in product(queries, (True, False)):
            found = pairs(collection, Query(vectors=query, k=30, exact=exact, candidates=500))
            alike(found, truth(there, query, 30, name, kind))
            alike(
                pairs(collection, Query(vectors=query, k=5, exact=exact, filter=low)), truth(few, query, 5, name, kind)
            )

    write_documents(collection, written[:70])
    check(written[:70])
    seal(collection)
    write_documents(collection, written[70:])
    check(written)
    before = pairs(collection, Query(vectors=queries[0], k=120, exact=True))
    seal(collection)
    while merge(collection):
        pass
    assert pairs(collection, Query(vectors=queries[0], k=120, exact=True)) == before
    tasks = Tasks(collection, {})
    run_rebuild(collection, Running(tasks, len(tasks.all()), tasks.submit("rebuild", {})))
    assert pairs(collection, Query(vectors=queries[0], k=120, exact=True)) == before
    # Vectors come back as they were given, kept or not.
    hit = search(collection, Query(vectors=queries[0], k=1, include=frozenset({"vectors"}))).hits[0]
    own = next(one.vectors for one in written if one.id == hit.id)
    np.testing.assert_array_equal(hit.vectors, own)
    delete_ids(collection, [written[0].id])
    collection.close()
    collection = open_catalogue(tmp_path / "life").get("c")
    assert collection.spec.options == OPTIONS[name]
    check(written[1:])


@pytest.mark.parametrize(("name", "kind"), list(product(OPTIONS, KINDS)))
def test_what_else_a_search_does(make_collection: MakeCollection, name: SimilarityName, kind: Kind) -> None:
    collection = make_collection(kind=kind, dim=DIM, similarity=name, options=OPTIONS[name])
    written = documents(name, kind, 300)
    write_documents(collection, written)
    seal(collection)
    query = points(np.random.default_rng(8), name, 1 if kind == "dense" else 3, asked=True)
    # Reasons add up to the score.
    for hit in search(collection, Query(vectors=query, k=5, explain=True, exact=True)).hits:
        assert sum(one.product for one in hit.explanation.shares) == pytest.approx(hit.score, rel=1e-5, abs=1e-5)
        assert hit.explanation.approximate is not None
    # Pooled vectors have the same score: of points, minus a distance.
    if name not in ("bilinear", "causal"):
        assert all(score <= 0 for _, score in pairs(collection, Query(vectors=query, k=300, mode="dense")))
    # Queries are drawn of documents, of which each finds itself.
    assert measure_recall(collection, 12, 10, 200).recall >= 0.9
    # Examples: a document is like itself.
    like = Like([Example(id="d7"), Example(id="d7", at="/like/positive/1")], include=True)
    found = pairs(collection, Query(like=like, k=3))
    if name in reference.DISTANCES:
        assert found[0][0] == "d7"
        if kind == "dense":
            assert found[0][1] == pytest.approx(0, abs=1e-4)
        with pytest.raises(Invalid) as refused:
            search(collection, Query(like=Like([Example(id="d7")], [Example(id="d8")]), k=3))
        assert [one.pointer for one in refused.value.problems] == ["/like/negative"]
    else:
        assert len(pairs(collection, Query(like=Like([Example(id="d7")], [Example(id="d8")]), k=3))) == 3
    given = pairs(collection, Query(like=Like([Example(vectors=query)]), k=3, exact=True))
    alike(given, pairs(collection, Query(vectors=query, k=3, exact=True)))
    assert len(search(collection, Query(vectors=query, k=5, diversity=Diversity(weight=0.5))).hits) == 5


@pytest.mark.parametrize("name", ["euclidean", "bilinear", "causal"])
def test_a_first_stage_is_learned(make_collection: MakeCollection, name: SimilarityName) -> None:
    collection = make_collection(dim=DIM, similarity=name, options=OPTIONS[name])
    write_documents(collection, documents(name, "multi_vector", 700))
    seal(collection)
    learn(collection, width=100)
    recall = measure_recall(collection, 12, 10)
    assert recall.recall >= 0.9
    assert measure_recall(collection, 5, 10, float32=True).recall_float32 == pytest.approx(recall.recall, abs=0.2)


@pytest.mark.parametrize("name", ["lorentz", "poincare"])
def test_sums_of_distances_take_all_passages(make_collection: MakeCollection, name: SimilarityName) -> None:
    """No inner product of one vector a passage is like them, so none is learned and every passage is scored."""
    collection = make_collection(dim=DIM, similarity=name)
    write_documents(collection, documents(name, "multi_vector", 300))
    seal(collection)
    assert "encoded" not in {layer.name for layer in layers(collection.spec, collection.stage.encoded_dim)}
    assert measure_recall(collection, 8, 10, 10, float32=True).recall_float32 == 1
    report = tune(collection, Goal(target_recall=0.9), 5)
    assert (report["chosen"], report["recall"]) == ("every passage", 1.0)
    assert due(collection) is None


def test_codes_of_few_bits_have_room_for_distances(make_collection: MakeCollection) -> None:
    """Scores are minus the squared distances of what is stored, and near those of what was given."""
    written = documents("euclidean", "multi_vector", 200)
    collection = make_collection(dim=DIM, similarity="euclidean", precision="8bit", options=Options(length=2.0))
    write_documents(collection, written)
    query = points(np.random.default_rng(8), "euclidean", 3)
    expected = dict(truth(written, query, 200, "euclidean", "multi_vector"))
    found = pairs(collection, Query(vectors=query, k=200, exact=True))
    far = np.array([abs(score - expected[name]) for name, score in found])
    assert np.median(far) < 0.3
    assert np.corrcoef([expected[name] for name, _ in found], [score for _, score in found])[0, 1] > 0.99
    assert pairs(collection, Query(vectors=query, k=20, candidates=200)) == found[:20]


@pytest.mark.parametrize(("name", "far"), [("euclidean", 100.0), ("poincare", 0.999)])
def test_a_distance_keeps_its_digits(make_collection: MakeCollection, name: SimilarityName, far: float) -> None:
    """Of long vectors close together, and of points near the edge: an inner product in float32 has lost them all."""
    collection = make_collection(kind="dense", dim=2, similarity=name)
    near = np.array([[far, 1e-3 * i] for i in range(8)], np.float32)
    write_documents(collection, [Document(str(i), vectors=near[i : i + 1]) for i in range(8)])
    found = pairs(collection, Query(vectors=near[:1], k=8))
    assert [identifier for identifier, _ in found] == [str(i) for i in range(8)]
    assert found[0][1] == 0
    expected = [reference.DISTANCES[name](near[0], one) for one in near]
    np.testing.assert_allclose([score for _, score in found], expected, rtol=1e-4, atol=1e-9)


KERNELS: list[tuple[SimilarityName, Precision, Kernel]] = [
    ("cosine", "float32", Kernel("log", b=8.0)),
    ("cosine", "8bit", Kernel("power", p=0.5)),
    ("euclidean", "float32", Kernel("log", p=2.0, b=0.5)),
]


@pytest.mark.parametrize(("name", "precision", "kernel"), KERNELS)
def test_kernels_of_distances(
    make_collection: MakeCollection, name: SimilarityName, precision: Precision, kernel: Kernel
) -> None:
    """Each vector of the query adds the kernel of its least distance; the order is that of the sums, exactly or not."""
    collection = make_collection(dim=DIM, similarity=name, precision=precision, options=Options(kernel=kernel))
    written = documents("euclidean", "multi_vector", 150)
    write_documents(collection, written[:100])
    seal(collection)
    write_documents(collection, written[100:])
    query = points(np.random.default_rng(8), "euclidean", 3)
    asked = reference.normalised(query) if name == "cosine" else query

    def sum_of(vectors: F32) -> float:
        if name == "cosine":
            own = reference.normalised(vectors)
            if precision != "float32":
                own = collection.spec.code.decode(collection.spec.code.encode(own))
            squares = 2 - 2 * asked.astype(np.float64) @ own.T.astype(np.float64)
        else:
            squares = np.square(asked[:, None].astype(np.float64) - vectors[None]).sum(axis=2)
        return float(kernel.of(squares.min(axis=1)).sum())

    sums = {one.id: sum_of(one.vectors) for one in written if one.vectors is not None}
    expected = sorted(sums.items(), key=lambda pair: (-pair[1], pair[0].encode()))
    for exact in (True, False):
        alike(pairs(collection, Query(vectors=query, k=40, exact=exact, candidates=200)), expected[:40])
    (hit,) = search(collection, Query(vectors=query, k=1, explain=True)).hits
    assert sum(one.product for one in hit.explanation.shares) == pytest.approx(hit.score, rel=1e-6)
    assert measure_recall(collection, 8, 10, 120, float32=True).recall >= 0.9
    (like,) = search(collection, Query(like=Like([Example(id="d7")], include=True), k=1)).hits
    assert like.id == "d7"
    with pytest.raises(Invalid) as refused:
        search(collection, Query(like=Like([Example(id="d7")], [Example(id="d8")]), k=3))
    assert [one.pointer for one in refused.value.problems] == ["/like/negative"]
    assert CollectionSpec.from_json(json.loads(json.dumps(collection.spec.to_json()))) == collection.spec


def test_two_models_of_one_space() -> None:
    """A point of the ball lifted to the hyperboloid has the same distances (arXiv 1806.03417, equation 11)."""
    ball = points(np.random.default_rng(1), "poincare", 50)
    square = np.square(ball.astype(np.float64)).sum(axis=1, keepdims=True)
    lifted = (np.concatenate([1 + square, 2 * ball], axis=1) / (1 - square)).astype(np.float32)
    one, other = Poincare(), Lorentz()
    other.check(lifted, "")
    in_ball = hyperbolic.distances(one, one.query(ball[:5]), one.document(ball))
    np.testing.assert_allclose(
        in_ball, hyperbolic.distances(other, other.query(lifted[:5]), lifted), rtol=1e-4, atol=1e-3
    )
    # The triangle inequality, which no inner product keeps.
    assert (in_ball[0, 1:] <= in_ball[0, 0] + in_ball[1, 1:] + in_ball[1, 0] + 1e-9).all()


def test_products_order_as_distances_do() -> None:
    for name in ("euclidean", "lorentz", "poincare"):
        measure, given = similarity(name), points(np.random.default_rng(2), name, 80)
        products = measure.query(given[:4]).astype(np.float64) @ measure.document(given).astype(np.float64).T
        for query, own in zip(given[:4], products, strict=True):
            scores = np.array([reference.DISTANCES[name](query, one) for one in given])
            far = np.argsort(-scores)[5:]
            assert (np.diff(own[far]) <= 1e-3 * np.abs(own[far][1:])).all()


def test_the_first_documents_decide_a_causal_product(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    """Before there are enough it is an inner product; then the inverse covariance, which goes into snapshots."""
    catalogue = open_catalogue(tmp_path / "one")
    options = Options(documents=50, regularisation=0.1)
    collection = catalogue.create("c", model=None, kind="dense", dim=DIM, similarity="causal", options=options)
    own = [Document(f"d{i}", vectors=SAMPLE[i : i + 1]) for i in range(80)]
    query = SAMPLE[190:191]
    write_documents(collection, own[:49])
    given = {one.id: [one.vectors] for one in own if one.vectors is not None}
    before = reference.exact_search({one.id: given[one.id] for one in own[:49]}, query, 5, kind="dense", similarity="x")
    alike(pairs(collection, Query(vectors=query, k=5)), before)
    assert catalogue.describe("c").similarity_options == {"documents": 50, "regularisation": 0.1}
    write_documents(collection, own[49:60])
    write_documents(collection, own[60:])
    matrix = causal_matrix(SAMPLE[:50], 0.1)
    after = reference.exact_search(given, query, 5, kind="dense", similarity="x", matrix=matrix)
    alike(pairs(collection, Query(vectors=query, k=5)), after)
    said = {"documents": 50, "regularisation": 0.1, "of": 50, "matrix": [DIM, DIM]}
    assert catalogue.describe("c").similarity_options == said
    catalogue.close()
    again = open_catalogue(tmp_path / "one").get("c")
    alike(pairs(again, Query(vectors=query, k=5)), after)
    assert again.spec.options.of == 50


def test_equal_documents_wait(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=2, similarity="causal", options=Options(documents=2))
    write_documents(collection, [Document(str(i), vectors=np.ones((1, 2), np.float32)) for i in range(3)])
    assert collection.spec.options.waits
    told = info_of("c", collection, None, None).similarity_options
    assert told is not None
    assert told["documents"] == 2
    assert "all vectors are the same" in told["not_learned"]
    write_documents(collection, [Document("x", vectors=np.array([[1, 5]], np.float32))])
    assert not collection.spec.options.waits
    assert collection.spec.options.of == 4
    after = info_of("c", collection, None, None).similarity_options
    assert after == {"documents": 2, "of": 4, "regularisation": 0.01, "matrix": [2, 2]}


def test_a_causal_product_is_of_whitened_vectors() -> None:
    """Its form on vectors of any covariance is that of their whitened ones: unrelated directions are orthogonal."""
    random = np.random.default_rng(5)
    mix = random.standard_normal((8, 8))
    sample = random.standard_normal((20_000, 8)) @ mix
    matrix = causal_matrix(sample.astype(np.float32), 0.0).astype(np.float64)
    form = mix @ matrix @ mix.T
    np.testing.assert_allclose(form / np.diag(form).mean(), np.eye(8), atol=0.05)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"similarity": "bilinear"}, "/similarity_options/matrix", "required"),
    ({"similarity": "causal"}, "/similarity_options", "give either"),
    ({"similarity": "cosine", "options": Options(length=1.0)}, "/similarity_options/length", "cosine has kernel"),
    ({"similarity": "euclidean", "options": Options(length=0.0)}, "/similarity_options/length", "0.001 to"),
    (
        {"similarity": "euclidean", "options": Options(documents=9)},
        "/similarity_options/documents",
        "has kernel, length",
    ),
    ({"similarity": "causal", "options": Options(documents=1)}, "/similarity_options/documents", "2 to 2,000"),
    (
        {"similarity": "causal", "options": Options(documents=9, regularisation=0.0)},
        "/similarity_options/regularisation",
        "more than 0",
    ),
    (
        {"similarity": "bilinear", "options": Options(matrix=Matrix.of(np.ones((2, 3), np.float32)))},
        "/similarity_options/matrix",
        "expected 2 columns",
    ),
    (
        {"similarity": "bilinear", "options": Options(matrix=Matrix.of(np.full((2, 2), np.nan, np.float32)))},
        "/similarity_options/matrix",
        "finite",
    ),
    ({"similarity": "cosine", "options": Options(kernel=Kernel("log"))}, "/similarity_options/kernel", "dense"),
    (
        {"similarity": "causal", "kind": "multi_vector", "options": Options(documents=9, kernel=Kernel("log"))},
        "/similarity_options/kernel",
        "causal has",
    ),
    (
        {"similarity": "cosine", "kind": "multi_vector", "options": Options(kernel=Kernel("power", p=3.0))},
        "/similarity_options/kernel/p",
        "2 at most",
    ),
    ({"similarity": "poincare", "kind": "multi_vector", "precision": "8bit"}, "/precision", "float32"),
    ({"similarity": "lorentz", "model": "words", "dim": None}, "/similarity", "no points"),
    (
        {
            "similarity": "bilinear",
            "model": "words",
            "dim": None,
            "options": Options(matrix=Matrix.of(np.ones((3, 32), np.float32))),
        },
        "/similarity_options/matrix",
        "expected 32 rows",
    ),
]


@pytest.mark.parametrize(("choices", "pointer", "said"), REFUSED)
def test_refused_collections(open_catalogue: OpenCatalogue, choices: dict[str, Any], pointer: str, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        open_catalogue().create("c", **{"model": None, "kind": "dense", "dim": 2, **choices})
    assert [one.pointer for one in refused.value.problems] == [pointer]
    assert said in refused.value.problems[0].message


VECTORS: list[tuple[SimilarityName, list[float], str]] = [
    ("poincare", [1.0, 0.0], "its length is 1"),
    ("poincare", [3.0, 4.0], "4 outside of the edge"),
    ("lorentz", [2.0, 1.0], "first number is 2, where 1.41421 would do"),
    ("lorentz", [-1.0, 0.0], "other sheet of the hyperboloid, where x0 is below 0: -1, where 1 would do"),
    ("lorentz", [1e7, 1e7], "too far out"),
    ("euclidean", [1e7, 0.0], "longer than 1e+06"),
]


@pytest.mark.parametrize(("name", "vector", "said"), VECTORS)
def test_refused_vectors(make_collection: MakeCollection, name: SimilarityName, vector: list[float], said: str) -> None:
    """Of documents and of queries alike, by their pointers."""
    collection = make_collection(kind="dense", dim=2, similarity=name)
    wrong = np.array([vector], np.float32)
    with pytest.raises(Invalid) as written:
        write_documents(collection, [Document("a", vectors=wrong)])
    with pytest.raises(Invalid) as asked:
        search(collection, Query(vectors=wrong))
    assert [one.pointer for one in written.value.problems] == ["/documents/0/vector"]
    assert [one.pointer for one in asked.value.problems] == ["/vector"]
    assert said in written.value.problems[0].message
    assert said in asked.value.problems[0].message


def test_queries_of_another_width(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=DIM, similarity="bilinear", options=OPTIONS["bilinear"])
    write_documents(collection, documents("bilinear", "dense", 9))
    with pytest.raises(Invalid, match="expected vectors of 4 dimensions, got 6"):
        search(collection, Query(vectors=np.ones((1, DIM), np.float32)))
    with pytest.raises(Invalid, match="expected vectors of 6 dimensions, got 4"):
        write_documents(collection, [Document("a", vectors=np.ones((1, 4), np.float32))])
    collection.close()


def test_a_matrix_that_makes_queries_too_long(make_collection: MakeCollection) -> None:
    options = Options(matrix=Matrix.of(np.full((1, 2), 1e30, np.float32)))
    collection = make_collection(kind="dense", dim=2, similarity="bilinear", options=options)
    for long in (1.0, 1e14):
        with pytest.raises(Invalid, match="times the matrix it is longer") as refused:
            search(collection, Query(vectors=np.array([[long]], np.float32)))
        assert [one.pointer for one in refused.value.problems] == ["/vector"]


def test_matrices_and_samples(tmp_path: Path) -> None:
    """Given as numbers or by a name that the operator configured; of samples the inverse covariance."""
    np.save(tmp_path / "m.npy", MATRIX)
    (tmp_path / "bad.npy").write_bytes(b"no array")
    np.save(tmp_path / "flat.npy", MATRIX[0])
    files = {name: tmp_path / f"{name}.npy" for name in ("m", "bad", "flat", "gone")}
    choice = SimilarityChoice.model_validate_json('{"matrix": "m"}')
    found = choice.options(files).matrix
    assert found is not None
    assert np.array_equal(found.array, MATRIX)
    for name, said in (
        ("bad", "cannot be read"),
        ("gone", "cannot be read"),
        ("flat", "no matrix"),
        ("x", "bad, flat"),
    ):
        with pytest.raises(Invalid, match=said):
            options_of(files, matrix=name)
    with pytest.raises(Invalid, match="no matrices"):
        options_of({}, matrix="m")
    with pytest.raises(Invalid, match="4,194,304 numbers"):
        options_of({}, matrix=np.zeros((2_049, 2_048), np.float32))
    with pytest.raises(Invalid, match="expected one"):
        options_of({}, sample=SAMPLE, documents=3)
    for sample, said in (
        (SAMPLE[:1], "2 vectors or more"),
        (SAMPLE[:1].repeat(4, 0), "are the same"),
        (SAMPLE[:3], ""),
    ):
        with pytest.raises(Invalid, match=said or "is singular") as refused:
            options_of({}, sample=sample, regularisation=0.0)
        assert [one.pointer for one in refused.value.problems] == ["/similarity_options/sample"]


def test_every_similarity_is_tested_here() -> None:
    assert {"cosine", "inner_product", *OPTIONS} == set(SIMILARITIES)
    assert Euclidean(3.0).stored_dim(4) == 6
