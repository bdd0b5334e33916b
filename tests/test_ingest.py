"""The document flow: what a write keeps, what it leaves alone, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import DIM, CountingEncoder, MakeCollection, OneEncoder, OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.changes.patch import Patch
from app.changes.plan import ENCODED_AT_ONCE
from app.collection.collection import Collection
from app.collection.spec import ONE
from app.encoders.deterministic import MAX_WORDS, DeterministicEncoder
from app.encoders.registry import Encoders
from app.errors import Conflict, Invalid, NotFound, TextRefused
from app.filters import parse
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, delete_matching, patch_document, write_documents
from app.search import Query, search
from app.settings import DeterministicModel, Settings
from app.tasks.rebuild import run_rebuild
from app.types import F32, Document, Encoded, Kind


@pytest.fixture
def counted(tmp_path: Any) -> Any:
    settings = Settings(indexes=tmp_path / "indexes", models={"words": DeterministicModel(type="deterministic")})
    encoder = CountingEncoder(DIM, "multi_vector")
    with Catalogue(settings.indexes, OneEncoder(settings, encoder), settings) as catalogue:
        yield catalogue.create("c", model="words", kind="multi_vector"), encoder.texts


def state(collection: Collection) -> tuple[int, int]:
    return collection.published.next_seq, collection.published.generation.number


def found(collection: Collection, text: str, **options: Any) -> list[str]:
    return [hit.id for hit in search(collection, Query(text=text, **options)).hits]


def test_a_write_is_found_by_the_next_query(make_collection: MakeCollection) -> None:
    collection = make_collection()
    result = write_documents(collection, [Document("a", "red apple", "Fruit", {"n": 1}), Document("b", "blue sky")])
    assert (result.written, result.created, result.duplicates, result.truncated) == (2, 2, [], [])
    for exact in (False, True):
        hit = search(collection, Query(text="red apple", k=1, exact=exact)).hits[0]
        assert (hit.id, hit.title, hit.text, hit.metadata) == ("a", "Fruit", "red apple", {"n": 1})
    assert collection.get("a") == Document("a", "red apple", "Fruit", {"n": 1})


def test_the_last_of_duplicates_wins_and_they_are_named(make_collection: MakeCollection) -> None:
    collection = make_collection()
    documents = [Document("a", "one"), Document("b", "two"), Document("a", "three"), Document("a", "four")]
    result = write_documents(collection, documents)
    assert (result.written, result.created, result.duplicates) == (2, 2, ["a"])
    assert collection.get("a").text == "four"
    assert collection.count() == 2
    assert [hit.id for hit in search(collection, Query(text="one", exact=True)).hits].count("a") == 1


def test_what_did_not_change_is_neither_written_nor_encoded(counted: tuple[Collection, list[str]]) -> None:
    collection, texts = counted
    documents = [Document(f"d{i}", f"text {i}", metadata={"n": i}) for i in range(5)]
    write_documents(collection, documents)
    assert len(texts) == 5
    for prepare in (lambda: None, lambda: seal(collection)):
        prepare()
        before = state(collection)
        result = write_documents(collection, documents)
        assert (result.written, result.created) == (5, 0)
        assert state(collection) == before
        assert len(texts) == 5


def test_changed_metadata_are_written_without_encoding(counted: tuple[Collection, list[str]]) -> None:
    collection, texts = counted
    write_documents(collection, [Document("a", "some text"), Document("b", "other text")])
    seal(collection)
    vectors = search(collection, Query(text="some", include=frozenset({"vectors"}))).hits
    write_documents(collection, [Document("a", "some text", metadata={"n": 2}), Document("b", "new text")])
    assert texts == ["some text", "other text", "new text"]
    assert collection.get("a").metadata == {"n": 2}
    after = search(collection, Query(text="some", include=frozenset({"vectors"}))).hits
    assert (vectors[0].id, vectors[0].score) == (after[0].id, after[0].score) == ("a", vectors[0].score)
    assert np.array_equal(vectors[0].vectors, after[0].vectors)


@pytest.mark.parametrize(
    ("old", "new"), [(1, True), (True, 1), (0, False), (1, 1.0), (1.0, 1), (0.0, -0.0), ("1", 1), (["a"], "a")]
)
def test_metadata_of_another_type_are_a_change(make_collection: MakeCollection, old: Any, new: Any) -> None:
    collection = make_collection()
    write_documents(collection, [Document("a", "text", metadata={"x": old})])
    write_documents(collection, [Document("a", "text", metadata={"x": new})])
    stored = collection.get("a").metadata["x"]
    assert (type(stored), repr(stored)) == (type(new), repr(new))
    if isinstance(new, bool):
        assert collection.count(parse({"x": {"eq": new}})) == 1
        assert collection.count(parse({"x": {"eq": int(new)}})) == 0


def test_a_cut_text_is_reported_each_time(make_collection: MakeCollection) -> None:
    collection = make_collection(passages=ONE)
    long = Document("long", "word " * (MAX_WORDS + 1))
    assert write_documents(collection, [long, Document("short", "word")]).truncated == ["long"]
    assert write_documents(collection, [long]).truncated == ["long"]
    seal(collection)
    assert write_documents(collection, [Document("long", long.text, metadata={"n": 1})]).truncated == ["long"]
    patch_document(collection, "long", Patch(metadata={"n": 2}))
    assert write_documents(collection, [Document("long", long.text, metadata={"n": 2})]).truncated == ["long"]


def test_patch_merges_and_removes(counted: tuple[Collection, list[str]]) -> None:
    collection, texts = counted
    write_documents(collection, [Document("a", "red apple", "Fruit", {"x": 1, "y": "keep"})])
    for prepare in (lambda: None, lambda: seal(collection)):
        prepare()
        patched, version, _ = patch_document(collection, "a", Patch(metadata={"x": None, "z": ["new"]}))
        assert collection.get_version("a") == (patched, version)
        assert patched == collection.get("a") == Document("a", "red apple", "Fruit", {"y": "keep", "z": ["new"]})
        assert found(collection, "red apple", filter=parse({"z": {"eq": "new"}})) == ["a"]
        assert found(collection, "red apple", filter=parse({"x": {"exists": True}})) == []
        patch_document(collection, "a", Patch(metadata={"x": 1, "z": None}))
    assert len(texts) == 1
    with pytest.raises(NotFound) as caught:
        patch_document(collection, "no", Patch(metadata={"x": 1}))
    assert caught.value.code == "document_not_found"


def test_deletes_count_what_was_there(make_collection: MakeCollection) -> None:
    collection = make_collection()
    write_documents(collection, [Document(f"d{i}", f"text {i}", metadata={"n": i}) for i in range(10)])
    seal(collection)
    write_documents(collection, [Document(f"e{i}", f"text {i}", metadata={"n": i}) for i in range(10)])
    assert delete_ids(collection, ["d1", "d1", "e1", "no"]) == 2
    assert delete_ids(collection, ["d1"]) == 0
    assert delete_matching(collection, parse({"n": {"gte": 8}})) == 4
    assert delete_matching(collection, parse({"n": {"gte": 8}})) == 0
    assert collection.count() == 14
    assert set(found(collection, "text", k=100)) == {f"{c}{i}" for c in "de" for i in (0, 2, 3, 4, 5, 6, 7)}
    assert [d.id for d in collection.get_many(["d1", "e9", "d0", "no", "e7"])] == ["d0", "e7"]


class Vocabulary(DeterministicEncoder):
    """Makes zeros of texts without a word that it knows, as a table of static vectors does."""

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        found = super().encode_documents(texts)
        for i, text in enumerate(texts):
            if "known" not in text.split():
                found.pooled[i] = 0
                if found.tokens is not None:
                    found.tokens[i][:] = 0
        return found

    encode_queries = encode_documents


@pytest.mark.parametrize("kind", ["multi_vector", "dense"])
def test_zeros_of_an_encoder_are_refused_as_a_callers_are(tmp_path: Path, kind: Kind) -> None:
    settings = Settings(indexes=tmp_path, models={"words": DeterministicModel(type="deterministic")})
    with Catalogue(tmp_path, OneEncoder(settings, Vocabulary(DIM, kind)), settings) as catalogue:
        collection = catalogue.create("c", model="words", kind=kind)
        some = [Document(f"d{i}", "known words") for i in range(ENCODED_AT_ONCE + 9)]
        some[4] = replace(some[4], text="xyzzy")
        with pytest.raises(TextRefused, match="all zeros") as caught:
            write_documents(collection, [Document("d4", "xyzzy"), *some])
        assert [problem.pointer for problem in caught.value.problems] == ["/documents/5/text"]
        assert collection.count() == 0
        some[4] = Document("d4", "known")
        some[-1] = replace(some[-1], text="plugh")
        with pytest.raises(TextRefused) as caught:
            write_documents(collection, some)
        assert [problem.pointer for problem in caught.value.problems] == [f"/documents/{len(some) - 1}/text"]
        write_documents(collection, some[:-1])
        with pytest.raises(Invalid, match="all zeros") as refused:
            search(collection, Query(text="xyzzy"))
        assert refused.value.problems[0].pointer == "/query"
        dot = catalogue.create("dot", model="words", kind=kind, similarity="inner_product", precision="float32")
        write_documents(dot, [Document("a", "xyzzy"), Document("b", "known")])
        assert [hit.score for hit in search(dot, Query(text="xyzzy")).hits] == [0, 0]


def own(*rows: Sequence[float]) -> F32:
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("options", "document", "pointer"),
    [
        ({}, Document("a", " \n"), "/documents/1/text"),
        ({}, Document("a", "text", vectors=own([1] * DIM)), "/documents/1/vectors"),
        ({"kind": "dense"}, Document("a", "text", vectors=own([1] * DIM)), "/documents/1/vector"),
        ({"dim": 2}, Document("a", "text"), "/documents/1/vectors"),
        ({"dim": 2, "kind": "dense"}, Document("a", "text"), "/documents/1/vector"),
        ({"dim": 2}, Document("a", vectors=own([1, 2, 3])), "/documents/1/vectors"),
        ({"dim": 2}, Document("a", vectors=np.zeros((0, 2), np.float32)), "/documents/1/vectors"),
        ({"dim": 2}, Document("a", vectors=own([1, 2], [0, 0])), "/documents/1/vectors"),
        ({"dim": 2}, Document("a", vectors=own([1, float("nan")])), "/documents/1/vectors"),
        ({"dim": 2}, Document("a", vectors=own([1, float("inf")])), "/documents/1/vectors"),
        ({"dim": 2, "similarity": "inner_product"}, Document("a", vectors=own([1e16, 0])), "/documents/1/vectors"),
        ({"dim": 2, "kind": "dense"}, Document("a", vectors=own([1, 2], [3, 4])), "/documents/1/vector"),
    ],
)
def test_a_wrong_document_is_refused_and_nothing_is_written(
    make_collection: MakeCollection, options: dict[str, Any], document: Document, pointer: str
) -> None:
    collection = make_collection(**options)
    good = Document("good", "text")
    if "dim" in options:
        good = Document("good", vectors=own([1, 2]))
    with pytest.raises(Invalid) as caught:
        write_documents(collection, [good, document])
    assert caught.value.problems[0].pointer == pointer
    assert collection.count() == 0
    assert collection.get_many(["good"]) == []


def test_a_zero_vector_has_an_inner_product(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=2, kind="dense", similarity="inner_product")
    write_documents(collection, [Document("zero", vectors=own([0, 0])), Document("one", vectors=own([1, 0]))])
    hits = search(collection, Query(vectors=own([2, 0]))).hits
    assert [(hit.id, hit.score) for hit in hits] == [("one", 2.0), ("zero", 0.0)]


@pytest.mark.parametrize("kind", ["multi_vector", "dense"])
def test_a_vector_of_any_length_is_its_direction_under_cosine(make_collection: MakeCollection, kind: str) -> None:
    collection = make_collection(dim=2, kind=kind)
    lengths = {"long": 3e38, "one": 1.0, "short": 1e-40}
    write_documents(collection, [Document(name, vectors=own([size, size])) for name, size in lengths.items()])
    for exact in (False, True):
        hits = search(collection, Query(vectors=own([2e38, 2e38]), exact=exact)).hits
        assert {hit.id for hit in hits} == lengths.keys()
        assert [hit.score for hit in hits] == pytest.approx([1, 1, 1], abs=1e-3)


RAW = [
    own([1e-40, 3.4e-39], [5e-10, -0.0]),
    own([0.1, 0.2]),
    own([65_520.5, 1e-7], [1 / 3, 2 / 3], [1e10, -1e10]),
]


@pytest.mark.parametrize("kind", ["multi_vector", "dense"])
@pytest.mark.parametrize("similarity", ["cosine", "inner_product"])
def test_callers_vectors_are_kept_bit_for_bit(
    make_collection: MakeCollection, open_catalogue: OpenCatalogue, kind: str, similarity: str
) -> None:
    collection = make_collection(kind=kind, dim=2, similarity=similarity)
    vectors = {f"d{i}": raw[:1] if kind == "dense" else raw for i, raw in enumerate(RAW)}

    def check() -> None:
        with collection.snapshot() as snapshot:
            live = {collection.get(i).id: i for i in vectors}
            seqs = [seq for view in snapshot.views for seq in view.part.seqs[view.alive].tolist()]
            ids = {d.id: seq for seq, d in snapshot.documents(seqs).items()}
        assert live.keys() == ids.keys() == vectors.keys()
        for identifier, seq in ids.items():
            kept = collection.given_vectors([seq])[seq]
            assert kept.dtype == np.float32
            assert kept.tobytes() == vectors[identifier].tobytes()
            assert kept.shape == vectors[identifier].shape

    write_documents(collection, [Document(i, "text", vectors=v) for i, v in vectors.items()])
    check()
    patch_document(collection, "d0", Patch(metadata={"n": 1}))
    check()
    seal(collection)
    check()
    patch_document(collection, "d1", Patch(metadata={"n": 1}))
    # Equal but for the sign of a zero: another vector, so it is written.
    vectors["d0"] = vectors["d0"] * np.float32(1)
    vectors["d0"][-1, -1] = 0.0 if kind == "multi_vector" else vectors["d0"][-1, -1]
    write_documents(collection, [Document("d0", "text", metadata={"n": 1}, vectors=vectors["d0"])])
    check()
    seal(collection)
    while merge(collection):
        pass
    assert len(collection.published.segments) == 2
    check()
    patch_document(collection, "d2", Patch(metadata={"n": 1}))
    check()
    rebuild(collection)
    check()
    before = state(collection)
    write_documents(collection, [Document(i, "text", metadata={"n": 1}, vectors=v) for i, v in vectors.items()])
    assert state(collection) == before


def rebuild(collection: Collection) -> None:
    """The task's handler, without the task's thread."""
    from app.tasks.tasks import Running, Tasks

    tasks = Tasks(collection, {})
    task = tasks.submit("rebuild", {})
    number = len(tasks.all())
    run_rebuild(collection, Running(tasks, number, task))


@pytest.mark.parametrize("kind", ["multi_vector", "dense"])
def test_without_keep_vectors_none_are_kept(make_collection: MakeCollection, kind: str) -> None:
    collection = make_collection(kind=kind, dim=2, keep_vectors=False)
    documents = [Document(f"d{i}", "text", vectors=raw[:1]) for i, raw in enumerate(RAW)]
    write_documents(collection, documents)
    before = search(collection, Query(vectors=own([1, 1]), exact=True)).hits
    state_before = state(collection)
    write_documents(collection, documents)
    assert state(collection) == state_before
    seal(collection)
    rebuild(collection)
    assert search(collection, Query(vectors=own([1, 1]), exact=True)).hits == before
    content = b"".join(path.read_bytes() for path in collection.folder.rglob("*") if path.is_file())
    for raw in RAW[1:]:
        assert raw[:1].tobytes() not in content
    assert not list(collection.folder.rglob("raw*"))


def test_writes_need_the_encoder_that_made_the_vectors(tmp_path: Any) -> None:
    folder = tmp_path / "indexes"

    def opened(dim: int) -> Catalogue:
        models = {"words": DeterministicModel(type="deterministic", dim=dim)}
        settings = Settings(indexes=folder, models=models)
        return Catalogue(folder, Encoders(models), settings)

    with opened(8) as catalogue:
        collection = catalogue.create("c", model="words", kind="multi_vector")
        write_documents(collection, [Document("a", "text")])
    with opened(9) as catalogue:
        collection = catalogue.get("c")
        assert catalogue.describe("c").read_only is None
        for attempt in (
            lambda: write_documents(collection, [Document("b", "text")]),
            lambda: write_documents(collection, [Document("a", "text", metadata={"n": 1})]),
            lambda: search(collection, Query(text="text")),
        ):
            with pytest.raises(Conflict, match=r"dim.*new collection") as caught:
                attempt()
            assert caught.value.code == "encoder_changed"
        assert catalogue.describe("c").read_only == caught.value.message
        assert collection.get("a").text == "text"
        hits = search(collection, Query(vectors=np.ones((1, 8), np.float32))).hits
        assert [hit.id for hit in hits] == ["a"]


def test_a_collection_of_callers_vectors_takes_no_text_query(make_collection: MakeCollection) -> None:
    with pytest.raises(Conflict) as caught:
        search(make_collection(dim=2), Query(text="text"))
    assert caught.value.code == "no_encoder"
