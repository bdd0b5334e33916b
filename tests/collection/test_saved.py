"""Snapshots that are kept: of one moment, whole or absent, and restored as they were; hostile archives are refused."""

from __future__ import annotations

import errno
import hashlib
import json
import sqlite3
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import bomb, contents, joined, listed, member
from brute_force import ranking
from made import OpenCatalogue

from app.collection import archive as form
from app.collection import chunks
from app.collection.archive import LISTING
from app.collection.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage
from app.collection.layout import DATABASE, MARK, WRITER_LOCK
from app.collection.lock import FileLock
from app.collection.restaging import restage
from app.collection.restoring import Restoring, restore_file
from app.collection.saved import SavedSnapshots
from app.collection.sealing import merge, seal
from app.collection.stages import StageChoice
from app.encoders.registry import Encoders
from app.encodings.protocol import Sample
from app.encodings.recipes import RidgeRecipe
from app.encodings.ridge import RidgeParameters
from app.errors import BadArchive, Conflict, Damaged, NotFound, SheafError, StorageFull
from app.ingest import delete_ids, patch_metadata, write_documents
from app.search import Query, search
from app.settings import Settings
from app.types import F32, Document, TokenVectors

DIM = 4


def name_of(number: int) -> str:
    return f"{number:032x}"


def vectors(number: int, version: int) -> F32:
    return np.random.default_rng([version, number]).normal(size=(3, DIM)).astype(np.float32)


def document(number: int, version: int) -> Document:
    """Vectors and text of one version; no two are equal."""
    return Document(f"d{number}", f"version {version}", metadata={"v": version}, vectors=vectors(number, version))


def standing(collection: Collection) -> dict[str, str]:
    """Ids and texts; and search, exact and not, agrees with brute force over the vectors of those texts."""
    documents, _ = collection.listing(None, 1_000)
    found = {document.id: document.text for document in documents}
    query = np.ones((2, DIM), np.float32)
    truth = [(key, vectors(int(key[1:]), int(text.split()[1]))) for key, text in found.items()]
    for exact in (True, False):
        hits = search(collection, Query(vectors=query, k=1_000, exact=exact)).hits
        assert [(hit.id, hit.score) for hit in hits] == ranking(truth, query, 1_000, collection.spec)
        assert all(hit.text == found[hit.id] for hit in hits)
    return found


def fill(catalogue: Catalogue) -> Collection:
    """Segments, one with dead rows, a tail in the database and in a file, an unfinished task."""
    made = catalogue.create("c", model=None, kind="multi_vector", dim=DIM)
    write_documents(made, [document(n, 1) for n in range(30)])
    seal(made)
    write_documents(made, [document(n, 2) for n in range(20, 40)])
    delete_ids(made, ["d0", "d25"])
    seal(made)
    write_documents(made, [document(n, 3) for n in (5, 6, 7, 50)])
    patch_metadata(made, "d6", {"patched": True})
    catalogue.tasks("c").submit("import", {"on_error": "stop", "bytes": 0, "position": 0})
    return made


@pytest.fixture
def catalogue(open_catalogue: OpenCatalogue) -> Catalogue:
    return open_catalogue(seal_documents=10_000)


@pytest.fixture
def collection(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> Collection:
    # So that one chunk of the tail is a file.
    monkeypatch.setattr(chunks, "IN_DATABASE", 1_000)
    return fill(catalogue)


def take(collection: Collection, number: int = 1, check: Callable[[], None] = lambda: None) -> Path:
    snapshots = SavedSnapshots(collection.folder.parent)
    snapshots.take(collection, name_of(number), check)
    return snapshots.get(collection.name, name_of(number))[1]


def beside(catalogue: Catalogue) -> set[str]:
    """Every path but what the database makes and drops, and the folder that snapshots share."""
    found = {str(path.relative_to(catalogue.folder)) for path in catalogue.folder.rglob("*")}
    return {path for path in found if not path.endswith(("-wal", "-shm"))} - {".snapshots"}


def test_a_restored_collection_is_the_one_of_that_moment(catalogue: Catalogue, collection: Collection) -> None:
    before, taken = standing(collection), take(collection)
    write_documents(collection, [document(n, 7) for n in range(40)])
    delete_ids(collection, ["d50"])
    assert restore_file(catalogue, "other", taken, replace=False) is False
    other = catalogue.get("other")
    assert standing(other) == before
    assert other.get("d6").metadata == {"v": 3, "patched": True}
    assert (other.name, other.spec.name, other.folder.name) == ("other", "other", "other")
    assert catalogue.tasks("other").all() == []
    for name in ("c", "other"):
        # Both go on by themselves.
        write_documents(catalogue.get(name), [document(60, 1)])
        seal(catalogue.get(name))
    assert standing(other) == {**before, "d60": "version 1"}
    catalogue.close()


def test_what_is_listed_is_true(catalogue: Catalogue, collection: Collection) -> None:
    first = take(collection, 1)
    delete_ids(collection, ["d1"])
    take(collection, 2)
    saved, path = catalogue.snapshots.get("c", name_of(1))
    assert path == first
    assert saved.size == first.stat().st_size
    assert saved.sha256 == hashlib.sha256(first.read_bytes()).hexdigest()
    assert {one.id: one.documents for one in catalogue.snapshots.of("c")} == {
        name_of(1): collection.count() + 1,
        name_of(2): collection.count(),
    }
    listing, files = contents(first)
    assert listing == listed(listing, files)
    assert {DATABASE, MARK} <= files.keys()
    catalogue.delete("c")
    assert len(catalogue.snapshots.of("c")) == 2
    restore_file(catalogue, "c", first, replace=False)
    catalogue.snapshots.delete("c", name_of(1))
    assert [one.id for one in catalogue.snapshots.of("c")] == [name_of(2)]
    assert not first.exists()
    with pytest.raises(NotFound):
        catalogue.snapshots.get("c", name_of(1))
    for name, identifier in (("c", "../c"), ("..", name_of(2)), ("c", "")):
        with pytest.raises(NotFound):
            catalogue.snapshots.get(name, identifier)


def test_a_damaged_one_stays_in_the_list_with_its_error(catalogue: Catalogue, collection: Collection) -> None:
    """It is neither fetched nor restored; it can be deleted, and taken anew under its id."""
    take(collection, 1)
    described = take(collection, 2).with_suffix(".json")
    content, archive = described.read_bytes(), described.with_suffix(".tar").read_bytes()

    def held(what: str) -> None:
        (bad,) = (one for one in catalogue.snapshots.of("c") if one.error is not None)
        assert (bad.id, bad.collection, len(catalogue.snapshots.of("c"))) == (name_of(2), "c", 2)
        assert what in str(bad.error)
        with pytest.raises(Damaged, match=what):
            catalogue.snapshots.get("c", name_of(2))

    value = json.loads(content)
    others = [{**value, "documents": 7}, {**value, "error": None}, {**value, "crc32": 0}, {**value, "id": name_of(1)}]
    others += [{"id": name_of(2)}, [], 7, None]
    for harmed in [b"", b"{", b"\xff", *(json.dumps(one).encode() for one in others)]:
        described.write_bytes(harmed)
        held("json is damaged")
    # Where nobody made a checksum yet, it goes without.
    del value["crc32"]
    described.write_bytes(json.dumps(value).encode())
    assert [one.error for one in catalogue.snapshots.of("c")] == [None, None]
    described.with_suffix(".tar").write_bytes(archive[:-512])
    held("bytes")
    described.with_suffix(".tar").unlink()
    held("0 bytes")
    take(collection, 2)
    assert [one.error for one in catalogue.snapshots.of("c")] == [None, None]
    described.write_bytes(b"")
    catalogue.snapshots.delete("c", name_of(2))
    assert [one.id for one in catalogue.snapshots.of("c")] == [name_of(1)]
    assert not described.with_suffix(".tar").exists()


def test_an_archive_is_a_collection_when_tar_unpacks_it(
    catalogue: Catalogue, collection: Collection, open_catalogue: OpenCatalogue, tmp_path: Path
) -> None:
    """What is to be done without Sheaf's help, in need."""
    before, taken = standing(collection), take(collection)
    folder = tmp_path / "elsewhere" / "c"
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-xf", str(taken), "-C", str(folder)], check=True)
    assert standing(open_catalogue(folder.parent).get("c")) == before


def test_a_restore_takes_the_place_of_a_collection_only_when_told(catalogue: Catalogue, collection: Collection) -> None:
    before, taken = standing(collection), take(collection)
    write_documents(collection, [document(n, 8) for n in range(10)])
    after, end = standing(collection), collection.published.next_seq
    with pytest.raises(Conflict):
        restore_file(catalogue, "c", taken, replace=False)
    assert standing(catalogue.get("c")) == after
    assert restore_file(catalogue, "c", taken, replace=True) is True
    assert standing(catalogue.get("c")) == before
    assert catalogue.get("c").published.next_seq >= end, "a version would be used twice"
    assert {path.name for path in catalogue.folder.iterdir()} == {"c", ".snapshots"}
    with pytest.raises(SheafError):
        collection.get("d1")


def test_a_damaged_collection_can_be_replaced(
    catalogue: Catalogue, collection: Collection, open_catalogue: OpenCatalogue
) -> None:
    before, taken = standing(collection), take(collection)
    catalogue.close()
    (catalogue.folder / "c" / MARK).write_bytes(b"")
    again = open_catalogue()
    with pytest.raises(Damaged):
        again.get("c")
    assert restore_file(again, "c", taken, replace=True)
    assert standing(again.get("c")) == before


def test_a_fitted_first_stage_comes_along(catalogue: Catalogue, collection: Collection) -> None:
    """And an encoding that no generation names stays behind."""
    tokens = TokenVectors.join([vectors(n, 1) for n in range(30)])
    recipe = RidgeRecipe(RidgeParameters(rank=4, samples=60, landmarks=30, probes=30))
    stage = FirstStage(("fde", "pooled"), recipe.fit(Sample(tokens, tokens)), 100)
    restage(collection, StageChoice(stage, "tried", recipe.to_json()))
    (file,) = (path.name for path in (collection.folder / "encodings").iterdir())
    (collection.folder / "encodings" / "stray.safetensors").write_bytes(b"half")
    before, taken = standing(collection), take(collection)
    assert [name for name in contents(taken)[1] if name.startswith("encodings/")] == [f"encodings/{file}"]
    restore_file(catalogue, "other", taken, replace=False)
    other = catalogue.get("other")
    assert other.published.generation.stage == collection.published.generation.stage
    assert standing(other) == before
    # Damage in it is noticed, as in any file.
    path = collection.folder / "encodings" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match=file):
        take(collection, 2)


def test_writers_write_while_it_is_taken(open_catalogue: OpenCatalogue) -> None:
    """Each writer's documents are a prefix of what it was answered for, and sealing and merging go on meanwhile."""
    catalogue = open_catalogue(seal_documents=20)
    collection = catalogue.create("c", model=None, kind="multi_vector", dim=DIM)
    stop, acknowledged, failed = threading.Event(), [0] * 4, []

    def write(writer: int) -> None:
        try:
            while not stop.is_set():
                version = acknowledged[writer] + 1
                write_documents(collection, [document(writer * 10 + n, version) for n in range(5)])
                acknowledged[writer] = version
        except BaseException as error:
            failed.append(error)
            raise

    def seals() -> None:
        while not stop.is_set():
            seal(collection)
            merge(collection)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    threads.append(threading.Thread(target=seals))
    for thread in threads:
        thread.start()
    bounds = []
    try:
        for number in range(1, 7):
            low = list(acknowledged)
            taken = take(collection, number)
            bounds.append((taken, low, list(acknowledged)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    for number, (taken, low, high) in enumerate(bounds):
        restore_file(catalogue, f"r{number}", taken, replace=False)
        found = standing(catalogue.get(f"r{number}"))
        for writer in range(4):
            versions = {found.get(f"d{writer * 10 + n}", "version 0") for n in range(5)}
            assert len(versions) == 1, "half a write"
            version = int(versions.pop().split()[1])
            # The one that was under way when we looked may have been answered for too.
            assert low[writer] <= version <= high[writer] + 1


@pytest.mark.parametrize("stop_after", [0, 1, 2, 5, 9])
def test_given_up_in_the_middle_it_leaves_nothing(
    catalogue: Catalogue, collection: Collection, stop_after: int
) -> None:
    class Enough(Exception):
        pass

    calls = iter(range(stop_after))

    def check() -> None:
        if next(calls, None) is None:
            raise Enough

    take(collection, 1)
    before = beside(catalogue)
    with pytest.raises(Enough):
        take(collection, 2, check)
    assert beside(catalogue) == before
    take(collection, 2)
    assert len(catalogue.snapshots.of("c")) == 2


def test_what_a_stopped_server_left_is_removed(
    catalogue: Catalogue, collection: Collection, open_catalogue: OpenCatalogue
) -> None:
    taken = take(collection)
    catalogue.close()
    before = beside(catalogue)
    shelf, root = taken.parent, catalogue.folder
    (shelf / f"{name_of(2)}.moment/segments").mkdir(parents=True)
    (shelf / f"{name_of(2)}.moment/segments/x").write_bytes(b"x")
    (shelf / f"{name_of(2)}.tar.part").write_bytes(b"x")
    (shelf / f"{name_of(3)}.tar").write_bytes(b"no description")
    (shelf / f"{name_of(4)}.json.part").write_bytes(b"{}")
    (root / ".restoring-c-0").mkdir()
    (root / ".restoring-c-0/x").write_bytes(b"x")
    again = open_catalogue()
    again.serve("http://localhost")
    assert [one.id for one in again.snapshots.of("c")] == [name_of(1)]
    again.close()
    assert beside(catalogue) == before | {".server.lock"}


@pytest.mark.parametrize("renamed", ["old away", "both"])
def test_a_stop_between_the_renames_leaves_the_old_or_the_new(
    catalogue: Catalogue, collection: Collection, open_catalogue: OpenCatalogue, renamed: str
) -> None:
    before = standing(collection)
    restore_file(catalogue, "new", take(collection), replace=False)
    delete_ids(catalogue.get("new"), ["d1"])
    after = standing(catalogue.get("new"))
    catalogue.close()
    root = catalogue.folder
    (root / "c").rename(root / f".replaced-c-{name_of(5)}")
    (root / "new").rename(root / ("c" if renamed == "both" else ".restoring-c-1"))
    again = open_catalogue()
    again.serve("http://localhost")
    assert standing(again.get("c")) == (after if renamed == "both" else before)
    assert {path.name for path in root.iterdir()} == {"c", ".snapshots", ".server.lock"}


def test_nobody_takes_the_name_of_what_a_stop_has_set_aside(
    catalogue: Catalogue, collection: Collection, open_catalogue: OpenCatalogue
) -> None:
    """A script neither, which opens what it names; and it lets be what a server is just renaming."""
    before, root = standing(collection), catalogue.folder
    catalogue.close()
    aside = root / f".replaced-c-{name_of(5)}"
    (root / "c").rename(aside)
    server = FileLock(aside / WRITER_LOCK)
    assert server.acquire()
    open_catalogue().close()
    assert aside.exists()
    server.release()
    script = open_catalogue()
    with pytest.raises(Conflict):
        script.create("c", model=None, kind="dense", dim=2)
    assert standing(script.get("c")) == before
    assert not aside.exists()


def test_a_snapshot_of_damaged_files_is_refused(catalogue: Catalogue, collection: Collection) -> None:
    """Also where the damage is in a block that no query has read."""
    before = beside(catalogue)
    for path in sorted(collection.folder.rglob("*")):
        if not path.is_file() or path.suffix not in (".npy", ".npz", ".index", ".json"):
            continue
        content = path.read_bytes()
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 4
        path.write_bytes(changed)
        with pytest.raises(Damaged, match=path.name):
            take(collection)
        path.write_bytes(content)
    assert beside(catalogue) == before
    take(collection)


def test_without_room_nothing_is_left(
    catalogue: Catalogue, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = take(collection)
    content, before = taken.read_bytes(), beside(catalogue)
    real = form.hashlib.sha256
    left = 0

    class Full:
        """Stands for the disk: after some pieces there is no room."""

        def __init__(self) -> None:
            self._digest = real()

        def update(self, piece: bytes) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self._digest.update(piece)

        def hexdigest(self) -> str:
            return self._digest.hexdigest()

    monkeypatch.setattr(form.hashlib, "sha256", Full)
    for room in (0, 3, 10, 25):
        left = room
        with pytest.raises(StorageFull):
            take(collection, 2)
        assert beside(catalogue) == before
    for room in (0, 5):
        left = room
        restoring = Restoring(catalogue, "r", replace=False, limit=10**9)
        with pytest.raises(StorageFull):
            restoring.write(content)
        restoring.abort()
        assert beside(catalogue) == before


# Hostile archives


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """One for all that follow, since they leave nothing behind."""
    chosen = Settings(indexes=tmp_path_factory.mktemp("shelf"), threads=1, seal_documents=10_000)
    with Catalogue(chosen.indexes, Encoders({}), chosen) as catalogue:
        fill(catalogue)
        yield catalogue


@pytest.fixture(scope="module")
def honest(shelf: Catalogue) -> tuple[dict[str, Any], dict[str, bytes]]:
    return contents(take(shelf.get("c")))


def send(restoring: Restoring, archive: bytes, piece: int) -> None:
    for start in range(0, len(archive), piece):
        restoring.write(archive[start : start + piece])
    restoring.commit()


def refused(catalogue: Catalogue, archive: bytes, *, piece: int = 65_536, limit: int = 10**9) -> BadArchive:
    """The error, after which nothing is there that was not there before."""
    before = beside(catalogue)
    restoring = Restoring(catalogue, "hostile", replace=False, limit=limit)
    try:
        with pytest.raises(BadArchive) as caught:
            send(restoring, archive, piece)
    finally:
        restoring.abort()
    assert beside(catalogue) == before
    assert caught.value.status == 400
    return caught.value


def test_the_same_archive_unharmed_is_taken_in_any_pieces(shelf: Catalogue, honest: Any) -> None:
    """So that the refusals below are for what was changed."""
    for number, piece in enumerate((1_000, 100_000, 10**9)):
        archive = joined(*honest)
        restoring = Restoring(shelf, f"good{number}", replace=False, limit=10**9)
        send(restoring, archive, piece)
        assert standing(shelf.get(f"good{number}")) == standing(shelf.get("c"))
        shelf.delete(f"good{number}")


@pytest.mark.parametrize(
    "path",
    [
        "../outside", "segments/../../outside", "/etc/outside", "segments//x", "./x", "x/.", "", ".hidden", "a\\b",
        "a\0b", "x/" * 20 + "x", "é", "writer.lock", "imports/x.ndjson", f"{DATABASE}-wal", f"{DATABASE}-shm",
        f"{DATABASE}/x", "n" * 101,
    ],
)  # fmt: skip
def test_paths_that_no_collection_has(shelf: Catalogue, honest: Any, path: str) -> None:
    listing, files = honest
    more = {**files, path: b"x"}
    archive = b"".join(
        [
            member(LISTING, json.dumps(listed(listing, more)).encode()),
            *(member(p, c) for p, c in files.items()),
            member(path, b"x") if len(path) < 100 and path.isascii() else b"",
        ]
    )
    refused(shelf, archive + bytes(1024))
    # And as a member that the list does not have, at the end and in the middle.
    if path.isascii() and len(path) < 100:
        start = [member(LISTING, json.dumps(listing).encode())]
        members = [member(p, c) for p, c in files.items()]
        for place in (0, 1, len(members)):
            refused(shelf, b"".join([*start, *members[:place], member(path, b"x"), *members[place:]]) + bytes(1024))
    assert not (shelf.folder.parent / "outside").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"type": b"1", "linkname": "/etc/passwd"}, {"type": b"2", "linkname": "/etc/passwd"}, {"type": b"3"},
        {"type": b"4"}, {"type": b"5"}, {"type": b"6"}, {"type": b"7"}, {"type": b"S"}, {"type": b"x"},
        {"type": b"g"}, {"type": b"L"}, {"type": b"K"}, {"type": b"0", "linkname": "x"}, {"type": b"\0"},
    ],
)  # fmt: skip
def test_members_that_are_no_plain_files(shelf: Catalogue, honest: Any, fields: dict[str, Any]) -> None:
    listing, files = honest
    start = member(LISTING, json.dumps(listing).encode())
    (first, content), *rest = files.items()
    others = b"".join(member(p, c) for p, c in rest)
    refused(shelf, start + member(first, content, **fields) + others + bytes(1024))
    refused(shelf, start + member("extra", b"", **fields) + member(first, content) + others + bytes(1024))


def test_sums_sizes_and_sets_that_do_not_hold(shelf: Catalogue, honest: Any) -> None:
    listing, files = honest
    for number, (path, content) in enumerate(files.items()):
        fewer = {p: c for p, c in files.items() if p != path}
        match number % 4:
            case 0:
                changed = bytearray(content)
                changed[len(changed) // 2] ^= 1
                refused(shelf, joined(listing, {**files, path: bytes(changed)}))
            case 1:
                refused(shelf, joined(listing, {**files, path: content + b"x"}))
            case 2:
                refused(shelf, joined(listing, fewer))
            case 3:
                # A right list of files that are not enough: the collection itself notices.
                refused(shelf, joined(listed(listing, fewer), fewer))
    twice = {**listing, "files": [*listing["files"], listing["files"][0]]}
    refused(shelf, joined(twice, files))
    refused(shelf, joined(listing, files) + member("more", b"x") + bytes(1024))
    # Truncated at many places.
    whole = joined(listing, files)
    end = len(whole) - 1024
    for cut in [0, 1, 511, 512, *range(600, end, end // 20), end - 1]:
        refused(shelf, whole[:cut])


@pytest.mark.parametrize(
    "change",
    [
        {"format": 0}, {"format": "1"}, {"format": None}, {"files": None}, {"files": [{}]}, {"documents": -1},
        {"documents": 1.5}, {"collection": 7}, {"files": [{"path": "a", "size": -1, "sha256": "0" * 64}]},
        {"files": [{"path": "a", "size": 1, "sha256": "zz"}]}, {"files": "x" * 1000},
    ],
)  # fmt: skip
def test_lists_that_are_none(shelf: Catalogue, honest: Any, change: dict[str, Any]) -> None:
    listing, files = honest
    refused(shelf, joined({**listing, **change}, files))


def test_newer_formats_say_so(shelf: Catalogue, honest: Any) -> None:
    listing, files = honest
    assert refused(shelf, joined({**listing, "format": 2, "files": "?"}, files)).code == "archive_too_new"
    changed = {**files, DATABASE: edited(files[DATABASE], "meta", "format", 1_000)}
    assert refused(shelf, joined(listed(listing, changed), changed)).code == "archive_too_new"


def test_what_is_no_archive(shelf: Catalogue) -> None:
    for content in (b"", b"x", bytes(10_240), b"\xff" * 5_000, bomb(10**7), b'{"documents": []}' * 100):
        refused(shelf, content)
    deep = b"[" * 100_000
    refused(shelf, member(LISTING, deep) + bytes(1024))
    # A list that claims to be endless is refused before it is read, and so is a negative one.
    refused(shelf, member(LISTING, b"", size=2**40))
    refused(shelf, member(LISTING, b"", size=-1))


def test_more_than_may_come_is_refused_before_it_comes(shelf: Catalogue, honest: Any) -> None:
    listing, files = honest
    assert "limit" in refused(shelf, joined(listing, files), limit=10_000).message
    huge = {"path": "x", "size": 2**61, "sha256": "0" * 64}
    archive = joined({**listing, "files": [huge]}, {})
    refused(shelf, archive)
    restoring = Restoring(shelf, "r", replace=False, limit=2**62)
    with pytest.raises(StorageFull):
        restoring.write(archive)
    restoring.abort()


def edited(database: bytes, table: str, key: str, value: Any) -> bytes:
    """The database with one JSON value of `meta` changed, its checksum right."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DATABASE
        path.write_bytes(database)
        connection = sqlite3.connect(path)
        text = value if isinstance(value, str) else json.dumps(value)
        crc = zlib.crc32(f"{key}={text}".encode())
        connection.execute(f"UPDATE {table} SET value = ?, crc = ? WHERE key = ?", (text, crc, key))
        connection.commit()
        connection.close()
        return path.read_bytes()


def run_on(database: bytes, *statements: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DATABASE
        path.write_bytes(database)
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        return path.read_bytes()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON documents BEGIN DELETE FROM documents; END",
        "CREATE VIEW v AS SELECT * FROM documents",
        "CREATE VIRTUAL TABLE x USING fts5(y)",
        "DROP TABLE live",
        "DELETE FROM live",
        "DELETE FROM documents WHERE seq > 20",
        "UPDATE documents SET text = 'other'",
        "UPDATE tail SET count = 1000000000",
        "UPDATE state SET next_seq = 1",
        "UPDATE state SET commits = 1",
    ],
)
def test_databases_that_are_not_what_was_written(shelf: Catalogue, honest: Any, statement: str) -> None:
    listing, files = honest
    changed = {**files, DATABASE: run_on(files[DATABASE], statement)}
    refused(shelf, joined(listed(listing, changed), changed))


def wrong_metas() -> Iterator[tuple[str, Any]]:
    spec = {"name": "c", "model": None, "kind": "multi_vector", "dim": DIM, "similarity": "cosine"}
    more = {"keep_vectors": True, "precision": "float16"}
    for change in ({"kind": "x"}, {"dim": 0}, {"dim": 2**40}, {"dim": "4"}, {"precision": "object"}, {"model": 7}):
        yield "spec", {**spec, **more, **change}
    for pooling in (0, 33, 2.0, True, "2", None):
        yield "spec", {**spec, **more, "token_pooling": pooling}
    yield "spec", [1]
    yield "spec", {**spec, **more, "extra": 1}
    yield "spec", "not JSON"
    yield "spec", "[" * 100_000
    yield "first_stage", {}
    yield "first_stage", {"sources": ["elsewhere"], "encoding": None, "width": 10}
    for name in ("../../c/segments", "..", "", "/etc", "a/b"):
        segment = {"name": name, "passages": 1, "crc32": 0}
        yield "generation", {"number": 1, "segments": [segment], "created": "", "reason": ""}
    yield "generation", {"number": 1, "segments": [], "created": "", "reason": ""}


@pytest.mark.parametrize(("key", "value"), list(wrong_metas()))
def test_records_that_no_collection_has(shelf: Catalogue, honest: Any, key: str, value: Any) -> None:
    listing, files = honest
    changed = {**files, DATABASE: edited(files[DATABASE], "meta", key, value)}
    refused(shelf, joined(listed(listing, changed), changed))
