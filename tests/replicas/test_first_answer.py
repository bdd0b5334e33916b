"""What a reader's first answer from an empty folder costs: requests in a row, counted and never timed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import OpenCatalogue

from app.catalogue import stored
from app.catalogue.catalogue import Catalogue
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.objects.folder import Folder
from app.objects.persistent import Persistent
from app.search import Query, search
from app.types import Document

NAMES = ("c", "d", "e")


class Rows:
    """Of the requests of one thread: how many had to come one after the other. stale: listings have nothing yet."""

    def __init__(self) -> None:
        self.deep = self.count = 0
        self.stale = False
        self._thread = threading.get_ident()

    def asked(self) -> None:
        if threading.get_ident() == self._thread:
            self.deep += 1
            self.count += 1

    def together(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Each as if it began with the others."""
        began = last = self.deep
        results = []
        for call in calls:
            self.deep = began
            results.append(call())
            last = max(last, self.deep)
        self.deep = last
        return results


class Requests:
    def __init__(self, path: str, rows: Rows) -> None:
        self._folder, self._rows = Folder(Path(path)), rows
        self.place = self._folder.place

    def __getattr__(self, kind: str) -> Any:
        found = getattr(self._folder, kind)

        def ask(*given: Any) -> Any:
            self._rows.asked()
            return [] if kind == "list" and self._rows.stale else found(*given)

        return ask


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    counted = Rows()

    def opened(url: str) -> Persistent:
        requests: Any = Requests(url.removeprefix("file://"), counted)
        return Persistent(requests, together=counted.together)

    monkeypatch.setattr(stored, "open_objects", opened)
    return counted


@pytest.fixture
def store(rows: Rows, open_catalogue: OpenCatalogue, tmp_path: Path) -> Iterator[str]:
    """Three collections: a base with a segment, a segment after it, and commits that are in no segment."""
    url = f"file://{tmp_path}/store"
    with open_catalogue(tmp_path / "w", tasks=True, store=url) as writer:
        writer.serve("http://w")
        for name in NAMES:
            collection = writer.create(name, model=None, kind="dense", dim=4)
            write(writer, name, 0)
            seal(collection)
            copy: Any = writer._open[name].copy
            copy._writing.rebase()
            write(writer, name, 1)
            seal(collection)
            write(writer, name, 2)
        yield url


def write(catalogue: Catalogue, name: str, at: int) -> None:
    vectors = np.eye(4, dtype=np.float32)[at][None]
    write_documents(catalogue.get(name), [Document(f"{name}{at}", "", vectors=vectors)])


@pytest.mark.parametrize(("stale", "cached"), [(False, False), (True, False), (False, True)])
def test_a_first_answer_is_four_requests_in_a_row(
    rows: Rows,
    store: str,
    stale: bool,
    cached: bool,
    open_catalogue: OpenCatalogue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """cached: where large files come by blocks; those of these have one, which comes with the other files."""
    monkeypatch.setattr("app.replicas.cache.LEAST", 0)
    rows.deep = rows.count = 0
    rows.stale = stale
    bound = {"cache_bytes": 2**20} if cached else {}
    with open_catalogue(tmp_path / "r", tasks=True, store=store, role="reader", **bound) as reader:
        assert (reader.files.source is not None) == cached
        reader.serve("http://r")
        for name in NAMES:
            hits = search(reader.get(name), Query(vectors=np.eye(4, dtype=np.float32)[:1], k=3)).hits
            assert [hit.id for hit in hits] == [f"{name}{i}" for i in range(3)]
        # The listing of collections; head and log; base and commits; files. Without the log's listing commits are
        # asked for one by one, then two at a time and so on.
        assert rows.deep == (4 if not stale else 4 + 2)
        # In all of them: each object once.
        assert rows.count <= 1 + len(NAMES) * 60
