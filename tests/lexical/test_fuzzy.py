"""Words within one change of another, against all words there are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.lexical.dictionary import Strings
from app.lexical.fuzzy import SHORTEST, near, within_one

WORDS = st.text(alphabet="abcé中", max_size=7)


def changed_once(word: str, alphabet: str) -> set[str]:
    """Every word that one change makes, and the word."""
    found = {word}
    for i in range(len(word) + 1):
        found |= {word[:i] + one + word[i:] for one in alphabet}
        found.add(word[:i] + word[i + 1 :])
        found |= {word[:i] + one + word[i + 1 :] for one in alphabet}
        if i + 1 < len(word):
            found.add(word[:i] + word[i + 1] + word[i] + word[i + 2 :])
    return found


@settings(deadline=None)
@given(WORDS, WORDS)
def test_one_change_is_one_character_added_left_out_or_another_or_two_that_changed_places(word: str, other: str):
    assert within_one(word, other) == (other in changed_once(word, "abcé中"))


@settings(deadline=None)
@given(st.text(alphabet="abcé中", min_size=1, max_size=7), st.data())
def test_the_words_near_one_are_all_that_a_look_at_every_word_finds(word: str, data: st.DataObject):
    close = sorted(changed_once(word, "abcé中") - {""})
    words = data.draw(st.sets(st.sampled_from(close) | WORDS.filter(bool), min_size=1, max_size=30))
    listed = sorted(words, key=str.encode)
    found = [listed[place] for place in near(Strings.of(listed), word)]
    if len(word) < SHORTEST:
        assert found == [one for one in listed if one == word]
    else:
        assert found == [one for one in listed if within_one(word, one)]


@pytest.mark.parametrize("prefix", ["", "a", "ab", "b", "é", "中", "zz"])
def test_strings_that_begin_so_are_a_range(prefix: str):
    listed = sorted({"a", "ab", "abc", "abé", "b", "é", "éa", "中", "中国", "zz\U0010ffff"}, key=str.encode)
    first, last = Strings.of(listed).starting(prefix)
    assert listed[first:last] == [one for one in listed if one.startswith(prefix)]
    assert Strings.of(listed).all() == listed
