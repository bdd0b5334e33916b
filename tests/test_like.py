"""More like these: examples in the place of a query, against brute force over plain arrays."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from brute_force import unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from made import DIM, MakeCollection, write_in_segments

from app import reference
from app.encoders.deterministic import DeterministicEncoder
from app.errors import Conflict, Invalid
from app.filters import parse as parse_filter
from app.ingest import delete_ids, write_documents
from app.lexical.analysis import Analyser
from app.query.alike import TERMS, VECTORS, few
from app.query.examples import Example, Like
from app.results.facets import parse as parse_facets
from app.results.sorting import SortKey
from app.search import Mode, Query, SearchResult, search
from app.types import F32, Document, Encoded, Kind

ENGLISH = Analyser("english")
KINDS: list[Kind] = ["multi_vector", "dense"]
MODES: list[Mode] = ["semantic", "dense", "lexical", "hybrid"]
WEIGHTS = {"words": 0.4, "tokens": 0.3, "pooled": 0.3}


def of(kind: Kind) -> dict[str, float]:
    return {side: weight for side, weight in WEIGHTS.items() if kind == "multi_vector" or side != "tokens"}


def drawn(count: int, seed: int = 0) -> list[Document]:
    random = np.random.default_rng(seed)
    usual = 1 / np.arange(1, 61)
    found = []
    for i in range(count):
        words = random.choice([f"word{n}" for n in range(60)], size=int(random.integers(3, 15)), p=usual / usual.sum())
        found.append(Document(f"{random.integers(1_000)}-{i}", " ".join(words), f"title{i % 5}", {"n": int(i % 3)}))
    return found


def ids(*names: str) -> list[Example]:
    return [Example(name, at=f"/like/positive/{i}") for i, name in enumerate(names)]


def found(result: SearchResult) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in result.hits]


# Brute force: the same in plain loops over what the encoder made


def terms_of(one: Document) -> list[str]:
    return [
        ENGLISH.stem(word)
        for word in ENGLISH.words(f"{one.title}\n{one.text}")
        if not ENGLISH.is_stop(word) and len(word) > 1
    ]


def telling(documents: list[Document], more: list[Document], less: list[Document], weight: float) -> list[str]:
    """The words of the largest tf * idf."""
    said = {one.id: Counter(terms_of(one)) for one in documents}
    tf: dict[str, float] = {}
    for some, share in ((more, 1 / len(more)), (less, -weight / max(len(less), 1))):
        for one in some:
            for term, count in said[one.id].items():
                tf[term] = tf.get(term, 0.0) + share * count
    named = {one.id for one in (*more, *less)}

    def df(term: str, among: set[str]) -> int:
        return sum(term in said[name] for name in among)

    everywhere = set(said)
    worth = {
        term: count * np.log(1 + (len(said) - df(term, everywhere) + 0.5) / (df(term, everywhere) + 0.5))
        for term, count in tf.items()
        if count > 0 and df(term, everywhere - named)
    }
    return sorted(worth, key=lambda term: (-worth[term], term))[:25]


@cache
def encoded(texts: tuple[str, ...], kind: Kind, precision: Any) -> tuple[Encoded, list[F32]]:
    """The encoder's output, and token vectors as they are stored."""
    made = DeterministicEncoder(DIM, kind).encode_documents(texts)
    if made.tokens is None:
        return made, []
    assert precision in reference.BITS, "as collections of few dimensions are by default"
    return made, [
        reference.decoded(reference.encoded(unit_rows(own), precision), precision, DIM) for own in made.tokens
    ]


def by_hand(
    documents: list[Document], more: list[str], less: list[str], weight: float, kind: Kind, precision: Any
) -> dict[str, dict[str, float]]:
    """The score of every document by each side."""
    made, kept = encoded(tuple(one.passage for one in documents), kind, precision)
    place = {one.id: i for i, one in enumerate(documents)}
    pooled = unit_rows(made.pooled)
    asked = pooled[[place[name] for name in more]].astype(np.float64).mean(axis=0)
    if less:
        asked = asked - weight * pooled[[place[name] for name in less]].astype(np.float64).mean(axis=0)
    asked = unit_rows(asked[None].astype(np.float32))
    by = {name: [documents[place[one]] for one in some] for name, some in (("more", more), ("less", less))}
    wanted = telling(documents, by["more"], by["less"], weight)
    sides = {"words": reference.bm25({one.id: _counted(one) for one in documents}, wanted)}
    if made.tokens is not None:
        # Texts here have fewer vectors than are clustered: every one of them is asked with.
        own = [[unit_rows(kept[place[name]]) for name in some] for some in (more, less)]
        each = sum(map(len, own[0])) / len(more)
        score = np.zeros(len(documents))
        for some, share in ((own[0], 1 / len(more)), (own[1], -weight / max(len(less), 1))):
            for query in some:
                best = [(query.astype(np.float64) @ one.T.astype(np.float64)).max(axis=1).mean() for one in kept]
                score += share * len(more) * each * np.array(best)
        sides["tokens"] = dict(zip(place, score.tolist(), strict=True))
    sides["pooled"] = dict(zip(place, (pooled @ asked[0]).astype(float).tolist(), strict=True))
    named = {*more, *less}
    return {side: {name: one for name, one in scores.items() if name not in named} for side, scores in sides.items()}


def _counted(one: Document) -> list[str]:
    return [ENGLISH.stem(word) for word in ENGLISH.words(f"{one.title}\n{one.text}") if not ENGLISH.is_stop(word)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_an_exact_search_by_examples_is_the_one_by_hand(make_text: MakeCollection, kind: Kind, mode: Mode):
    collection, documents = make_text(kind), drawn(90)
    write_in_segments(collection, documents, 40)
    names = [one.id for one in documents]
    cases = [
        (names[:1], [], 0.5),
        (names[3:6], [], 0.5),
        (names[10:12], names[50:53], 0.5),
        (names[80:81], names[:1], 1.0),
    ]
    for more, less, weight in cases:
        sides = by_hand(documents, more, less, weight, kind, collection.spec.precision)
        if mode == "hybrid":
            truth = reference.fused(sides, of(kind))
        else:
            side = {"lexical": "words", "dense": "pooled", "semantic": "tokens" if kind == "multi_vector" else "pooled"}
            truth = {name: score for name, score in sides[side[mode]].items() if score or mode != "lexical"}
        ordered = sorted(truth.items(), key=lambda item: (-item[1], item[0].encode()))[:20]
        like = Like(ids(*more), ids(*less), weight)
        weights = of(kind) if mode == "hybrid" else None
        result = search(collection, Query(like=like, mode=mode, exact=True, k=20, weights=weights))
        assert [score for _, score in found(result)] == pytest.approx([score for _, score in ordered], abs=1e-5)
        assert {name: truth[name] for name, _ in found(result)} == pytest.approx(dict(found(result)), abs=1e-5)
        assert result.exact


@pytest.mark.parametrize("mode", MODES)
def test_the_answer_is_the_same_for_any_segments_and_deletions(make_text: MakeCollection, mode: Mode):
    documents = drawn(80, 3)
    answers = []
    for name, every in (("one", 200), ("many", 17)):
        collection = make_text("multi_vector", name)
        extra = [Document(f"gone{i}", "word0 word1 word2 " * 3) for i in range(10)]
        write_in_segments(collection, [*documents[:30], *extra, *documents[30:]], every)
        delete_ids(collection, [one.id for one in extra])
        like = Like(ids(documents[0].id, documents[79].id), ids(documents[40].id))
        weights = of("multi_vector") if mode == "hybrid" else None
        answers.append(found(search(collection, Query(like=like, mode=mode, exact=True, k=30, weights=weights))))
    assert answers[0] == answers[1]
    assert answers[0]


def test_what_is_named_is_no_answer_unless_it_is_wanted(make_text: MakeCollection):
    collection, documents = make_text(), drawn(40)
    write_in_segments(collection, documents, 15)
    one, other = documents[2].id, documents[30].id
    for mode in MODES:
        result = search(collection, Query(like=Like(ids(one), ids(other), 0.2), mode=mode, k=50))
        assert not {one, other} & {hit.id for hit in result.hits}
        if mode != "lexical":
            assert result.total is not None
            assert result.total.count == len(result.hits) == 38
        result = search(collection, Query(like=Like(ids(one), ids(other), 0.2, include=True), mode=mode, k=50))
        assert result.hits[0].id == one


def test_a_document_that_is_not_there_is_named(make_text: MakeCollection):
    collection, documents = make_text(), drawn(10)
    write_in_segments(collection, documents, 20)
    like = Like(ids(documents[0].id), [Example("absent", at="/like/negative/0")])
    with pytest.raises(Invalid, match="no document 'absent'") as caught:
        search(collection, Query(like=like))
    assert caught.value.problems[0].pointer == "/like/negative/0"
    delete_ids(collection, [documents[0].id])
    with pytest.raises(Invalid, match=documents[0].id):
        search(collection, Query(like=Like(ids(documents[0].id))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_and_vectors_are_examples_as_they_are_queries(make_text: MakeCollection, kind: Kind):
    collection, documents = make_text(kind), drawn(60)
    write_in_segments(collection, documents, 25)
    text = "word3 word40 title2"
    for mode in MODES:
        weights = of(kind) if mode == "hybrid" else None
        plain = search(collection, Query(text=text, mode=mode, k=20, exact=True, weights=weights))
        like = search(collection, Query(like=Like([Example(text=text)]), mode=mode, k=20, exact=True, weights=weights))
        assert [score for _, score in found(like)] == pytest.approx([score for _, score in found(plain)], abs=1e-6)
    vectors = np.random.default_rng(1).standard_normal((1, DIM)).astype(np.float32)
    plain = search(collection, Query(vectors=vectors, k=20))
    like = search(collection, Query(like=Like([Example(vectors=vectors)]), k=20))
    assert found(like) == found(plain)


def test_filter_ids_facets_sort_and_pages_are_as_of_any_search(make_text: MakeCollection):
    collection, documents = make_text(), drawn(60)
    write_in_segments(collection, documents, 25)
    like = Like(ids(documents[1].id), ids(documents[2].id))
    others = [one for one in documents[:50] if one.metadata["n"] == 1 and one not in documents[1:3]]
    narrow = Query(
        like=like,
        mode="hybrid",
        k=50,
        filter=parse_filter({"n": {"eq": 1}}),
        ids=[one.id for one in documents[:50]],
        facets=parse_facets({"n": {"terms": 5}}),
    )
    result = search(collection, narrow)
    assert {hit.id for hit in result.hits} == {one.id for one in others}
    assert result.facets["n"].counts[0].count == len(others)
    by_field = search(collection, Query(like=like, k=50, sort=[SortKey("n", descending=True)]))
    values = [hit.metadata["n"] for hit in by_field.hits if hit.metadata is not None]
    assert values == sorted(values, reverse=True)
    for mode in MODES:
        whole = search(collection, Query(like=like, mode=mode, k=50))
        pages, cursor = [], None
        while True:
            page = search(collection, Query(like=like, mode=mode, k=7, cursor=cursor))
            pages += found(page)
            cursor = page.next
            if cursor is None:
                break
        assert pages[:50] == found(whole)[:50]
        first = search(collection, Query(like=like, mode=mode, k=7))
        with pytest.raises(Invalid, match="another search"):
            search(collection, Query(like=Like(ids(documents[3].id)), mode=mode, k=7, cursor=first.next))
        with pytest.raises(Invalid, match="another search"):
            search(collection, Query(like=replace(like, weight=0.1), mode=mode, k=7, cursor=first.next))
    write_documents(collection, [Document("new", "word1")])
    with pytest.raises(Conflict):
        search(collection, Query(like=like, mode=mode, k=7, cursor=first.next))


@pytest.mark.parametrize("mode", MODES)
def test_the_reasons_of_a_hit_add_up_to_its_score(make_text: MakeCollection, mode: Mode):
    collection, documents = make_text(), drawn(60)
    write_in_segments(collection, documents, 25)
    like = Like(ids(documents[1].id, documents[50].id), ids(documents[2].id, documents[3].id))
    for hit in search(collection, Query(like=like, mode=mode, explain=True, k=10)).hits:
        told = hit.explanation
        sides = {one.side: one.score for one in told.sides}
        if mode == "hybrid":
            assert hit.score == pytest.approx(sum(one.weight * one.standard for one in told.sides), abs=1e-6)
            assert sides["tokens"] == pytest.approx(sum(one.product for one in told.shares), abs=1e-4)
            assert sides["words"] == pytest.approx(sum(one.score for one in told.terms), abs=1e-6)
        else:
            parts = [one.score for one in told.terms] if mode == "lexical" else [one.product for one in told.shares]
            assert hit.score == pytest.approx(sum(parts), abs=1e-4)
        if mode in ("semantic", "hybrid"):
            assert any(one.product < 0 for one in told.shares)


def test_a_search_like_documents_teaches_the_collection_nothing_of_its_queries(make_text: MakeCollection):
    collection, documents = make_text(), drawn(60)
    write_in_segments(collection, documents, 100)
    before = collection.learned.asked
    search(collection, Query(like=Like(ids(documents[0].id)), mode="hybrid"))
    assert collection.learned.asked == before
    search(collection, Query(text="word1", mode="hybrid"))
    assert collection.learned.asked != before


def test_long_documents_count_by_sums_of_their_vectors(make_collection: MakeCollection):
    collection, random = make_collection(dim=8), np.random.default_rng(0)

    def about(topic: int, count: int) -> F32:
        made = random.standard_normal((count, 8)).astype(np.float32) * 0.3
        made[:, topic] += 2
        return made

    documents = [Document(f"{topic}-{i}", "", f"t{topic}", {}, about(topic, 300)) for topic in (0, 3) for i in range(6)]
    write_documents(collection, documents)
    result = search(collection, Query(like=Like(ids("0-0"), ids("3-0")), k=10, explain=True))
    assert [hit.id[0] for hit in result.hits] == ["0"] * 5 + ["3"] * 5
    shares = result.hits[0].explanation.shares
    assert len(shares) == 2 * VECTORS
    # The part taken off is less, on the mean.
    more, less = (np.mean([abs(one.product) for one in some]) for some in (shares[:VECTORS], shares[VECTORS:]))
    assert less < more


def test_examples_that_cancel_out_are_refused(make_text: MakeCollection):
    collection, documents = make_text("dense"), drawn(20)
    write_in_segments(collection, documents, 50)
    with pytest.raises(Invalid, match="leave nothing"):
        search(collection, Query(like=Like(ids(documents[0].id), ids(documents[0].id), 1.0)))


def test_what_cannot_be_asked_of_examples_is_refused(make_text: MakeCollection):
    collection, documents = make_text(), drawn(20)
    write_in_segments(collection, documents, 50)
    like = Like(ids(documents[0].id))
    for query, pointer in (
        (Query(like=like, text="word1"), "/like"),
        (Query(like=like, mode="browse"), "/mode"),
        (Query(like=like, mode="hybrid", syntax="query"), "/syntax"),
        (Query(like=Like([Example(vectors=np.ones((1, DIM), np.float32))]), mode="lexical"), "/like/positive"),
        (
            Query(like=Like([Example(vectors=np.ones((1, 3), np.float32), at="/like/positive/0")])),
            "/like/positive/0/vectors",
        ),
    ):
        with pytest.raises(Invalid) as caught:
            search(collection, query)
        assert caught.value.problems[0].pointer == pointer
    wordless = make_text("multi_vector", "wordless", lexical=None)
    write_in_segments(wordless, documents, 50)
    with pytest.raises(Invalid, match="no index of words"):
        search(wordless, Query(like=like, mode="hybrid"))
    assert search(wordless, Query(like=like)).hits


def test_words_are_chosen_by_what_they_tell(make_text: MakeCollection):
    collection = make_text()
    text = " ".join(f"rare{i} " * (1 + i % 3) + "common" for i in range(60))
    others = [Document(f"d{i}", f"rare{i} common other") for i in range(60)]
    write_documents(collection, [Document("long", text), *others])
    hits = search(collection, Query(like=Like(ids("long")), mode="lexical", k=100, explain=True)).hits
    # Those that stand there most often, of 60 that are as rare; the common one and those of nobody else are none.
    assert {hit.id for hit in hits} <= {f"d{i}" for i in range(60) if i % 3}
    assert len(hits) == TERMS


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 1_000))
def test_few_vectors_are_parts_of_the_whole(count: int, most: int, seed: int):
    vectors = np.random.default_rng(seed).standard_normal((count, 5)).astype(np.float32)
    made = few(vectors, most)
    assert len(made) == min(count, most)
    assert made.sum(axis=0) / len(made) == pytest.approx(vectors.mean(axis=0), abs=1e-5)
    # A sum over vectors of their largest products is at least the largest product of the sum.
    passage = np.random.default_rng(seed + 1).standard_normal((7, 5))
    whole, parts = ((one @ passage.T).max(axis=1).mean() for one in (vectors, made))
    assert parts <= whole + 1e-5
    assert len(made) < count or parts == pytest.approx(whole)
