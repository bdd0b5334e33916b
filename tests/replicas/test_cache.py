"""A reader whose cache is much smaller than what it answers from: the same answers, bit for bit, whatever happens to
the store and to what is here."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from made import DIM, write_in_segments

import app.catalogue.scrub
import app.replicas.cache
import app.replicas.fetching
import app.store.files
from app.batch.together import Waiting, have_a_pass, search_each
from app.catalogue import stored
from app.catalogue.catalogue import Catalogue
from app.catalogue.scrub import scrub
from app.collection.segment import Segment
from app.compute.deadline import deadline
from app.encoders.registry import Encoders
from app.errors import Damaged, SheafError, StoreRefused, StoreUnavailable, SystemFault, TooSlow, Unsure
from app.indexing import sealing
from app.indexing.sealing import merge, seal
from app.ingest import write_documents
from app.main import HANDLERS
from app.objects.folder import Folder
from app.objects.persistent import Persistent
from app.replicas import applying, replica
from app.replicas.cache import Cache, CachedFile
from app.search import Query, SearchResult, search
from app.settings import DeterministicModel, Settings
from app.store import local_directory
from app.store.files import MappedArray
from app.store.local_directory import LocalDirectory
from app.types import Document

BLOCK = 4_096
BOUND = 2**20
WORDS = [f"word{i}" for i in range(400)]
Fault = Callable[[str, int, int, Callable[[], bytes]], bytes]


class Requests:
    """Of a folder; ``fault`` answers reads of a part of an object in its place. read: (name, start) of each."""

    read_blocks: ClassVar[list[tuple[str, int]]] = []
    fault: Fault | None = None

    def __init__(self, path: str) -> None:
        self._folder = Folder(Path(path))
        self.place = self._folder.place

    def __getattr__(self, kind: str) -> Any:
        return getattr(self._folder, kind)

    def read(self, name: str, start: int, length: int) -> bytes:
        Requests.read_blocks.append((name, start))
        honest = lambda: self._folder.read(name, start, length)  # noqa: E731
        return honest() if Requests.fault is None else Requests.fault(name, start, length, honest)


Serve = Callable[..., Catalogue]


def serve(stack: ExitStack, folder: Path, store: Path | None, **chosen: Any) -> Catalogue:
    models = {"words": DeterministicModel(type="deterministic", dim=DIM)}
    home = {} if store is None else {"store": f"file://{store}"}
    settings = Settings(indexes=folder, models=models, seal_documents=10**6, **home, **chosen)
    catalogue = stack.enter_context(Catalogue(folder, Encoders(models), settings, HANDLERS))
    catalogue.serve(f"http://{folder.name}")
    return catalogue


def documents(count: int, first: int = 0) -> list[Document]:
    random = np.random.default_rng(first)
    return [
        Document(f"d{first + i}", " ".join(random.choice(WORDS, 24)), metadata={"n": first + i}) for i in range(count)
    ]


def vectors(count: int) -> list[Document]:
    values = np.random.default_rng(7).normal(size=(count, 1, 64)).astype(np.float32)
    return [Document(f"v{i}", "", vectors=one) for i, one in enumerate(values)]


@pytest.fixture(scope="module")
def patched() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.store.files, "BLOCK", BLOCK)
        patch.setattr(app.replicas.fetching, "BLOCK", BLOCK)
        patch.setattr(app.catalogue.scrub, "BLOCK", BLOCK)
        patch.setattr(app.replicas.cache, "LEAST", 4 * BLOCK)
        patch.setattr(
            stored,
            "open_objects",
            lambda url: Persistent(Requests(url.removeprefix("file://")), deadline_s=0.2),  # type: ignore[arg-type]
        )
        yield


@pytest.fixture(scope="module")
def writer(patched: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    path = tmp_path_factory.mktemp("cache")
    with ExitStack() as stack:
        catalogue = serve(stack, path / "w", path / "store")
        catalogue.create("m", model="words", kind="multi_vector")
        write_in_segments(catalogue.get("m"), documents(800), 350)
        catalogue.create("d", model=None, kind="dense", dim=64)
        write_in_segments(catalogue.get("d"), vectors(6_000), 2_900)
        yield catalogue


@pytest.fixture
def reader(writer: Catalogue, tmp_path: Path) -> Iterator[Catalogue]:
    Requests.fault = None
    with ExitStack() as stack:
        found = serve(stack, tmp_path / "r", writer.folder.parent / "store", role="reader", cache_bytes=BOUND)
        Requests.read_blocks = []
        yield found
        Requests.fault = None


def answers(catalogue: Catalogue) -> list[Any]:
    """Ids and scores of searches of every kind, and documents with what was written of them."""
    found: list[Any] = []
    random = np.random.default_rng(1)
    for mode in ("semantic", "dense", "lexical", "hybrid"):
        for exact in (False, True):
            text = " ".join(random.choice(WORDS, 4))
            # What weights a hybrid search follows is each process's own.
            fused: Any = {"weights": "reciprocal_rank"} if mode == "hybrid" else {}
            hits = search(catalogue.get("m"), Query(text=text, mode=mode, exact=exact, k=20, **fused)).hits
            found.append([(hit.id, hit.score, hit.text) for hit in hits])
    for exact in (False, True):
        query = random.normal(size=(1, 64)).astype(np.float32)
        hits = search(catalogue.get("d"), Query(vectors=query, exact=exact, k=20)).hits
        found.append([(hit.id, hit.score) for hit in hits])
    some = catalogue.get("d").get_many([f"v{i}" for i in range(0, 6_000, 600)], frozenset({"vectors"}))
    return [*found, [one.vectors.tobytes() for one in some if one.vectors is not None]]


def cache(catalogue: Catalogue) -> Cache:
    source = catalogue.files.source
    assert isinstance(source, Cache)
    return source


def let_go(catalogue: Catalogue) -> set[str]:
    """Files without a name that are mapped, or open: they lie on the disk."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    found = {line.split()[-2] for line in lines if str(catalogue.folder) in line and line.endswith("(deleted)")}
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            name = str(descriptor.readlink())
            if str(catalogue.folder) in name and name.endswith("(deleted)"):
                found.add(name.removesuffix(" (deleted)"))
    return found


@contextmanager
def without_collector() -> Iterator[None]:
    """What goes then is held by nothing, not by itself either."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def mapped(part: Segment, name: str = "pooled.npy") -> MappedArray:
    return MappedArray(part.folder, name, part._files[name])


def on_disk(catalogue: Catalogue, *, files_above: int = 10) -> int:
    """Bytes of files that come by blocks, as the disk has them. files_above: of how many at least one more."""
    files = [path for found in cache(catalogue)._files.values() for path in found]
    assert len(files) > files_above
    return sum(path.stat().st_blocks * 512 for path in files)


def test_answers_are_the_same_and_the_folder_stays_in_its_bound(writer: Catalogue, reader: Catalogue) -> None:
    files = cache(reader).known()
    whole = sum(one.stored.size for one in files)
    assert whole > 4 * BOUND
    # The first block of each came with the other files, and nothing else of them.
    assert on_disk(reader) <= len(files) * BLOCK
    expected = answers(writer)
    for _ in range(2):
        assert answers(reader) == expected
        assert on_disk(reader) <= BOUND
        assert cache(reader).nbytes <= BOUND
    assert len(Requests.read_blocks) > 20
    assert list(scrub(reader.folder, "m")) == list(scrub(reader.folder, "d")) == []


def test_who_asks_together_with_one_that_the_store_does_not_answer_has_an_answer(
    writer: Catalogue, tmp_path: Path
) -> None:
    given = np.random.default_rng(5).normal(size=(1, 64)).astype(np.float32)
    warm = Query(vectors=given, k=5, include=frozenset())
    expected = [(hit.id, hit.score) for hit in search(writer.get("d"), warm).hits]

    def away(*_: Any) -> bytes:
        raise StoreUnavailable("away")

    with ExitStack() as stack:
        # Whatever is brought stays.
        large = serve(stack, tmp_path / "l", writer.folder.parent / "store", role="reader", cache_bytes=2**27)
        made = large.get("d")

        def told(*queries: Query) -> list[Any]:
            found = search_each(made, [Waiting(query) for query in queries])
            return [
                [(hit.id, hit.score) for hit in one.hits] if isinstance(one, SearchResult) else type(one)
                for one in found
            ]

        assert told(warm) == [expected]
        assert told(warm, warm) == [expected, expected]
        stack.callback(setattr, Requests, "fault", None)
        Requests.fault = away
        # The vectors as they were given are not here.
        cold = replace(warm, include=frozenset({"vectors"}))
        assert told(warm, cold, warm) == [expected, StoreUnavailable, expected]
        # And over HTTP none waits for what another one has brought.
        assert have_a_pass(writer.get("d"))
        assert not have_a_pass(made)


def test_what_is_here_is_not_asked_for_again_and_what_rotted_is(
    writer: Catalogue, reader: Catalogue, tmp_path: Path
) -> None:
    query = Query(text="word1 word2", k=5)
    expected = [(hit.id, hit.score) for hit in search(writer.get("m"), query).hits]

    def asked(catalogue: Catalogue) -> int:
        Requests.read_blocks = []
        assert [(hit.id, hit.score) for hit in search(catalogue.get("m"), query).hits] == expected
        return len(Requests.read_blocks)

    assert asked(reader) > 0
    assert asked(reader) == 0
    reader.close()
    store = writer.folder.parent / "store"
    with ExitStack() as stack:
        again = serve(stack, tmp_path / "r", store, role="reader", cache_bytes=BOUND)
        assert asked(again) == 0
    # As after a kill in the middle of a block, or a disk that forgot.
    (tokens, *_) = (tmp_path / "r" / "m" / "segments").glob("*/tokens.npy")
    with tokens.open("r+b") as file:
        file.seek(BLOCK)
        file.write(bytes(tokens.stat().st_size - BLOCK - 100))
    with ExitStack() as stack:
        again = serve(stack, tmp_path / "r", store, role="reader", cache_bytes=BOUND)
        assert asked(again) > 0
        assert asked(again) == 0


def test_a_store_that_fails_for_a_moment_is_asked_again(writer: Catalogue, reader: Catalogue) -> None:
    """Refused, broken off, cut short, or with other bytes: each the first time that a part is asked for."""
    seen: set[tuple[str, int]] = set()
    ways = 0

    def flaky(name: str, start: int, length: int, honest: Callable[[], bytes]) -> bytes:
        nonlocal ways
        blocks = {(name, at) for at in range(start, start + length, BLOCK)}
        if blocks & seen:
            return honest()
        seen.update(blocks)
        ways += 1
        match ways % 4:
            case 0:
                raise StoreUnavailable("slow down")
            case 1:
                raise Unsure("the connection was reset")
            case 2:
                return honest()[: length // 2]
        content = bytearray(honest())
        content[len(content) // 2] ^= 1
        return bytes(content)

    Requests.fault = flaky
    assert answers(reader) == answers(writer)
    assert ways > 20
    assert reader.quarantined() == {}


def test_a_part_that_is_not_what_was_put_is_refused_by_name(writer: Catalogue, reader: Catalogue) -> None:
    def wrong(name: str, start: int, length: int, honest: Callable[[], bytes]) -> bytes:
        return bytes(b ^ 1 for b in honest())

    Requests.fault = wrong
    with pytest.raises(Damaged, match=r"files/.*the checksum of block \d+ differs"):
        answers(reader)
    Requests.fault = None
    assert answers(reader) == answers(writer)


def test_a_store_that_is_away_is_told_and_what_is_here_answers(writer: Catalogue, reader: Catalogue) -> None:
    here, elsewhere = Query(text="word1", mode="lexical", k=3), Query(text="word2 word3", exact=True)
    expected = [hit.id for hit in search(reader.get("m"), here).hits]

    def away(name: str, start: int, length: int, honest: Callable[[], bytes]) -> bytes:
        raise StoreUnavailable("the store is away")

    Requests.fault = away
    assert [hit.id for hit in search(reader.get("m"), here).hits] == expected
    with pytest.raises(StoreUnavailable):
        search(reader.get("m"), elsewhere)
    Requests.fault = None
    assert [hit.id for hit in search(reader.get("m"), elsewhere).hits] == [
        hit.id for hit in search(writer.get("m"), elsewhere).hits
    ]


def test_a_search_that_is_under_way_reads_on_while_what_it_reads_is_let_go(reader: Catalogue) -> None:
    part = reader.get("d").published.segments[0].part
    values = part.flat("pooled").values
    before = values.rows(0, 100)
    copied = before.copy()
    with without_collector():
        for one in cache(reader).known():
            one.shrink(ruthless=True)
        assert cache(reader).nbytes == 0
        # Of all that was let go, what somebody still has alone is mapped, and lies on the disk.
        assert len(let_go(reader)) == 1
    np.testing.assert_array_equal(before, copied)
    Requests.read_blocks = []
    np.testing.assert_array_equal(values.rows(0, 100), copied)
    assert Requests.read_blocks
    with without_collector():
        del before
        assert let_go(reader) == set()


def test_what_is_let_go_or_forgotten_in_the_middle_of_a_reading_lies_there_for_no_longer(reader: Catalogue) -> None:
    part = reader.get("d").published.segments[0].part
    assert isinstance(part, Segment)
    array = mapped(part)
    known = cache(reader)._files[reader.files.folder("d").path][part.folder.path / "pooled.npy"]
    with without_collector():
        under_way = known.now
        known.shrink(ruthless=True)
        # As by a reading that began before, and is first to look into it.
        under_way.parsed = array._mapped(under_way)
        assert len(let_go(reader)) == 1
        del under_way
        assert let_go(reader) == set()
        # A copy of a collection that goes: nobody has it open any more.
        alone = CachedFile(cache(reader), part.folder.path / "pooled.npy", known._objects, known.stored)
        alone.begin(part._files["pooled.npy"].checksums)
        alone.now.parsed = array._mapped(alone.now)
        known.shrink(ruthless=False)
        known.now.used[:] = False
        array.rows(0, 10)
        known.now.used[:] = False
        known.shrink(ruthless=False)
        assert len(let_go(reader)) == 1
        del alone
        assert let_go(reader) == set()


class Held:
    """A store whose reads from one byte on wait until ``go`` is set. asked: how many came."""

    def __init__(self, start: int) -> None:
        self.start, self.asked, self.came, self.go = start, 0, threading.Event(), threading.Event()
        self.away = False

    def __call__(self, name: str, start: int, length: int, honest: Callable[[], bytes]) -> bytes:
        if start <= self.start < start + length:
            self.asked += 1
            self.came.set()
            assert self.go.wait(60)
            if self.away:
                raise StoreRefused("the key is refused")
        return honest()


@contextmanager
def held(block: int) -> Iterator[tuple[Held, ThreadPoolExecutor]]:
    Requests.fault = found = Held(block * BLOCK)
    try:
        with ThreadPoolExecutor(4) as pool:
            try:
                yield found, pool
            finally:
                found.go.set()
    finally:
        Requests.fault = None


def joined(reader: Catalogue, waiting: int, eventually: Callable[[Callable[[], bool]], None]) -> None:
    """So many wait for the one request that is under way."""
    known = cache(reader).known()
    coming = lambda: {id(one): one for file in known if file._now for one in [*file.now.coming.values()]}  # noqa: E731
    eventually(lambda: [one.waiting for one in coming().values()] == [waiting])


def test_whoever_waits_for_a_block_waits_for_that_alone_and_for_no_longer_than_it_may(
    writer: Catalogue, reader: Catalogue, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    part = reader.get("d").published.segments[0].part
    assert isinstance(part, Segment)
    array, expected = mapped(part), writer.get("d").published.segments[0].part.flat("pooled").values
    row = lambda block: (block * BLOCK - array._now[0].header) // array._now[0].row_bytes + 1  # noqa: E731
    with held(20) as (store, pool):
        late = lambda: array.rows(row(20), row(20) + 1)  # noqa: E731
        two = [pool.submit(late) for _ in range(2)]
        assert store.came.wait(60)
        joined(reader, 2, eventually)
        # Another block of the file, and one who cannot wait.
        np.testing.assert_array_equal(array.rows(row(40), row(40) + 1), expected.rows(row(40), row(40) + 1))
        with pytest.raises(TooSlow), deadline(time.monotonic() + 0.02):
            late()
        assert not any(one.done() for one in two)
        store.go.set()
        for one in two:
            np.testing.assert_array_equal(one.result(), expected.rows(row(20), row(20) + 1))
        assert store.asked == 1


def test_a_failure_is_told_at_once_to_all_who_wait_for_it(
    reader: Catalogue, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    part = reader.get("d").published.segments[0].part
    assert isinstance(part, Segment)
    array = mapped(part)
    with held(20) as (store, pool):
        store.away = True
        row = (20 * BLOCK - array._now[0].header) // array._now[0].row_bytes + 1
        waiting: list[Future[Any]] = [pool.submit(array.rows, row, row + 1) for _ in range(4)]
        joined(reader, 4, eventually)
        store.go.set()
        assert all(isinstance(one.exception(), StoreRefused) for one in waiting)
        assert store.asked == 1
        # It is asked for again by whoever comes next.
        store.away = False
        assert len(array.rows(row, row + 1)) == 1
        assert store.asked == 2


def test_a_disk_that_takes_no_more_fails_no_search_and_gets_room(
    writer: Catalogue, reader: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(writer)
    shrinking, place, write = threading.local(), LocalDirectory.place, local_directory._PlacedFile.write

    def full(self: Any, *given: Any) -> None:
        if getattr(shrinking, "on", False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, *given)

    def shrink(self: CachedFile, *, ruthless: bool, own: Any = CachedFile.shrink) -> None:
        shrinking.on = True
        try:
            own(self, ruthless=ruthless)
        finally:
            shrinking.on = False

    monkeypatch.setattr(local_directory._PlacedFile, "write", full)
    monkeypatch.setattr(CachedFile, "shrink", shrink)
    assert answers(reader) == expected
    assert on_disk(reader) <= BOUND

    def none(self: LocalDirectory, name: str, size: int) -> Any:
        if getattr(shrinking, "on", False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return place(self, name, size)

    with monkeypatch.context() as patch:
        patch.setattr(LocalDirectory, "place", none)
        assert answers(reader) == expected
        assert on_disk(reader) > BOUND
    cache(reader).make_room()
    assert on_disk(reader) <= BOUND
    assert answers(reader) == expected


def test_new_segments_come_by_blocks_too_and_old_ones_go(
    writer: Catalogue,
    reader: Catalogue,
    eventually: Callable[[Callable[[], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What stands is read until it does not any more, also where its successor fails in its last step."""
    standing = [view.part for view in reader.get("m").published.segments]
    expected = [one.ragged("tokens").values.all().tobytes() for one in standing]
    seen: list[list[bytes] | SheafError] = []
    merged = threading.Event()

    def read() -> list[bytes]:
        for one in cache(reader).known():
            one.shrink(ruthless=True)
        opened = [Segment.open_all(one.folder, one.record) for one in standing]
        return [one.ragged("tokens").values.all().tobytes() for one in opened]

    def fails_twice(step: str) -> None:
        """The first time perhaps of the commits before the merge, the second of all."""
        if step != "commits.applied":
            return
        assert merged.wait(60)
        try:
            seen.append(read())
        except SheafError as error:
            seen.append(error)
        if len(seen) < 3:
            raise StoreUnavailable("as where the disk takes no commit")

    monkeypatch.setattr(applying, "reach", fails_twice)
    monkeypatch.setattr(replica, "CLAIM_S", 0.01)
    collection = writer.get("m")
    write_documents(collection, documents(300, first=5_000))
    seal(collection)
    monkeypatch.setattr(sealing, "TIER", 3)
    assert merge(collection)
    merged.set()

    def followed() -> bool:
        with reader.get("m").snapshot():
            return reader.get("m").published.commit == collection.published.commit

    eventually(followed)
    assert answers(reader) == answers(writer)
    # Merged, they are fewer.
    assert on_disk(reader, files_above=8) <= BOUND
    assert seen == [expected] * 3
    folder = reader.files.folder("m")
    known = {path.parent.name for path in cache(reader)._files[folder.path]}
    assert known == {view.part.record.name for view in collection.published.segments}
    assert not known & {one.record.name for one in standing}
    # Of a state that nobody has told of no hole is taken for what was written.
    (latest, *_) = [view.part for view in reader.get("m").published.segments]
    cache(reader).know(folder.path, Persistent(Requests(str(folder.path))), {})  # type: ignore[arg-type]
    with pytest.raises(SystemFault, match="left behind, or does not have yet"):
        Segment.open_all(latest.folder, latest.record).ragged("tokens").values.all()


def test_a_copy_that_has_not_all_is_completed_where_all_is_needed(
    writer: Catalogue, reader: Catalogue, tmp_path: Path
) -> None:
    reader.close()
    with ExitStack() as stack, pytest.raises(SystemFault, match="only what a reader of its store needed"):
        serve(stack, tmp_path / "r", None).get("m")
    with ExitStack() as stack:
        whole = serve(stack, tmp_path / "r", writer.folder.parent / "store", role="reader")
        Requests.fault = lambda name, start, length, honest: pytest.fail(f"{name} is not here")
        assert answers(whole) == answers(writer)
        assert list(scrub(whole.folder, "m")) == []
        assert not (tmp_path / "r" / "m" / "copy.partly").exists()
