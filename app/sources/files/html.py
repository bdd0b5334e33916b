"""HTML: its main part as text with Markdown's headings, its title, and what its head says of it. Parsed by lxml.

The main part is what says so (``main``, one ``article``), else the body without what says that it is none
(navigation, footers, sidebars). Libraries that guess it from the density of links were left aside: of short pages,
tables and lists they drop content, and what is dropped is never found.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from app.sources.extras import library
from app.sources.files.content import Content, content_of, decoded, texts, tidied
from app.sources.protocol import Unreadable
from app.types import Metadata

_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)
_LATIN: Final = {"iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252"}
"""Charsets that the WHATWG has mean another."""
_NEVER: Final = {
    "script", "style", "noscript", "template", "svg", "math", "iframe", "object", "canvas", "button", "select",
    "textarea", "input", "head", "audio", "video", "dialog",
}  # fmt: skip
_ASIDE: Final = {"nav", "aside", "footer"}
_ROLES: Final = {"navigation", "banner", "contentinfo", "search", "complementary", "dialog", "menu", "menubar"}
_NAMES: Final = re.compile(
    r"(?:site-?|page-?|main-?|global-?)?(?:nav|navbar|navigation|menu|sidebar|footer|header|breadcrumbs?|toc|pagination)"
    r"|cookie-?(?:banner|notice|consent)|skip-?link|headerlink"
)
_BLOCKS: Final = {
    "p", "div", "section", "article", "main", "header", "footer", "ul", "ol", "dl", "blockquote", "figure", "table",
    "form", "fieldset", "details", "address", "hr", "figcaption", "body", "summary", "tbody", "thead", "caption",
}  # fmt: skip
_LINES: Final = {"br", "li", "dt", "dd", "tr"}
_SPACE: Final = re.compile(r"\s+")


def read_html(path: Path, charset: str | None) -> Content:
    """Raises Unreadable, TooLarge, Invalid where lxml is not installed, OSError."""
    content = content_of(path)
    return parsed(decoded(content, charset, _declared(content)))


def parsed(html: str) -> Content:
    """Raises Unreadable for what holds no element."""
    etree = library("lxml.etree", "documents", "HTML")
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(html.encode(errors="replace"), parser) if html.strip() else None
    except etree.XMLSyntaxError as error:
        raise Unreadable(f"not HTML: {error}") from error
    if deep := [fault for fault in parser.error_log if fault.type_name == "ERR_RESOURCE_LIMIT"]:
        raise Unreadable(f"elements are nested too deep to be read: {deep[0].message}", deep[0].line)
    if root is None:
        return Content("")
    main, sure = _main(root)
    text = _text(etree, main, sure)
    if not text and not sure:
        # All of it says that it is no content: better too much than nothing.
        text = _text(etree, main, True)
    title, heading = _title(root), _heading(main)
    if heading and (not title or heading.casefold() in title.casefold()):
        title = heading
    return Content(text, title, _metadata(root))


def _declared(content: bytes) -> str | None:
    found = _CHARSET.search(content[:4096])
    if found is None:
        return None
    name = found[1].decode().lower()
    return _LATIN.get(name, name)


def _main(root: Any) -> tuple[Any, bool]:
    """The element of the content, and whether it says so."""
    for path in ("//main", "//*[@role='main']", "//article"):
        if len(found := root.xpath(path)) == 1:
            return found[0], True
    body = root.find("body")
    return (root if body is None else body), False


def _hidden(element: Any, sure: bool) -> bool:
    """Whether an element is no content. sure: inside of what says that it is the content, which may have headers."""
    tag, given = element.tag, element.attrib
    if not isinstance(tag, str) or tag in _NEVER or "hidden" in given or given.get("aria-hidden") == "true":
        return True
    if "display:none" in given.get("style", "").replace(" ", "").lower():
        return True
    names = [*given.get("class", "").lower().split(), given.get("id", "").lower()]
    if "headerlink" in names:
        return True
    return not sure and (
        tag in _ASIDE
        or given.get("role") in _ROLES
        or (tag not in ("body", "html", "main", "article") and any(_NAMES.fullmatch(name) for name in names))
    )


def _text(etree: Any, main: Any, sure: bool) -> str:
    pieces: list[str] = []
    aside: Any = None
    """The element being passed over."""
    kept = 0
    """Elements around that keep white space."""

    def say(text: str | None) -> None:
        if text:
            text = text.replace("\f", " ")
            pieces.append(text if kept else _SPACE.sub(" ", text))

    for event, element in etree.iterwalk(main, events=("start", "end")):
        tag = element.tag
        if event == "start":
            if aside is None and _hidden(element, sure):
                aside = element
            if aside is None:
                if tag == "pre":
                    kept += 1
                pieces.append(_before(tag, element))
                say(element.text)
            continue
        if aside is None:
            if tag == "pre":
                kept -= 1
            pieces.append(_after(tag))
        elif aside is element:
            aside = None
        if aside is None and element is not main:
            say(element.tail)
    return _joined(pieces)


def _before(tag: str, element: Any) -> str:
    if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
        return "\n\n" + "#" * int(tag[1]) + " "
    match tag:
        case "pre":
            return "\n\n```\n"
        case "li":
            return "\n- "
        case "img":
            return str(element.get("alt", ""))
        case "td" | "th":
            return " "
    return "\n\n" if tag in _BLOCKS else "\n" if tag in _LINES else ""


def _after(tag: str) -> str:
    if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
        return "\n\n"
    match tag:
        case "pre":
            return "\n```\n\n"
        case "td" | "th":
            return " |"
    return "\n\n" if tag in _BLOCKS else ""


def _joined(pieces: list[str]) -> str:
    """The pieces with the spaces gone that stand at the ends of lines."""
    text = "".join(pieces)
    fenced = text.split("\n```\n")
    # Every other one is code, whose spaces are its own.
    fenced[::2] = [re.sub(r" *\n *", "\n", re.sub(r" {2,}", " ", part)) for part in fenced[::2]]
    text = re.sub(r" ?\|(?=\n|$)", "", "\n```\n".join(fenced))
    # A heading of several lines, and the sign of a list before a block.
    text = re.sub(r"^(#{1,6}|-) *\n+(?=[^\n#-])", r"\1 ", text, flags=re.MULTILINE)
    return tidied(re.sub(r"^(?:#{1,6}|-) *$", "", text, flags=re.MULTILINE))


def _title(root: Any) -> str:
    found = root.find(".//title")
    return "" if found is None else _SPACE.sub(" ", "".join(found.itertext())).strip()


def _heading(main: Any) -> str:
    found = main.find(".//h1")
    if found is None:
        return ""
    said = found.xpath(".//text()[not(ancestor::*[contains(@class, 'headerlink')])]")
    return _SPACE.sub(" ", "".join(said)).strip()


def _metadata(root: Any) -> Metadata:
    given: dict[str, str] = {}
    for meta in root.iter("meta"):
        name = (meta.get("name") or meta.get("property") or "").lower()
        if name and name not in given:
            given[name] = meta.get("content") or ""
    found = texts(
        {
            "language": root.get("lang"),
            "author": given.get("author"),
            "description": given.get("description"),
            "published": given.get("article:published_time") or given.get("date"),
        }
    )
    keywords = [word.strip() for word in given.get("keywords", "").split(",") if word.strip()]
    return {**found, "keywords": keywords} if keywords else found
