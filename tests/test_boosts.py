"""Boosts: what is added to scores, in every mode, against plain loops over metadata."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import DIM, MakeCollection, write_in_segments

from app import reference
from app.boosts.asked import Boost, Decay, parse
from app.boosts.values import value_of
from app.collection.spec import PassageSpec
from app.encoders.deterministic import DeterministicEncoder
from app.errors import Invalid
from app.fusion.hybrid import DEPTH
from app.ingest import delete_ids, write_documents
from app.lexical.analysis import Analyser
from app.results.sorting import SortKey
from app.search import Mode, Query, SearchResult, search
from app.types import Document, Kind

ENGLISH = Analyser("english")
KINDS: list[Kind] = ["multi_vector", "dense"]
MODES: list[Mode] = ["semantic", "dense", "lexical", "hybrid"]
TEXT = "word1 word7 word3"
ASKED: list[dict[str, Any]] = [
    {"filter": {"kind": {"eq": "a"}}, "weight": 0.3},
    {"field": "year", "decay": {"origin": 2020, "scale": 3, "kind": "exp", "offset": 1}, "weight": 0.5},
    {"field": "day", "decay": {"origin": "2024-03-01", "scale": 10}, "weight": 0.25},
    {"field": "likes", "function": "saturation", "pivot": 10, "weight": 0.4},
    {"field": "likes", "function": "log1p", "weight": -0.05},
]
BOOSTS = parse(ASKED)


def drawn(count: int, seed: int = 0) -> list[Document]:
    random = np.random.default_rng(seed)
    found = []
    for i in range(count):
        words = random.choice([f"word{n}" for n in range(30)], size=int(random.integers(3, 10)))
        metadata: dict[str, Any] = {"kind": "abc"[int(random.integers(3))]}
        if random.random() < 0.8:
            # Numbers, and here and there what is none.
            choices: list[Any] = [int(random.integers(2000, 2030)), 2019.5, True, "2020", ["2020"]]
            metadata["year"] = choices[min(int(random.integers(12)), 4) if random.random() < 0.3 else 0]
            metadata["day"] = f"2024-0{random.integers(1, 9)}-1{random.integers(10)}"
        if random.random() < 0.7:
            metadata["likes"] = int(random.integers(-3, 200))
        found.append(Document(f"{random.integers(1_000)}-{i}", " ".join(words), "", metadata))
    return found


def added(one: Document) -> list[float]:
    """The boost that each of ``BOOSTS`` gives the document, times its weight."""
    year, day, likes = (one.metadata.get(name) for name in ("year", "day", "likes"))
    numeric = isinstance(year, int | float) and not isinstance(year, bool)
    days = (np.datetime64(str(day)) - np.datetime64("2024-03-01")).astype(int) if day is not None else 0
    liked = max(0, likes) if isinstance(likes, int) else 0
    return [
        0.3 * (one.metadata["kind"] == "a"),
        0.5 * reference.decayed(float(year), 2020, 3, "exp", 1) if numeric else 0.0,  # type: ignore[arg-type]
        0.25 * reference.decayed(float(days), 0, 10) if day is not None else 0.0,
        0.4 * liked / (liked + 10),
        -0.05 * math.log(1 + liked),
    ]


def found(result: SearchResult) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in result.hits]


def weights(kind: Kind, mode: Mode) -> dict[Any, float] | None:
    if mode != "hybrid":
        return None
    return {"words": 0.4, "tokens": 0.3, "pooled": 0.3} if kind == "multi_vector" else {"words": 0.4, "pooled": 0.6}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_an_exact_search_adds_to_every_document(make_text: MakeCollection, kind: Kind, mode: Mode):
    collection, documents = make_text(kind), drawn(90)
    write_in_segments(collection, documents, 40)
    by_id = {one.id: one for one in documents}
    plain = Query(text=TEXT, mode=mode, exact=True, k=1_000, weights=weights(kind, mode))
    scores = dict(found(search(collection, plain)))
    # Of sums over the vectors of the query, the mean.
    encoded = DeterministicEncoder(DIM, kind).encode_queries([TEXT]).tokens
    unit = len(encoded[0]) if mode == "semantic" and encoded is not None else 1
    truth = {name: score + unit * sum(added(by_id[name])) for name, score in scores.items()}
    ordered = sorted(truth.items(), key=lambda item: (-item[1], item[0].encode()))
    result = search(
        collection, Query(text=TEXT, mode=mode, exact=True, k=25, weights=weights(kind, mode), boosts=BOOSTS)
    )
    assert [name for name, _ in found(result)] == [name for name, _ in ordered[:25]]
    assert [score for _, score in found(result)] == pytest.approx([score for _, score in ordered[:25]], abs=1e-6)
    assert [name for name, _ in ordered[:25]] != [*scores][:25]
    # So few documents are all candidates.
    quick = search(collection, Query(text=TEXT, mode=mode, k=25, weights=weights(kind, mode), boosts=BOOSTS))
    assert found(quick) == found(result)


def test_in_an_exact_hybrid_search_a_boost_lifts_what_is_far_behind(make_text: MakeCollection):
    collection, documents = make_text("dense"), drawn(2 * DEPTH + 60, 5)
    write_in_segments(collection, documents, 150)
    words = {one.id: [ENGLISH.stem(word) for word in ENGLISH.words(one.text)] for one in documents}
    encoder = DeterministicEncoder(DIM, "dense")
    asked = reference.normalised(encoder.encode_queries(["word1"]).pooled)
    made = reference.normalised(encoder.encode_documents([one.passage for one in documents]).pooled)
    sides = {
        "words": reference.bm25(words, ["word1"]),
        "pooled": {one.id: reference.inner_product(asked[0], row) for one, row in zip(documents, made, strict=True)},
    }
    last = min(sides["pooled"], key=lambda name: sides["pooled"][name] + sides["words"][name])
    write_documents(collection, [one for one in documents if one.id == last])  # in the tail again
    place = [one.id for one in documents].index(last)
    boosts = parse([{"filter": {"kind": {"eq": "last"}}, "weight": 50}, *ASKED])
    documents[place] = Document(last, documents[place].text, "", {**documents[place].metadata, "kind": "last"})
    write_documents(collection, [documents[place]])
    more = {one.id: sum(added(one)) + 50 * (one.id == last) for one in documents}
    weigh: Any = {"words": 0.4, "pooled": 0.6}
    truth = list(reference.fused(sides, weigh, added=more).items())
    query = Query(text="word1", mode="hybrid", weights=weigh, boosts=boosts, exact=True)
    result = search(collection, Query(text="word1", mode="hybrid", weights=weigh, boosts=boosts, exact=True, k=300))
    assert result.hits[0].id == last
    assert [score for _, score in found(result)] == pytest.approx([score for _, score in truth[:300]], abs=1e-6)
    assert found(search(collection, query)) == found(result)[:10]
    # A candidate it is not.
    quick = search(collection, Query(text="word1", mode="hybrid", weights=weigh, boosts=boosts, k=100))
    assert last not in {hit.id for hit in quick.hits}
    assert quick.hits[0].id == result.hits[1].id


@pytest.mark.parametrize("mode", MODES)
def test_the_answer_is_the_same_for_any_segments_and_a_page_is_a_piece_of_it(make_text: MakeCollection, mode: Mode):
    documents, answers = drawn(70, 3), []
    for name, every in (("one", 200), ("many", 13)):
        collection = make_text("multi_vector", name)
        extra = [Document(f"gone{i}", TEXT, "", {"likes": 10**6}) for i in range(5)]
        write_in_segments(collection, [*documents[:30], *extra, *documents[30:]], every)
        delete_ids(collection, [one.id for one in extra])
        query = Query(text=TEXT, mode=mode, k=50, weights=weights("multi_vector", mode), boosts=BOOSTS)
        answers.append(found(search(collection, query)))
        pages: list[tuple[str, float]] = []
        cursor: str | None = None
        while len(pages) < len(answers[-1]):
            query = Query(text=TEXT, mode=mode, k=8, weights=query.weights, boosts=BOOSTS, cursor=cursor)
            page = search(collection, query)
            pages += found(page)
            cursor = page.next
            if cursor is None:
                break
            other = replace(query, boosts=BOOSTS[:-1], cursor=cursor)
            with pytest.raises(Invalid, match="another search"):
                search(collection, other)
        assert pages[: len(answers[-1])] == answers[-1]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_the_reasons_of_a_hit_add_up_to_its_score(make_text: MakeCollection, mode: Mode, split: bool):
    options = {"passages": PassageSpec(size=8, overlap=0)} if split else {}
    collection, documents = make_text(**options), drawn(40)
    if split:
        documents = [Document(one.id, one.text * 4, "", one.metadata) for one in documents]
    write_in_segments(collection, documents, 25)
    by_id = {one.id: one for one in documents}
    for hit in search(collection, Query(text=TEXT, mode=mode, explain=True, k=10, boosts=BOOSTS)).hits:
        told = hit.explanation
        unit = told.boosts[0].unit
        assert [one.score for one in told.boosts] == pytest.approx(
            [unit * one for one in added(by_id[hit.id])], abs=1e-8
        )
        assert all(one.score == one.value * one.weight * unit for one in told.boosts)
        if mode == "hybrid":
            base = sum(one.weight * one.standard for one in told.sides)
        elif mode == "lexical":
            base = sum(one.score for one in told.terms)
        else:
            base = sum(one.product for one in told.shares)
            base += told.opening_weight * (sum(one.product for one in told.opening) - base) if told.opening else 0.0
        assert hit.score == pytest.approx(base + sum(one.score for one in told.boosts), abs=2e-6)


def test_passages_and_sorts_are_those_of_any_search(make_text: MakeCollection):
    collection, documents = make_text(), drawn(40)
    write_in_segments(collection, documents, 25)
    for mode in MODES:
        asked = Query(text=TEXT, mode=mode, k=100, weights=weights("multi_vector", mode), passages=1)
        plain = {hit.id: hit for hit in search(collection, asked).hits}
        boosted = {hit.id: hit for hit in search(collection, replace(asked, boosts=BOOSTS)).hits}
        assert {name: hit.passages for name, hit in boosted.items()} == {
            name: hit.passages for name, hit in plain.items()
        }
        by_kind = search(collection, replace(asked, boosts=BOOSTS, sort=[SortKey("kind")]))
        assert dict(found(by_kind)) == {name: hit.score for name, hit in boosted.items()}
    ranks = search(collection, Query(text=TEXT, mode="hybrid", weights="reciprocal_rank", boosts=BOOSTS, k=40))
    unboosted = dict(found(search(collection, Query(text=TEXT, mode="hybrid", weights="reciprocal_rank", k=40))))
    for one in documents:
        assert dict(found(ranks))[one.id] == pytest.approx(unboosted[one.id] + sum(added(one)), abs=1e-8)


def test_a_search_in_time_boosts_what_it_scored(make_text: MakeCollection):
    collection, documents = make_text(), drawn(40)
    write_in_segments(collection, documents, 25)
    whole = search(collection, Query(text=TEXT, k=20, boosts=BOOSTS))
    assert found(search(collection, Query(text=TEXT, k=20, boosts=BOOSTS, partial=True))) == found(whole)


def test_what_no_document_has_is_warned_of(make_text: MakeCollection):
    collection = make_text()
    write_in_segments(collection, drawn(10), 20)
    asked: list[dict[str, Any]] = [
        {"field": "absent", "function": "sqrt", "weight": 1},
        {"field": "kind", "function": "sqrt", "weight": 1},
        {"field": "likes", "decay": {"origin": "2024-01-01", "scale": 1}, "weight": 1},
        {"filter": {"nothing": {"eq": 1}}, "weight": 1},
    ]
    result = search(collection, Query(text=TEXT, boosts=parse(asked)))
    for name, notice in zip(("'absent'", "'kind'", "'likes'", "'nothing'"), result.warnings, strict=True):
        assert name in notice.message
    assert [(one.code, one.pointer) for one in result.warnings] == [
        ("unknown_field", "/boosts/0/field"), ("other_type", "/boosts/1/field"), ("other_type", "/boosts/2/field"),
        ("unknown_field", "/boosts/3/filter/nothing/eq"),
    ]  # fmt: skip
    assert found(result) == found(search(collection, Query(text=TEXT)))
    assert not search(collection, Query(text=TEXT, boosts=BOOSTS)).warnings


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["gauss", "exp", "linear"]),
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
    st.floats(0, 1e3),
    st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)), max_size=8),
)
def test_a_decay_is_the_one_of_the_one_page(kind: Any, origin: float, scale: float, offset: float, values: list[Any]):
    made = value_of(Boost(1.0, field="f", decay=Decay(origin, scale, kind, offset)), values)
    steps = [max(0.0, abs(float(one) - origin) - offset) / scale for one in values]
    truth = [reference.decayed(min(one, 1e3), 0, 1, kind) if one < 1e3 else 0.0 for one in steps]
    assert made.tolist() == pytest.approx(truth, abs=1e-8)


def test_dates_are_moments():
    boost = Boost(1.0, field="day", decay=Decay(0.0, 1.0, "exp", dates=True))
    values = [
        "1970-01-02",
        "1970-01-01T12:00:00Z",
        "1970-01-01T01:00:00+01:00",
        "1970",
        "soon",
        1,
        "1969-12-31",
        "1970-13-01",
    ]
    made = value_of(boost, values).tolist()
    assert made == pytest.approx([0.5, 0.5**0.5, 1, 0, 0, 0, 0.5, 0], abs=1e-9)


def test_values_are_those_of_the_declared_type(make_text: MakeCollection):
    collection = make_text()
    # Without a zone it is no moment, and so no date by the schema.
    days = {"a": "2024-03-01", "b": "2024-03-02T00:00:00.5+00:00", "c": "2024-03-01T10:00:00", "d": 19783, "e": True}
    write_documents(collection, [Document(name, "word1", "", {"day": day}) for name, day in days.items()])
    dated: dict[str, Any] = {"field": "day", "decay": {"origin": "2024-03-01", "scale": 1, "kind": "exp"}, "weight": 1}
    by_number: dict[str, Any] = {"field": "day", "function": "value", "weight": 1}

    def boosts(asked: dict[str, Any]) -> dict[str, float]:
        query = Query(text="word1", mode="lexical", exact=True, boosts=parse([asked]), explain=True)
        hits = search(collection, query).hits
        return {hit.id: round(hit.explanation.boosts[0].value, 4) for hit in hits if hit.explanation is not None}

    assert boosts(dated) == {"a": 1, "b": 0.5, "c": round(0.5 ** (10 / 24), 4), "d": 0, "e": 0}
    collection.declare({"day": "date"})
    assert boosts(dated) == {"a": 1, "b": 0.5, "c": 0, "d": 0, "e": 0}
    assert set(boosts(by_number).values()) == {0}, "a date is no number"
    collection.declare({"day": "number"})
    assert boosts(by_number) == {"a": 0, "b": 0, "c": 0, "d": 19783, "e": 0}
    assert set(boosts(dated).values()) == {0}


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({}, ""),
        ([], ""),
        ([ASKED[0]] * 17, ""),
        ([1], "/0"),
        ([{"weight": 1}], "/0"),
        ([{"filter": {"a": {"eq": 1}}}], "/0/weight"),
        ([{"filter": {"a": {"eq": 1}}, "weight": "1"}], "/0/weight"),
        ([{"filter": {"a": {"eq": 1}}, "weight": True}], "/0/weight"),
        ([{"filter": {"a": {"eq": 1}}, "weight": float("nan")}], "/0/weight"),
        ([{"filter": {"a": {"eq": 1}}, "weight": 1001}], "/0/weight"),
        ([{"filter": {"a": {"is": 1}}, "weight": 1}], "/0/filter/a/is"),
        ([{"filter": {"a": {"eq": 1}}, "weight": 1, "field": "a"}], "/0/field"),
        ([{"filter": {"a": {"eq": 1}}, "function": "sqrt", "weight": 1}], "/0"),
        ([ASKED[0], {"function": "sqrt", "weight": 1}], "/1/field"),
        ([{"field": "and", "function": "sqrt", "weight": 1}], "/0/field"),
        ([{"field": "a", "function": "exec", "weight": 1}], "/0/function"),
        ([{"field": "a", "function": ["sqrt"], "weight": 1}], "/0/function"),
        ([{"field": "a", "function": "sqrt", "weight": 1, "pivot": 1}], "/0/pivot"),
        ([{"field": "a", "function": "saturation", "weight": 1}], "/0/pivot"),
        ([{"field": "a", "function": "saturation", "weight": 1, "pivot": 0}], "/0/pivot"),
        ([{"field": "a", "decay": 1, "weight": 1}], "/0/decay"),
        ([{"field": "a", "decay": {"scale": 1}, "weight": 1}], "/0/decay/origin"),
        ([{"field": "a", "decay": {"origin": "now", "scale": 1}, "weight": 1}], "/0/decay/origin"),
        ([{"field": "a", "decay": {"origin": 10**30, "scale": 1}, "weight": 1}], "/0/decay/origin"),
        ([{"field": "a", "decay": {"origin": 1}, "weight": 1}], "/0/decay/scale"),
        ([{"field": "a", "decay": {"origin": 1, "scale": 0}, "weight": 1}], "/0/decay/scale"),
        ([{"field": "a", "decay": {"origin": 1, "scale": 1, "offset": -1}, "weight": 1}], "/0/decay/offset"),
        ([{"field": "a", "decay": {"origin": 1, "scale": 1, "kind": "cubic"}, "weight": 1}], "/0/decay/kind"),
        ([{"field": "a", "decay": {"origin": 1, "scale": 1, "rate": 1}, "weight": 1}], "/0/decay/rate"),
    ],
)  # fmt: skip
def test_what_is_no_boost(asked: Any, pointer: str):
    with pytest.raises(Invalid) as caught:
        parse(asked)
    assert caught.value.problems[0].pointer == pointer


def test_without_a_query_there_is_nothing_to_add_to(make_text: MakeCollection):
    collection = make_text()
    write_in_segments(collection, drawn(3), 20)
    with pytest.raises(Invalid, match="without a query"):
        search(collection, Query(mode="browse", boosts=BOOSTS))
