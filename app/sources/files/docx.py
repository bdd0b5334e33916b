"""DOCX (ECMA-376), read from its own XML by lxml: headings become Markdown's, lists and tables lines of text.

Read by ourselves, because what is inserted under tracked changes and what stands in content controls belongs to the
text too, and python-docx passes over both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from app.errors import TooLarge
from app.sources.archives import member, opened
from app.sources.extras import library
from app.sources.files.content import MAX_TEXT, Content, texts, tidied
from app.sources.protocol import Unreadable

_W: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT: Final = "http://purl.oclc.org/ooxml/wordprocessingml/main"
_GONE: Final = {f"{_W}del", f"{_W}moveFrom", "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"}
_NO_TEXT: Final = {*_GONE, f"{_W}pPr", f"{_W}tblPr", f"{_W}sdtPr"}
_SIGNS: Final = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
LISTED: Final = -1
"""In the place of a depth: an item of a list."""
_HEADING: Final = re.compile(r"heading ([1-9])")


def read_docx(path: Path, _: str | None = None) -> Content:
    """Raises Unreadable, TooLarge, Invalid where lxml is not installed."""
    library("lxml.etree", "documents", "DOCX")
    with closing(opened(path, "DOCX")) as archive:
        parts = {name: member(archive, f"{name}.xml", "DOCX") for name in _PARTS}
    if parts["word/document"] is None:
        raise Unreadable("not DOCX: it has no word/document.xml")
    trees = {name: _tree(content, name) for name, content in parts.items() if content is not None}
    body = trees["word/document"].find(f"{_W}body")
    if body is None:
        raise Unreadable("not DOCX: its document has no body")
    levels = _levels(trees.get("word/styles"))
    blocks = list(_blocks(body, levels))
    for name in ("word/footnotes", "word/endnotes"):
        if name in trees:
            # The first two of each are the lines that part notes from the text.
            notes = [note for note in trees[name] if note.get(f"{_W}type") is None]
            blocks += [block for note in notes for block in _blocks(note, levels)]
    text = tidied("\n\n".join(block for _, block in blocks).replace("\n\n\n", "\n\n"))
    if len(text) > MAX_TEXT:
        raise TooLarge(f"a text may have {MAX_TEXT:,} characters, this one has {len(text):,}")
    core = {_local(one): one.text for one in trees.get("docProps/core", ())}
    # In the document before in its properties: these often are those of the template.
    titles = [block for level, block in blocks if level == 0] or [core.get("title") or ""]
    titles += [block.lstrip("# ") for level, block in blocks if level == 1]
    title = next((" ".join(one.lstrip("# ").split()) for one in titles if one.strip()), "")
    return Content(text, title, texts({"author": core.get("creator"), "subject": core.get("subject")}))


_PARTS: Final = ("word/document", "word/styles", "word/footnotes", "word/endnotes", "docProps/core")


def _local(element: Any) -> str:
    """Of an element, without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _tree(content: bytes, name: str) -> Any:
    etree = library("lxml.etree", "documents", "DOCX")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    if _STRICT.encode() in content:
        content = content.replace(_STRICT.encode(), _W[1:-1].encode())
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise Unreadable(f"not DOCX: {name}.xml is not XML: {error}") from error


def _levels(styles: Any) -> dict[str, int]:
    """Style id -> depth of the heading that it is, 0 of the document's title; ``LISTED``."""
    if styles is None:
        return {}
    own: dict[str, int] = {}
    based: dict[str, str] = {}
    for style in styles.iter(f"{_W}style"):
        identifier = style.get(f"{_W}styleId", "")
        named, over = style.find(f"{_W}name"), style.find(f"{_W}basedOn")
        # Names of built-in styles are English in every language; ids are not.
        name = "" if named is None else named.get(f"{_W}val", "").lower()
        outline = style.find(f"{_W}pPr/{_W}outlineLvl")
        if found := _HEADING.fullmatch(name):
            own[identifier] = int(found[1])
        elif name == "title":
            own[identifier] = 0
        elif name.startswith(("list bullet", "list number")):
            own[identifier] = LISTED
        elif outline is not None and outline.get(f"{_W}val", "").isdecimal() and int(outline.get(f"{_W}val")) < 9:
            own[identifier] = int(outline.get(f"{_W}val")) + 1
        if over is not None:
            based[identifier] = over.get(f"{_W}val", "")
    for identifier in based:
        seen, at = {identifier}, identifier
        while at not in own and at in based and based[at] not in seen:
            at = based[at]
            seen.add(at)
        if at in own:
            own.setdefault(identifier, own[at])
    return own


def _blocks(element: Any, levels: dict[str, int]) -> Iterator[tuple[int | None, str]]:
    """The paragraphs, tables and what holds some, in order: depth of a heading or None, and the text."""
    for child in element:
        if child.tag == f"{_W}p":
            text = _text(child).strip()
            if text:
                yield _paragraph(child, text, levels)
        elif child.tag == f"{_W}tbl":
            rows = [_row(row) for row in _held(child, f"{_W}tr")]
            yield None, "\n".join(row for row in rows if row)
        elif isinstance(child.tag, str) and child.tag not in _GONE:
            yield from _blocks(child, levels)


def _paragraph(element: Any, text: str, levels: dict[str, int]) -> tuple[int | None, str]:
    style = element.find(f"{_W}pPr/{_W}pStyle")
    level = None if style is None else levels.get(style.get(f"{_W}val", ""))
    if level is not None and level != LISTED:
        return level, "#" * min(max(level, 1), 6) + " " + " ".join(text.split())
    listed = level == LISTED or element.find(f"{_W}pPr/{_W}numPr") is not None
    return None, f"- {text}" if listed else text


def _row(row: Any) -> str:
    cells = [" ".join(_text(cell).split()) for cell in _held(row, f"{_W}tc")]
    return " | ".join(cells) if any(cells) else ""


def _held(element: Any, tag: str) -> Iterator[Any]:
    """Its elements of a kind, those in content controls too."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag in (f"{_W}sdt", f"{_W}sdtContent"):
            yield from _held(child, tag)


def _text(element: Any) -> str:
    """What an element says, with spaces between paragraphs."""
    pieces: list[str] = []
    for child in element:
        if child.tag in _NO_TEXT or not isinstance(child.tag, str):
            continue
        if child.tag == f"{_W}t":
            pieces.append(child.text or "")
        elif child.tag in _SIGNS:
            pieces.append(_SIGNS[child.tag])
        else:
            pieces.append(_text(child))
            if child.tag == f"{_W}p":
                pieces.append("\n")
    return "".join(pieces)
