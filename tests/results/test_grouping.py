"""Groups: those of a dictionary over the one long list, for any segments, deletions, sizes and pages."""

from __future__ import annotations

from typing import Any

import pytest
from in_plain_loops import drawn, fill
from made import MakeCollection, OpenCatalogue

from app.collection.collection import Collection
from app.errors import Conflict, Invalid
from app.filters import parse as parse_filter
from app.ingest import write_documents
from app.rerank.order import Rerank
from app.results.grouping import GroupBy, parse
from app.results.sorting import parse as parse_sort
from app.schema.notices import Notice
from app.search import Query, SearchResult, _Search, search
from app.types import Document, Metadata

Groups = list[tuple[Any, list[str]]]
TEXT: dict[str, Any] = {"text": "word3 word5 word7"}
WEIGHTS = {"words": 0.2, "tokens": 0.4, "pooled": 0.4}
SEARCHES: list[dict[str, Any]] = [
    {"mode": "browse"},
    {"mode": "browse", "sort": parse_sort([{"n": "desc"}])},
    {"mode": "lexical", **TEXT},
    {"mode": "lexical", **TEXT, "sort": parse_sort([{"mixed": "desc"}])},
    {"mode": "semantic", **TEXT},
    {"mode": "semantic", **TEXT, "exact": True},
    {"mode": "semantic", **TEXT, "candidates": 7},
    {"mode": "semantic", **TEXT, "sort": parse_sort([{"mixed": "asc"}])},
    {"mode": "dense", **TEXT},
    {"mode": "hybrid", **TEXT, "weights": WEIGHTS},
    {"mode": "hybrid", **TEXT, "weights": "reciprocal_rank"},
]


def typed(value: Any) -> tuple[int, Any]:
    return (0 if isinstance(value, bool) else 1 if isinstance(value, int | float) else 2), value


def by_hand(ids: list[str], metadata: dict[str, Metadata], by: GroupBy) -> Groups:
    """Over the whole list, best first."""
    groups: dict[Any, tuple[Any, list[str]]] = {}
    for identifier in ids:
        value = metadata[identifier].get(by.field, [])
        values = list(dict.fromkeys(value)) if isinstance(value, list) else [value]
        if not values and by.missing == "alone":
            groups[identifier] = (None, [identifier])
        for one in values:
            _, members = groups.setdefault(typed(one), (one, []))
            if len(members) < by.size:
                members.append(identifier)
    return list(groups.values())


def said(result: SearchResult) -> Groups:
    assert result.groups is not None
    return [(group.value, [hit.id for hit in group.hits]) for group in result.groups]


def grouped(collection: Collection, asked: dict[str, Any], by: GroupBy, **page: Any) -> SearchResult:
    return search(collection, Query(**asked, group_by=by, include=frozenset(), **page))


@pytest.mark.slow
@pytest.mark.parametrize("every", [200, 40])
def test_groups_are_those_of_a_dictionary_over_the_whole_list(make_collection: MakeCollection, every: int) -> None:
    collection = make_collection()
    written = [Document(one.id, one.text, "", one.metadata) for one in drawn(110)]
    stands = fill(collection, written, every)
    metadata = {one.id: one.metadata for one in stands.values()}
    condition = parse_filter({"kind": {"eq": "class"}})
    for asked in SEARCHES:
        for narrowed in (asked, {**asked, "filter": condition}):
            whole = search(collection, Query(**narrowed, k=1_000, include=frozenset()))
            ids = [hit.id for hit in whole.hits]
            for field in ("mixed", "tags", "never"):
                for by in (GroupBy(field), GroupBy(field, 3), GroupBy(field, 100, "omit")):
                    expected = by_hand(ids, metadata, by)
                    result = grouped(collection, narrowed, by, k=1_000)
                    assert said(result) == expected, (narrowed, by)
                    assert result.total_groups == len(expected)
                    assert result.total == whole.total
                    for offset, k in ((0, 1), (1, 3)):
                        page = grouped(collection, narrowed, by, k=k, offset=offset)
                        assert said(page) == expected[offset : offset + k], (narrowed, by, offset, k)


def test_a_group_far_down_the_list_is_found_and_filled(make_collection: MakeCollection) -> None:
    """Hundreds of documents of one value stand before the others; the last of a group stands last."""
    collection = make_collection()
    documents = [Document(f"a{i:03}", "zip", metadata={"kind": "many"}) for i in range(400)]
    documents += [Document(f"b{i}", "zip archive of other words", metadata={"kind": f"few{i % 2}"}) for i in range(4)]
    documents.append(
        Document("z", "zip and a text that is as long as it takes to be last of all", metadata={"kind": "few0"})
    )
    write_documents(collection, documents)
    for mode in ("lexical", "semantic", "dense", "hybrid"):
        result = grouped(collection, {"text": "zip", "mode": mode}, GroupBy("kind", 3), k=3)
        assert {value: len(members) for value, members in said(result)} == {"many": 3, "few0": 3, "few1": 2}, mode
        assert result.total_groups == 3
        assert len(result.hits) == 8


@pytest.mark.parametrize("mode", ["browse", "lexical", "hybrid"])
def test_pages_of_groups_are_pieces_of_one_list(make_collection: MakeCollection, mode: Any) -> None:
    collection = make_collection()
    written = [Document(one.id, one.text, "", one.metadata) for one in drawn(90)]
    fill(collection, written, 40)
    asked: dict[str, Any] = {"mode": mode} if mode == "browse" else {"mode": mode, **TEXT}
    by = GroupBy("tags", 2)
    page = grouped(collection, asked, by, k=4)
    again = {**asked, "weights": page.weights} if page.weights else asked
    whole = said(grouped(collection, again, by, k=1_000))
    seen, pages = said(page), 1
    while page.next is not None:
        page = grouped(collection, asked, by, k=4, cursor=page.next)
        seen += said(page)
        pages += 1
    assert seen == whole
    assert pages == -(-len(whole) // 4)
    assert len(whole) > 8
    first = grouped(collection, asked, by, k=4)
    with pytest.raises(Invalid, match="another search"):
        grouped(collection, asked, GroupBy("tags", 3), k=4, cursor=first.next)
    write_documents(collection, [Document("new", "word3")])
    with pytest.raises(Conflict):
        grouped(collection, asked, by, k=4, cursor=first.next)


def test_weights_that_are_learned_are_learned_once(open_catalogue: OpenCatalogue) -> None:
    """However long the list had to be."""
    asked: dict[str, Any] = {"mode": "hybrid", **TEXT}
    known, catalogue = [], open_catalogue()
    for name, by in (("alone", None), ("grouped", GroupBy("n", 100))):
        collection = catalogue.create(name, model="words", kind="multi_vector")
        fill(collection, [Document(one.id, one.text, "", one.metadata) for one in drawn(300)], 400)
        before = collection.learned.asked
        search(collection, Query(**asked, group_by=by, k=5))
        assert collection.learned.asked != before
        known.append(collection.learned.asked)
    assert known[0] == known[1]


def test_hits_of_groups_carry_what_was_asked_for(make_collection: MakeCollection) -> None:
    collection = make_collection()
    tags: list[Metadata] = [{"tags": ["x", "y"]}, {"tags": ["y"]}, {}]
    write_documents(collection, [Document(f"d{i}", f"zip {'pad ' * i}", metadata=one) for i, one in enumerate(tags)])
    result = search(
        collection, Query(text="zip", mode="lexical", group_by=GroupBy("tags", 2), explain=True, exact=True)
    )
    assert said(result) == [("x", ["d0"]), ("y", ["d0", "d1"]), (None, ["d2"])]
    assert result.groups is not None
    assert result.groups[0].hits[0] is result.groups[1].hits[0]
    assert all(hit.text and hit.explanation for group in result.groups for hit in group.hits)
    nothing = grouped(collection, {"mode": "browse"}, GroupBy("never"), k=2)
    (notice,) = nothing.warnings
    assert notice == Notice(
        "unknown_field", "the search groups by 'never', a metadata field that no document has", "/group_by/field"
    )
    assert said(nothing) == [(None, ["d0"]), (None, ["d1"])]


def test_what_is_reranked_is_grouped_afterwards(open_catalogue: OpenCatalogue) -> None:
    """By MaxSim of another encoder: the order, and so the groups, are those of its scores."""
    catalogue = open_catalogue()
    collection = catalogue.create("c", model="words", kind="dense")
    words = ["zip", "tar", "mail", "send", "read", "file"]
    documents = [
        Document(f"d{i}", f"{words[i % 6]} {words[i % 5]} {words[i % 4]}", metadata={"kind": i % 3}) for i in range(30)
    ]
    write_documents(collection, documents)
    metadata = {one.id: one.metadata for one in documents}
    asked: dict[str, Any] = {"text": "zip file", "mode": "semantic", "rerank": Rerank("words", 20, None)}
    ids = [hit.id for hit in search(collection, Query(**asked, k=30)).hits]
    assert ids != [hit.id for hit in search(collection, Query(text="zip file", mode="semantic", k=30)).hits]
    for k in (1, 2, 3):
        result = grouped(collection, asked, GroupBy("kind", 4), k=k)
        assert said(result) == by_hand(ids, metadata, GroupBy("kind", 4))[:k]


@pytest.mark.parametrize("mode", ["lexical", "semantic", "hybrid"])
def test_a_list_is_no_longer_than_its_groups_take(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    """Where there are fewer groups than are asked for, too."""
    collection = make_collection()
    write_documents(
        collection, [Document(f"d{i:03}", f"zip {'word ' * (i % 5)}", metadata={"kind": i % 3}) for i in range(240)]
    )
    lengths: list[int] = []
    real = _Search.ranked

    def counted(self: _Search) -> Any:
        lengths.append(self.query.k)
        return real(self)

    monkeypatch.setattr(_Search, "ranked", counted)
    for k, size in ((2, 1), (3, 2), (10, 2), (1_000, 4)):
        lengths.clear()
        result = grouped(collection, {"text": "zip", "mode": mode}, GroupBy("kind", size), k=k)
        assert [len(members) for _, members in said(result)] == [size] * min(k, 3)
        assert lengths == [max(k, 50)]


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ([], ""),
        ({}, ""),
        ({"field": "kind", "k": 3}, ""),
        ({"field": 3}, "/field"),
        ({"field": "and"}, "/field"),
        ({"field": "a b"}, "/field"),
        ({"field": "kind", "size": 0}, "/size"),
        ({"field": "kind", "size": True}, "/size"),
        ({"field": "kind", "size": 101}, "/size"),
        ({"field": "kind", "missing": "last"}, "/missing"),
        ({"field": "kind", "missing": []}, "/missing"),
    ],
)
def test_what_cannot_be_grouped_by_is_refused(value: Any, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(value)
    assert caught.value.problems[0].pointer == pointer


def test_a_list_ends_at_its_reach(make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group whose best document stands behind it is not answered, though it counts."""
    monkeypatch.setattr("app.results.grouping.REACH", 60)
    collection = make_collection()
    documents = [Document(f"a{i:03}", "zip", metadata={"kind": "many"}) for i in range(100)]
    write_documents(collection, [*documents, Document("z", "zip at last", metadata={"kind": "few"})])
    result = grouped(collection, {"text": "zip", "mode": "lexical"}, GroupBy("kind"), k=5)
    assert said(result) == [("many", ["a000"])]
    assert result.total_groups == 2
