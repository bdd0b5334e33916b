"""Collections for tests: real ones in a temporary folder, with the deterministic encoder or callers' vectors."""

from __future__ import annotations

import gc
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from made import DIM, MakeCollection, OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.compute.native import keep_in
from app.encoders.registry import Encoders
from app.main import HANDLERS
from app.settings import DeterministicModel, Settings
from app.types import Kind

# `--hypothesis-profile=long` runs a test at length that asks for it (tests/test_safety_nets.py).
hypothesis.settings.register_profile("long")

COMPILED = Path(__file__).parents[1] / ".pytest_cache" / "compiled"
# Loops are compiled once for all tests, and for the processes that they start.
os.environ.setdefault("NUMBA_CACHE_DIR", str(COMPILED))
keep_in(COMPILED)
# Haystack tells its makers what is used, unless it is told not to.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
# Each client of httpx reads all certificates anew, 50 ms of processor time; no test changes what is trusted.
ssl.create_default_context = cache(ssl.create_default_context)

# A shell that starts the tests in the background has it ignored, and so would have what they start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent
SLOW = [
    # They start processes.
    *("client", "faults", "scripts", "web"),
    *(
        "api/test_hanging_encoder.py",
        "api/test_outgoing.py",
        "api/test_shards.py",
        "api/test_traces.py",
        "api/test_watchdog.py",
    ),
    *("backup/test_saved.py", "catalogue/test_catalogue.py", "collection/test_crash.py"),
    *("collection/test_processes.py", "compute/test_native.py", "sources/test_hdf5.py", "sources/test_ndjson.py"),
    "store/test_disk_full.py",
    # They convert models, fit encodings and build large indexes.
    *("encoders", "encodings", "rerank", "tuning", "vector_index", "api/test_rerank_route.py"),
    "api/test_model_routes.py",
    *("indexing/test_drift.py", "indexing/test_fitting.py", "indexing/test_width.py"),
    # They try many sequences, every path there is, or every way in which a file or a body can be wrong.
    *("api/test_alias_routes.py", "api/test_anything.py", "api/test_bad_input.py", "api/test_bodies.py"),
    *("api/test_limits_in_time.py", "api/test_metrics.py", "api/test_openapi.py", "api/test_partial_route.py"),
    *("api/test_writing.py", "catalogue/test_open_files.py", "catalogue/test_passing_faults.py"),
    *("backup/test_hostile_archives.py", "backup/test_snapshots.py", "backup/test_uploaded.py"),
    *("backup/test_uploaded_values.py", "codes/test_token_pooling.py", "codes/test_trellis.py"),
    *("collection/test_damage.py", "collection/test_laws.py", "collection/test_listing.py", "collection/test_parts.py"),
    *(
        "highlights",
        "load",
        "measure",
        "objects",
        "passages",
        "replication",
        "results",
        "sparse",
        "indexing/test_newcomers.py",
        "lexical/test_words.py",
    ),
    *("tasks/test_importing.py", "tasks/test_rebuild.py", "test_boosts.py", "test_hybrid.py", "test_like.py"),
    *("api/test_boosts_route.py", "api/test_like_route.py", "api/test_multisearch_route.py"),
    *("api/test_query_log_route.py", "api/test_snapshot_routes.py", "catalogue/test_lifetimes.py"),
    # They wait for what does not happen.
    *("api/test_encoder_loading.py", "catalogue/test_at_rest.py"),
    *("indexing/test_stages.py", "scoring/test_select.py", "test_fuzzing.py"),
    "test_similarities.py",
    *("test_diversity.py", "test_partial.py", "test_precisions.py", "test_reference.py", "test_safety_nets.py"),
]
LONG = ("faults/test_schema_requests.py", "faults", "web", "client", "scripts", "encoders")
"""The files and folders that take longest, which begin first."""
SERVERS = {"start"}
"""Fixtures that start programs."""
_quick: list[str] = []
"""The test that runs, where it is not marked as slow."""


@cache
def _slow(path: Path) -> bool:
    """Whether a file or a folder is slow, or lies in one that is."""
    return path.is_relative_to(TESTS) and any(path.is_relative_to(TESTS / name) for name in SLOW)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Slow files are not imported for nothing: encoders' take seconds."""
    return True if config.option.markexpr == "not slow" and _slow(collection_path) else None


@cache
def _turn(path: Path) -> int:
    """The longest files begin first, so that no core waits for them at the end."""
    return next((place for place, one in enumerate(LONG) if path.is_relative_to(TESTS / one)), len(LONG))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays to the end: nobody looks through millions of objects for garbage, a sixth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _turn(item.path))
    for item in items:
        if _slow(item.path) or SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("slow") is None:
        _quick.append(item.nodeid)
    try:
        return (yield)
    finally:
        _quick.clear()


def _no_process(event: str, _: object) -> None:
    if _quick and event in ("subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn"):
        pytest.fail(
            f"{_quick[0]} starts a process: mark it with pytest.mark.slow, or name its file in tests/conftest.py"
        )


sys.addaudithook(_no_process)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until something holds, for what another thread does."""

    def wait(holds: Callable[[], bool]) -> None:
        for _ in range(6_000):
            if holds():
                return
            time.sleep(0.01)
        raise AssertionError("it did not come about within a minute")

    return wait


@pytest.fixture
def open_catalogue(tmp_path: Path) -> Iterator[OpenCatalogue]:
    """Opens the catalogue of one folder. tasks: run tasks and background work, as a server does."""
    with ExitStack() as closing:

        def make(folder: Path | None = None, *, tasks: bool = False, **settings: Any) -> Catalogue:
            settings.setdefault("models", {"words": DeterministicModel(type="deterministic", dim=DIM)})
            chosen = Settings(indexes=folder or tmp_path / "indexes", threads=2, **settings)
            encoders = Encoders(chosen.models)
            catalogue = Catalogue(chosen.indexes, encoders, chosen, HANDLERS if tasks else None)
            return closing.enter_context(catalogue)

        yield make


@pytest.fixture
def make_text(open_catalogue: OpenCatalogue) -> MakeCollection:
    """Collections of the deterministic encoder, several in one catalogue."""
    catalogue = open_catalogue()

    def make(kind: Kind = "multi_vector", name: str = "texts", **options: Any) -> Collection:
        return catalogue.create(name, model="words", kind=kind, **options)

    return make


@pytest.fixture
def make_collection(open_catalogue: OpenCatalogue) -> MakeCollection:
    """A new collection `c`: of the deterministic encoder, or of callers' vectors where `dim` is given."""

    def make(*, kind: str = "multi_vector", dim: int | None = None, **options: Any) -> Collection:
        settings = {key: options.pop(key) for key in ("seal_documents", "seal_bytes") if key in options}
        catalogue = open_catalogue(**settings)
        return catalogue.create("c", model="words" if dim is None else None, kind=kind, dim=dim, **options)

    return make
