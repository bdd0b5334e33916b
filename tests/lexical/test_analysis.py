"""Words of texts: in every script, with their places, whole and in parts."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.lexical.analysis import LANGUAGES, STOP, Analyser, edges_of, pieces_of

ENGLISH = Analyser("english")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Reads a ZIP-file, doesn't it?", ["reads", "a", "zip", "file", "doesn", "t", "it"]),
        ("fooBar", ["foobar", "foo", "bar"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("snake_case_name __init__", ["snake_case_name", "snake", "case", "name", "init"]),
        ("getURL2 utf8", ["geturl2", "get", "url2", "utf8"]),
        ("naïve Straße ＡＢＣ", ["naïve", "strasse", "abc"]),
        ("e\u0301te\u0301", ["été"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("Πόλις полёт שלום", ["πόλισ", "полёт", "שלום"]),
        ("北京市", ["北京", "京市", "市"]),
        ("カタカナと漢字", ["カタ", "タカ", "カナ", "ナと", "と漢", "漢字", "字"]),
        ("ภาษา", ["ภา", "าษ", "ษา", "า"]),
        ("a \u0e31 b", ["a", "\u0e31", "b"]),
        ("\u0e31\u0e01", ["\u0e01"]),
        ("Python3の本", ["python3", "の本", "本"]),
        ("…, — !", []),
        ("", []),
    ],
)
def test_a_text_has_these_words(text: str, words: list[str]):
    assert ENGLISH.words(text) == words


@settings(deadline=None)
@given(st.text() | st.text(alphabet="ก\u0e31\u0e48中\u3099か a"))
def test_words_stand_where_they_are_said_to_and_in_order(text: str):
    found = list(ENGLISH.occurrences(text))
    assert [one.word for one in found] == ENGLISH.words(text)
    for one in found:
        assert 0 <= one.start < one.stop <= len(text)
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text[one.start : one.stop]).casefold())
        assert one.word == folded
        assert one.word
        assert "\n" not in one.word
    # The parts of a word come after it and inside it; else each begins after the one before.
    for before, one in pairwise(found):
        assert one.start >= before.start


@settings(deadline=None)
@given(st.text(alphabet="abAB1_ -é中"))
def test_ascii_and_other_texts_are_taken_apart_alike(text: str):
    """A text of ASCII alone goes a faster way."""
    assert ENGLISH.words(text) == ENGLISH.words(text + " é")[:-1]


@settings(deadline=None)
@given(st.text(alphabet="中国人 ab"))
def test_each_character_of_a_text_without_spaces_begins_a_word(text: str):
    words = ENGLISH.words(text)
    for character in set(text) & set("中国人"):
        assert any(word.startswith(character) for word in words)


def test_stems_join_the_forms_of_a_word_and_of_its_language_alone():
    assert {ENGLISH.stem(word) for word in ("connect", "connected", "connecting", "connection")} == {"connect"}
    assert Analyser("german").stem("häuser") == Analyser("german").stem("haus")
    assert Analyser(None).stem("connected") == "connected"
    assert ENGLISH.stems(["cats", "dogs"]) == ["cat", "dog"]
    assert "english" in LANGUAGES
    assert len(LANGUAGES) > 20


def test_only_english_has_stop_words():
    assert all(map(ENGLISH.is_stop, STOP))
    assert len(STOP) == 33
    assert not ENGLISH.is_stop("t")
    assert not any(map(Analyser("german").is_stop, STOP))


@settings(deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=127)) | st.text(alphabet="aZ09__ -") | st.text(alphabet="a_é中 "))
def test_pieces_stand_where_the_expression_finds_them(text: str):
    assert edges_of(text).tolist() == [list(match.span()) for match in pieces_of(text)]
