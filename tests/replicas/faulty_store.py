"""Servers over one store that does not answer, or answers and does not say so, as tests have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from made import OpenCatalogue

from app.catalogue import stored
from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.errors import Closed, StoreUnavailable, Unsure
from app.ingest import write_documents
from app.objects.folder import Folder
from app.objects.persistent import Persistent
from app.types import Document

Open = Callable[..., Catalogue]


class Faulty:
    """The requests of a folder. down: none is answered. cut: none of who has it by another way (``/./``). lost: the
    next put of a commit is applied, and not answered."""

    def __init__(self, path: str) -> None:
        self._folder = Folder(Path(path))
        self._other = "/./" in path
        self.state = STATE

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._folder, name)
        if name in ("get", "read", "put_new", "replace", "put", "list", "remove"):
            return lambda *given: self._asked(name, found, *given)
        return found

    def _asked(self, name: str, call: Callable[..., Any], *given: Any) -> Any:
        if self.state["down"] or (self._other and self.state["cut"]):
            raise StoreUnavailable("the store is away")
        if name == "put_new" and self.state["lost"]:
            call(*given)
            self.state["down"] = True
            raise Unsure("no answer came")
        return call(*given)


STATE = {"down": False, "cut": False, "lost": False}


@contextmanager
def servers(open_catalogue: OpenCatalogue, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Servers over one store, each with a folder of its own."""
    STATE.update(down=False, cut=False, lost=False)
    monkeypatch.setattr(
        stored, "open_objects", lambda url: Persistent(Faulty(url.removeprefix("file://")), deadline_s=0.2)
    )
    with ExitStack() as stack:

        def begin(name: str, role: str = "writer", **settings: Any) -> Catalogue:
            chosen = {"store": f"file://{folder}/store", "role": role, "seal_documents": 1_000, **settings}
            catalogue = stack.enter_context(open_catalogue(folder / name, tasks=True, **chosen))
            catalogue.serve(f"http://{name}")
            return catalogue

        yield begin
        STATE.update(down=False, cut=False, lost=False)


def ids(collection: Collection) -> list[str]:
    return [one.id for one in collection.listing(None, 1_000)[0]]


def is_written(collection: Collection, identifier: str) -> bool:
    """Writes a document, where that can be done now; whether it was."""
    try:
        write(collection, identifier)
    except (StoreUnavailable, Closed):
        return False
    return True


def write(collection: Collection, *names: str) -> None:
    write_documents(collection, [Document(name, f"{name} is written") for name in names])


def made(catalogue: Catalogue) -> Collection:
    return catalogue.create("c", model="words", kind="multi_vector")
