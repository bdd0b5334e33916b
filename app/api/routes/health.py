"""Whether the server lives, whether it answers, and what it offers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from app import __version__
from app.api.answers import encoded, reply
from app.api.edge.access import Caller, MaybeCaller, reached
from app.api.edge.bodies import Route
from app.api.edge.openapi import gives
from app.api.schemas.documents import MAX_PAGE
from app.api.service import Serving, run
from app.encoders.registry import State
from app.errors import NotReady
from app.keys import SCOPES
from app.keys import Scope as KeyScope
from app.schema.ids import MAX_ID_BYTES
from app.types import MAX_DIM, Kind, Standing

router = APIRouter(tags=["health"], route_class=Route)


class LiveAnswer(BaseModel):
    status: Literal["live"] = "live"


class Quarantined(BaseModel):
    name: str
    reason: str


class ReadyAnswer(BaseModel):
    """The server answers searches; quarantined collections are those it does not."""

    status: Literal["ready"] = "ready"
    encoders: dict[str, State] = {}
    quarantined: list[Quarantined] = []
    copies: dict[str, Standing] = {}
    """How far collections are that come from an object store, of a server with `SHEAF_STORE`. All three are left out
    where the server has keys and the request has none."""


class ModelAnswer(BaseModel):
    """A model; what comes after ``error`` is known once it is loaded."""

    name: str
    kinds: list[Kind]
    """Of collections that it encodes for; a cross encoder and a sparse encoder have none."""
    reranks: bool
    """Whether a search may name it to rerank what was found."""
    sparse: bool
    """Whether it makes sparse vectors, as a collection's `sparse` may name it."""
    state: State
    error: str | None
    """Why it failed to load; it is tried again when it is needed."""
    backend: str | None
    """The runtime: `openvino, bf16`."""
    dim: int | None
    dims: list[int]
    """That a collection may choose of, as `encoder.dim`; none where there is no choice."""
    max_tokens: int | None
    """After which a text is cut; null where the model does not tell."""
    query_prompt: str | None
    """The prompt before each query."""
    document_prompt: str | None
    warning: str | None
    """A lack that the model seems to have, such as of the prompts that it was trained with."""


class CallerAnswer(BaseModel):
    """What the request's key may do; on a server without keys, whoever asks may do everything."""

    scopes: list[KeyScope]
    """All of them, those that another one brings included."""
    collections: list[str] | None
    """The names that it is limited to; null is no limit."""


class InfoAnswer(BaseModel):
    version: str
    models: list[ModelAnswer]
    limits: dict[str, int]
    caller: CallerAnswer


@router.get("/health/live", responses=gives(LiveAnswer))
async def check_live() -> Response:
    """200 as long as the process answers at all."""
    return reply(encoded(LiveAnswer(status="live")))


@router.get("/health/ready", responses=gives(ReadyAnswer))
async def check_ready(service: Serving, caller: MaybeCaller) -> Response:
    """200 where searches are answered, else 503, as while collections recover or encoders are loaded. Lists the
    quarantined to their keys."""
    encoders = service.catalogue.encoders
    states = {name: encoders.describe(name).state for name in encoders.names()}
    if not service.ready:
        loading = ", ".join(name for name, state in states.items() if state == "loading")
        raise NotReady(f"encoders are being loaded: {loading or 'the first'}; what needs none is answered already")
    if caller is None:
        return reply(encoded(ReadyAnswer(status="ready")))
    quarantined = await run(service.lanes.read, service.catalogue.quarantined)
    mine = reached(caller, service.catalogue.aliases.known)
    listed = [Quarantined(name=name, reason=reason) for name, reason in sorted(quarantined.items()) if mine(name)]
    answer = ReadyAnswer(status="ready", encoders=states, quarantined=listed)
    if copies := service.catalogue.homes.standings():
        answer.copies = {name: standing for name, standing in sorted(copies.items()) if mine(name)}
    return reply(encoded(answer))


@router.get("/v1/info", responses=gives(InfoAnswer))
async def describe_server(service: Serving, key: Caller) -> Response:
    """The version, the encoders that collections may name, the limits, and what the caller's key may do."""
    settings = service.settings
    limits = {
        "body_bytes": settings.max_body_bytes,
        "import_bytes": settings.max_import_bytes,
        "documents": settings.max_documents,
        "searches": settings.max_batch,
        "queries": settings.max_queries,
        "values": settings.max_values,
        **asdict(settings.limits),
        "page": MAX_PAGE,
        "dim": MAX_DIM,
        "id_bytes": MAX_ID_BYTES,
    }
    encoders = service.catalogue.encoders
    models = [ModelAnswer.model_validate(asdict(encoders.describe(name))) for name in encoders.names()]
    caller = CallerAnswer(
        scopes=[scope for scope in SCOPES if key.may(scope)],
        collections=None if key.collections is None else list(key.collections),
    )
    return reply(encoded(InfoAnswer(version=__version__, models=models, limits=limits, caller=caller)))
