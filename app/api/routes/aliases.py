"""Aliases: further names of collections, and which collection each means now."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from app.api.answers import encoded, reply
from app.api.edge.access import Caller, require
from app.api.edge.bodies import READ, Route, examples
from app.api.edge.openapi import gives, gives_nothing
from app.api.edge.routing import decoded
from app.api.schemas.backups import AliasAnswer, AliasesAnswer, SetAlias
from app.api.service import Serving, run
from app.catalogue.aliases import unknown
from app.keys import ApiKey
from app.store.layout import NAME

router = APIRouter(tags=["aliases"], route_class=Route)


async def _alias(alias: Annotated[str, Path(description="The alias.", examples=["live"])]) -> str:
    if not NAME.fullmatch(found := decoded(alias, "/alias")):
        raise unknown(found)
    return found


Alias: TypeAlias = Annotated[str, Depends(_alias)]


@router.get("/v1/aliases", responses=gives(AliasesAnswer))
async def list_aliases(service: Serving, caller: Caller) -> Response:
    """Every alias that the key reaches, and those of collections that it reaches, by name."""

    def work() -> bytes:
        names = service.catalogue.aliases.all().items()
        found = [AliasAnswer(alias=alias, collection=name) for alias, name in names if _reaches(caller, alias, name)]
        return encoded(AliasesAnswer(aliases=found))

    return reply(await run(service.lanes.read, work))


@router.get("/v1/aliases/{alias}", responses=gives(AliasAnswer))
async def get_alias(service: Serving, caller: Caller, alias: Alias) -> Response:
    """The collection that an alias stands for."""

    def work() -> bytes:
        name = service.catalogue.aliases.all().get(alias)
        if name is None or not _reaches(caller, alias, name):
            raise unknown(alias)
        return encoded(AliasAnswer(alias=alias, collection=name))

    return reply(await run(service.lanes.read, work))


@router.put(
    "/v1/aliases/{alias}",
    responses={
        **gives(AliasAnswer, description="It stands for this collection now, in one step."),
        201: {"model": AliasAnswer, "description": "New."},
    },
)
async def set_alias(
    service: Serving,
    caller: Caller,
    alias: Alias,
    body: Annotated[SetAlias, READ, examples(live={"collection": "papers-2"})],
) -> Response:
    """Make an alias, or point it at another collection. Requests that are under way end where they began."""
    for name in (alias, body.collection):
        require(caller, name)

    def work() -> tuple[bytes, bool]:
        new = service.catalogue.aliases.set(alias, body.collection)
        return encoded(AliasAnswer(alias=alias, collection=body.collection)), new

    content, new = await run(service.lanes.write, work)
    return reply(content, 201 if new else 200)


@router.delete("/v1/aliases/{alias}", status_code=204, responses=gives_nothing())
async def delete_alias(service: Serving, caller: Caller, alias: Alias) -> Response:
    """Delete an alias; its collection stays."""
    require(caller, alias)
    await run(service.lanes.write, service.catalogue.aliases.delete, alias)
    return Response(status_code=204)


def _reaches(caller: ApiKey, alias: str, collection: str) -> bool:
    """A key may be limited to either."""
    return caller.reaches(alias) or caller.reaches(collection)
