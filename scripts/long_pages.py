"""Long documents with known answers: pages of the standard library's documentation, of a thousand vectors or more.

A page is what one module documents, member after member, cut where it has enough vectors. It is encoded in windows of
``WORDS`` words, so that no encoder's limit cuts it, and its vectors are those of all its windows. Queries are first
sentences of members' docstrings, which are taken out of the page; the page that one came from is its one judged
answer. A sentence that occurs twice, or has fewer than ``QUERY_WORDS`` words, is left where it is. The rest of a
member, its name and the rest of its docstring, has to answer for it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
from first_stage import Vectors
from numpy.typing import NDArray
from python_docs import PythonDocs

from app.encoders.registry import Encoders
from app.types import Document, TokenVectors

WORDS: Final = 96
"""In a window; with 256 tokens, the built-in model's limit, code and names still fit."""
QUERY_WORDS: Final = 6
PER_PAGE: Final = 1
"""Queries taken from one page."""
WORDS_PER_VECTOR: Final = 0.65
"""Fewer than there are on average, so that a page of enough words has enough vectors; it is held to that afterwards."""

_FIRST: Final = re.compile(r"[A-Z][^.?!]*(?:[.?!](?=\s|$))")


@dataclass
class Page:
    """name: the module, and which of its pages. asked: sentences that were taken out of it."""

    name: str
    texts: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return " ".join(self.texts).split()


def pages(least: int) -> list[Page]:
    """Every page of about ``least`` vectors or more; what a module has left over at its end is left out."""
    found = [entry.found for entry in PythonDocs().entries()]
    documents = [document for document in found if isinstance(document, Document)]
    times = Counter(sentence for document in documents if (sentence := _sentence(document)))
    made: list[Page] = []
    for module, members in groupby(sorted(documents, key=_module), _module):
        page = Page(f"{module} 1")
        number = 1
        for document in members:
            sentence = _sentence(document)
            text = f"{document.title}. {document.text}"
            if sentence and times[sentence] == 1 and len(page.asked) < PER_PAGE and page.texts:
                page.asked.append(" ".join(sentence.split()))
                text = text.replace(sentence, "", 1)
            page.texts.append(text)
            if len(page.words) >= least * WORDS_PER_VECTOR:
                made.append(page)
                number += 1
                page = Page(f"{module} {number}")
    return made


def _module(document: Document) -> str:
    return str(document.metadata["module"])


def _sentence(document: Document) -> str | None:
    """The first sentence of the docstring, as it stands there."""
    body = document.text.partition("\n\n")[2] or document.text
    found = _FIRST.match(body.lstrip())
    return found.group() if found and len(found.group().split()) >= QUERY_WORDS else None


def collected_pages(least: int, cache: Path | None) -> tuple[Vectors, dict[str, dict[str, int]]]:
    """Pages of ``least`` vectors and more through the built-in model, without exact scores; and the judgements."""
    at = cache / f"pages.{least}.npz" if cache else None
    if at and at.is_file():
        with np.load(at, allow_pickle=False) as stored:
            arrays = dict(stored)
    else:
        arrays = _encoded(pages(least), least, cache)
        if at:
            np.savez(at, allow_pickle=False, **arrays)
    tokens = TokenVectors(arrays["values"], arrays["offsets"])
    queries = TokenVectors(arrays["q_values"], arrays["q_offsets"])
    ids, query_ids = arrays["ids"].tolist(), arrays["q_ids"].tolist()
    qrels = {query: {ids[row]: 1} for query, row in zip(query_ids, arrays["owners"].tolist(), strict=True)}
    none = np.zeros((0, tokens.dim), np.float32)
    return Vectors(ids, none, tokens, query_ids, none, queries, none), qrels


def _encoded(found: list[Page], least: int, cache: Path | None) -> dict[str, NDArray[Any]]:
    encoder = Encoders({}, cache / "models" if cache else None).get("builtin", "multi_vector")
    matrices: list[NDArray[np.float16]] = []
    kept: list[Page] = []
    for page in found:
        encoded = encoder.encode_documents(list(_windows(page.words)))
        assert encoded.tokens is not None
        if len(encoded.tokens.values) >= least:
            matrices.append(encoded.tokens.values.astype(np.float16))
            kept.append(page)
    asked = [(row, sentence) for row, page in enumerate(kept) for sentence in page.asked]
    queries = encoder.encode_queries([sentence for _, sentence in asked])
    assert queries.tokens is not None
    return {
        "values": np.concatenate(matrices),
        "offsets": np.cumsum([0, *map(len, matrices)]),
        "ids": np.array([page.name for page in kept]),
        "q_values": queries.tokens.values,
        "q_offsets": queries.tokens.offsets,
        "q_ids": np.array([f"q{number}" for number in range(len(asked))]),
        "owners": np.array([row for row, _ in asked]),
    }


def _windows(words: list[str]) -> Iterator[str]:
    for start in range(0, len(words), WORDS):
        yield " ".join(words[start : start + WORDS])
