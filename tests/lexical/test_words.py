"""The words of a part, sealed and growing, against plain lists of words; and their scores against the one page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.lexical.analysis import Analyser
from app.lexical.bm25 import K1, B, Bm25, Part, best
from app.lexical.clauses import Clause, parse, plain
from app.lexical.dictionary import Dictionary
from app.lexical.fuzzy import SHORTEST, within_one
from app.lexical.postings import BLOCK, add_scores
from app.lexical.sequences import Sequences
from app.lexical.words import GrowingWords, SealedWords, Words
from app.lexical.words import sealed as sealed_words
from app.reference import bm25
from app.store.files import InMemory
from app.types import Mask

ENGLISH = Analyser("english")
FIELDS = ["title", "text"]
SOME = [
    "zip",
    "zips",
    "zipped",
    "the",
    "of",
    "file",
    "files",
    "fooBar",
    "tar",
    "tarball",
    "cat",
    "brown",
    "brwon",
    "中国人",
]
TEXT = st.lists(st.sampled_from(SOME), max_size=12).map(" ".join)
DOCUMENTS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=12)

Documents = Sequence[Sequence[str]]


def growing(documents: Documents, chunk: int = 3) -> Words:
    tail = GrowingWords(ENGLISH, 2)
    for start in range(0, len(documents), chunk):
        tail.append(Sequences.analysed(documents[start : start + chunk]))
    view = tail.view()
    # Later writes are not seen by a view of before.
    tail.append(Sequences.analysed([["zip zip later", "cat"]]))
    return view


def sealed(documents: Documents) -> Words:
    return sealed_words(Sequences.analysed(documents), 2, ENGLISH)


def counted(words: Words, ids: np.ndarray) -> dict[int, int]:
    return {int(document): int(count) for document, count in words.postings(ids)}


@settings(deadline=None)
@given(DOCUMENTS, st.sampled_from([growing, sealed]))
def test_postings_are_how_often_each_document_has_the_words(documents: Documents, make):
    words = make(documents)
    lists = [[ENGLISH.words(field) for field in fields] for fields in documents]
    joined = [title + text for title, text in lists]
    every = sorted({word for own in joined for word in own})
    assert words.lengths.tolist() == [sum(not ENGLISH.is_stop(word) for word in own) for own in joined]

    def truth(meant) -> dict[int, int]:
        found = {i: sum(map(meant, own)) for i, own in enumerate(joined)}
        return {i: count for i, count in found.items() if count}

    for word in [*every, "none", "zi", "brown"]:
        stem = ENGLISH.stem(word)
        assert counted(words, words.word(word)) == truth(lambda one, word=word: one == word)
        assert counted(words, words.stem(stem)) == truth(lambda one, stem=stem: ENGLISH.stem(one) == stem)
        assert counted(words, words.starting(word[:2])) == truth(lambda one, word=word: one.startswith(word[:2]))
        near = truth(lambda one, word=word: within_one(word, one) if len(word) >= SHORTEST else one == word)
        assert counted(words, words.near(word)) == near
    documents_in_all = np.arange(len(documents), dtype=np.int32)
    for word in every:
        for field in (0, 1):
            found = words.in_field(documents_in_all, words.word(word), field).tolist()
            assert found == [own[field].count(word) for own in lists]
    for phrase in (["zip", "zip"], ["the", "cat"], ["foobar", "foo", "bar"]):
        ids = [words.word(word) for word in phrase]
        if all(map(len, ids)):
            found = words.side_by_side(documents_in_all, np.concatenate(ids), -1).tolist()
            assert found == [sum(follows(own, phrase) for own in fields) for fields in lists]
    order = np.arange(len(documents), dtype=np.int64)[::-1]
    again = words.sequences(order)
    assert [again.vocabulary.words[i] for i in again.ids] == [word for own in joined[::-1] for word in own]


def follows(words: list[str], phrase: list[str]) -> int:
    return sum(words[i : i + len(phrase)] == phrase for i in range(len(words) - len(phrase) + 1))


def parts_of(documents: Documents, cuts: Sequence[int], alive: Mask) -> list[Part]:
    """Some sealed, the last growing."""
    edges = [0, *sorted(cuts), len(documents)]
    found = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        if stop > start:
            words = (growing if number == len(edges) - 2 else sealed)(documents[start:stop])
            standing = alive[start:stop]
            found.append(Part(words, standing, int(words.lengths[standing].sum())))
    return found


@settings(deadline=None)
@given(DOCUMENTS, st.data())
def test_scores_are_those_of_the_one_page_for_any_parts_and_deletions(documents: Documents, data: st.DataObject):
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))))
    cuts = data.draw(st.lists(st.integers(0, len(documents)), max_size=3))
    text = data.draw(TEXT)
    clauses = plain(text, ENGLISH)
    parts = parts_of(documents, cuts, alive)
    query = Bm25(parts, clauses, FIELDS)
    scores = np.concatenate([query.scores(number) for number in range(len(parts))])
    if any(ENGLISH.is_stop(clause.text) for clause in clauses):
        # Of a query of nothing else.
        return
    terms = {
        str(i): [ENGLISH.stem(word) for field in fields for word in ENGLISH.words(field) if not ENGLISH.is_stop(word)]
        for i, fields in enumerate(documents)
        if alive[i]
    }
    asked = [clause.words[0] for clause in clauses for _ in range(int(clause.weight)) if clause.kind == "stem"]
    if all(clause.kind == "stem" for clause in clauses):
        truth = bm25(terms, asked)
        for name, score in truth.items():
            assert scores[int(name)] == pytest.approx(score, rel=1e-9)
    # The same bits in one part.
    whole = Bm25(parts_of(documents, [], alive), clauses, FIELDS)
    assert whole.scores(0).tolist() == scores.tolist()


@settings(deadline=None)
@given(DOCUMENTS, TEXT, st.integers(1, 5))
def test_the_best_are_those_that_reach_the_kth_score_and_their_reasons_add_up(documents: Documents, text: str, k: int):
    alive = np.ones(len(documents), bool)
    parts = parts_of(documents, [len(documents) // 2], alive)
    query = Bm25(parts, plain(text, ENGLISH), FIELDS)
    scores = [query.scores(number) for number in range(len(parts))]
    found = best(scores, [part.alive for part in parts], k)
    positive = sorted((score for own in scores for score in own.tolist() if score > 0), reverse=True)
    limit = positive[k - 1] if len(positive) >= k else 0
    for number, own in enumerate(scores):
        assert found[number].tolist() == [i for i, score in enumerate(own.tolist()) if score > 0 and score >= limit]
        for document in found[number].tolist():
            reasons = query.explain(number, document)
            assert sum(one.score for one in reasons) == pytest.approx(own[document], rel=1e-12)
            assert all(one.tf > 0 and 0 < one.df <= len(documents) for one in reasons)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("zip", [0, 1, 3]),
        ("+zip +cat", [3]),
        ("zip -cat", [0, 1]),
        ("title:zip", [0]),
        ('"brown cat"', [2]),
        ('+text:"brown cat"', [2]),
        ('+title:"brown cat"', []),
        ("tar*", [4]),
        ("brwon~", [2, 3]),
        ("+the -zip", [2]),
        ("+missing zip", []),
        ("zip*  -missing", [0, 1, 3]),
    ],
)
def test_the_language_finds_what_it_says(text: str, found: list[int]):
    documents = [
        ("a zip", "file"),
        ("", "it zips and zipped"),
        ("of the", "brown cat"),
        ("cat", "zip cat brown the"),
        ("tarball", "files"),
    ]
    for cuts in ([], [2], [1, 3]):
        parts = parts_of(documents, cuts, np.ones(5, bool))
        clauses: list[Clause] = parse(text, ENGLISH, FIELDS)
        query = Bm25(parts, clauses, FIELDS)
        masks = []
        for number, part in enumerate(parts):
            demanded = query.demanded(number)
            masks.append(part.alive if demanded is None else part.alive & demanded)
        scores = [query.scores(number) for number in range(len(parts))]
        starts = np.cumsum([0, *(len(part.alive) for part in parts)])
        places = [
            int(start) + i for start, own in zip(starts, best(scores, masks, 10), strict=False) for i in own.tolist()
        ]
        assert places == found


def test_scores_of_more_documents_than_a_block_are_summed_in_the_order_of_the_query():
    random, documents = np.random.default_rng(0), 3 * BLOCK + 5
    words, analyser = ["read", "reads", "reading", "owl", "owls", "sea", "late"], ENGLISH
    counts = np.where(random.random((len(words), documents)) < 0.02, random.integers(1, 4, (len(words), documents)), 0)
    # A word that stands in the last block alone, and one in every document.
    counts[-1, : 3 * BLOCK] = 0
    counts[-2] += 1
    pairs = np.concatenate([np.stack([own.nonzero()[0], own[own > 0]], axis=1) for own in counts]).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(np.count_nonzero(counts, axis=1))])
    lengths = counts.sum(axis=0).astype(np.int32)
    nothing = InMemory(np.zeros(0, np.int32))
    part_words = SealedWords(
        Dictionary.build(words, analyser),
        lengths,
        starts,
        InMemory(pairs),
        np.zeros(documents + 1, np.int64),
        nothing,
        1,
    )
    alive = random.random(documents) < 0.9
    part = Part(part_words, alive, int(lengths[alive].sum()))
    for _ in range(2):
        query = Bm25([part], plain("late owls read the sea", analyser), ["text"])
        expected = np.zeros(documents)
        for own in (counts[6], counts[3] + counts[4], counts[0] + counts[1] + counts[2], counts[5]):
            df = np.count_nonzero(own[alive])
            idf = math.log1p((alive.sum() - df + 0.5) / (df + 0.5))
            norm = K1 * (1 - B) + K1 * B / (part.length / alive.sum()) * lengths
            expected += idf * (K1 + 1) * own / (own + norm)
        np.testing.assert_allclose(query.scores(0), expected, rtol=1e-13)
        # To the bit what one pass over each term adds.
        (base, slope), whole = query._norm, np.zeros(documents)
        for i, (pairs,) in enumerate(query._postings):
            add_scores(pairs, lengths, query._idf(i) * (K1 + 1), base, slope, whole)
        assert query.scores(0).tobytes() == whole.tobytes()
    few = np.isin(np.arange(documents), [5, BLOCK - 1, BLOCK, 2 * BLOCK, documents - 1]) & alive
    (found,) = best([query.scores(0)], [few], 2)
    limit = np.sort(query.scores(0)[few])[-2]
    assert found.tolist() == np.flatnonzero(few & (query.scores(0) >= limit)).tolist()


def test_postings_of_several_words_are_merged_in_one_buffer_whichever_search_asks():
    words = sealed_words(Sequences.analysed([["read reads"], ["reading"], ["owl"]]), 1, ENGLISH)
    buffers = set()
    for _ in range(3):
        assert sorted(words.postings(words.stem("read")).tolist()) == [[0, 2], [1, 1]]
        (zeros,) = words._zeros
        assert zeros.tolist() == [0, 0, 0]
        buffers.add(zeros.ctypes.data)
    assert len(buffers) == 1


def test_a_search_whose_buffer_another_one_took_makes_its_own(monkeypatch: pytest.MonkeyPatch):
    class Taken(list):
        """What another thread emptied after this one had looked."""

        def __bool__(self) -> bool:
            return True

    words = sealed_words(Sequences.analysed([["read reads"], ["reading"], ["owl"]]), 1, ENGLISH)
    monkeypatch.setattr(words, "_zeros", Taken())
    assert sorted(words.postings(words.stem("read")).tolist()) == [[0, 2], [1, 1]]
