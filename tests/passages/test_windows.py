"""The laws of windows: they cover a text, fit, stand where they say, and cost what the text is long."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.encoders.batches import estimated
from app.encoders.deterministic import DeterministicEncoder
from app.passages.windows import ATTEMPTS, Tokens, Windowing
from app.types import I64, Document


def with_spaces(texts: Sequence[str]) -> list[I64]:
    """As tokenizers do that count the space before a word to it, and the first word of a text as another token."""
    found = []
    for text in texts:
        begins = [match.start() for match in re.finditer(r"\s*\w{1,3}|\s*[^\w\s]", text)]
        found.append(np.array([*begins[:1], *begins], np.int64))
    return found


def by_bytes(texts: Sequence[str]) -> list[I64]:
    """A token a byte, as byte-level tokenizers do with what they do not know."""
    return [np.repeat(np.arange(len(text)), [len(one.encode()) for one in text]) for text in texts]


def words(texts: Sequence[str]) -> list[I64]:
    """Words alone: signs are no tokens."""
    return DeterministicEncoder(1, "dense").tokens(texts)


TOKENS: list[Tokens] = [estimated, with_spaces, by_bytes, words]
FRAGMENTS = [
    "word ", "another ", "Ends here. ", "Does it? ", "\n", "\n\n", "# Title\n", "## Part\n", "### Deep one\n", "```\n",
    "- item\n", "日本語", "。", "🙂", "\x07", "  ", "\t", "x" * 40, "a.b.c", "...", "é", "\u200d", "İ",
]  # fmt: skip
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join)
titles = st.one_of(st.just(""), st.just(" "), st.sampled_from(["Title", "A long title of many words " * 4, "日本"]))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(texts, titles, st.integers(16, 40), st.integers(0, 20), st.sampled_from(TOKENS))
def test_windows_cover_the_text_where_they_say_and_fit(text: str, title: str, size: int, overlap: int, tokens: Tokens):
    document = Document("a", text, title)
    (windows,) = Windowing(size, overlap).of([document], tokens)
    assert windows == Windowing(size, overlap).of([Document("b"), document], tokens)[1]
    covered = np.zeros(len(text), bool)
    for window in windows:
        covered[window.start : window.stop] = True
        assert window.encoded.endswith(text[window.start : window.stop].strip() and text[window.start : window.stop])
        assert window.start < window.stop or len(windows) == 1
    assert not "".join(letter for letter, seen in zip(text, covered, strict=True) if not seen).strip()
    begins = [window.start for window in windows]
    assert begins == sorted(set(begins))
    if len(windows) > 1:
        assert max(map(len, tokens([window.encoded for window in windows]))) <= size
    elif len(tokens([document.passage])[0]) <= size:
        assert windows[0].encoded == document.passage


def test_a_text_that_fits_is_what_it_was():
    documents = [Document("a", "One two. Three"), Document("b", " x ", "Title"), Document("c", "", "Title " * 90)]
    for windows, document in zip(Windowing(12, 4).of(documents, estimated), documents, strict=True):
        (window,) = windows
        assert (window.start, window.stop, window.encoded) == (0, len(document.text), document.passage)
    long = Document("d", "word " * 10_000)
    assert [len(windows) for windows in Windowing(None, 4).of([long], estimated)] == [1]


def test_a_text_without_a_token_is_one_window():
    (windows,) = Windowing(8, 2).of([Document("a", "?! " * 30, "one " * 20)], words)
    assert [(window.start, window.stop, window.cut) for window in windows] == [(0, 90, True)]


def test_windows_end_where_a_text_is_parted_most():
    paragraphs = ["One two three. Four five six seven.", "Eight nine ten. Eleven twelve.", "# Part", "Last words here."]
    document = Document("a", "\n\n".join(paragraphs), "Name")
    (windows,) = Windowing(16, 0).of([document], estimated)
    assert [document.text[window.start : window.stop] for window in windows] == [
        paragraphs[0], paragraphs[1], "\n\n".join(paragraphs[2:]),
    ]  # fmt: skip
    assert [window.encoded[:6] for window in windows] == ["Name. "] * 3


def test_windows_share_whole_sentences_but_none_over_a_heading():
    sentences = [f"Sentence {number} stands here." for number in "abcdefghij"]
    document = Document("a", " ".join(sentences) + "\n# Part\n" + " ".join(sentences))
    (windows,) = Windowing(30, 12).of([document], estimated)
    parts = [document.text[window.start : window.stop] for window in windows]
    heading = document.text.index("# Part")
    for before, after in itertools.pairwise(windows):
        assert after.start < before.stop or after.start == heading
    assert all(part.startswith(("Sentence", "# Part")) for part in parts)
    assert [window.encoded.startswith("Part. ") for window in windows if window.start > heading] == [True] * 3


def test_the_headings_of_a_window_are_said_as_far_as_there_is_room():
    text = "# Birds of the north\n\n## Wrens\n\n" + "The wren sings in the hedge. " * 20
    (windows,) = Windowing(40, 0).of([Document("a", text, "birds of the north")], estimated)
    assert windows[-1].encoded.startswith("birds of the north. Wrens. The wren")
    (windows,) = Windowing(20, 0).of([Document("a", text)], estimated)
    assert windows[-1].encoded.startswith("Wrens. The wren")


def test_an_edit_leaves_most_windows_as_they_were():
    paragraphs = [" ".join(f"Sentence {i} {j} has some words in it." for j in range(i % 4 + 2)) for i in range(200)]
    changed = [*paragraphs[:50], "Something quite new stands here now. It is two sentences.", *paragraphs[50:]]
    before, after = Windowing(64, 16).of(
        [Document("a", "\n\n".join(one), "Title") for one in (paragraphs, changed)], estimated
    )
    assert len(before) > 100
    assert len({window.encoded for window in after} - {window.encoded for window in before}) <= 6


class Counted:
    """Tokens, and how many characters were asked for, how often."""

    def __init__(self) -> None:
        self.characters = self.calls = 0

    def __call__(self, texts: Sequence[str]) -> list[I64]:
        self.characters += sum(map(len, texts))
        self.calls += 1
        return estimated(texts)


def steps(text: str, counted: Counted) -> int:
    """Lines of code that splitting takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        Windowing(64, 32).of([Document("a", text, "Title")], counted)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "piece",
    [
        "Plain words of a sentence. ",
        "## Part\n",
        "x",
        ". ",
        "." * 10,
        " \n" * 9 + "a",
        "日本。",
        "- a\n```\n",
        "# A\n### B\n",
    ],
)
def test_splitting_costs_what_a_text_is_long(piece: str):
    some, more = Counted(), Counted()
    length = 12_000 // len(piece)
    few, many = steps(piece * length, some), steps(piece * 4 * length, more)
    assert many <= 4.4 * few + 1_000
    assert more.characters <= 4.4 * some.characters + 1_000
    # The whole twice, and its windows, which share half at most and may say headings again.
    assert some.calls <= 2 + ATTEMPTS
    assert some.characters <= (2 + 4 * ATTEMPTS) * len(piece) * length
