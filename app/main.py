"""The application: ``create_app(settings)``, with everything it needs opened at its start and closed at its end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio.to_thread
from fastapi import FastAPI

from app import __version__
from app.api import collections, documents, health, imports, openapi, problems, searches, tasks
from app.api.access import Access
from app.api.frame import Frame
from app.api.hosts import host_gate
from app.api.pages import page_router
from app.api.rates import Rates
from app.api.routing import include
from app.api.service import Lanes, Service, State
from app.collection.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.errors import SheafError
from app.handlers import HANDLERS
from app.keys import Keyring, read_keys
from app.settings import Settings

log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The service over the collections in ``settings.indexes``. None is opened before the lifespan starts.

    Raises Invalid where the operator's keys cannot be.
    """
    app = FastAPI(
        title="Sheaf",
        version=__version__,
        description="Dense and multi-vector retrieval: late-interaction quality, measured recall, nothing lost.",
        lifespan=partial(_lifespan, settings),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    include(
        app,
        [
            health.router,
            collections.router,
            documents.router,
            imports.router,
            searches.router,
            tasks.router,
            openapi.router,
            page_router(),
        ],
    )
    problems.install(app)
    openapi.install(app)
    # From the inside out: the frame is the outermost.
    app.add_middleware(Access, service=app, keyring=keyring(settings), rates=Rates(settings.rate))
    app.add_middleware(Frame, gate=host_gate(settings))
    return app


def keyring(settings: Settings) -> Keyring:
    """The operator's keys, of the environment and of the file. Raises Invalid."""
    return Keyring([*settings.keys, *(read_keys(settings.keys_file) if settings.keys_file else [])])


@asynccontextmanager
async def _lifespan(settings: Settings, app: FastAPI) -> AsyncIterator[State]:
    try:
        encoders = Encoders(settings.models, settings.converted, settings.threads)
        catalogue = Catalogue(settings.indexes, encoders, settings, HANDLERS)
        await anyio.to_thread.run_sync(catalogue.serve, _url(settings))
    except SheafError as error:
        log.critical("cannot start: %s", error.message)
        raise
    except BaseException:
        log.critical("cannot start", exc_info=True)
        raise
    try:
        models = {name: encoders.kinds(name) for name in encoders.names()}
        yield {"service": Service(settings, catalogue, models, Lanes(settings))}
    finally:
        await anyio.to_thread.run_sync(catalogue.close)
        encoders.close()


def _url(settings: Settings) -> str:
    """Where the server is found, for whoever meets its locks."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"
