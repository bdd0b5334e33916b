"""Answers as JSON. ``encoded`` runs in the worker thread that did the work, so a long one never holds up the loop."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from starlette.responses import Response

from app.api.schemas.documents import DocumentAnswer
from app.api.schemas.searches import HitAnswer, SearchAnswer
from app.search import SearchResult
from app.types import Document, Hit, Kind


def encoded(answer: Any) -> bytes:
    """JSON of a model, of the fields that were given, or of a dataclass."""
    kind: Any = type(answer)
    return _adapter(kind).dump_json(answer, exclude_unset=True)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def reply(content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(content, status, headers, "application/json")


def document_answer(document: Document) -> DocumentAnswer:
    return DocumentAnswer(id=document.id, title=document.title, text=document.text, metadata=document.metadata)


def hit_answer(hit: Hit, kind: Kind) -> HitAnswer:
    """Only what the search was asked to include; a dense collection's vector is one list of numbers."""
    answer = HitAnswer(id=hit.id, score=hit.score)
    for name in ("title", "text", "metadata"):
        if (value := getattr(hit, name)) is not None:
            setattr(answer, name, value)
    if hit.vectors is not None and kind == "dense":
        answer.vector = hit.vectors[0].tolist()
    elif hit.vectors is not None:
        answer.vectors = hit.vectors.tolist()
    return answer


def search_answer(result: SearchResult, kind: Kind) -> SearchAnswer:
    answer = SearchAnswer(
        hits=[hit_answer(hit, kind) for hit in result.hits],
        took_ms=result.took_ms,
        stages=result.stages,
        exact=result.exact,
        generation=result.generation,
    )
    if result.coverage is not None:
        answer.partial, answer.coverage = result.coverage.partial, result.coverage
    return answer
