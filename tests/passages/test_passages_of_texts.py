"""Texts of several passages: written, edited, rebuilt, found to their end, and answered with where they were found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import DIM, CountingEncoder, MakeCollection, OneEncoder, OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.changes.patch import Patch
from app.collection.collection import Collection
from app.collection.layers import SPANS
from app.collection.passages import Passages
from app.collection.spec import ONE, PassageSpec
from app.encoders.deterministic import MAX_WORDS
from app.errors import Invalid, TextRefused
from app.indexing.sealing import merge, seal
from app.ingest import patch_document, write_documents
from app.query.scores import Dense, MaxSim
from app.search import Query, search
from app.settings import DeterministicModel, Settings
from app.tasks.rebuild import run_rebuild
from app.tasks.tasks import Running, Tasks
from app.types import Document, Encoded, Hit

SMALL = PassageSpec(size=16, overlap=4)


class ZeroingEncoder(CountingEncoder):
    """And makes zeros of one word."""

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        found = super().encode_documents(texts)
        for i, text in enumerate(texts):
            if set(text.split()) <= {"nothing"}:
                found.pooled[i] = 0
                if found.tokens is not None:
                    found.tokens[i][:] = 0
        return found


@pytest.fixture(params=["multi_vector", "dense"])
def counted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Collection, list[str]]]:
    settings = Settings(
        indexes=tmp_path / "indexes", models={"words": DeterministicModel(type="deterministic")}, max_passages=200
    )
    encoder = ZeroingEncoder(DIM, request.param)
    with Catalogue(settings.indexes, OneEncoder(settings, encoder), settings) as catalogue:
        yield catalogue.create("c", model="words", kind=request.param, passages=SMALL), encoder.texts


def sections(count: int) -> str:
    """A text of so many sections of 25 words, every word but those of headings another one."""
    return "\n\n".join(f"## Part {i}\n\n" + " ".join(f"s{i}w{j}" for j in range(25)) for i in range(count))


def found(collection: Collection, text: str, **options: Any) -> list[Hit]:
    return search(collection, Query(text=text, **options)).hits


def stored(collection: Collection, identifier: str) -> Passages:
    seq = collection.get_version(identifier)[1]
    return collection.stored_vectors([seq], collection.published)[seq]


def same(one: Passages, other: Passages) -> bool:
    return one.to_bytes() == other.to_bytes()


def test_a_text_is_found_by_what_stands_at_its_end(make_collection: MakeCollection) -> None:
    collection = make_collection(passages=SMALL)
    text = sections(20)
    result = write_documents(
        collection, [Document("long", text, "Title"), *(Document(f"d{i}", f"other {i}") for i in range(30))]
    )
    assert result.truncated == []
    for prepare in (lambda: False, lambda: seal(collection)):
        prepare()
        for place in (0, 10, 19):
            for exact in (True, False):
                (first, *_) = found(collection, f"s{place}w24 s{place}w23", exact=exact, passages=2)
                assert first.id == "long"
                (best, _) = first.passages or []
                assert f"s{place}w24" in best.text
                assert text[best.start : best.stop] == best.text
                assert best.headings == [f"Part {place}"]
        assert collection.published.live == 31
        assert collection.published.passages > 60


def test_passages_are_the_best_of_a_document_best_first(make_collection: MakeCollection) -> None:
    collection = make_collection(passages=SMALL)
    write_documents(collection, [Document("a", sections(6), "Title"), Document("b", "short", "Title")])
    query = "title s2w1 s2w2 s4w24"
    every = {hit.id: hit.passages for hit in found(collection, query, passages=10)}
    assert {name: len(own or []) for name, own in every.items()} == {"a": 10, "b": 1}
    for hit in found(collection, query, passages=3, include=frozenset()):
        own = hit.passages or []
        assert own == (every[hit.id] or [])[:3]
        assert [one.score for one in own] == sorted((one.score for one in own), reverse=True)
        assert hit.text is None
    assert [hit.passages for hit in found(collection, query)] == [None, None]


def test_a_text_that_fits_has_the_row_that_it_had(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue()
    documents = [Document("a", "red apple", "Fruit"), Document("b", "", "title alone"), Document("c", " x\n")]
    for kind in ("multi_vector", "dense"):
        split, whole = (
            catalogue.create(f"{kind[:3]}{i}", model="words", kind=kind, passages=passages)
            for i, passages in enumerate((None, ONE))
        )
        for collection in (split, whole):
            write_documents(collection, documents)
        for document in documents:
            rows = stored(split, document.id)
            assert rows.flat(SPANS).tolist() == [[0, len(document.text)]]
            assert same(rows.with_layer(SPANS, None), stored(whole, document.id))
        texts = [[(hit.id, hit.score) for hit in found(one, "red title x")] for one in (split, whole)]
        assert texts[0] == texts[1]


def test_only_what_an_edit_changed_is_encoded(counted: tuple[Collection, list[str]]) -> None:
    collection, texts = counted
    write_documents(collection, [Document("a", sections(20), "Title")])
    whole = len(texts)
    assert whole >= 40
    for prepare, new in ((lambda: False, "new"), (lambda: seal(collection), "newer")):
        prepare()
        before = collection.get("a").text
        after = before.replace("s7w3 ", "") if "s7w3 " in before else before.replace("## Part 4\n", "## Part 4\nmore ")
        del texts[:]
        assert write_documents(collection, [Document("a", after, "Title")]).changed == 1
        assert 0 < len(texts) <= 3
        again = stored(collection, "a")
        del texts[:]
        write_documents(collection, [Document(new, after, "Title")])
        assert len(texts) == again.owners.rows > 30
        assert same(again, stored(collection, new))
    del texts[:]
    write_documents(collection, [Document("a", after, "Title", {"n": 1})])
    patch_document(collection, "a", Patch(metadata={"n": 2}))
    assert texts == []
    assert same(again, stored(collection, "a"))
    write_documents(collection, [Document("a", after, "Another title")])
    assert len(texts) >= again.owners.rows


def test_a_title_that_is_moved_into_the_text_moves_its_passages(counted: tuple[Collection, list[str]]) -> None:
    collection, texts = counted
    write_documents(collection, [Document("a", "two. three", "one")])
    write_documents(collection, [Document("a", "one. two. three")])
    assert stored(collection, "a").flat(SPANS).tolist() == [[0, 15]]
    assert texts == ["one. two. three"] * 2


def test_a_rebuild_makes_the_same_passages(counted: tuple[Collection, list[str]]) -> None:
    collection, texts = counted
    documents = [Document(f"d{i}", sections(i + 1), f"Title {i}") for i in range(6)]
    write_documents(collection, documents)
    before = {document.id: stored(collection, document.id) for document in documents}
    once = sorted(texts)
    del texts[:]
    tasks = Tasks(collection, {})
    run_rebuild(collection, Running(tasks, 1, tasks.submit("rebuild", {})))
    assert sorted(texts) == once
    assert all(same(stored(collection, name), rows) for name, rows in before.items())
    while merge(collection):
        pass
    assert all(same(stored(collection, name), rows) for name, rows in before.items())


def test_a_text_of_more_passages_than_there_may_be_is_refused(counted: tuple[Collection, list[str]]) -> None:
    collection, texts = counted
    with pytest.raises(TextRefused, match="at most 200 passages") as caught:
        write_documents(collection, [Document("ok", "fine"), Document("a", sections(120))])
    assert [problem.pointer for problem in caught.value.problems] == ["/documents/1/text"]
    assert (collection.count(), texts) == (0, [])


def test_a_title_that_is_too_long_is_reported(counted: tuple[Collection, list[str]]) -> None:
    collection, _ = counted
    documents = [Document("a", sections(3), "word " * 8), Document("b", sections(3), "word " * 7)]
    assert write_documents(collection, documents).truncated == ["a"]
    assert write_documents(collection, documents).truncated == ["a"]


def test_a_passage_without_direction_is_kept_a_document_without_one_is_not(
    counted: tuple[Collection, list[str]],
) -> None:
    collection, _ = counted
    nothing = "nothing " * 30
    write_documents(collection, [Document("a", f"{nothing}\n\n" + "word " * 30)])
    assert [hit.id for hit in found(collection, "word")] == ["a"]
    with pytest.raises(TextRefused, match="all zeros") as caught:
        write_documents(collection, [Document("b", "word"), Document("c", nothing)])
    assert [problem.pointer for problem in caught.value.problems] == ["/documents/1/text"]


def test_no_more_windows_are_encoded_at_once_than_documents(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    collection = make_collection(passages=SMALL)
    encode = collection.encode_documents

    def counting(texts: Sequence[str]) -> Encoded:
        sizes.append(len(texts))
        return encode(texts)

    monkeypatch.setattr(collection, "encode_documents", counting)
    write_documents(collection, [Document(f"d{i}", sections(30)) for i in range(10)])
    assert sum(sizes) == collection.published.passages
    assert max(sizes) == 256


@pytest.mark.parametrize(
    ("model", "passages", "pointer"),
    [
        ("words", {"size": MAX_WORDS + 1}, "/passages/size"),
        ("words", {"size": 7}, "/passages/size"),
        ("words", {"size": 16, "overlap": 9}, "/passages/overlap"),
        ("words", {"split": "lines"}, "/passages/split"),
        (None, {"split": "structure"}, "/passages/split"),
    ],
)
def test_what_no_collection_splits_by_is_refused(
    open_catalogue: OpenCatalogue, model: str | None, passages: dict[str, Any], pointer: str
) -> None:
    catalogue = open_catalogue()
    dim = 4 if model is None else None
    with pytest.raises(Invalid) as caught:
        catalogue.create("c", model=model, kind="multi_vector", dim=dim, passages=PassageSpec(**passages))
    assert [problem.pointer for problem in caught.value.problems] == [pointer]


def test_how_texts_are_split_is_kept_and_told(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        catalogue.create("a", model="words", kind="dense", passages=SMALL)
        catalogue.create("b", model="words", kind="multi_vector")
        catalogue.create("c", model=None, kind="dense", dim=2)
    again = open_catalogue(tmp_path)
    assert [again.describe(name).splitting for name in "abc"] == [SMALL, PassageSpec(), ONE]
    assert [again.get(name).spec.splits for name in "abc"] == [True, True, False]


def test_the_opening_counts_with_the_best_passage(make_collection: MakeCollection) -> None:
    """Less in a text of more than eight."""
    collection = make_collection(passages=SMALL)
    documents = [Document("long", sections(8), "Title"), Document("short", sections(2)), Document("one", "s1w7 s1w8")]
    write_documents(collection, documents)
    for exact in (True, False):
        for hit in found(collection, "s1w7 s1w8", exact=exact, passages=10, k=3):
            count = stored(collection, hit.id).owners.rows
            own = {one.start: one.score for one in hit.passages or []}
            best = max(own.values())
            if count > 10:
                assert count * (hit.score - best) / 4 == pytest.approx(0.0, abs=best)
                assert best / 2 < hit.score < best
            else:
                assert hit.score == (own[0] + best) / 2


def test_what_is_answered_in_time_has_its_opening(make_collection: MakeCollection) -> None:
    collection = make_collection(passages=SMALL)
    write_documents(collection, [Document(f"d{i}", sections(i % 5 + 1), f"t{i}") for i in range(60)])
    seal(collection)
    for candidates in (5, 20, None):
        query = Query(text="s3w7 s3w8 t7", candidates=candidates, k=5)
        whole = search(collection, query)
        partial = search(collection, replace(query, partial=True))
        assert partial.coverage is not None
        assert partial.coverage.of == partial.coverage.scored
        exact = {hit.id: hit.score for hit in search(collection, replace(query, exact=True, k=60)).hits}
        assert all(hit.score == exact[hit.id] for hit in whole.hits)
        assert all(hit.score <= exact[hit.id] for hit in partial.hits)


@pytest.mark.parametrize("kind", ["multi_vector", "dense"])
def test_few_rows_of_a_long_text_need_a_reference_to_be_fused(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    collection = make_collection(kind=kind, passages=SMALL)
    write_documents(collection, [Document(f"d{i}", sections(20), f"t{i}") for i in range(12)])
    assert collection.published.passages > 600
    rows: list[int] = []
    for way in (MaxSim, Dense):
        references = way.references

        def counted(self: Any, part: Any, asked: Any, workers: Any, references: Any = references) -> list[float]:
            rows.append(len(asked))
            found: list[float] = references(self, part, asked, workers)
            return found

        monkeypatch.setattr(way, "references", counted)
    hits = found(collection, "s7w3 t5", mode="hybrid", k=12)
    assert len(hits) == 12
    # Once by each score: the opening and the best of each document.
    assert len(rows) == (2 if kind == "multi_vector" else 1)
    assert all(count <= 3 * 12 for count in rows)
    by_meaning = found(collection, "s7w3 t5", k=12, mode="semantic", exact=True)
    assert {hit.id for hit in by_meaning} == {hit.id for hit in hits}
