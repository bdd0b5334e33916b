"""Weights of fields: BM25F against the one page and plain counts, for any parts, deletions and clauses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import MakeCollection, OpenCatalogue, write_in_segments

from app import reference
from app.collection.collection import Collection
from app.collection.spec import CollectionSpec, LexicalSpec
from app.errors import Invalid
from app.ingest import delete_ids
from app.lexical.analysis import Analyser
from app.lexical.bm25 import Bm25, Part
from app.lexical.clauses import Clause, parse, plain
from app.lexical.sequences import Sequences
from app.lexical.weighing import Weighing
from app.lexical.words import GrowingWords, Words, sealed
from app.search import Query, search
from app.types import Document, Mask

ENGLISH = Analyser("english")
FIELDS = ["title", "text", "sku"]
SOME = ["zip", "zips", "zipped", "the", "of", "file", "files", "fooBar", "tar", "tarball", "cat", "brown", "brwon"]
TEXT = st.lists(st.sampled_from(SOME), max_size=9).map(" ".join)
DOCUMENTS = st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=12)
WEIGHTS = st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, 0.1])] * 3).filter(any)

Documents = Sequence[Sequence[str]]


def part_of(documents: Documents, alive: Mask, *, grows: bool) -> Part:
    words: Words
    if grows:
        tail = GrowingWords(ENGLISH, len(FIELDS))
        tail.append(Sequences.analysed(documents))
        words = tail.view()
        tail.append(Sequences.analysed([["zip of new", "the words", "tar"]]))
    else:
        words = sealed(Sequences.analysed(documents), len(FIELDS), ENGLISH)
    return Part(words, alive, int(words.lengths[alive].sum()))


def parts_of(documents: Documents, cuts: Sequence[int], alive: Mask) -> list[Part]:
    """Some sealed, the last growing."""
    edges = [0, *sorted(cuts), len(documents)]
    return [
        part_of(documents[start:stop], alive[start:stop], grows=number == len(edges) - 2)
        for number, (start, stop) in enumerate(pairwise(edges))
        if stop > start
    ]


def asked(parts: list[Part], clauses: list[Clause], weights: Sequence[float]) -> tuple[Bm25, list[float]]:
    query = Bm25(parts, clauses, FIELDS, Weighing(tuple(weights), ENGLISH.stops))
    return query, [score for number in range(len(parts)) for score in query.scores(number).tolist()]


def drawn(data: st.DataObject, documents: Documents) -> tuple[Mask, list[int]]:
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))))
    return alive, data.draw(st.lists(st.integers(0, len(documents)), max_size=3))


@settings(deadline=None)
@given(DOCUMENTS, WEIGHTS, TEXT, st.data())
def test_scores_are_those_of_the_one_page(documents: Documents, weights: Any, text: str, data: st.DataObject):
    alive, cuts = drawn(data, documents)
    clauses = plain(text, ENGLISH)
    _, scores = asked(parts_of(documents, cuts, alive), clauses, weights)
    assert asked(parts_of(documents, [], alive), clauses, weights)[1] == scores, "the same bits in one part"
    if any(ENGLISH.is_stop(clause.text) for clause in clauses):
        return
    terms = {
        str(i): [[ENGLISH.stem(word) for word in ENGLISH.words(one) if not ENGLISH.is_stop(word)] for one in fields]
        for i, fields in enumerate(documents)
        if alive[i]
    }
    words = [clause.words[0] for clause in clauses for _ in range(int(clause.weight))]
    for name, score in reference.bm25f(terms, words, weights).items():
        assert scores[int(name)] == pytest.approx(score, rel=1e-9)
    if all(weight == int(weight) for weight in weights):
        written = {
            name: [term for own, weight in zip(fields, weights, strict=True) for term in own * int(weight)]
            for name, fields in terms.items()
        }
        for name, score in reference.bm25(written, words).items():
            assert scores[int(name)] == pytest.approx(score, rel=1e-9)


@settings(deadline=None)
@given(DOCUMENTS, TEXT, st.data())
def test_weights_of_one_are_bm25_to_the_bit(documents: Documents, text: str, data: st.DataObject):
    alive, cuts = drawn(data, documents)
    parts, clauses = parts_of(documents, cuts, alive), plain(text, ENGLISH)
    without = Bm25(parts, clauses, FIELDS)
    _, scores = asked(parts, clauses, (1.0, 1.0, 1.0))
    assert [score for number in range(len(parts)) for score in without.scores(number).tolist()] == scores
    assert LexicalSpec(fields=("title", "text"), field_weights={"title": 1}).weighing is None


@settings(deadline=None)
@given(DOCUMENTS, WEIGHTS, st.integers(0, 99))
def test_what_a_clause_counts_is_weighted_whatever_it_is(documents: Documents, weights: Any, seed: int):
    texts = ["zip", '"brown cat"', "tar*", "brwon~", "title:zip", 'text:"zip file"', "sku:tar*", "+the", "-cat zip"]
    clauses = parse(texts[seed % len(texts)], ENGLISH, FIELDS)
    alive = np.arange(len(documents)) % 5 != 3
    query, scores = asked(parts_of(documents, [len(documents) // 2], alive), clauses, weights)
    length = [
        sum(w * sum(not ENGLISH.is_stop(x) for x in ENGLISH.words(one)) for w, one in zip(weights, fields, strict=True))
        for fields in documents
    ]
    mean = sum(own for own, stands in zip(length, alive, strict=True) if stands) / max(int(alive.sum()), 1)
    truth = [0.0] * len(documents)
    for clause in clauses:
        tf = [
            sum(
                weight * counted(clause, ENGLISH.words(one))
                for weight, one, name in zip(weights, fields, FIELDS, strict=True)
                if clause.field in (None, name)
            )
            for fields in documents
        ]
        having = sum(count > 0 for count, stands in zip(tf, alive, strict=True) if stands)
        idf = math.log(1 + (int(alive.sum()) - having + 0.5) / (having + 0.5))
        for i, count in enumerate(tf):
            if count and clause.scored and mean:
                truth[i] += idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length[i] / mean))
    if mean:
        assert [own for own, stands in zip(scores, alive, strict=True) if stands] == pytest.approx(
            [own for own, stands in zip(truth, alive, strict=True) if stands], rel=1e-9
        )
    half = len(documents) // 2
    for i, score in enumerate(scores):
        number, place = (0, i) if i < half else (int(half > 0), i - half)
        reasons = query.explain(number, place)
        assert sum(one.score for one in reasons) == pytest.approx(score, rel=1e-12)
        assert all(one.tf > 0 for one in reasons)


def counted(clause: Clause, words: list[str]) -> int:
    if clause.kind == "phrase":
        size = len(clause.words)
        return sum(tuple(words[i : i + size]) == clause.words for i in range(len(words) - size + 1))
    return sum(clause.covers(word, ENGLISH.stem(word)) for word in words)


def test_what_a_field_that_counts_nothing_has_is_demanded_all_the_same():
    documents = [("zip", "cat", ""), ("cat", "zip cat", ""), ("", "cat", "")]
    for text, demanded in (("+title:zip cat", [True, False, False]), ("-title:zip cat", [False, True, True])):
        parts = parts_of(documents, [1], np.ones(3, bool))
        query, scores = asked(parts, parse(text, ENGLISH, FIELDS), (0, 1, 1))
        masks = [query.demanded(number) for number in range(len(parts))]
        assert np.concatenate([one for one in masks if one is not None]).tolist() == demanded
        assert all(score > 0 for score in scores)


# Of collections


def written(count: int = 60) -> list[Document]:
    random, found = np.random.default_rng(3), []
    for i in range(count):
        text, title = (" ".join(random.choice(SOME, size=int(random.integers(2, top)))) for top in (12, 5))
        found.append(Document(f"{random.integers(1_000)}-{i}", text, title, {"sku": SOME[i % len(SOME)]}))
    return found


def scores_of(collection: Collection, **asked: Any) -> dict[str, float]:
    query = Query(**{"text": "zip brown cats", "mode": "lexical", "k": 100, "include": frozenset(), **asked})
    return {hit.id: hit.score for hit in search(collection, query).hits}


def truth_of(documents: Sequence[Document], weights: Sequence[float]) -> dict[str, float]:
    terms = {
        one.id: [
            [ENGLISH.stem(word) for word in ENGLISH.words(field) if not ENGLISH.is_stop(word)]
            for field in (one.title, one.text, str(one.metadata["sku"]))
        ]
        for one in documents
    }
    found = reference.bm25f(terms, ["zip", "brown", "cat"], weights)
    return {name: score for name, score in found.items() if score}


def test_a_collection_weighs_its_fields_and_a_search_may_say_otherwise(open_catalogue: OpenCatalogue):
    spec = LexicalSpec(fields=tuple(FIELDS), field_weights={"title": 3, "sku": 0.5})
    answers = []
    for every in (100, 17):
        catalogue = open_catalogue()
        collection = catalogue.create(f"c{every}", model="words", kind="dense", lexical=spec)
        documents = written()
        write_in_segments(collection, documents, every)
        gone = {one.id for one in documents[::7]}
        delete_ids(collection, sorted(gone))
        stands = [one for one in documents if one.id not in gone]
        assert CollectionSpec.from_json(collection.spec.to_json()) == collection.spec
        for own, weights in (({}, (3, 1, 0.5)), ({"title": 1, "sku": 0}, (1, 1, 0)), ({"text": 2.5}, (3, 2.5, 0.5))):
            found = scores_of(collection, field_weights=own)
            truth = truth_of(stands, weights)
            assert found == pytest.approx(truth, rel=1e-9)
            assert list(found) == sorted(found, key=lambda name: (-found[name], name.encode()))
            assert scores_of(collection, field_weights=own, k=10) == dict(list(found.items())[:10])
            answers.append(found)
        even = scores_of(collection, field_weights={"title": 1, "sku": 1})
        assert even == pytest.approx(truth_of(stands, (1, 1, 1)), rel=1e-9)
        mixed = search(
            collection,
            Query(
                text="zip",
                mode="hybrid",
                explain=True,
                weights={"words": 0.5, "pooled": 0.5},
                field_weights={"title": 9},
            ),
        )
        for hit in mixed.hits:
            words = next(one for one in hit.explanation.sides if one.side == "words")
            assert sum(one.score for one in hit.explanation.terms) == pytest.approx(words.score, abs=1e-9)
        catalogue.close()
    assert answers[:3] == answers[3:]


def test_weights_last_and_what_cannot_be_weighed_is_named(open_catalogue: OpenCatalogue, tmp_path: Any):
    spec = LexicalSpec(field_weights={"title": 4})
    catalogue = open_catalogue(tmp_path / "kept")
    collection = catalogue.create("c", model="words", kind="dense", lexical=spec)
    write_in_segments(collection, written(20), 8)
    before = scores_of(collection)
    catalogue.close()
    again = open_catalogue(tmp_path / "kept").get("c")
    assert again.spec.lexical == spec
    assert scores_of(again) == before != scores_of(again, field_weights={"title": 1})
    refused: list[tuple[Any, str, str]] = [
        ({"sku": 1}, "lexical", "/field_weights/sku"),
        ({"a/b~": 1}, "lexical", "/field_weights/a~1b~0"),
        ({"title": -1}, "hybrid", "/field_weights/title"),
        ({"title": math.nan}, "hybrid", "/field_weights/title"),
        ({"title": 1e9}, "lexical", "/field_weights/title"),
        ({"title": True}, "lexical", "/field_weights/title"),
        ({"title": 0, "text": 0}, "lexical", "/field_weights"),
        ({"title": 2}, "semantic", "/field_weights"),
        ({"title": 2}, "dense", "/field_weights"),
    ]
    for weights, mode, pointer in refused:
        with pytest.raises(Invalid) as caught:
            scores_of(again, field_weights=weights, mode=mode)
        assert caught.value.problems[0].pointer == pointer
    with pytest.raises(Invalid) as caught:
        search(again, Query(mode="browse", field_weights={"title": 2}))
    assert caught.value.problems[0].pointer == "/field_weights"
    with pytest.raises(Invalid) as caught:
        LexicalSpec(field_weights={"absent": 2})
    assert caught.value.problems[0].pointer == "/lexical/field_weights/absent"


def test_pages_of_weighted_lists(make_collection: MakeCollection):
    collection = make_collection(kind="dense")
    write_in_segments(collection, written(), 25)
    asked: dict[str, Any] = {"field_weights": {"title": 3}}
    whole, seen, cursor = scores_of(collection, **asked), dict[str, float](), None
    while True:
        query = Query(text="zip brown cats", mode="lexical", k=9, cursor=cursor, **asked)
        page = search(collection, query)
        seen |= {hit.id: hit.score for hit in page.hits}
        cursor = page.next
        if cursor is None:
            break
        with pytest.raises(Invalid, match="another search"):
            scores_of(collection, field_weights={"title": 2}, cursor=cursor, k=9)
    assert list(seen.items()) == list(whole.items())
