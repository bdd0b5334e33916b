"""Many searches by vectors at once are the single ones, to the bit, whatever index, filter, tail and ties there are."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made import MakeCollection
from small_codes import code_everything

from app.batch import asking, ranking
from app.batch.arrays import ARROW, NPY, Many, Table, read_queries, written
from app.batch.search import search_many
from app.collection.collection import Collection
from app.collection.spec import ValueSpec
from app.compute.deadline import Deadline, deadline
from app.errors import AnswerTooLarge, Invalid, MalformedBody, TooSlow
from app.filters import parse
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.scoring.many import could_be_best
from app.search import Query, search
from app.types import F32, Document, TokenVectors
from app.vector_index.graph import Graph


def fill(collection: Collection, rows: F32, segments: tuple[int, ...], gone: int = 7) -> None:
    """Segments of so many rows, the others in the tail; each ``gone``-th is deleted."""
    start = 0
    for count in (*segments, len(rows) - sum(segments)):
        some = range(start, start + count)
        write_documents(collection, [Document(f"d{i:05}", metadata={"n": i}, vectors=rows[i : i + 1]) for i in some])
        start += count
        if start < len(rows):
            seal(collection)
    delete_ids(collection, [f"d{i:05}" for i in range(0, len(rows), gone)])


def alone(collection: Collection, queries: F32, **asked: Any) -> list[list[tuple[bytes, float]]]:
    found = (search(collection, Query(vectors=np.atleast_2d(one), include=frozenset(), **asked)) for one in queries)
    return [[(hit.id.encode(), hit.score) for hit in one.hits] for one in found]


def together(collection: Collection, queries: F32, **asked: Any) -> list[list[tuple[bytes, float]]]:
    table = search_many(collection, Many(queries, **asked))
    pairs = zip(table.ids.tolist(), table.scores.tolist(), strict=True)
    return [list(zip(*own, strict=True)) for own in pairs]


ASKED: list[dict[str, Any]] = [
    {},
    {"k": 3, "candidates": 5},
    {"k": 100},
    {"k": 1000, "candidates": 7},
    {"k": 40, "exact": True},
    {"filter": {"n": {"gte": 1_000}}},
    {"k": 50, "filter": {"n": {"lt": 2_600}}, "exact": True},
    {"filter": {"n": {"in": [5, 6, 9, 2_701, 2_950]}}},
    {"filter": {"n": {"eq": -1}}},
]


@pytest.fixture
def no_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates are looked for, however few documents there are."""
    monkeypatch.setattr("app.search.FEW", 0)
    monkeypatch.setattr("app.batch.ranking.FEW", 0)


@pytest.mark.usefixtures("no_few")
def test_graphs_codes_arrays_and_the_tail(make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    code_everything(monkeypatch, 300 * 24)
    # Of large codes only what a filter leaves is read one and all.
    monkeypatch.setattr("app.vector_index.refined.DIRECT", 50)
    collection = make_collection(kind="dense", dim=24)
    random = np.random.default_rng(5)
    fill(collection, random.normal(size=(3_000, 24)).astype(np.float32), (2_000, 400, 250))
    kinds = [one.part.kinds["pooled"] for one in collection.published.segments]
    assert kinds == ["hnsw", "hnsw", "flat"]
    assert len(collection.published.tail.part.seqs)
    queries = random.normal(size=(70, 24)).astype(np.float32)
    walks: list[int] = []
    original = Graph._walk

    def counting(self: Graph, queries: F32, depth: int, reach: int) -> Any:
        walks.append(len(queries))
        return original(self, queries, depth, reach)

    monkeypatch.setattr(Graph, "_walk", counting)
    for asked in ASKED:
        named = {**asked, "filter": parse(asked["filter"], "") if "filter" in asked else None}
        walks.clear()
        found = together(collection, queries, **named)
        if asked.get("candidates") == 5:
            # A block is a walk of the graph by each thread, not one a query, of those too that are asked for alone.
            assert walks.count(35) == 2
            assert len(walks) < 10
        assert found[30:40] == alone(collection, queries[30:40], **named), asked


@pytest.mark.usefixtures("no_few")
@pytest.mark.parametrize("similarity", ["cosine", "inner_product", "euclidean", "poincare"])
def test_equal_scores_go_by_the_bytes_of_ids(make_collection: MakeCollection, similarity: str) -> None:
    """Whole numbers, so that most scores are equal, more of them than are looked at at once."""
    collection = make_collection(kind="dense", dim=3, similarity=similarity)
    random = np.random.default_rng(3)
    rows = random.integers(-2, 3, (900, 3)).astype(np.float32)
    rows[~rows.any(axis=1), 0] = 1
    if similarity == "poincare":
        rows /= 16
    fill(collection, rows, (500, 300))
    queries = rows[random.integers(0, 900, 12)]
    # Documents are written in no order of their ids.
    for asked in ({}, {"k": 1}, {"k": 250}, {"k": 60, "exact": True}, {"k": 2_000}):
        assert together(collection, queries, **asked) == alone(collection, queries, **asked), asked


def test_few_documents_are_scored_one_and_all(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=5, similarity="euclidean")
    random = np.random.default_rng(1)
    # Of lengths so different that float32 has the same distance for many.
    rows = (random.normal(size=(300, 5)) * 10.0 ** random.integers(-4, 5, (300, 1))).astype(np.float32)
    fill(collection, rows, (100,))
    assert together(collection, rows, k=12)[:40] == alone(collection, rows[:40], k=12)


def test_a_part_is_asked_once_for_all(make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A law of cost: no more calls for more queries of a block."""
    collection = make_collection(kind="dense", dim=8)
    rows = np.random.default_rng(2).normal(size=(400, 8)).astype(np.float32)
    fill(collection, rows, (200,))
    calls: list[int] = []
    original = asking.could_be_best

    def counting(queries: F32, *given: Any) -> Any:
        calls.append(len(queries))
        return original(queries, *given)

    monkeypatch.setattr(asking, "could_be_best", counting)
    for count in (20, 30):
        calls.clear()
        search_many(collection, Many(rows[:count]))
        assert calls == [count, count]


@pytest.mark.usefixtures("no_few")
@pytest.mark.parametrize("asked", [{"k": 3, "candidates": 100}, {"k": 90, "candidates": 4}, {"k": 90, "exact": True}])
def test_many_candidates_are_taken_in_steps(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch, asked: Any
) -> None:
    """No more vectors are copied at a time, and no more pairs made, for more queries or candidates."""
    collection = make_collection(kind="dense", dim=8)
    rows = np.random.default_rng(2).normal(size=(400, 8)).astype(np.float32)
    fill(collection, rows, (200,))
    found = together(collection, rows[:70], **asked)
    copied, made = list[int](), list[int]()
    references, tier = asking.references_of_pairs, ranking.Ask._pairs

    def copying(queries: F32, which: Any, vectors: Any, offsets: Any) -> Any:
        copied.append(vectors.size)
        return references(queries, which, vectors, offsets)

    def making(self: ranking.Ask, queries: F32, offsets: Any, which: Any, *more: Any) -> Any:
        made.append(len(which))
        return tier(self, queries, offsets, which, *more)

    monkeypatch.setattr(asking, "references_of_pairs", copying)
    monkeypatch.setattr(ranking.Ask, "_pairs", making)
    monkeypatch.setattr(asking, "NUMBERS", 8 * 20)
    monkeypatch.setattr("app.batch.search.PAIRS", 2_000)
    assert together(collection, rows[:70], **asked) == found
    assert max(copied) == 8 * 20
    assert max(made) <= 2_000


@pytest.mark.usefixtures("no_few")
@pytest.mark.parametrize("asked", [{"k": 3, "exact": True}, {"k": 3, "candidates": 4}])
def test_of_many_alike_fewer_queries_are_asked_at_a_time(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch, asked: Any
) -> None:
    """All rows could be the best of every query, however few are wanted."""
    collection = make_collection(kind="dense", dim=3)
    fill(collection, np.ones((500, 3), np.float32), (200, 200))
    queries = np.random.default_rng(6).normal(size=(40, 3)).astype(np.float32)
    found = together(collection, queries, **asked)
    monkeypatch.setattr("app.scoring.many.MOST", 1_000)
    made: list[int] = []
    for module in ("app.batch.asking", "app.vector_index.refined"):

        def counting(queries: F32, *given: Any) -> Any:
            pairs = could_be_best(queries, *given)
            made.append(len(pairs.rows))
            return pairs

        monkeypatch.setattr(f"{module}.could_be_best", counting)
    assert together(collection, queries, **asked) == found == alone(collection, queries, **asked)
    assert 500 < max(made) <= 1_000


@pytest.mark.usefixtures("no_few")
@pytest.mark.parametrize("asked", [{"k": 3, "exact": True}, {"k": 90, "candidates": 4}])
def test_the_time_is_looked_at_in_the_midst_of_a_block(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch, asked: Any
) -> None:
    """In every thread: at each block of rows, each tier and each step of references."""
    collection = make_collection(kind="dense", dim=8)
    rows = np.random.default_rng(2).normal(size=(400, 8)).astype(np.float32)
    fill(collection, rows, (200,))
    monkeypatch.setattr("app.scoring.many.FIRST", 10)
    monkeypatch.setattr("app.scoring.many.CHUNK", 10)
    monkeypatch.setattr(asking, "NUMBERS", 8 * 500)
    looks: list[int] = []
    both, best = threading.Barrier(2), ranking.Ask.best

    def beginning(*given: Any) -> ranking.Block:
        # Neither thread takes the slice of the other.
        both.wait(60)
        return best(*given)

    monkeypatch.setattr(ranking.Ask, "best", beginning)
    limit = 10_000

    def clock() -> float:
        looks.append(threading.get_ident())
        return float(len(looks))

    with deadline(Deadline(limit, clock)):
        search_many(collection, Many(rows[:70], **asked))
    threads = Counter(looks)
    assert len(threads) == 2
    # Both, and not only between slices of queries.
    assert min(threads.values()) > 10
    limit = len(looks) // 2
    looks.clear()
    with pytest.raises(TooSlow), deadline(Deadline(limit, clock)):
        search_many(collection, Many(rows[:70], **asked))
    # Each thread looks once more at most, and whoever waits for them.
    assert len(looks) <= limit + 4


@pytest.mark.parametrize("options", [{"kind": "multi_vector", "dim": 6}, {"kind": "dense"}])
def test_other_collections_are_asked_one_by_one(make_collection: MakeCollection, options: Any) -> None:
    collection = make_collection(**options)
    random = np.random.default_rng(4)
    if "dim" in options:
        write_documents(
            collection,
            [Document(f"d{i}", vectors=random.normal(size=(3, 6)).astype(np.float32)) for i in range(40)],
        )
        queries = random.normal(size=(5, 4, 6)).astype(np.float32)
    else:
        write_documents(collection, [Document(f"d{i}", text=f"an owl {i} " * (i % 90 + 1)) for i in range(40)])
        queries = random.normal(size=(5, collection.spec.dim)).astype(np.float32)
    assert together(collection, queries, k=7) == alone(collection, queries, k=7)


def test_what_is_no_query_is_told_by_its_place(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=3)
    write_documents(collection, [Document("a", vectors=np.ones((1, 3), np.float32))])
    queries = np.ones((4, 3), np.float32)
    for wrong, message in ((np.nan, "finite"), (0.0, "all zeros")):
        bad = queries.copy()
        bad[2] = wrong
        with pytest.raises(Invalid, match=message) as caught:
            search_many(collection, Many(bad))
        assert [one.pointer for one in caught.value.problems] == ["/2"]
    for shape in ((4, 2), (4, 1, 3), (3,), (0, 3)):
        with pytest.raises(Invalid, match=r"expected an array of shape \(queries, 3\)"):
            search_many(collection, Many(np.ones(shape, np.float32)))


def test_an_answer_has_a_bound(open_catalogue: Callable[..., Any]) -> None:
    collection = open_catalogue(max_answer_bytes=1_024).create("c", model=None, kind="dense", dim=2)
    write_documents(collection, [Document(f"d{i}", vectors=np.ones((1, 2), np.float32)) for i in range(10)])
    assert search_many(collection, Many(np.ones((5, 2), np.float32))).ids.shape == (5, 10)
    with pytest.raises(AnswerTooLarge):
        search_many(collection, Many(np.ones((50, 2), np.float32)))


@pytest.mark.parametrize("carried", [False, True])
def test_queries_one_by_one_share_the_room_of_an_answer(open_catalogue: Callable[..., Any], carried: bool) -> None:
    most = 20 * 10 * (2 + 8) + (4 * 20 * 10 * 16 if carried else 0)
    catalogue = open_catalogue(max_answer_bytes=most)
    collection = catalogue.create("c", model=None, kind="multi_vector", dim=2, values=ValueSpec(dim=16))
    values = np.ones((1, 16), np.float32)
    write_documents(
        collection, [Document(f"d{i}", vectors=np.ones((2, 2), np.float32), values=values) for i in range(10)]
    )
    found = search_many(collection, Many(np.ones((20, 3, 2), np.float32), values=carried))
    assert found.ids.shape == (20, 10)
    if found.values is not None:
        assert found.values.counts.tolist() == [1] * 200
    with pytest.raises(AnswerTooLarge):
        search_many(collection, Many(np.ones((21, 3, 2), np.float32), values=carried))


def test_places_of_values_are_counted_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """As .npy each hit has a place for the values of the largest: one large document makes all answers large."""
    counts = np.array([100, 1, 0, 1])
    starts = np.concatenate([[0], np.cumsum(counts)])
    values = TokenVectors(np.ones((102, 5), np.float32), starts)
    ids = np.array([[b"a", b"bc"], [b"c", b"d"]])
    table = Table(ids, np.ones((2, 2)), 1, 0.0, {}, values=values)
    needed = 4 * (2 + 8 + 4 + 4 * 100 * 5)
    made = np.load(io.BytesIO(written(table, NPY, needed)))
    assert made.nbytes == needed
    assert made["count"].tolist() == [[100, 1], [0, 1]]
    monkeypatch.setattr(np, "zeros", lambda *_: pytest.fail("something was made"))
    with pytest.raises(AnswerTooLarge, match=f"more than {needed - 1:,} bytes"):
        written(table, NPY, needed - 1)


def test_arrow_has_no_place_for_what_is_not_there() -> None:
    pa = pytest.importorskip("pyarrow")
    values = TokenVectors(np.ones((3, 2), np.float32), np.array([0, 3, 3]))
    table = Table(np.array([[b"a", b"bc"]]), np.ones((1, 2)), 1, 0.0, {}, values=values)
    needed = 2 * (2 + 8 + 4 + 4) + 3 * 2 * 4
    rows = pa.ipc.open_stream(written(table, ARROW, needed)).read_all().to_pydict()
    assert [len(one) for one in rows["values"]] == [3, 0]
    with pytest.raises(AnswerTooLarge):
        written(table, ARROW, needed - 1)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_arrays_are_read_as_they_were_written() -> None:
    array = np.random.default_rng(0).normal(size=(3, 5))
    for kind in ("<f2", "<f4", "<f8", ">f4"):
        given = array.astype(kind)
        assert np.array_equal(read_queries(npy(given), NPY), given.astype(np.float32))
    assert np.array_equal(read_queries(npy(np.asfortranarray(array)), NPY), array.astype(np.float32))


def described(text: str) -> bytes:
    """A .npy file of this header, and no more."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def header(kind: str, shape: str) -> bytes:
    return described(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}\n")


WHOLE = npy(np.ones((3, 5), np.float32))


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", MalformedBody, "expected a .npy"),
        (b"\x93NUMPY\x09\x00 rest", MalformedBody, "expected a .npy"),
        (WHOLE[:-1], MalformedBody, "expected 60 bytes"),
        (WHOLE + b"x", MalformedBody, "got 61"),
        # A header that claims more than any memory holds.
        (WHOLE.replace(b"(3, 5), }", b"(3000000000000, 5), }")[: len(WHOLE)], MalformedBody, "expected"),
        (npy(np.array([{"a": 1}], object)), MalformedBody, "expected"),
        (described("{'descr': ("), MalformedBody, "expected a .npy"),
        (
            described("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "(" * 900),
            MalformedBody,
            "expected a .npy",
        ),
        (header("'<f4'", "(-2, -3)") + bytes(24), MalformedBody, "expected sizes of 0 to"),
        (header("'<f4'", f"({10**30}, 0)"), MalformedBody, "expected sizes of 0 to"),
        # More digits than Python writes.
        (header("'<f4'", f"({hex(10**4_500)}, {hex(10**4_400)})"), MalformedBody, "expected"),
        (header("'<f4'", f"({'9, ' * 400})"), Invalid, r"got \(9, 9, 9, 9, ...\)"),
        (header("'|S0'", "(2, 3)"), Invalid, "expected numbers of float32, float16 or float64, got"),
        (header("('<f4', (2,))", "(2, 3)") + bytes(48), Invalid, "expected numbers of float32, float16 or float64"),
        (header("[('a', '<f4')]", "(2, 3)") + bytes(24), Invalid, "expected numbers of float32, float16 or float64"),
        (header("'<f16'", "(2, 3)") + bytes(96), Invalid, "expected numbers of float32, float16 or float64"),
        (npy(np.ones((2, 2), np.int32)), Invalid, "float32, float16 or float64, got int32"),
        (npy(np.ones(3, np.float32)), Invalid, r"expected an array \(queries, dim\)"),
        (npy(np.ones((0, 3), np.float32)), Invalid, r"expected an array"),
    ],
)
def test_what_is_no_array_is_refused(content: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_queries(content, NPY)


def arrow(columns: dict[str, Any]) -> bytes:
    pa = pytest.importorskip("pyarrow")
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_what_unpacks_is_refused(compression: str) -> None:
    """Of a compressed stream nothing is read, however small it is."""
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"vector": [[0.0] * 100] * 50})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_table(table)
    before = pa.total_allocated_bytes()
    with pytest.raises(MalformedBody, match="without compression"):
        read_queries(bytes(sink.getvalue()), ARROW)
    assert pa.total_allocated_bytes() == before


def test_what_is_told_by_a_dictionary_is_refused() -> None:
    pa = pytest.importorskip("pyarrow")
    encoded = pa.array([1.0, 2.0, 1.0]).dictionary_encode()
    with pytest.raises(MalformedBody, match="without dictionaries"):
        read_queries(arrow({"vector": encoded}), ARROW)


def test_rows_without_bytes_are_refused() -> None:
    """Of types that need none a few bytes may claim any number of rows."""
    pa = pytest.importorskip("pyarrow")
    null = pa.FixedSizeListArray.from_arrays(pa.nulls(64), 64)
    nothing = pa.array([[]] * 64, pa.list_(pa.float32(), 0))
    for column in (null, nothing, pa.array([{}] * 64, pa.struct([]))):
        with pytest.raises(Invalid, match="expected numbers of float32, float16 or float64, in lists"):
            read_queries(arrow({"vector": column}), ARROW)


def test_an_arrow_body_is_not_copied() -> None:
    pa = pytest.importorskip("pyarrow")
    content = bytearray(arrow({"vector": pa.FixedSizeListArray.from_arrays(np.ones(12, np.float32), 4)}))
    assert np.shares_memory(read_queries(content, ARROW), np.frombuffer(content, np.uint8))


def test_arrow_is_read_and_written() -> None:
    pa = pytest.importorskip("pyarrow")
    array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert np.array_equal(read_queries(arrow({"vector": list(array)}), ARROW), array)
    fixed = pa.FixedSizeListArray.from_arrays(array.ravel(), 4)
    assert np.array_equal(read_queries(arrow({"n": [1, 2, 3], "vector": fixed}), ARROW), array)
    tokens = [[row.tolist(), row.tolist()] for row in array]
    assert read_queries(arrow({"vectors": pa.array(tokens, pa.list_(pa.list_(pa.float32())))}), ARROW).shape == (
        3,
        2,
        4,
    )
    for columns, message in (
        ({"vector": [[1.0, 2.0], [3.0]]}, "lists of one length"),
        ({"vector": [[1.0], None]}, "lists of one length"),
        ({"vector": [[1.0], [None]]}, "none of them null"),
        ({"a": [1.0], "b": [2.0]}, "expected one column"),
        ({"vector": ["a", "b"]}, "expected numbers"),
    ):
        with pytest.raises(Invalid, match=message):
            read_queries(arrow(columns), ARROW)
    with pytest.raises(MalformedBody, match="not an Arrow stream"):
        read_queries(arrow({"vector": list(array)})[:-40], ARROW)
    ids = np.array([["a", "bé"], ["c", "d"]], object)
    table = Table(np.char.encode(ids.astype(str)), np.array([[2.0, 1.0], [0.5, -1.0]]), 1, 0.0, {})
    made = pa.ipc.open_stream(written(table, ARROW, 1_000)).read_all().to_pydict()
    assert made == {"query": [0, 0, 1, 1], "id": ["a", "bé", "c", "d"], "score": [2.0, 1.0, 0.5, -1.0]}
