"""Searches that stand in line together are answered as each is alone, and rank in one pass."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from made import MakeCollection
from small_codes import code_everything

from app.batch.ranking import Ask, Block
from app.batch.together import Waiting, have_a_pass, is_plain, search_each
from app.collection.collection import Collection
from app.errors import Damaged, Invalid, PartsUnreached, SheafError, TooSlow
from app.filters import parse
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.query.asked import Query, SearchResult
from app.search import search
from app.types import F32, Document

RANDOM = np.random.default_rng(4)
ROWS = RANDOM.normal(size=(1_500, 12)).astype(np.float32)
# Some are equal, so that ids decide.
ROWS[700:720] = ROWS[30]


@pytest.fixture
def collection(make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """A graph, a segment that is scanned, and a tail; every ninth document is gone."""
    monkeypatch.setattr("app.search.FEW", 0)
    monkeypatch.setattr("app.batch.ranking.FEW", 0)
    code_everything(monkeypatch, 300 * 12)
    made = make_collection(kind="dense", dim=12)
    for start, stop in ((0, 1_000), (1_000, 1_250), (1_250, 1_500)):
        some = range(start, stop)
        write_documents(
            made, [Document(f"d{i:04}", f"text {i}", metadata={"n": i}, vectors=ROWS[i : i + 1]) for i in some]
        )
        if stop < 1_500:
            seal(made)
    delete_ids(made, [f"d{i:04}" for i in range(0, 1_500, 9)])
    return made


def asked(row: F32, **more: Any) -> Query:
    return Query(vectors=row[None], **more)


def as_told(result: SearchResult) -> Any:
    """All but times."""
    return result.hits, result.total, result.next, result.exact, result.generation, result.mode, result.warnings


def test_each_has_the_answer_that_it_has_alone(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [asked(row) for row in (*ROWS[:5], ROWS[30])]
    queries += [asked(row, k=60, candidates=20, include=frozenset()) for row in ROWS[40:43]]
    queries += [asked(ROWS[30], k=5, offset=5), asked(ROWS[31], k=3, offset=7)]
    queries += [
        asked(ROWS[50], filter=parse({"n": {"lt": 300}}, "")),
        asked(ROWS[51], exact=True),
        Query(text="text 7", mode="lexical"),
    ]
    alone = [as_told(search(collection, query)) for query in queries]
    passes: list[int] = []
    original = Ask.best

    def counting(self: Ask, queries: F32, offsets: Any) -> Block:
        passes.append(len(queries))
        return original(self, queries, offsets)

    monkeypatch.setattr(Ask, "best", counting)
    found = search_each(collection, [Waiting(query) for query in queries])
    for one, wanted in zip(found, alone, strict=True):
        assert isinstance(one, SearchResult)
        assert as_told(one) == wanted
        assert one.took_ms >= one.stages["candidates_ms"] if "candidates_ms" in one.stages else True
    # Those of one length and width are ranked together, whatever their page.
    assert (sum(passes), len(passes) < 8) == (11, True)


def test_all_are_of_one_moment_and_see_what_was_written(collection: Collection) -> None:
    write_documents(collection, [Document("new", vectors=ROWS[:1])])
    found = search_each(collection, [Waiting(asked(ROWS[0], k=1)) for _ in range(3)])
    assert [one.hits[0].id for one in found if isinstance(one, SearchResult)] == ["new"] * 3


def test_an_error_is_of_its_own_search(collection: Collection) -> None:
    good = as_told(search(collection, asked(ROWS[3])))
    wrong, over = asked(ROWS[3, :5]), time.monotonic() - 1
    waiting = [Waiting(asked(ROWS[3])), Waiting(wrong), Waiting(asked(ROWS[3]), over), Waiting(asked(ROWS[3]))]
    first, second, third, fourth = search_each(collection, waiting)
    assert isinstance(second, Invalid)
    assert second.problems[0].message == "expected vectors of 12 dimensions, got 5"
    assert isinstance(third, TooSlow)
    for one in (first, fourth):
        assert isinstance(one, SearchResult)
        assert as_told(one) == good
    # Alone, too.
    (lone,) = search_each(collection, [Waiting(wrong)])
    assert isinstance(lone, Invalid)


def test_one_whose_time_is_over_takes_the_pass_from_nobody(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, passes, original = as_told(search(collection, asked(ROWS[3]))), list[int](), Ask.best
    late = time.monotonic() + 3_600

    def slow(self: Ask, queries: F32, offsets: Any) -> Block:
        """Ends when the time of one is over, which had begun in time."""
        passes.append(len(queries))
        while time.monotonic() <= short:
            pass
        return original(self, queries, offsets)

    monkeypatch.setattr(Ask, "best", slow)
    short = time.monotonic() + 0.2
    untils = [late, short, time.monotonic() - 1, None, late]
    found = search_each(collection, [Waiting(asked(ROWS[3]), until) for until in untils])
    assert [type(one) for one in found] == [SearchResult, TooSlow, TooSlow, SearchResult, SearchResult]
    assert all(as_told(one) == good for one in found if isinstance(one, SearchResult))
    # What is over before is not asked at all.
    assert sum(passes) == 4


def test_an_error_of_the_pass_is_each_search_s_own(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    good = as_told(search(collection, asked(ROWS[3])))

    def failing(error: SheafError) -> None:
        def fails(*_: Any) -> Block:
            raise error

        monkeypatch.setattr(Ask, "best", fails)

    waiting = [Waiting(asked(ROWS[3]))] * 2
    failing(PartsUnreached("no shard answers for 1 segment", ["a"]))
    for one in search_each(collection, waiting):
        assert isinstance(one, SearchResult)
        assert as_told(one) == good
    # What the collection has lost is everyone's.
    failing(Damaged("a block is not what was written"))
    with pytest.raises(Damaged):
        search_each(collection, waiting)


def test_other_kinds_of_collections_are_searched_one_by_one(make_collection: MakeCollection) -> None:
    made = make_collection(kind="multi_vector", dim=4)
    rows = RANDOM.normal(size=(20, 3, 4)).astype(np.float32)
    write_documents(made, [Document(str(i), vectors=row) for i, row in enumerate(rows)])
    queries = [Query(vectors=row) for row in rows[:4]]
    assert not have_a_pass(made)
    found = search_each(made, [Waiting(query) for query in queries])
    for one, query in zip(found, queries, strict=True):
        assert isinstance(one, SearchResult)
        assert as_told(one) == as_told(search(made, query))


def test_what_looks_further_than_the_best_is_not_shared() -> None:
    assert is_plain(asked(ROWS[0], k=7, offset=3, candidates=9, include=frozenset({"vectors"})))
    further: list[dict[str, Any]] = [
        {"min_score": 0.1},
        {"exact": True},
        {"partial": True},
        {"ids": ["a"]},
        {"explain": True},
        {"cursor": "x"},
        {"mode": "dense"},
        {"text": "words", "mode": "hybrid"},
    ]
    assert not any(is_plain(asked(ROWS[0], **one)) for one in further)
