"""The clauses of a query on words."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Invalid
from app.lexical.analysis import Analyser
from app.lexical.clauses import MOST, Clause, parse, plain

ENGLISH = Analyser("english")
FIELDS = ["title", "text", "sku"]


def said(clauses: list[Clause]) -> list[tuple[str, str, str | None, tuple[str, ...]]]:
    return [(one.occur, one.kind, one.field, one.words) for one in clauses]


def test_plain_words_are_terms_as_often_as_they_are_asked_for():
    found = plain("The reader reads, the readers read: fooBar", ENGLISH)
    assert [(one.words[0], one.text, one.weight) for one in found] == [
        ("reader", "reader", 2.0),
        ("read", "reads", 2.0),
        ("foobar", "foobar", 1.0),
        ("foo", "foo", 1.0),
        ("bar", "bar", 1.0),
    ]


def test_a_query_of_stop_words_alone_asks_for_them():
    assert [one.text for one in plain("To be or not to be", ENGLISH)] == ["to", "be", "or", "not"]
    assert [one.text for one in parse("to +be", ENGLISH, FIELDS)] == ["be"]
    assert [one.text for one in parse("to be", ENGLISH, FIELDS)] == ["to", "be"]


@settings(deadline=None)
@given(st.text())
def test_plain_words_are_never_an_error(text: str):
    for clause in plain(text, ENGLISH):
        assert clause.occur == "should"
        assert clause.words[0]


def test_a_text_of_many_words_counts_by_the_first_of_them():
    assert len(plain(" ".join(f"w{i}" for i in range(3 * MOST)), ENGLISH)) == MOST


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("reading files", [("should", "stem", None, ("read",)), ("should", "stem", None, ("file",))]),
        ('+"To be" -title:zip*', [("must", "phrase", None, ("to", "be")), ("must_not", "prefix", "title", ("zip",))]),
        ('sku:"AB-12" x', [("should", "phrase", "sku", ("ab", "12")), ("should", "stem", None, ("x",))]),
        ('"one"', [("should", "word", None, ("one",))]),
        ("don't", [("should", "phrase", None, ("don", "t"))]),
        ("colour~ serch~1", [("should", "fuzzy", None, ("colour",)), ("should", "fuzzy", None, ("serch",))]),
        ("北京 中", [("should", "stem", None, ("北京",)), ("should", "prefix", None, ("中",))]),
        ("C++ - + word", [("should", "stem", None, ("c",)), ("should", "stem", None, ("word",))]),
    ],
)
def test_the_language_has_these_clauses(text: str, clauses: list[tuple[str, str, str | None, tuple[str, ...]]]):
    assert said(parse(text, ENGLISH, FIELDS)) == clauses


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('a "phrase without an end', "begins at character 3 has no closing"),
        ("author:me", "no field 'author' is indexed, but title, text, sku"),
        ("at 10:30", "no field '10' is indexed, but title, text, sku; quote"),
        ("word~2", "expected ~1 at character 0, got ~2"),
        ("-word", "asks for no word, and only excludes"),
        ("-", "asks for no word"),
        ("...", "asks for no word"),
    ],
)
def test_what_the_language_does_not_have_is_said_with_its_place(text: str, why: str):
    with pytest.raises(Invalid, match=why) as caught:
        parse(text, ENGLISH, FIELDS)
    assert caught.value.problems[0].pointer == "/query"


@settings(deadline=None)
@given(st.text(alphabet='ab+-"*~:1 title中'))
def test_the_language_answers_or_says_why(text: str):
    found: list[Clause] = []
    with suppress(Invalid):
        found = parse(text, ENGLISH, FIELDS)
        assert any(one.scored for one in found)
    assert all(one.words and all(one.words) for one in found)
