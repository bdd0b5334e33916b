"""The application: ``create_app(settings)``, with everything it needs opened at its start and closed at its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio.to_thread
from fastapi import FastAPI

from app import __version__
from app.api.edge import openapi, problems
from app.api.edge.access import Access
from app.api.edge.copies import Copies
from app.api.edge.cors import Cors
from app.api.edge.frame import Frame
from app.api.edge.hosts import host_gate, url_of
from app.api.edge.rates import Rates
from app.api.edge.routing import include
from app.api.observe import metrics
from app.api.observe.served import Observer
from app.api.observe.traces import tracing
from app.api.routes import (
    aliases,
    collections,
    documents,
    evaluation,
    exports,
    health,
    imports,
    measures,
    models,
    multisearch,
    searches,
    snapshots,
    tasks,
)
from app.api.routes.pages import page_router
from app.api.service import Lanes, Service, State
from app.catalogue.catalogue import Catalogue
from app.catalogue.snapshotting import run_snapshot
from app.catalogue.warming import load_encoders
from app.compute.native import prepare
from app.encoders.registry import Encoders
from app.errors import SheafError
from app.keys import Keyring, read_keys
from app.search import loops
from app.settings import Settings
from app.tasks.importing import run_import
from app.tasks.linking import run_neighbours
from app.tasks.rebuild import run_rebuild
from app.tasks.tasks import Handler
from app.tuning.tune import run_tune
from app.types import Standing

if TYPE_CHECKING:
    from app.shards.router import Router

log = logging.getLogger(__name__)

HANDLERS: Final[Mapping[str, Handler]] = {
    "import": run_import,
    "rebuild": run_rebuild,
    "tune": run_tune,
    "neighbours": run_neighbours,
    "snapshot": run_snapshot,
    "evaluate": evaluation.run_evaluate,
}
"""The function that runs each kind of task."""


PATIENCE_S: Final = 10.0
"""How long a request waits for an encoder that is being loaded, before it is told to come again."""


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
    app.state.metrics = metrics.Metrics()
    observers: list[Observer] = [app.state.metrics.observe]
    app.state.ending = []
    if settings.otlp_endpoint is not None:
        try:
            observe, end = tracing(settings.otlp_endpoint)
        except SheafError as error:
            log.critical("cannot start: %s", error.message)
            raise
        observers.append(observe)
        app.state.ending.append(end)
    include(
        app,
        [
            health.router,
            metrics.router,
            collections.router,
            documents.router,
            exports.router,
            imports.router,
            searches.router,
            multisearch.router,
            measures.router,
            evaluation.router,
            models.router,
            snapshots.router,
            aliases.router,
            tasks.router,
            openapi.router,
            page_router(),
        ],
    )
    problems.install(app)
    openapi.install(app)
    # From the inside out: the frame is the outermost.
    if settings.role == "reader":
        app.add_middleware(Copies, find=partial(_standing, app.state.metrics))
    app.add_middleware(Access, service=app, keyring=keyring(settings), rates=Rates(settings.rate))
    app.add_middleware(Cors, origins=settings.cors_origins)
    app.add_middleware(Frame, gate=host_gate(settings), observers=observers)
    return app


def _standing(found: metrics.Metrics, name: str) -> Standing | None:
    """How far the collection is that the name means, where it is a copy that is open."""
    if found.service is None:
        return None
    catalogue = found.service.catalogue
    return catalogue.homes.standings().get(catalogue.aliases.known.get(name, name))


def keyring(settings: Settings) -> Keyring:
    """The operator's keys, of the environment and of the file. Raises Invalid."""
    return Keyring([*settings.keys, *(read_keys(settings.keys_file) if settings.keys_file else [])])


@asynccontextmanager
async def _lifespan(settings: Settings, app: FastAPI) -> AsyncIterator[State]:
    try:
        count = app.state.metrics.encoded
        encoders = Encoders(settings.models, settings.converted, settings.threads, count, PATIENCE_S)
        opened: list[Catalogue] = []
        evaluate: Handler = partial(evaluation.run_evaluate, catalogue=lambda: opened[0])
        router = await anyio.to_thread.run_sync(_router, settings)
        if router is not None and threading.current_thread() is threading.main_thread():
            # Ray has put handlers of its own over these, which end the process at once.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.getsignal(number))
        handlers = {**HANDLERS, "evaluate": evaluate}
        catalogue = Catalogue(settings.indexes, encoders, settings, handlers, router)
        opened.append(catalogue)
        await anyio.to_thread.run_sync(catalogue.claim, url_of(settings.host, settings.port))
    except SheafError as error:
        log.critical("cannot start: %s%s", error.message, _way_out(settings, error.__cause__))
        raise
    except OSError as error:
        place = error.filename or settings.indexes
        log.critical("cannot start: SHEAF_INDEXES: %s: %s%s", place, error.strerror, _way_out(settings, error))
        raise
    except BaseException:
        log.critical("cannot start", exc_info=True)
        raise
    # Requests are taken while the collections are opened, and told to come again: so whoever watches over the server
    # can tell one that recovers from one that hangs.
    app.state.opening = asyncio.ensure_future(anyio.to_thread.run_sync(catalogue.open_all))
    app.state.warming = asyncio.ensure_future(_warm(app.state.opening, catalogue, router))
    app.state.preparing = asyncio.ensure_future(_ahead(app.state.warming, catalogue))
    try:
        service = Service(settings, catalogue, Lanes(settings), warming=app.state.warming)
        app.state.metrics.watch(service)
        yield {"service": service}
    finally:
        app.state.metrics.watch(None)
        if router is not None:
            # Before the collections, of which one may wait for shards.
            await anyio.to_thread.run_sync(router.stop)
        await anyio.to_thread.run_sync(catalogue.close)
        await asyncio.wait([app.state.opening, app.state.warming, app.state.preparing])
        encoders.close()
        if router is not None:
            await anyio.to_thread.run_sync(router.close)
        for end in app.state.ending:
            await anyio.to_thread.run_sync(end)


def _router(settings: Settings) -> Router | None:
    """Of searches to the shards of a cluster, where there is one. Raises Invalid."""
    if settings.cluster is None:
        return None
    from app.shards.router import open_router

    assert settings.store is not None, "a reader has a store"
    return open_router(
        settings.cluster,
        settings.store,
        str(settings.shard_folder),
        settings.shards,
        settings.threads,
        settings.shard_budget_ms / 1e3,
    )


async def _warm(opening: asyncio.Future[None], catalogue: Catalogue, router: Router | None) -> None:
    """What the first search of a collection that is there would wait for. Requests are served meanwhile, though the
    server is not ready: what needs no encoder does not wait for it."""
    await asyncio.wait([opening])
    if router is not None:
        await anyio.to_thread.run_sync(router.settle)
    if catalogue.ready:
        try:
            await anyio.to_thread.run_sync(load_encoders, catalogue)
        except Exception:
            log.exception("could not load the encoders; the first search will")
        if catalogue.progress[1]:
            await _prepare(catalogue)


async def _ahead(warming: asyncio.Future[None], catalogue: Catalogue) -> None:
    """The same of collections to come, which no start waits for."""
    await asyncio.wait([warming])
    await _prepare(catalogue)


async def _prepare(catalogue: Catalogue) -> None:
    await anyio.to_thread.run_sync(prepare, loops(), lambda: catalogue.ready)


def _way_out(settings: Settings, error: BaseException | None) -> str:
    """Where the folder is another user's, as a folder of the host that is mounted into a container often is."""
    if not isinstance(error, PermissionError):
        return ""
    owner = f"{os.geteuid()}:{os.getegid()}"
    return (
        f". The server runs as user {os.geteuid()}, group {os.getegid()}, and must own SHEAF_INDEXES: chown -R {owner} "
        f"{settings.indexes.absolute()} (where that is mounted into a container: the folder on the host)"
    )
