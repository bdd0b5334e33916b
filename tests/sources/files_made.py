"""Small files of the forms that people have, made by hand."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

FONTS = [
    b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    b"<< /Type /Font /Subtype /Type0 /BaseFont /HeiseiMin-W3 /Encoding /UniJIS-UCS2-H /DescendantFonts [5 0 R] >>",
    b"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /HeiseiMin-W3 /FontDescriptor 6 0 R"
    b" /CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 2 >> >>",
    b"<< /Type /FontDescriptor /FontName /HeiseiMin-W3 /Flags 6 /FontBBox [0 0 1000 1000] /ItalicAngle 0"
    b" /Ascent 800 /Descent -200 /CapHeight 700 /StemV 80 >>",
]


def pdf(pages: Sequence[Sequence[str]], title: str = "", *, encrypted: bool = False) -> bytes:
    """One page each, of lines. encrypted: with a password that nobody knows."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", *FONTS]
    kids = []
    for lines in pages:
        stream = b"BT 14 TL 50 740 Td\n" + b"".join(map(_shown, lines)) + b"ET"
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(kids))
    objects.append(b"<< /Title (%s) >>" % title.encode("cp1252"))
    trailer = b"/Size %d /Root 1 0 R /Info %d 0 R" % (len(objects) + 1, len(objects))
    if encrypted:
        key = b"00" * 32
        trailer += b" /ID [<00><00>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (key, key)
    content, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << %s >>\nstartxref\n%d\n%%%%EOF\n" % (trailer, len(content))
    return content + b"xref\n0 %d\n%s" % (len(objects) + 1, table) + end


def _shown(line: str) -> bytes:
    try:
        return b"/F1 12 Tf <%s> Tj T*\n" % line.encode("cp1252").hex().encode()
    except UnicodeEncodeError:
        return b"/F2 12 Tf <%s> Tj T*\n" % line.encode("utf-16-be").hex().encode()


NAMESPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
STYLES = """<w:style w:styleId="Liste"><w:name w:val="List Bullet"/></w:style>
<w:style w:styleId="Titel"><w:name w:val="Title"/></w:style>
<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
<w:style w:styleId="Eigene"><w:basedOn w:val="berschrift2"/></w:style>
<w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>"""
BODY = """<w:p><w:pPr><w:pStyle w:val="Titel"/></w:pPr><w:r><w:t>Handbuch</w:t></w:r></w:p>
<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr><w:r><w:t>Erster </w:t></w:r><w:r><w:t>Teil</w:t></w:r></w:p>
<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>Ein Absatz </w:t></w:r><w:del>
<w:r><w:delText>ohne</w:delText></w:r></w:del>
<w:ins><w:r><w:t>mit Einschub</w:t></w:r></w:ins><w:r><w:t>.</w:t></w:r></w:p>
<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>Punkt</w:t></w:r></w:p>
<w:p><w:pPr><w:pStyle w:val="Liste"/></w:pPr><w:r><w:t>noch einer</w:t></w:r></w:p>
<w:tbl><w:tr><w:tc><w:p><w:r><w:t>key</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>value</w:t></w:r></w:p></w:tc></w:tr>
<w:tr><w:tc><w:p><w:r><w:t>Größe</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>3</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
<w:p><w:pPr><w:pStyle w:val="Eigene"/></w:pPr><w:r><w:t>Zweiter</w:t></w:r></w:p>
<w:sdt><w:sdtContent><w:p><w:r><w:t>im Steuerelement</w:t></w:r></w:p></w:sdtContent></w:sdt>"""
NOTES = """<w:footnote w:type="separator"><w:p><w:r><w:t>-</w:t></w:r></w:p></w:footnote>
<w:footnote><w:p><w:r><w:t>Fußnote</w:t></w:r></w:p></w:footnote>"""
CORE = '<c xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:creator>Ada</dc:creator><dc:title>Vorlage</dc:title></c>'


def docx(path: Path, body: str = BODY) -> None:
    """A document as a word processor of German settings writes it."""
    parts = {
        "word/document.xml": f"<w:document {NAMESPACE}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": f"<w:styles {NAMESPACE}>{STYLES}</w:styles>",
        "word/footnotes.xml": f"<w:footnotes {NAMESPACE}>{NOTES if body == BODY else ''}</w:footnotes>",
        "docProps/core.xml": CORE if body == BODY else "<c/>",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def paragraphs(*texts: str, heading: str = "") -> str:
    """The body of such a document."""
    said = [f'<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr><w:r><w:t>{heading}</w:t></w:r></w:p>'] * bool(heading)
    return "".join([*said, *(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in texts)])


TEXTS = {
    "csv": 'id,text\n1,"a\nb"\n2,c\n',
    "html": "<head><meta charset=utf-8><title>T</title></head><main><h1>T</h1><p>x<table><tr><td>1</table></main>",
    "json": '[{"id": "a", "text": "x", "m": {"k": [1, "b"]}}, {"text": "y"}]',
    "md": "---\na: [1, b]\nd: 2024-01-01\n---\n# H\ntext\n",
    "trec": "<DOC>\n<DOCNO>1</DOCNO>\n<TEXT>x</TEXT>\n</DOC>\n",
}


def make(path: Path) -> None:
    """A whole file of the form that the name says."""
    table = pa.table({"id": ["a", "b"], "text": ["x" * 50, "y" * 50], "n": [1, 2]})
    match path.suffix[1:]:
        case "arrows":
            with pa.ipc.new_stream(path, table.schema) as stream:
                stream.write_table(table)
        case "docx":
            docx(path)
        case "feather":
            pyarrow.feather.write_feather(table, path)
        case "fvecs":
            path.write_bytes(struct.pack("<i2f", 2, 1, 2) * 3)
        case "npy":
            np.save(path, np.ones((3, 4), np.float32))
        case "parquet":
            pq.write_table(table, path)
        case "pdf":
            path.write_bytes(pdf([["one"], ["日本語"]], "T"))
        case "xlsx":
            book = openpyxl.Workbook()
            for row in (["id", "text"], ["1", "words"]):
                book.worksheets[0].append(row)
            book.save(path)
        case form:
            path.write_text(TEXTS[form])
