"""OpenAPI: what FastAPI cannot know, such as streamed bodies, errors and keys, and the page at /docs.

The page is Swagger UI, served from an installed package, so that it works without a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.responses import FileResponse, Response

from app.api.edge.access import rule_of
from app.api.edge.bodies import JSON, NDJSON, PARQUET, TAR, Route
from app.api.edge.problems import MEDIA_TYPE, ProblemAnswer
from app.batch.arrays import FORMS

_REF: Final = "#/components/schemas/{model}"
_PROBLEM: Final[dict[str, Any]] = {
    "description": "Problem details (RFC 9457); `code` tells which.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="ProblemAnswer")}}},
}


_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of the operator's, where the server has any."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, in a header."},
}


def _security(route: Route, method: str) -> list[dict[str, list[str]]]:
    """A key with one of the route's scopes, in either header; or none, on a server that has no keys."""
    scopes = rule_of(route, method).scopes
    asked: list[dict[str, list[str]]] = [{scheme: [scope]} for scope in scopes for scheme in _SCHEMES]
    return [*asked, {}]


def takes_lines(
    example: str, files: Mapping[str, Any] | None = None, said: str = "One DocumentBody a line."
) -> dict[str, Any]:
    """``openapi_extra`` of a route that takes NDJSON. files: other content types, which are taken as they are, with an
    example. said: of the lines.

    Lines stand behind JSON, which is binary here too: a generated client sends such a body as the last of them."""
    content = {
        "schema": {"type": "string", "format": "binary", "description": said},
        "examples": {"lines": {"value": example}},
    }
    binary = {"type": "string", "format": "binary"}
    others = {
        media: {"schema": binary, **({} if one is None else {"examples": {"file": {"value": one}}})}
        for media, one in (files or {}).items()
    }
    first = {JSON[0]: others.pop(JSON[0])} if JSON[0] in others else {}
    return {"requestBody": {"required": True, "content": {**first, NDJSON[0]: content, **others}}}


def takes_archive() -> dict[str, Any]:
    """``openapi_extra`` of a route that takes a snapshot's archive."""
    content = {"schema": {"type": "string", "format": "binary", "description": "A snapshot, as it was downloaded."}}
    return {"requestBody": {"required": True, "content": {TAR[0]: content}}}


def gives_archive() -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route that answers with a snapshot's archive."""
    content = {TAR[0]: {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"description": "The archive.", "content": content}, "default": _PROBLEM}


def gives_lines() -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route that answers documents, NDJSON or Parquet."""
    lines = {"type": "string", "description": "One document a line, as an import takes it."}
    content: dict[str, Any] = {NDJSON[0]: {"schema": lines}}
    content[PARQUET] = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": "The documents.", "content": content}, "default": _PROBLEM}


def takes_arrays() -> dict[str, Any]:
    """``openapi_extra`` of a route that takes queries as an array."""
    said = "An array of float32 or float16: (queries, dim), or (queries, vectors, dim) of token vectors."
    content = {media: {"schema": {"type": "string", "format": "binary", "description": said}} for media in FORMS}
    return {"requestBody": {"required": True, "content": content}}


def gives_arrays() -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route that answers hits as an array."""
    content = {media: {"schema": {"type": "string", "format": "binary"}} for media in FORMS}
    said = {
        "description": "JSON: `generation`, `took_ms`, `stages`, `warnings`; `partial` and `coverage` as a search has "
        "them, where some segments are not answered for.",
        "schema": {"type": "string"},
    }
    return {
        200: {"description": "The hits of each query.", "content": content, "headers": {"X-Sheaf-Search": said}},
        "default": _PROBLEM,
    }


def gives_set(model: type) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route that answers a set of judgements, in the form that was asked for."""
    text: dict[str, Any] = {"schema": {"type": "string"}}
    content = {NDJSON[0]: text, "text/plain": text, "text/tab-separated-values": text}
    content["application/zip"] = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"model": model, "description": "The set.", "content": content}, "default": _PROBLEM}


def gives(model: type, status: int = 200, description: str = "Done.") -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route: its answer, and problem details for all else."""
    return {status: {"model": model, "description": description}, "default": _PROBLEM}


def gives_nothing() -> dict[int | str, dict[str, Any]]:
    """The same of a route that answers 204."""
    return {204: {"description": "Done."}, "default": _PROBLEM}


def gives_text(description: str) -> dict[int | str, dict[str, Any]]:
    """The same of a route that answers plain text."""
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {200: {"content": content, "description": description}, "default": _PROBLEM}


def install(app: FastAPI) -> None:
    """Completes the schema that ``app`` publishes at /openapi.json."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, errors = models_json_schema([(ProblemAnswer, "serialization")], ref_template=_REF)
            made["components"]["schemas"] |= errors["$defs"]
            made["components"]["securitySchemes"] = _SCHEMES
            for model in made["components"]["schemas"].values():
                for field in model.get("properties", {}).values():
                    # Generators of clients cannot write an object's default down, and leave the whole model out.
                    if isinstance(field.get("default"), dict):
                        del field["default"]
            for route in (one for one in app.routes if isinstance(one, Route) and one.include_in_schema):
                for method in route.methods or ():
                    operation = made["paths"][route.path_format][method.lower()]
                    operation["security"] = _security(route, method)
                    for parameter in operation.get("parameters", []):
                        # It is given or left out, never null.
                        schema = parameter["schema"]
                        for kind in schema.pop("anyOf", []):
                            schema |= {} if kind == {"type": "null"} else kind
                    # FastAPI drops every null, in examples too, where it means something.
                    if route.body_field is not None:
                        shown = getattr(route.body_field.field_info, "openapi_examples", None)
                        operation["requestBody"]["content"][JSON[0]]["examples"] = shown
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's manual says


router = APIRouter(include_in_schema=False)
_ASSETS: Final = {
    "start.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
# Swagger UI styles its elements one by one.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE: Final = Path(__file__).parents[2] / "web" / "docs"


@router.get("/openapi.json")
async def schema(request: Request) -> Response:
    from fastapi.responses import JSONResponse

    return JSONResponse(request.app.openapi())


@router.get("/docs")
async def docs() -> Response:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return FileResponse(_PAGE / "index.html", media_type="text/html; charset=utf-8", headers=headers)


def _asset(name: str, media_type: str) -> None:
    @router.get(f"/docs/{name}")
    async def asset() -> Response:
        own = _PAGE / name
        path = own if own.is_file() else resources.files("fastapi_swagger.resources") / name
        return FileResponse(str(path), media_type=media_type, headers={"Cache-Control": "max-age=86400"})

    asset.serves_file = True  # type: ignore[attr-defined]  # for app.api.edge.access


for _file, _type in _ASSETS.items():
    _asset(_file, _type)
