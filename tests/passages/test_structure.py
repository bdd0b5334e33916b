"""Where texts may be cut, and what stands over a place of them."""

from __future__ import annotations

import pytest

from app.passages.structure import LINE, PARAGRAPH, SECTION, SENTENCE, WORD, Structure, headings_of, path


def kinds(text: str) -> dict[str, int]:
    """The kind of structure that each word begins, where it begins one."""
    found = Structure.of(text)
    return {text[place:].split()[0]: kind for place, kind in zip(found.places, found.kinds.tolist(), strict=True)}


def test_headings_part_more_than_paragraphs_and_these_more_than_sentences():
    text = 'Intro one.\n\nSecond two! "Quoted." third\nline\n- item\n\n## Part\nBody'
    assert kinds(text) == {
        "one.": WORD, "Second": PARAGRAPH, "two!": WORD, '"Quoted."': SENTENCE, "third": SENTENCE, "line": LINE,
        "-": SENTENCE, "item": WORD, "##": SECTION, "Part": WORD, "Body": PARAGRAPH,
    }  # fmt: skip


def test_sentences_of_scripts_without_spaces_are_seen():
    text = "これは本。あれは「猫。」それは犬！終"
    found = Structure.of(text)
    assert [text[place] for place in found.places] == ["あ", "そ", "終"]
    assert set(found.kinds.tolist()) == {SENTENCE}


def test_a_comment_in_code_is_no_heading():
    text = "# One\n```sh\n# not this\n```\n~~~\n# nor this\n```\n~~~\n## Two\n#none\n####### none\n"
    assert [(heading.text, heading.depth) for heading in headings_of(text)] == [("One", 1), ("Two", 2)]


@pytest.mark.parametrize(
    ("place", "expected"),
    [("before", []), ("# A", []), ("a text", ["A"]), ("### B", ["A"]), ("b text", ["A", "B"]), ("## C", ["A"]),
     ("c text", ["A", "C"]), ("# D", []), ("d text", ["D"]), (" C #", ["A"])],
)  # fmt: skip
def test_a_place_stands_under_the_headings_before_it(place: str, expected: list[str]):
    text = "before\n# A\na text\n### B\nb text\n## C ##\nc text\n  # D\nd text"
    assert [heading.text for heading in path(headings_of(text), text.index(place))] == expected


def test_an_empty_text_has_nothing():
    assert len(Structure.of("").places) == len(Structure.of(" \n ").places) == 0
    assert path([], 5) == []
