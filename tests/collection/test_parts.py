"""Vectors as they are stored: passages, chunks, the tail and segments say the same of the same documents."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brute_force import unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from made import MakeCollection

from app.collection.first_stage import FirstStage
from app.collection.layers import layers
from app.collection.passages import Passages, check_vectors, from_caller, pool
from app.collection.segment import Segment
from app.collection.segment_writing import Batch, Totals, write_segment
from app.collection.spec import CollectionSpec, EncoderSpec, ValueSpec, VectorSpec
from app.collection.tail import Tail
from app.errors import Invalid
from app.filters import parse
from app.indexing.sealing import DEAD, TIER, plan, seal
from app.ingest import write_documents
from app.scoring.similarity import Cosine, InnerProduct, lengths
from app.store.files import FileRecord
from app.store.local_directory import LocalDirectory
from app.types import F32, Document, Kind, Owners, SimilarityName, TokenVectors

random = np.random.default_rng(4)


def spec(
    kind: Kind = "multi_vector", similarity: SimilarityName = "cosine", *, carrying: bool = False, **options: Any
) -> CollectionSpec:
    precision = "float16" if similarity == "cosine" else "float32"
    return CollectionSpec(
        name="c",
        encoder=EncoderSpec(model=None, kind=kind, dim=4),
        similarity=similarity,
        vectors=VectorSpec(precision=precision if kind == "multi_vector" else "float32", **options),
        values=ValueSpec(dim=3) if carrying else None,
    )


def matrices(count: int, kind: Kind) -> list[F32]:
    most = 3 if kind == "multi_vector" else 1
    return [random.normal(size=(1 + i % most, 4)).astype(np.float32) for i in range(count)]


def carried(owners: Owners) -> TokenVectors:
    """What documents carry, by rows: three vectors, none, one or two, with the first row of each."""
    counts = np.zeros(owners.rows, np.int64)
    counts[owners.firsts] = (3 + np.arange(len(owners.firsts)) * 5) % 4
    return TokenVectors(random.normal(size=(counts.sum(), 3)).astype(np.float32), np.cumsum([0, *counts]))


def same(a: Passages, b: Passages) -> bool:
    def values(p: Passages) -> dict[str, Any]:
        found: dict[str, Any] = {"owners": p.owners.counts}
        for name, array in p.arrays.items():
            if isinstance(array, TokenVectors):
                found |= {f"{name} values": array.values, f"{name} offsets": array.offsets}
            else:
                found[name] = array
        return found

    one, other = values(a), values(b)
    return one.keys() == other.keys() and all(
        x.dtype == other[name].dtype and x.shape == other[name].shape and x.tobytes() == other[name].tobytes()
        for name, x in one.items()
    )


@pytest.mark.parametrize("kind", ["multi_vector", "dense", "sequence"])
@pytest.mark.parametrize("similarity", ["cosine", "inner_product"])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("most", [1, 5])
def test_every_part_says_the_same(
    tmp_path: Path, kind: Kind, similarity: SimilarityName, keep: bool, most: int
) -> None:
    """Of documents that own 1 to ``most`` passages, or segments; where vectors are kept as they came, with values."""
    chosen = spec(kind, similarity, keep=keep, carrying=keep)
    stage = FirstStage.default(chosen)
    owners = Owners.of_counts(random.integers(1, most + 1, 20))
    given_vectors = matrices(owners.rows, kind)
    passages = from_caller(given_vectors, chosen, stage.encoding, owners=owners)
    values = carried(owners)
    if keep:
        passages = passages.with_layer("values", values)
    assert set(passages.arrays) == {layer.name for layer in layers(chosen, stage.encoded_dim)}
    assert ("raw" in passages) == keep
    assert ("tokens" in passages) == ("encoded" in passages) == (kind == "multi_vector")
    assert same(Passages.from_bytes(passages.to_bytes(), 20), passages)
    documents = np.array([3, 19, 0, 7])
    pieces = [passages.take([document]) for document in documents]
    assert same(Passages.join(pieces), passages.take(documents))
    # Coded one by one or together: the same bits, so a score never jumps.
    alone = Passages.join([from_caller([v], chosen, stage.encoding) for v in given_vectors])
    alone = Passages(owners, alone.arrays)
    assert same(alone.with_layer("values", values) if keep else alone, passages)

    seqs = np.arange(5, 45, 2, dtype=np.int64)
    metadata: list[Any] = [{"n": i} for i in range(20)]
    tail = Tail(layers(chosen, stage.encoded_dim), chosen.code)
    for start in range(0, 20, 6):
        stop = min(start + 6, 20)
        tail.append(seqs[start:stop], metadata[start:stop], passages.take(range(start, stop)))
    early = tail.view()
    batches = [
        Batch(seqs[:9], metadata[:9], passages.take(range(9))),
        Batch(seqs[9:], metadata[9:], passages.take(range(9, 20))),
    ]
    (tmp_path / "s").mkdir()
    record = write_segment(LocalDirectory(tmp_path / "s"), chosen, stage, Totals.of(owners, passages.counts), batches)
    segment = Segment.open_all(LocalDirectory(tmp_path / "s"), record)
    # The view stays as it is, whatever is appended.
    tail.append(seqs + 100, metadata, passages)
    assert early.size == segment.size == owners.rows
    condition = parse({"n": {"gte": 15}})
    rows = owners.rows_of(documents)
    allowed = np.ones(owners.rows, bool)
    allowed[::2] = False
    for part in (early, segment):
        assert np.array_equal(part.seqs, seqs)
        assert np.array_equal(part.owners.counts, owners.counts)
        assert part.select(condition, {}).tolist() == [False] * 15 + [True] * 5
        assert {name: count.tolist() for name, count in part.counts(np.arange(20)).items()} == {
            name: count.tolist() for name, count in passages.counts.items()
        }
        pooled = passages.flat("pooled")
        assert np.array_equal(part.flat("pooled").take(rows), pooled[rows])
        assert np.array_equal(part.flat("pooled").range(2, 9), pooled[2:9])
        # Callers' own vectors stay on disk until the tail is sealed.
        stored = part.passages(np.arange(20))
        assert same(stored, passages if part is segment else passages.with_layer("raw", None))
        assert same(part.passages(documents), stored.take(documents))
        if "tokens" in passages:
            tokens = passages.ragged("tokens")
            assert np.array_equal(part.ragged("tokens").range(2, 9).values, tokens.slice(2, 9).values)
            assert np.array_equal(part.ragged("tokens").take(rows).values, tokens.take(rows).values)
        if keep:
            assert np.array_equal(part.ragged("values").take(rows).values, values.take(rows).values)
            assert np.array_equal(part.ragged("values").range(2, 9).offsets, values.slice(2, 9).offsets)
        for layer in stage.layers:
            vectors = passages.flat(layer)
            found = part.nearest(layer, vectors[7], 4, allowed, 8)
            truth = np.where(allowed, vectors @ vectors[7], -np.inf)
            assert found.rows[:2].tolist() == np.argsort(-truth)[:2].tolist()
            assert found.scores == pytest.approx(truth[found.rows], rel=0.01, abs=0.01)
            assert len(found.rows) == 4
            assert allowed[found.rows].all()
    assert segment.has("raw") == keep
    if keep:
        for row in rows:
            assert segment.ragged("raw").range(row, row + 1).values.tobytes() == given_vectors[row].tobytes()


def test_a_filter_reads_each_row_of_the_tail_once() -> None:
    """Any number of conditions; asked again, it reads none."""

    class Row(dict[str, Any]):
        read = 0

        def items(self) -> Any:
            Row.read += 1
            return super().items()

    chosen = spec("dense")
    tail = Tail(layers(chosen, None), chosen.code)
    vectors = from_caller(matrices(300, "dense"), chosen, None)
    tail.append(np.arange(300), [Row(n=i, word=str(i % 7)) for i in range(300)], vectors)
    view = tail.view()
    numbers = [{"n": {"eq": i}} for i in range(0, 300, 2)]
    assert view.select(parse({"or": [*numbers, {"absent": {"exists": True}}]}), {}).tolist() == [True, False] * 150
    assert view.select(parse({"n": {"in": list(range(0, 300, 2))}}), {}).tolist() == [True, False] * 150
    assert Row.read == 300
    # Another field is one more pass, and rows that come later are none of this view's.
    tail.append(np.arange(300, 600), [Row(word="3") for _ in range(300)], vectors)
    assert view.select(parse({"word": {"eq": "3"}}), {}).tolist() == [i % 7 == 3 for i in range(300)]
    assert Row.read == 600
    assert tail.view().select(parse({"n": {"exists": False}}), {}).tolist() == [False] * 300 + [True] * 300


def test_coding_normalises_and_rounds_once() -> None:
    vectors = [np.array([[3, 4, 0, 0], [0, 0, 1e-40, 0]], np.float32)]
    passages = from_caller(vectors, spec(), None)
    tokens = passages.ragged("tokens").values
    assert tokens.dtype == np.float16
    assert tokens.tolist() == np.array([[0.6, 0.8, 0, 0], [0, 0, 1, 0]], np.float16).tolist()
    assert passages.flat("norms")[0] >= np.linalg.norm(tokens.astype(np.float64), axis=1).max()
    plain = from_caller(vectors, spec(similarity="inner_product"), None)
    assert plain.ragged("tokens").values.tobytes() == vectors[0].tobytes()
    assert np.array_equal(plain.flat("pooled"), (vectors[0].astype(np.float64).mean(axis=0)).astype(np.float32)[None])


def test_lengths_and_units() -> None:
    large = np.array([[3e30, 4e30], [3e-30, 4e-30], [0, 0]], np.float32)
    assert lengths(large).tolist() == pytest.approx([5e30, 5e-30, 0])
    assert np.array_equal(Cosine().document(large[:2]), unit_rows(large[:2]))
    assert Cosine().document(large)[2].tolist() == [0, 0]
    assert InnerProduct().document(large) is large


def test_opposite_vectors_pool_to_nothing() -> None:
    tokens = TokenVectors.join([np.array([[1, 0], [-1, 0]], np.float32), np.array([[0, 2]], np.float32)])
    assert pool(tokens, Cosine()).tolist() == [[0, 0], [0, 1]]
    assert pool(tokens, InnerProduct()).tolist() == [[0, 0], [0, 2]]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((0, 4)), "at least one"),
        (np.zeros(4), "at least one"),
        (np.ones((1, 3)), "4 dimensions, got 3"),
        (np.full((1, 4), np.nan), "finite"),
        (np.full((1, 4), np.inf), "finite"),
        (np.array([[1, 0, 0, 0], [0, 0, 0, 0]]), "vector 1 is all zeros"),
    ],
)
def test_vectors_that_cannot_be(vectors: Any, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        check_vectors(vectors.astype(np.float32), spec(), "")
    assert caught.value.problems[0].pointer == "/vectors"


def test_length_is_bounded_only_where_sums_could_overflow() -> None:
    long = np.full((1, 4), 1e15, np.float32)
    with pytest.raises(Invalid, match="longer than") as caught:
        check_vectors(long, spec(similarity="inner_product"), "")
    assert caught.value.problems[0].pointer == "/vectors"
    check_vectors(long, spec(), "")


sizes = st.lists(
    st.integers(1, 100_000).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(0, rows))), max_size=40
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(sizes, st.integers(1, 5_000))
def test_merging_ends_with_few_segments_and_few_dead_rows(segments: list[tuple[int, int]], tier: int) -> None:
    steps = 0
    while chosen := plan(segments, tier):
        assert len(set(chosen)) == len(chosen)
        standing = sum(segments[i][1] for i in chosen)
        # A segment merged alone has dead rows to lose; else a whole tier is.
        assert len(chosen) >= TIER or segments[chosen[0]][0] > standing
        rest = [segment for i, segment in enumerate(segments) if i not in chosen]
        segments = [*rest, (standing, standing)] if standing else rest
        steps += 1
        assert steps <= 200
    assert all(rows - standing < max(1, DEAD * rows) for rows, standing in segments)
    largest = max((standing for _, standing in segments), default=1)
    tiers = 2 + max(0, math.ceil(math.log(largest / tier, TIER)))
    assert len(segments) <= (TIER - 1) * tiers


def test_a_chunk_goes_to_a_file_when_it_is_large(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=4)
    write_documents(collection, [Document("small", vectors=matrices(1, "dense")[0])])
    large = random.normal(size=(50_000, 4)).astype(np.float32)
    write_documents(collection, [Document("large", vectors=large)])
    with collection.database.read() as connection:
        rows = connection.execute("SELECT first, count, file, length(data), size FROM tail ORDER BY first").fetchall()
    assert [(first, count, file) for first, count, file, _, _ in rows] == [(1, 1, None), (2, 1, "2.safetensors")]
    assert rows[0][3] == rows[0][4]
    assert rows[1][3] is None
    (path,) = (collection.folder / "tail").iterdir()
    assert (path.name, path.stat().st_size) == ("2.safetensors", rows[1][4])
    assert collection.given_vectors([2])[2].tobytes() == large.tobytes()
    seal(collection)
    assert list((collection.folder / "tail").iterdir()) == []
    assert collection.given_vectors([2, 1])[2].tobytes() == large.tobytes()


def test_a_failed_segment_leaves_nothing(tmp_path: Path) -> None:
    chosen = spec()
    stage = FirstStage.default(chosen)
    passages = from_caller(matrices(3, "multi_vector"), chosen, stage.encoding)
    (tmp_path / "s").mkdir()
    with pytest.raises(ValueError, match="expected 4 rows, got 3"):
        write_segment(
            LocalDirectory(tmp_path / "s"),
            chosen,
            stage,
            Totals(4, 4, {"tokens": 6, "raw": 6}),
            [Batch(np.arange(3), [{}] * 3, passages)],
        )
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_json() -> None:
    record = FileRecord(5, (1, 2**32 - 1))
    assert FileRecord.from_json(record.to_json()) == record
