"""Files that are one document each: what is read of them, and how they say that they cannot be."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from files_made import docx, pdf

from app.errors import Invalid, RequestError, TooLarge
from app.passages.structure import headings_of
from app.sources import archives
from app.sources.files.content import Content
from app.sources.folder import FILES, READERS
from app.sources.protocol import Unreadable


def read(path: Path, content: str | bytes, charset: str | None = None) -> Content:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return READERS[FILES[path.suffix]](path, charset)


def refused(path: Path, content: str | bytes, charset: str | None = None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(path, content, charset)
    return caught.value


# Markdown and text


def test_front_matter_is_metadata_and_the_first_heading_the_title(tmp_path: Path) -> None:
    found = read(
        tmp_path / "a.md",
        "---\ntags: [a, 3]\ndate: 2024-05-01\nby: {name: Ada}\ndraft: false\nnone:\n---\n"
        "\n```\n# code\n```\n## Über\n\ntext\n",
    )
    front = {"tags": ["a", 3], "date": "2024-05-01", "by": {"name": "Ada"}, "draft": False, "none": None}
    assert found.metadata == front
    assert found.title == "Über"
    assert found.text == "\n```\n# code\n```\n## Über\n\ntext\n"
    named = read(tmp_path / "a.md", "---\ntitle: Given\n---\n# Heading\n")
    assert (named.title, named.text) == ("Given", "# Heading\n")


def test_rules_of_markdown_are_no_front_matter(tmp_path: Path) -> None:
    text = "---\nonly: text,\n\nnot: [closed\n\n***\n\nTitle\n=====\n"
    assert read(tmp_path / "a.md", text) == Content(text, "Title")
    assert read(tmp_path / "a.md", "---\n\nwords\n\n---\n").text == "---\n\nwords\n\n---\n"
    assert read(tmp_path / "a.md", "---\nnever: closed\n").text == "---\nnever: closed\n"


@pytest.mark.parametrize(
    ("front", "said", "line"),
    [
        ("a: [1", "front matter: not YAML", 3),
        ("a: 1\nb: *c", "front matter: aliases", 3),
        ("a: &x [1, 2]\nb: [*x, *x]", "front matter: aliases", 3),
        ("a: " + "[" * 5_000, "front matter: not YAML", 1),
        ("a: 2024-19-45", "front matter: not YAML", 1),
        ("a: !!python/object:os.system x", "front matter: not YAML", 2),
    ],
)
def test_front_matter_that_cannot_be_is_named_by_its_line(tmp_path: Path, front: str, said: str, line: int) -> None:
    error = refused(tmp_path / "a.md", f"---\n{front}\n---\ntext")
    assert isinstance(error, Unreadable)
    assert error.message.startswith(said)
    assert error.number == line


def test_front_matter_that_metadata_cannot_hold(tmp_path: Path) -> None:
    error = refused(tmp_path / "a.md", "---\na: {b: [{c: .nan}]}\n---\ntext")
    assert isinstance(error, Invalid)
    assert error.message.startswith("/metadata/a/b/0/c: expected a finite number")


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_texts_that_tell_their_charset(tmp_path: Path, charset: str) -> None:
    assert read(tmp_path / "a.txt", "Größe\r\n日本".encode(charset)).text == "Größe\n日本"


def test_a_text_of_another_charset_is_refused_by_line_and_read_when_it_is_named(tmp_path: Path) -> None:
    content = "eins\nGröße\n".encode("cp1252")
    error = refused(tmp_path / "a.txt", content)
    assert isinstance(error, Unreadable)
    assert (error.number, error.message) == (
        2,
        "not UTF-8 (byte 0xf6); name the charset that it has (--charset cp1252, shift_jis, ...)",
    )
    assert read(tmp_path / "a.txt", content, "cp1252").text == "eins\nGröße\n"
    # What is UTF-8 stays that beside files that are not.
    assert read(tmp_path / "a.txt", "Größe", "cp1252").text == "Größe"
    assert "NUL" in refused(tmp_path / "a.txt", b"a\n\0b").message


# HTML


HTML = """<!doctype html><html lang="de"><head><title>Wärmepumpen - Mein Blog</title><meta name=author content=Ada>
<meta name=keywords content="a, b"></head><body><header class="site-header"><a href=/>Home</a></header>
<nav><ul><li>Eins<li>Zwei</ul></nav><div class="sidebar">weg</div><div id=content>
<h1>Wärmepumpen <a class=headerlink>¶</a></h1><p>Ein  <b>kurzer</b> Text<br>zweite Zeile.</p><ul><li><p>eins</p></li>
<li>zwei</ul><pre>def f():
    return  1
</pre><table><tr><th>a<th>b</tr><tr><td>1<td>2</tr></table><h2>Ende</h2>tail <img alt="Bild"> x<script>no()</script>
yes</div><footer>fuß</footer></body></html>"""


def test_html_becomes_text_with_headings_lists_code_and_tables(tmp_path: Path) -> None:
    assert read(tmp_path / "a.html", HTML) == Content(
        "# Wärmepumpen\n\nEin kurzer Text\nzweite Zeile.\n\n- eins\n\n- zwei\n\n```\ndef f():\n    return  1\n\n```\n\n"
        "a | b\n1 | 2\n\n## Ende\n\ntail Bild x yes",
        "Wärmepumpen",
        {"language": "de", "author": "Ada", "keywords": ["a", "b"]},
    )


def test_what_says_that_it_is_the_content_is_all_of_it(tmp_path: Path) -> None:
    page = "<title>T</title><body><p>out<main class=sidebar><header><h1>One</h1></header><aside>note</aside></main>"
    assert read(tmp_path / "a.html", page).text == "# One\n\nnote"
    # Better too much than nothing.
    assert read(tmp_path / "a.html", "<nav>only this</nav>").text == "only this"
    assert read(tmp_path / "a.html", "<p>a < b & c").text == "a < b & c"


@pytest.mark.parametrize("charset", ["shift_jis", "iso-8859-1"])
def test_html_says_its_charset(tmp_path: Path, charset: str) -> None:
    text = "図書館" if charset == "shift_jis" else "Größe"
    page = f'<html><head><meta charset="{charset}"></head><body>{text}'.encode(charset)
    assert read(tmp_path / "a.html", page).text == text


def test_html_too_deep_to_be_read_is_refused_not_cut(tmp_path: Path) -> None:
    assert "nested too deep" in refused(tmp_path / "a.html", "<div>" * 3_000 + "deep").message


# PDF


def test_a_pdf_says_where_its_pages_begin(tmp_path: Path) -> None:
    pages = [["Die Wärmepumpe", "steht im Kel-", "ler."], [], ["日本語の文章。"]]
    found = read(tmp_path / "a.pdf", pdf(pages, "Heizung"))
    assert found.text.split("\f") == ["Die Wärmepumpe\nsteht im Keller.", "", "日本語の文章。"]
    assert (found.title, found.metadata) == ("Heizung", {"pages": 3})
    assert [(one.reason, one.count) for one in found.left_out] == [("PDF pages without text (scanned?)", 1)]


def test_of_a_pdf_no_line_is_a_heading_and_a_text_file_stays_as_it_is(tmp_path: Path) -> None:
    script = "#!/bin/sh\n# a comment\necho '# no'\n### another"
    found = read(tmp_path / "a.pdf", pdf([script.split("\n")]))
    assert headings_of(found.text) == []
    assert [line.strip() for line in found.text.split("\n")] == script.split("\n")
    assert read(tmp_path / "a.txt", script).text == script
    assert [one.text for one in headings_of(read(tmp_path / "a.md", script).text)] == ["a comment", "another"]


def test_a_pdf_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    whole = pdf([["one"], ["two"]])
    for content in (b"", b"%PDF-1.4\n", whole[:200]):
        assert refused(tmp_path / "a.pdf", content).message.startswith("not PDF, or not whole")
    encrypted = pdf([["one"]], encrypted=True)
    assert "encrypted" in refused(tmp_path / "a.pdf", encrypted).message
    # What PDFium mends, it mends in silence.
    torn = read(tmp_path / "a.pdf", whole[: whole.index(b"startxref")])
    assert torn.text == "one\ftwo"
    assert [(fault.unit, fault.number, fault.message[:9]) for fault in torn.faults] == [("page", 2, "not whole")]


# DOCX


def test_docx_has_headings_lists_tables_notes_and_what_was_inserted(tmp_path: Path) -> None:
    docx(tmp_path / "a.docx")
    found = READERS["docx"](tmp_path / "a.docx", None)
    assert found.title == "Handbuch"
    assert found.metadata == {"author": "Ada"}
    assert found.text == (
        "# Handbuch\n\n# Erster Teil\n\nEin Absatz mit Einschub.\n\n- Punkt\n\n- noch einer\n\n"
        "key | value\nGröße | 3\n\n## Zweiter\n\n"
        "im Steuerelement\n\nFußnote"
    )


def test_docx_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.docx"
    docx(path)
    whole = path.read_bytes()
    for content in (b"", b"PK\x03\x04", whole[:-40], whole[:100]):
        assert refused(path, content).message.startswith("not DOCX, or not whole")
    assert "encrypted" in refused(path, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)).message
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<w:document")
    assert "document.xml is not XML" in refused(path, path.read_bytes()).message
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("else.xml", "<a/>")
    assert "no word/document.xml" in refused(path, path.read_bytes()).message
    # Nothing is unpacked of what would be too much.
    monkeypatch.setattr(archives, "MAX_MEMBER", 500)
    assert refused(path, whole).message.startswith("word/document.xml unpacks to ")
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1_000)
    error = refused(path, whole)
    assert isinstance(error, TooLarge)
    assert error.message.startswith("unpacks to ")
