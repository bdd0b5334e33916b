"""Pictures of collections, held to a decomposition of the same vectors."""

from __future__ import annotations

import numpy as np
import pytest
from made import MakeCollection, write_in_segments

from app.collection.collection import Collection
from app.collection.spec import PassageSpec
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.measure import plane as module
from app.measure.plane import plane
from app.types import F32, Document


def vectors_of(count: int, dim: int) -> F32:
    """Of no unit length, of a few directions that matter."""
    rng = np.random.default_rng(7)
    return (rng.normal(size=(count, dim)) * np.geomspace(1, 0.01, dim) + rng.normal(size=dim)).astype(np.float32)


def documents(vectors: F32) -> list[Document]:
    return [Document(f"d{i}", "", f"title {i} {'x' * 90}", {}, own[None]) for i, own in enumerate(vectors)]


def by_svd(vectors: F32) -> tuple[np.ndarray, list[float]]:
    """The same by numpy.linalg.svd, with the sign of the module."""
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    signs = [np.sign(axis[np.abs(axis).argmax()]) for axis in axes[:2]]
    places = centred @ (axes[:2] * np.array(signs)[:, None]).T
    return places / np.abs(places).max(), (lengths[:2] ** 2 / (lengths**2).sum()).tolist()


@pytest.fixture
def dense(make_collection: MakeCollection) -> Collection:
    return make_collection(kind="dense", dim=12, similarity="inner_product")


@pytest.mark.parametrize("wide", [False, True])
def test_it_is_the_svd_of_the_documents_that_stand(
    dense: Collection, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)
    vectors = vectors_of(90, 12)
    write_in_segments(dense, documents(vectors), 40)
    gone = [f"d{i}" for i in (0, 3, 41, 42, 85)]
    dense.delete(gone)
    stay = [i for i in range(90) if f"d{i}" not in gone]
    if wide:
        # More dimensions than are solved: the axes are of some documents, here of all of them.
        monkeypatch.setattr(module, "_axes", module._axes_of_some)
    found = plane(dense, 1_000)
    assert found.ids == [f"d{i}" for i in stay]
    assert found.titles == [f"title {i} {'x' * 90}"[:80] for i in stay]
    assert (found.of, found.generation) == (85, dense.published.generation.number)
    places, shares = by_svd(vectors[stay])
    np.testing.assert_allclose(np.stack([found.x, found.y], 1), places, atol=1e-6)
    assert found.variance == pytest.approx(shares)
    assert found.x.dtype == found.y.dtype == np.float32
    assert max(np.abs(found.x).max(), np.abs(found.y).max()) == 1


def test_a_sample_is_even_and_repeats_whatever_the_parts_are(dense: Collection) -> None:
    vectors = vectors_of(60, 12)
    write_documents(dense, documents(vectors))
    before = plane(dense, 25)
    chosen = [i * 60 // 25 for i in range(25)]
    assert before.ids == [f"d{i}" for i in chosen]
    np.testing.assert_allclose(np.stack([before.x, before.y], 1), by_svd(vectors[chosen])[0], atol=1e-6)
    seal(dense)
    again = plane(dense, 25)
    assert (again.ids, again.of) == (before.ids, 60)
    np.testing.assert_allclose([again.x, again.y], [before.x, before.y], atol=1e-6)


def test_wide_vectors_have_the_axes_of_some_and_are_all_shown(
    dense: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WIDE", 8)
    rng = np.random.default_rng(1)
    # All in one plane, which a few of them tell.
    vectors = (rng.normal(size=(50, 2)) @ rng.normal(size=(2, 12))).astype(np.float32)
    write_documents(dense, documents(vectors))
    found = plane(dense, 50)
    assert len(found.ids) == 50
    assert sum(found.variance) == pytest.approx(1)
    assert found.variance[1] > 0.05
    # Axes turned in the plane leave distances as they are.
    flat = np.stack([found.x, found.y], 1).astype(np.float64)
    shown = np.linalg.norm(flat[:, None] - flat, axis=2)
    true = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors, axis=2)
    np.testing.assert_allclose(shown, true * (shown.max() / true.max()), atol=1e-5)


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("wide", [2_048, 0])
def test_few_and_equal_documents_lie_in_the_middle(
    make_collection: MakeCollection, dim: int, wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = make_collection(kind="dense", dim=dim, similarity="inner_product")
    assert (plane(collection, 2).ids, plane(collection, 2).of, plane(collection, 2).variance) == ([], 0, (0, 0))
    for count in (1, 2, 3):
        write_documents(collection, documents(np.full((count, dim), 0.3, np.float32)))
        found = plane(collection, 10)
        assert (len(found.ids), found.x.tolist(), found.y.tolist()) == (count, [0] * count, [0] * count)
        assert found.variance == (0, 0)
    if wide:
        write_documents(collection, documents(np.eye(1, dim, dtype=np.float32)))
        found = plane(collection, 10)
        # A line: the first document against two others.
        assert found.x.tolist() == pytest.approx([-0.5, -0.5, 1])
        assert found.ids == ["d1", "d2", "d0"]
        np.testing.assert_allclose(found.y, 0, atol=1e-6)
        assert found.variance == pytest.approx((1, 0))


def test_a_document_of_several_passages_is_its_first(make_collection: MakeCollection) -> None:
    collection = make_collection(passages=PassageSpec(size=16, overlap=0))
    write_documents(collection, [Document(f"d{i}", f"w{i} w{i * 7} " + f"w{i % 3} " * 60) for i in range(9)])
    assert collection.published.passages > 9
    view = collection.published.views[0]
    pooled = np.array(view.part.flat("pooled").take(view.part.owners.firsts))
    found = plane(collection, 100)
    np.testing.assert_allclose(np.stack([found.x, found.y], 1), by_svd(pooled)[0], atol=1e-5)
