"""Answers as JSON. ``encoded`` runs in the worker thread that did the work, so a long one never holds up the loop."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import cache
from typing import Any, TypeAlias, TypeVar

from pydantic import TypeAdapter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.schemas.documents import Base64Answer, DocumentAnswer, SparseAnswer, TurnAnswer, VectorsFormat, Warned
from app.api.schemas.measures import MapAnswer
from app.api.schemas.results import facet_answers
from app.api.schemas.searches import (
    AlignmentAnswer,
    GroupAnswer,
    HitAnswer,
    PassageAnswer,
    RerankAnswer,
    SearchAnswer,
    SearchRequest,
)
from app.api.schemas.tasks import TaskAnswer
from app.api.service import Budget, Service
from app.measure.plane import Plane
from app.results.grouping import HitGroup
from app.schema.notices import Notice
from app.search import SearchResult
from app.types import F32, Document, Excerpt, Hit, Kind, SparseVector

Form: TypeAlias = tuple[Kind, VectorsFormat]
"""How vectors are written: of which kind of collection, and in which format."""

W = TypeVar("W", bound=Warned)


def encoded(answer: Any) -> bytes:
    """JSON of a model, of the fields that were given, or of a dataclass."""
    kind: Any = type(answer)
    return _adapter(kind).dump_json(answer, exclude_unset=True)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def reply(content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(content, status, headers, "application/json")


def accepted(task: object) -> Response:
    """202, with the task to follow."""
    answer = TaskAnswer.model_validate(task)
    return reply(encoded(answer), 202, {"Location": f"/v1/tasks/{answer.id}"})


def held(
    service: Service, content: bytes, media: str = "application/json", headers: Mapping[str, str] | None = None
) -> Response:
    """A reply that may be long: it counts as memory until it is sent. Raises Overloaded."""
    return _Held(service.lanes.memory, content, media, headers)


class _Held(Response):
    def __init__(self, memory: Budget, content: bytes, media: str, headers: Mapping[str, str] | None) -> None:
        super().__init__(content, headers=headers, media_type=media)
        self._taken = ExitStack()
        self._taken.enter_context(memory.share())(len(content))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._taken:
            await super().__call__(scope, receive, send)


def document_answer(document: Document, include: Collection[str], form: Form) -> DocumentAnswer:
    """The parts that were to be included; form: of its vectors."""
    given = {name: getattr(document, name) for name in ("text", "metadata") if name in include}
    vectors = vectors_of(document.vectors, form) | _sparse(document.sparse) | _values(document.values, form)
    if "text" in include and document.turns:
        given["turns"] = [TurnAnswer(role=turn.role, text=turn.text) for turn in document.turns]
        given |= {"summary": document.summary} if document.summary else {}
    return DocumentAnswer(id=document.id, title=document.title, **given, **vectors)


def hit_answer(hit: Hit, form: Form) -> HitAnswer:
    names = ("title", "text", "metadata", "passages", "highlights", "explanation", "former_score", "relevance")
    given = {name: value for name in names if (value := getattr(hit, name)) is not None}
    if hit.passages is not None:
        given["passages"] = [_passage(one) for one in hit.passages]
    if hit.alignment is not None:
        own = {name: value for name, value in asdict(hit.alignment).items() if value is not None}
        given["alignment"] = AlignmentAnswer(**own)
    arrays = vectors_of(hit.vectors, form) | _sparse(hit.sparse) | _values(hit.values, form)
    return HitAnswer(id=hit.id, score=hit.score, **given, **arrays)


def _passage(excerpt: Excerpt) -> PassageAnswer:
    paged = {} if excerpt.pages is None else {"pages": excerpt.pages}
    return PassageAnswer(
        text=excerpt.text,
        start=excerpt.start,
        stop=excerpt.stop,
        headings=excerpt.headings,
        score=excerpt.score,
        **paged,
    )


def _group_answer(group: HitGroup, form: Form) -> GroupAnswer:
    value: Any = {} if group.value is None else {"value": group.value}
    return GroupAnswer(**value, hits=[hit_answer(hit, form) for hit in group.hits])


def _values(values: F32 | None, form: Form) -> dict[str, Any]:
    """What a document carries, several vectors in a collection of any kind."""
    return {} if values is None else {"values": vectors_of(values, ("multi_vector", form[1]))["vectors"]}


def vectors_of(vectors: F32 | None, form: Form) -> dict[str, Any]:
    """As callers give them: a dense collection's is one vector."""
    if vectors is None:
        return {}
    kind, written = form
    name, array = ("vector", vectors[0]) if kind == "dense" else ("vectors", vectors)
    if written == "numbers":
        return {name: array.tolist()}
    text = base64.b64encode(array.astype("<f4").tobytes()).decode()
    return {name: Base64Answer(base64=text, dtype="float32", shape=list(array.shape))}


def map_answer(found: Plane) -> MapAnswer:
    x, y = (base64.b64encode(one.astype("<f4").tobytes()).decode() for one in (found.x, found.y))
    return MapAnswer(
        ids=found.ids,
        titles=found.titles,
        x=x,
        y=y,
        variance=list(found.variance),
        generation=found.generation,
        of=found.of,
    )


def _sparse(vector: SparseVector | None) -> dict[str, Any]:
    if vector is None:
        return {}
    return {"sparse_vector": SparseAnswer(indices=vector.indices.tolist(), values=vector.values.tolist())}


def search_answer(result: SearchResult, asked: SearchRequest, kind: Kind) -> SearchAnswer:
    form = kind, asked.vectors_format
    answer = SearchAnswer(
        hits=[hit_answer(hit, form) for hit in result.hits] if result.groups is None else [],
        took_ms=result.took_ms,
        stages=result.stages,
        exact=result.exact,
        generation=result.generation,
        mode=result.mode,
    )
    if result.groups is not None:
        answer.groups, answer.total_groups = [_group_answer(one, form) for one in result.groups], result.total_groups
    if result.weights is not None:
        answer.weights = dict(result.weights)
    if asked.rerank is not None and result.reranked is not None:
        done, of = result.reranked
        answer.rerank = RerankAnswer(model=asked.rerank.model, reranked=done, of=of)
    if result.total is not None:
        answer.total = result.total
    if result.facets:
        answer.facets = facet_answers(result.facets)
    if result.next is not None:
        answer.next = result.next
    if result.coverage is not None:
        answer.partial, answer.coverage = result.coverage.partial, result.coverage
    return warned(answer, result.warnings)


def warned(answer: W, warnings: list[Notice]) -> W:
    """With the warnings, if there are any."""
    if warnings:
        answer.warnings = warnings
    return answer
