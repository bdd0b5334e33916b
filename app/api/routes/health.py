"""Whether the server lives, whether it answers, and what it offers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from app import __version__
from app.api.answers import encoded, reply
from app.api.edge.access import MaybeCaller, reached
from app.api.edge.bodies import Route
from app.api.edge.openapi import gives
from app.api.schemas.documents import MAX_PAGE
from app.api.service import Serving, run
from app.documents import MAX_ID_BYTES
from app.types import MAX_DIM, Kind

router = APIRouter(tags=["health"], route_class=Route)


class LiveAnswer(BaseModel):
    status: Literal["live"] = "live"


class Quarantined(BaseModel):
    name: str
    reason: str


class ReadyAnswer(BaseModel):
    """The server answers searches; quarantined collections are those it does not."""

    status: Literal["ready"] = "ready"
    quarantined: list[Quarantined] = []
    """Left out where the server has keys and the request has none."""


class ModelAnswer(BaseModel):
    name: str
    kinds: list[Kind]


class InfoAnswer(BaseModel):
    version: str
    models: list[ModelAnswer]
    limits: dict[str, int]


@router.get("/health/live", responses=gives(LiveAnswer))
async def check_live() -> Response:
    """200 as long as the process answers at all."""
    return reply(encoded(LiveAnswer(status="live")))


@router.get("/health/ready", responses=gives(ReadyAnswer))
async def check_ready(service: Serving, caller: MaybeCaller) -> Response:
    """200 where searches are answered, else 503, as while collections recover. Lists the quarantined to their keys."""
    if caller is None:
        return reply(encoded(ReadyAnswer(status="ready")))
    quarantined = await run(service.lanes.read, service.catalogue.quarantined)
    mine = reached(caller, service.catalogue.aliases.known)
    listed = [Quarantined(name=name, reason=reason) for name, reason in sorted(quarantined.items()) if mine(name)]
    return reply(encoded(ReadyAnswer(status="ready", quarantined=listed)))


@router.get("/v1/info", responses=gives(InfoAnswer))
async def describe_server(service: Serving) -> Response:
    """The version, the encoders that collections may name, and the limits."""
    settings = service.settings
    limits = {
        "body_bytes": settings.max_body_bytes,
        "import_bytes": settings.max_import_bytes,
        "documents": settings.max_documents,
        "searches": settings.max_batch,
        "values": settings.max_values,
        **asdict(settings.limits),
        "page": MAX_PAGE,
        "dim": MAX_DIM,
        "id_bytes": MAX_ID_BYTES,
    }
    models = [ModelAnswer(name=name, kinds=list(kinds)) for name, kinds in service.models.items()]
    return reply(encoded(InfoAnswer(version=__version__, models=models, limits=limits)))
