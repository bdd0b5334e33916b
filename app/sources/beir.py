"""A BEIR folder (Thakur et al. 2021, arXiv 2104.08663): ``corpus.jsonl``, ``queries.jsonl``, ``qrels/{split}.tsv``.

A document is ``{"_id", "title", "text", "metadata"?}``. Documents with neither title nor text have nothing to encode;
they are skipped and counted. A title or a metadata value of null means that it is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from app.documents import parse_document
from app.errors import Invalid, MalformedBody, NotFound, RequestError
from app.sources.lines import COMPRESSED, Lines
from app.sources.protocol import Entry
from app.types import Document

QRELS: Final = "query-id, corpus-id and a whole number, tab between, or TREC's four columns"


def beir_file(folder: Path, name: str) -> Path:
    """The file, or it compressed; NotFound names each."""
    names = [name, *(name + suffix for suffix in COMPRESSED)]
    for path in (folder / name for name in names):
        if path.is_file():
            return path
    raise NotFound(f"{folder} is not a BEIR folder: it has neither {' nor '.join(names)}")


class Beir:
    """The documents of ``corpus.jsonl``."""

    unit: Literal["bytes", "documents"] = "bytes"

    def __init__(self, folder: Path) -> None:
        self._lines = Lines(beir_file(folder, "corpus.jsonl"))
        self.name = self._lines.name
        self.skipped = 0

    @property
    def total(self) -> int | None:
        return self._lines.total

    @property
    def done(self) -> int:
        return self._lines.done

    def entries(self) -> Iterator[Entry]:
        for number, line in self._lines.entries():
            if isinstance(line, RequestError):
                yield Entry(number, line)
            elif line.strip():
                try:
                    found = _document(line)
                except RequestError as error:
                    yield Entry(number, error)
                    continue
                if found is None:
                    self.skipped += 1
                else:
                    yield Entry(number, found)


def _document(line: bytes) -> Document | None:
    given = _object(line)
    if "_id" not in given:
        raise Invalid.at("/_id", "a BEIR document has an _id")
    body = {
        "id": given["_id"],
        "title": "" if given.get("title") is None else given["title"],
        "text": "" if given.get("text") is None else given["text"],
    }
    if all(isinstance(body[part], str) and not body[part].strip() for part in ("title", "text")):
        return None
    metadata = given.get("metadata") or {}
    if isinstance(metadata, dict):
        metadata = {key: value for key, value in metadata.items() if value is not None}
    return parse_document(json.dumps({**body, "metadata": metadata}).encode())


def _object(line: bytes) -> dict[str, Any]:
    try:
        given = json.loads(line)
    except ValueError as error:  # also what is not UTF-8
        raise MalformedBody(f"not JSON: {error}") from error
    if not isinstance(given, dict):
        raise MalformedBody(f"expected a JSON object, got {type(given).__name__}")
    return given


def beir_queries(folder: Path) -> dict[str, str]:
    """Query id -> text, of ``queries.jsonl``."""
    queries: dict[str, str] = {}
    lines = Lines(beir_file(folder, "queries.jsonl"))
    for number, line in lines.entries():
        if isinstance(line, RequestError):
            raise line
        if line.strip():
            given = _object(line)
            if not isinstance(given.get("_id"), str) or not isinstance(given.get("text"), str):
                raise Invalid(f"{lines.name}, line {number}: expected the strings _id and text")
            queries[given["_id"]] = given["text"]
    return queries


def beir_qrels(folder: Path, split: str = "test") -> dict[str, dict[str, int]]:
    """Query id -> document id -> relevance, of ``qrels/{split}.tsv``: three columns, with a header or without, or the
    four of TREC. A relevance may be written as a whole float. Raises Invalid."""
    qrels: dict[str, dict[str, int]] = {}
    lines = Lines(beir_file(folder, f"qrels/{split}.tsv"))
    for number, line in lines.entries():
        if isinstance(line, RequestError):
            raise line
        if not line.strip():
            continue
        try:
            row = qrels_row(line, first=number == 1)
        except ValueError as error:
            raise Invalid(f"{lines.name}, line {number}: expected {QRELS}") from error
        if row is not None:
            query, document, relevance = row
            qrels.setdefault(query, {})[document] = relevance
    return qrels


def qrels_row(line: bytes, *, first: bool) -> tuple[str, str, int] | None:
    """Query, document and relevance of a line; None for a header, which is the first one. Raises ValueError.

    >>> qrels_row(b"q1 d7 2.0", first=False), qrels_row(b"301 0 FBIS3-10082 1", first=True)
    (('q1', 'd7', 2), ('301', 'FBIS3-10082', 1))
    """
    cells = line.decode().split("\t" if b"\t" in line else None)
    query, *_, document, relevance = cells
    if first and not _is_number(relevance):
        return None
    if len(cells) not in (3, 4):
        raise ValueError("three columns or four")
    value = float(relevance)
    if not value.is_integer():
        # Also infinity and NaN.
        raise ValueError("a whole number")
    return query, document, int(value)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
