"""``kill -9`` at every named step of every kind of write to collections whose home is an object store, and of a reader
that follows: what was acknowledged stands on the machine that was killed, on one that begins with nothing, and on a
reader.
"""

from __future__ import annotations

import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import ledger
from acting import HANDLERS_KEPT, Steps, act
from ledger import check, make
from report import Report
from steps import STORED, hold_open, kill_at_each, named_steps, told
from writing_process import document, say, settings

from app.catalogue.catalogue import Catalogue
from app.compute import native
from app.encoders.registry import Encoders
from app.ingest import write_documents
from app.replicas import cache
from app.replicas.cache import cache_of
from app.search import Query, search
from app.store import folders

STORE = ".store"
"""Beside the collections, where the name of none can be: it is copied with them for each trial."""
READER = ".reader"


def run(folder: Path, seed: int, trials: int) -> Report:
    """trials: as ``steps.run`` has them."""
    report, base = Report("home", seed), folder / "base"
    native.keep_in(folder / "compiled")
    make(base)
    with opened(base) as catalogue:
        catalogue.serve("http://here")
    shutil.copytree(base, folder / "once")
    steps, said = Steps(None), StringIO()
    with redirect_stdout(said):
        act_stored(folder / "once", steps)
    hold_stored(folder / "once", said.getvalue())
    kill_at_each(report, folder, base, steps.names, trials, act_stored, hold_stored, named_steps(*STORED))
    for name in sorted(named_steps(*STORED) - {name.partition(": ")[2] for name in steps.names}):
        report.fail(f"{name}: no operation comes by this step")
    return report.done()


def opened(place: Path, role: str = "writer", store: Path | None = None) -> Catalogue:
    # Of a reader large files come by blocks, and here all that may.
    cache.LEAST = 0  # type: ignore[misc]
    bound = {"cache_bytes": 2**20} if role == "reader" else {}
    chosen = settings(place, store=f"file://{(store or place / STORE).absolute()}", role=role, **bound)
    return Catalogue(place, Encoders(chosen.models), chosen, HANDLERS_KEPT)  # type: ignore[arg-type]


def act_stored(place: Path, steps: Steps) -> None:
    act(place, steps, more=follow, store=f"file://{(place / STORE).absolute()}")


def follow(catalogue: Catalogue, steps: Steps) -> None:
    """What a collection's copies do in the background, and a reader, step by step."""
    writing = catalogue._open["c"].copy
    reader = opened(catalogue.folder / READER, "reader", catalogue.folder / STORE)
    with reader:
        steps.at("open a reader", lambda: reader.homes.begin(reader.aliases, lambda: False))
        steps.at("open a copy", lambda: reader.get("c"))
        ids = [f"d{i}" for i in range(3)]
        say("upsert", "c", 10**5, ids)
        write_documents(catalogue.get("c"), [document(i, 10**5, own=False) for i in ids])
        say("done", "c", 10**5, ids)
        cached = cache_of(reader.files)
        assert cached is not None
        steps.at("let blocks go", lambda: [one.shrink(ruthless=True) for one in cached.known()])
        steps.at("bring blocks", lambda: search(reader.get("c"), Query(text="document", exact=True)))
        steps.at("follow", lambda: reader._open["c"].copy._step())  # type: ignore[union-attr]
        steps.at("base", lambda: writing._writing.rebase())  # type: ignore[union-attr]


def hold_stored(place: Path, said: str) -> None:
    """Of the machine that was killed, and of two that have nothing: one that reads, one that writes."""
    ledgers, aliases = told(said)
    with opened(place) as catalogue:
        catalogue.serve("http://here")
        names = folders.names(catalogue.files)
        for name, one in ledgers.items():
            if not one.there:
                one.there, one.stands = name in names, one.maybe
            if one.there:
                ledger.hold(catalogue.get(name), one)
        hold_open(catalogue, ledgers, aliases)
        known = catalogue.aliases.all()
    check(place, ledgers)
    with opened(place / READER, "reader", place / STORE) as catalogue:
        catalogue.serve("http://here")
        assert folders.names(catalogue.files) == names
        assert (catalogue.quarantined(), catalogue.aliases.all()) == ({}, known)
        for name in names:
            # One that was just being made, which nothing was written to, is in no ledger.
            collection = catalogue.get(name)
            if name in ledgers:
                ledger.hold(collection, ledgers[name])
    new = place / ".new"
    with opened(new, store=place / STORE) as catalogue:
        catalogue.serve("http://here")
        assert folders.names(catalogue.files) == names
    check(new, ledgers)
