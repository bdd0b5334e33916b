"""Pages: each is a piece of the one long list, of any mode, filter and order; nothing is lost or seen twice."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from in_plain_loops import drawn, fill
from made import MakeCollection

from app.collection.collection import Collection
from app.collection.spec import PassageSpec
from app.errors import Conflict, Invalid
from app.filters import parse as parse_filter
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.query.reaching import ALIKE
from app.results.sorting import parse
from app.search import Query, search
from app.types import Document

TEXT: dict[str, Any] = {"text": "word3 word5 word7"}
SEARCHES: list[dict[str, Any]] = [
    {"mode": "browse"},
    {"mode": "browse", "sort": parse([{"kind": "desc"}, {"n": "asc"}])},
    {"mode": "lexical", **TEXT},
    {"mode": "lexical", **TEXT, "sort": parse([{"mixed": "desc"}])},
    {"mode": "semantic", **TEXT, "sort": parse([{"mixed": "desc"}])},
    *(
        {"mode": mode, **TEXT, **how}
        for mode in ("semantic", "dense", "hybrid")
        for how in ({}, {"exact": True}, {"candidates": 7}, {"candidates": 30})
    ),
    {"mode": "hybrid", **TEXT, "weights": "reciprocal_rank"},
]


def found(collection: Collection, asked: dict[str, Any], **page: Any) -> list[tuple[str, float]]:
    if asked["mode"] == "hybrid":
        asked = {"weights": {"words": 0.2, "tokens": 0.4, "pooled": 0.4}, **asked}
    return [(hit.id, hit.score) for hit in search(collection, Query(**asked, include=frozenset(), **page)).hits]


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 8])
def test_a_page_is_a_piece_of_the_one_list(make_collection: MakeCollection, size: int | None) -> None:
    options: dict[str, Any] = {} if size is None else {"passages": PassageSpec(size=size, overlap=1)}
    collection = make_collection(**options)
    documents = drawn(200)
    # Of 6 to 30 words, so of one to five passages where these are of eight.
    texts = [" ".join(one.text for one in documents[i : i + 1 + i % 5]) for i in range(len(documents))]
    pairs = zip(documents, texts, strict=True)
    stands = fill(collection, [Document(one.id, text, "", one.metadata) for one, text in pairs], 90)
    assert (collection.published.passages > len(stands)) == (size is not None)
    condition = parse_filter({"kind": {"eq": "class"}})
    for asked in SEARCHES:
        for narrowed in (asked, {**asked, "filter": condition}):
            long = found(collection, narrowed, k=1_000)
            assert len(set(long)) == len(long) <= len(stands)
            for k in (1, 6, 16, 17, 40, 100):
                assert found(collection, narrowed, k=k) == long[:k]
            for offset, k in ((0, 5), (3, 10), (7, 1), (15, 20), (90, 40), (len(long) - 1, 5), (len(long), 5)):
                assert found(collection, narrowed, offset=offset, k=k) == long[offset : offset + k]


@pytest.mark.parametrize("asked", SEARCHES[:6] + SEARCHES[-2:], ids=str)
def test_cursors_lead_through_the_whole_list_once(make_collection: MakeCollection, asked: dict[str, Any]) -> None:
    """With the weights of the first page, whatever the collection learns of queries in between."""
    collection = make_collection()
    fill(collection, [Document(one.id, one.text, "", one.metadata) for one in drawn(60)], 25)
    whole = search(collection, Query(**asked, k=1_000))
    given = {**asked, "weights": whole.weights or asked.get("weights")}
    pages, cursor, ks = [], None, iter([7, 1, 20] + [9] * 99)
    while True:
        page = search(collection, Query(**(given if cursor is None else asked), k=next(ks), cursor=cursor))
        pages += page.hits
        search(collection, Query(text="word1 word2", mode="hybrid"))
        cursor = page.next
        if cursor is None:
            break
    assert [(hit.id, hit.score) for hit in pages] == [(hit.id, hit.score) for hit in whole.hits]
    assert whole.next is None


def test_a_cursor_of_a_collection_that_changed_says_so(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=3)
    fill(collection, drawn(40), 25)
    first = search(collection, Query(mode="browse", k=3))
    assert first.next is not None
    assert len(search(collection, Query(mode="browse", k=3, cursor=first.next)).hits) == 3
    write_documents(collection, [Document("0", vectors=np.ones((1, 3), np.float32))])
    with pytest.raises(Conflict) as caught:
        search(collection, Query(mode="browse", k=3, cursor=first.next))
    assert caught.value.code == "cursor_expired"


def test_a_cursor_of_another_search_and_what_is_none_are_refused(make_collection: MakeCollection) -> None:
    collection = make_collection()
    fill(collection, [Document(one.id, one.text, "", one.metadata) for one in drawn(60)], 25)
    asked: dict[str, Any] = {"text": "word1", "mode": "hybrid"}
    cursor = search(collection, Query(**asked, k=2)).next
    assert cursor is not None
    said = json.loads(base64.urlsafe_b64decode(cursor))
    others = [{"text": "word2"}, {"exact": True}, {"filter": parse_filter({"n": {"eq": 1}})}, {"ids": ["a"]}]
    others += [{"weights": {"words": 1.0, "tokens": 0.0, "pooled": 0.0}}, {"weights": "reciprocal_rank"}]
    for other in others:
        with pytest.raises(Invalid, match="of another search"):
            search(collection, Query(**{**asked, **other}, cursor=cursor))
    forged = [said[:3], [said[0], -1, *said[2:]], [said[0], 10**6, *said[2:]], [*said[:3], {"tokens": 1.0}], {}, None]
    coded = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode() for one in forged]
    for wrong in ("", "x", "é", "AAAA", *coded):
        with pytest.raises(Invalid) as caught:
            search(collection, Query(**asked, cursor=wrong))
        assert caught.value.problems[0].pointer == "/cursor"


def test_of_documents_alike_some_leave_room_for_others(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the first stage cannot tell apart take a third of the first candidates, and what others leave over."""
    # So few would be scored one and all.
    monkeypatch.setattr("app.search.FEW", 0)
    collection = make_collection(kind="dense", dim=2)
    one, other = np.array([[1, 0]], np.float32), np.array([[0.9, 0.1]], np.float32)
    count = 3 * ALIKE
    documents = [Document(f"same{i:04}", vectors=one) for i in range(count)]
    documents += [Document(f"near{i:04}", vectors=other) for i in range(count)]
    write_documents(collection, documents)
    seal(collection)
    long = [hit.id for hit in search(collection, Query(vectors=one, k=1_000, candidates=2 * ALIKE)).hits]
    assert sorted(long) == sorted(document.id for document in documents)
    third = 2 * ALIKE // 3
    assert long[: 2 * ALIKE - third] == [f"same{i:04}" for i in range(2 * ALIKE - third)]
    assert long[2 * ALIKE - third : 2 * ALIKE] == [f"near{i:04}" for i in range(third)]
    for k in (1, 50, 150, 300):
        assert [hit.id for hit in search(collection, Query(vectors=one, k=k, candidates=2 * ALIKE)).hits] == long[:k]
