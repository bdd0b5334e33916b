"""The marked words are those that the index counted, at their very place, in any script, and nothing else is HTML."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.highlights.fragments import Highlight, Marking, around
from app.highlights.hits import by_words
from app.highlights.words import Finder
from app.lexical.analysis import Analyser
from app.lexical.bm25 import Bm25, Part
from app.lexical.clauses import Clause, parse, plain
from app.lexical.sequences import Sequences
from app.lexical.words import sealed
from app.types import Document

FIELDS = ["title", "text"]
ENGLISH = Analyser("english")
PIECES = [
    "zips", "zipped", "the", "fooBar", "HTTPServer2", "foo_bar", "brown", "brwon", "北京市", "中", "ภาษา",
    "カタカナと漢字", "e\u0301te\u0301", "ＡＢＣ", "İstanbul", "Straße", "𝔘𝔫𝔦", "🐦", "👩\u200d🔬",
    "<b>", "&amp;", "\"'", "...", "हिन्दी", "ﬁle",
]  # fmt: skip
TEXTS = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from([" ", " ", "\n\n", ". ", "-", ""])), max_size=30)
ASKED = [
    "zip", "+foo", "-brown", "brown~1", "title:zips", "text:ete*", "http*", '"foo bar"', "中", "中国", "北*", '"京市"',
    "istanbul", "strasse", "fooBar", '"the zipped"', "abc", "file", "हिन्दी", "ภา", '"カタカナ"', "uni",
]  # fmt: skip
QUERIES = st.lists(st.sampled_from(ASKED), min_size=1, max_size=5).map(" ".join)


def written(pieces: list[tuple[str, str]]) -> str:
    return "".join(piece + gap for piece, gap in pieces)


def bm25(document: Document, clauses: list[Clause], analyser: Analyser = ENGLISH) -> Bm25:
    sequences = Sequences.analysed([[document.title, document.text]])
    return Bm25([Part(sealed(sequences, 2, analyser), np.ones(1, bool), len(sequences.ids))], clauses, FIELDS)


def bare(one: Highlight, marks: tuple[str, str] = ("<mark>", "</mark>")) -> tuple[str, list[str]]:
    """The fragment, and what is marked in it, as one who reads the HTML has them."""
    found = [html.unescape(piece) for piece in re.split("|".join(map(re.escape, marks)), one.marked)]
    return "".join(found), found[1::2]


@settings(max_examples=150, deadline=None)
@given(TEXTS.map(written), TEXTS.map(written), QUERIES, st.sampled_from(["english", None]))
def test_words_stand_where_the_index_counted_them(title: str, text: str, query: str, language: str | None):
    analyser = Analyser(language)
    assume(set(query.split()) != {"-brown"})
    clauses = parse(query, analyser, FIELDS)
    counted: Counter[str] = Counter()
    index = bm25(Document("a", text, title), clauses, analyser)
    for one in index.explain(0, 0):
        counted[one.term] += one.tf
    found: Counter[str] = Counter()
    for field, own in (("title", title), ("text", text)):
        matches = Finder(clauses, analyser, field).matches(own)
        assert Finder(clauses, analyser, field).matches(own, index.places(0, 0)[field]) == matches
        for start, stop, number in matches:
            clause = clauses[number]
            found[clause.text] += 1
            words = analyser.words(own[start:stop])
            if clause.kind == "phrase":
                assert set(clause.words) <= set(words)
            else:
                assert any(clause.covers(word, analyser.stem(word)) for word in words)
    assert found == counted


@settings(max_examples=150, deadline=None)
@given(
    TEXTS.map(written),
    QUERIES,
    st.integers(16, 80),
    st.sampled_from([("<mark>", "</mark>"), ("", ""), ("\u0002", "\u0003")]),
)
def test_places_and_html_say_the_same_of_any_script(text: str, query: str, length: int, marks: tuple[str, str]):
    clauses = plain(query, ENGLISH)
    document = Document("a", text, text[::-1])
    for one in by_words(bm25(document, clauses), ENGLISH, Marking(marks, length))(0, 0, document):
        field = document.title if one.field == "title" else text
        assert 0 <= one.start < one.stop <= len(field)
        assert one.stop - one.start <= length
        edges = [one.start, *(edge for span in one.spans for edge in (span.start, span.stop)), one.stop]
        assert all(before <= after for before, after in pairwise(edges))
        assert all(span.start < span.stop and span.terms for span in one.spans)
        assert one.spans
        if all(marks):
            fragment, said = bare(one, marks)
            assert fragment == field[one.start : one.stop]
            assert said == [field[span.start : span.stop] for span in one.spans]
        else:
            assert html.unescape(one.marked) == field[one.start : one.stop]
    assert bool(by_words(bm25(document, clauses), ENGLISH, Marking())(0, 0, document)) == bool(
        bm25(document, clauses).explain(0, 0)
    )


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("Reads files", "reading file", "[Reads] [files]"),
        ("a fooBar of HTTPServer", "bar server http", "a foo[Bar] of [HTTP][Server]"),
        ("foo_bar and foobar", "foo_bar", "[foo_bar] and foobar"),
        ("caf\u0065\u0301s 𝔘𝔫𝔦 <b>&", "café uni b", "[caf\u0065\u0301s] [𝔘𝔫𝔦] &lt;[b]&gt;&amp;"),
        ("ein Straße", "strasse", "ein [Straße]"),
        ("我住在北京市中心", "北京市", "我住在[北京市]中心"),
        ("我住在北京市", "京", "我住在北[京]市"),
        ("to be or not", "to be", "[to] [be] or not"),
        ("the cat of it", "the cat", "the [cat] of it"),
    ],
)
def test_what_plain_words_mark(text: str, query: str, marked: str):
    document = Document("a", text)
    (one,) = by_words(bm25(document, plain(query, ENGLISH)), ENGLISH, Marking(("[", "]")))(0, 0, document)
    assert one.marked == marked


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("reads and writes; writes and reads", '"and writes"', "reads [and writes]; writes and reads"),
        ("archive, archives, arch", "archi*", "[archive], [archives], arch"),
        ("serach searched", "search~1", "[serach] searched"),
        ("good and bad", "good -bad", "[good] and bad"),
        ("zip in the text", "title:zip +text", "zip in the [text]"),
        ("foo-bar, foo bar, foo baz bar", "foo-bar", "[foo-bar], [foo bar], foo baz bar"),
        ("他在北京市场", '"北京市"', "他在[北京市]场"),
    ],
)
def test_what_the_language_marks(text: str, query: str, marked: str):
    document = Document("a", text)
    (one,) = by_words(bm25(document, parse(query, ENGLISH, FIELDS)), ENGLISH, Marking(("[", "]")))(0, 0, document)
    assert one.marked == marked


def test_the_fragment_is_where_most_of_the_query_stands():
    text = (
        "A zip here. "
        + "Nothing of it. " * 40
        + "The zip archive is read. "
        + "More. " * 60
        + "One archive. Zip zip zip."
    )
    document = Document("a", text)
    (one,) = by_words(bm25(document, plain("read zip archives", ENGLISH)), ENGLISH, Marking(length=60))(0, 0, document)
    assert "The zip archive is read." in text[one.start : one.stop]
    assert [text[span.start : span.stop] for span in one.spans] == ["zip", "archive", "read"]
    assert [span.terms for span in one.spans] == [["zip"], ["archives"], ["read"]]


def test_a_word_longer_than_a_fragment_is_cut():
    text = "see " + "w" * 5_000
    (one,) = by_words(bm25(Document("a", text), plain("w" * 5_000, ENGLISH)), ENGLISH, Marking())(
        0, 0, Document("a", text)
    )
    assert (one.start, one.stop) == (4, 244)
    assert one.marked == f"<mark>{'w' * 240}</mark>"


def check_around(text: str, first: int, last: int, length: int) -> None:
    start, stop = around(text, first, last, length)
    assert 0 <= start <= first <= last <= stop <= len(text)
    assert stop - start <= length
    for edge, own in ((start, first), (stop, last)):
        if edge != own and 0 < edge < len(text):
            assert not unicodedata.category(text[edge]).startswith("M")
            assert "\u200d" not in text[edge - 1 : edge + 1]


@settings(max_examples=150, deadline=None)
@given(TEXTS.map(written), st.data())
def test_a_fragment_has_what_it_is_around_and_parts_no_character_from_its_marks(text: str, data: st.DataObject):
    first = data.draw(st.integers(0, len(text)))
    last = data.draw(st.integers(first, len(text)))
    check_around(text, first, last, data.draw(st.integers(max(16, last - first), 120)))


def test_a_fragment_is_within_its_bounds_wherever_marks_stand():
    random = np.random.default_rng(0)
    characters = ["a", "Z", " ", "\n", ".", "\u0301", "न", "\u0940", "\u200d", "\U0001f469"]
    for _ in range(5_000):
        text = "".join(random.choice(characters, int(random.integers(1, 40))))
        first, last = sorted(random.integers(0, len(text) + 1, 2).tolist())
        check_around(text, first, last, int(random.integers(max(16, last - first), 121)))


def test_fields_that_are_not_indexed_are_not_marked():
    document = Document("a", "zip", "zip")
    only = Bm25(
        [Part(sealed(Sequences.analysed([["zip"]]), 1, ENGLISH), np.ones(1, bool), 1)], plain("zip", ENGLISH), ["text"]
    )
    assert [one.field for one in by_words(only, ENGLISH, Marking())(0, 0, document)] == ["text"]
