"""Encoders and rerankers by themselves, for OpenAI's and Cohere's clients.

Their errors are problem details like all others, with what those clients show beside it (``app.api.edge.problems``).
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.answers import encoded, held, reply
from app.api.edge.bodies import READ, Route, examples
from app.api.edge.frame import request_id
from app.api.edge.openapi import gives
from app.api.schemas.models import (
    EmbeddingAnswer,
    EmbeddingsAnswer,
    EmbeddingsRequest,
    ListedModel,
    MetaAnswer,
    ModelsAnswer,
    RerankDocuments,
    RerankTexts,
    RerankTextsAnswer,
    ScoredText,
    UsageAnswer,
    VersionAnswer,
)
from app.api.service import Lane, Need, Service, Serving, run
from app.compute.deadline import deadline
from app.encoders.embedding import embed
from app.errors import Invalid, TooSlow
from app.rerank.texts import able, rank_texts
from app.types import F32

router = APIRouter(tags=["models"], route_class=Route)

_ONE = {"model": "builtin", "input": "Reads and writes ZIP archives."}
_TOKENS = {"model": "builtin", "input": ["read a zip archive"], "input_type": "query", "vectors": "tokens"}
_TEXTS = {"model": "builtin", "query": "read a zip archive", "documents": ["Sends email.", "Reads ZIP files."]}
_OBJECTS = {**_TEXTS, "documents": ["Sends email.", {"text": "Reads ZIP files."}], "return_documents": True}


@router.get("/v1/models", responses=gives(ModelsAnswer))
async def list_models(service: Serving) -> Response:
    """Models that encode or rerank texts, as OpenAI's client lists them; `/v1/info` tells more of each."""
    names = able(service.catalogue.encoders)
    return reply(_whole(ModelsAnswer(data=[ListedModel(id=name) for name in names])))


@router.post("/v1/embeddings", responses=gives(EmbeddingsAnswer))
async def create_embeddings(
    service: Serving, body: Annotated[EmbeddingsRequest, READ, examples(one=_ONE, tokens=_TOKENS)]
) -> Response:
    """The vectors of texts, in the shape of OpenAI's API."""
    _require_few(service, body.input, "/input")

    def work() -> bytes:
        settings, encoders = service.settings, service.catalogue.encoders
        room = settings.max_answer_bytes
        made = embed(encoders, body.model, body.input, body.input_type, body.vectors, body.dimensions, room)
        data = [_embedding(body, place, vectors) for place, vectors in enumerate(made.vectors)]
        usage = UsageAnswer(prompt_tokens=made.tokens, total_tokens=made.tokens)
        return _whole(EmbeddingsAnswer(data=data, model=body.model, usage=usage, truncated=made.truncated or None))

    need: Need = "search" if body.input_type == "query" else "write"
    return held(service, await run(_lane(service, body.model, need), _in_time(service, work)))


@router.post("/v2/rerank", responses=gives(RerankTextsAnswer))
async def rerank_texts(
    request: Request, service: Serving, body: Annotated[RerankTexts, READ, examples(texts=_TEXTS)]
) -> Response:
    """Order texts by how well they answer a query, in the shape of Cohere's API."""
    return await _rerank(request, service, body)


@router.post("/v1/rerank", responses=gives(RerankTextsAnswer))
async def rerank_documents(
    request: Request, service: Serving, body: Annotated[RerankDocuments, READ, examples(texts=_TEXTS, objects=_OBJECTS)]
) -> Response:
    """The same, in version 1 of that API, where a document may be an object of texts."""
    return await _rerank(request, service, body)


async def _rerank(request: Request, service: Service, body: RerankTexts | RerankDocuments) -> Response:
    _require_few(service, body.documents, "/documents")

    def work() -> bytes:
        made = rank_texts(service.catalogue.encoders, body.model, body.query, body.texts, body.max_tokens_per_doc)
        results = []
        for place, score in list(zip(made.places, made.scores, strict=True))[: body.top_n]:
            one = ScoredText(index=place, relevance_score=score)
            if isinstance(body, RerankDocuments) and body.return_documents:
                sent = body.documents[place]
                one.document = {"text": sent} if isinstance(sent, str) else sent
            results.append(one)
        version = VersionAnswer(version="2" if isinstance(body, RerankTexts) else "1")
        meta = MetaAnswer(api_version=version)
        return encoded(RerankTextsAnswer(id=request_id(request.scope), results=results, meta=meta))

    return held(service, await run(_lane(service, body.model, "search"), _in_time(service, work)))


def _embedding(body: EmbeddingsRequest, place: int, vectors: F32) -> EmbeddingAnswer:
    if body.encoding_format == "float":
        return EmbeddingAnswer(index=place, embedding=vectors.tolist())
    text = base64.b64encode(vectors.astype("<f4").tobytes()).decode()
    return EmbeddingAnswer(index=place, embedding=text, shape=None if body.vectors == "pooled" else list(vectors.shape))


def _whole(answer: EmbeddingsAnswer | ModelsAnswer) -> bytes:
    """JSON with the constants that clients look for, without what is None."""
    return answer.model_dump_json(exclude_none=True).encode()


def _require_few(service: Service, texts: Sequence[object], at: str) -> None:
    most = service.settings.max_documents
    if len(texts) > most:
        raise Invalid.at(at, f"a request has at most {most:,} texts; got {len(texts):,}")


def _lane(service: Service, model: str, need: Need) -> Lane:
    """Of the model; an unknown name makes none."""
    if model in service.catalogue.encoders.names():
        return service.lanes.needing(model, need)
    return service.lanes.search


def _in_time(service: Service, work: Callable[[], bytes]) -> Callable[[], bytes]:
    """The work, waiting included, within the time that a search may take."""
    until = time.monotonic() + service.settings.search_timeout_ms / 1_000

    def timed() -> bytes:
        try:
            with deadline(until):
                return work()
        except TooSlow:
            limit = service.settings.search_timeout_ms
            raise TooSlow(f"it took longer than {limit:,} ms, the limit of this server: send fewer texts") from None

    return timed
