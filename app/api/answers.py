"""Answers: what the engine returns, as the models of ``app.api.schemas``, as JSON.

``encoded`` runs in the worker thread that did the work, so a long answer never holds up the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel
from starlette.responses import Response

from app.api.schemas import (
    CollectionAnswer,
    CoverageAnswer,
    DocumentAnswer,
    EncoderAnswer,
    HitAnswer,
    LineFault,
    SearchAnswer,
    TaskAnswer,
)
from app.catalogue.info import CollectionInfo
from app.search import SearchResult
from app.tasks.tasks import Task
from app.types import Document, Hit, Kind


def encoded(answer: BaseModel) -> bytes:
    """JSON of the fields that were given."""
    return answer.model_dump_json(exclude_unset=True).encode()


def reply(content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(content, status, headers, "application/json")


def collection_answer(info: CollectionInfo) -> CollectionAnswer:
    return CollectionAnswer(
        name=info.name,
        encoder=EncoderAnswer(model=info.model, kind=info.kind, dim=info.dim),
        similarity=info.similarity,
        precision=info.precision,
        token_pooling=info.token_pooling,
        keep_vectors=info.keep_vectors,
        documents=info.documents,
        passages=info.passages,
        bytes=info.bytes,
        generation=info.generation,
        tail=info.tail,
        first_stage=info.first_stage,
        state=info.state,
        read_only=info.read_only,
        error=info.error,
    )


def document_answer(document: Document) -> DocumentAnswer:
    return DocumentAnswer(id=document.id, title=document.title, text=document.text, metadata=document.metadata)


def hit_answer(hit: Hit, kind: Kind) -> HitAnswer:
    """Only what the search was asked to include; a dense collection's vector is one list of numbers."""
    answer = HitAnswer(id=hit.id, score=hit.score)
    if hit.title is not None:
        answer.title = hit.title
    if hit.text is not None:
        answer.text = hit.text
    if hit.metadata is not None:
        answer.metadata = hit.metadata
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
        answer.partial = result.coverage.partial
        answer.coverage = CoverageAnswer(scored=result.coverage.scored, of=result.coverage.of)
    return answer


def task_answer(task: Task) -> TaskAnswer:
    return TaskAnswer(
        id=task.id,
        collection=task.collection,
        kind=task.kind,
        state=task.state,
        phase=task.phase,
        done=task.done,
        total=task.total,
        rate=task.rate,
        eta_s=task.eta_s,
        errors=[LineFault(line=e.line, code=e.code, message=e.message) for e in task.errors],
        errors_total=task.errors_total,
        created=task.created,
        finished=task.finished,
        result=None if task.result is None else dict(task.result),
    )
