"""The search page at /: the files of ``app/web/static``, each at its name, with headers that confine it, and packed
where a browser takes that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

FOLDER: Final = Path(__file__).parents[2] / "web" / "static"
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    # Kept, but asked for again each time; unchanged files are answered 304.
    "Cache-Control": "no-cache",
}


def page_router(folder: Path = FOLDER) -> APIRouter:
    """One route a file that is there now, and ``/`` for index.html; so no path can lead out of the folder."""
    router = APIRouter()
    files = StaticFiles(directory=folder, check_dir=False)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        paths = [f"/{name}", "/"] if name == "index.html" else [f"/{name}"]
        router.routes += [_Page(path, _serve(files, name)) for path in paths]
    return router


class _Page(Route):
    """Names itself in the scope, as FastAPI's routes do, so that the log and the metrics tell it from no route."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return match, {**child, "route": self} if match is not Match.NONE else child


def _serve(files: StaticFiles, name: str) -> Callable[[Request], Awaitable[ASGIApp]]:
    async def endpoint(request: Request) -> ASGIApp:
        response = await files.get_response(name, request.scope)
        response.headers.update(_HEADERS)
        # Packed or not it is the same file, and not the same bytes.
        response.headers["ETag"] = f"W/{response.headers['ETag']}"
        return GZipMiddleware(response)

    endpoint.serves_file = True  # type: ignore[attr-defined]  # for app.api.edge.access
    return endpoint
