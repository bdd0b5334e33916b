"""PDF, by PDFium: it knows the crop box, the character maps of East Asian fonts, and is fuzzed for a browser.

Pages are parted by form feeds, as ``pdftotext`` does it, pages without text too: so a place in the text tells its page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from app.errors import TooLarge
from app.sources.extras import library
from app.sources.files.content import MAX_TEXT, PAGE, Content, texts, unmarked
from app.sources.protocol import LeftOut, Unreadable

MAX_PAGES: Final = 50_000
SCANNED: Final = "PDF pages without text (scanned?)"
_HYPHEN: Final = re.compile(r"(?:\x02|\ufffe)(?:\r?\n)?(\w?)")
_NOTHING: Final = {"untitled", "anonymous", "unspecified", "unknown"}
"""What programs say where nobody said anything."""
_ERRORS: Final = {4: "it is encrypted with a password", 5: "it is encrypted in a way that is not known"}
"""PDFium's FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY."""


def read_pdf(path: Path, _: str | None = None) -> Content:
    """Raises Unreadable, TooLarge, Invalid where PDFium is not installed."""
    pdfium = library("pypdfium2", "documents", "PDF")
    with _opened(pdfium, path) as document:
        count = len(document)
        if not count:
            raise Unreadable("not PDF, or not whole: it has no pages")
        if count > MAX_PAGES:
            raise TooLarge(f"a PDF may have {MAX_PAGES:,} pages, this one has {count:,}")
        pages, faults, scanned, size = [], [], 0, 0
        for number in range(count):
            try:
                pages.append(_page(document[number]))
            except pdfium.PdfiumError as error:
                pages.append("")
                faults.append(Unreadable(f"the page cannot be read: {error}", number + 1, "page"))
                continue
            scanned += not pages[-1].strip()
            size += len(pages[-1])
            if size > MAX_TEXT:
                raise TooLarge(f"a text may have {MAX_TEXT:,} characters; that of page 1 to {number + 1:,} has more")
        if not _whole(path):
            faults.append(Unreadable("not whole: its end is missing, and what stood there", count, "page"))
        given = document.get_metadata_dict()
    given = {name: value for name, value in given.items() if value.strip().casefold() not in _NOTHING}
    metadata = {**texts({"author": given.get("Author"), "subject": given.get("Subject")}), "pages": count}
    left_out = [LeftOut(SCANNED, scanned)] if scanned else []
    return Content(PAGE.join(pages), (given.get("Title") or "").strip(), metadata, faults, left_out)


@contextmanager
def _opened(pdfium: Any, path: Path) -> Iterator[Any]:
    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        why = _ERRORS.get(getattr(error, "err_code", None) or 0, f"not PDF, or not whole ({error})")
        raise Unreadable(why) from error
    try:
        yield document
    finally:
        document.close()


def _page(page: Any) -> str:
    try:
        found = page.get_textpage()
        try:
            text: str = found.get_text_bounded()
        finally:
            found.close()
    finally:
        page.close()
    # A word that a line's end parts has this in the place of its hyphen.
    text = _HYPHEN.sub(lambda at: at[1] if at[1].islower() else f"-{at[1]}", text)
    return unmarked(text.replace("\r\n", "\n").replace("\0", "").replace(PAGE, " ").rstrip())


def _whole(path: Path) -> bool:
    """Whether it ends as a PDF does: PDFium mends one that does not, and drops what is missing without a word."""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 4096))
        return b"%%EOF" in file.read()
