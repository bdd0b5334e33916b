"""Snapshots that are kept: of one moment, whole or absent, and restored as they were."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import threading
from pathlib import Path

import pytest
from archives import contents, listed
from made import OpenCatalogue
from saved_collection import DIM, beside, document, fill, name_of, standing, take, vectors

from app.backup import archive as form
from app.catalogue.catalogue import Catalogue
from app.catalogue.restoring import Restoring, restore_file
from app.collection import chunks
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, StageChoice
from app.encodings.protocol import Sample
from app.encodings.recipes import RidgeRecipe
from app.encodings.ridge import RidgeParameters
from app.errors import Conflict, Damaged, NotFound, SheafError, StorageFull
from app.indexing.restaging import restage
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, write_documents
from app.store.layout import DATABASE, MARK, WRITER_LOCK
from app.store.lock import FileLock
from app.types import TokenVectors


@pytest.fixture
def catalogue(open_catalogue: OpenCatalogue) -> Catalogue:
    return open_catalogue(seal_documents=10_000)


@pytest.fixture
def collection(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> Collection:
    # So that one chunk of the tail is a file.
    monkeypatch.setattr(chunks, "IN_DATABASE", 1_000)
    return fill(catalogue)


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
    """The way without Sheaf's help, in need."""
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
    with pytest.raises(Conflict, match="wait for its end, or cancel it"):
        restore_file(catalogue, "c", taken, replace=True)
    assert standing(catalogue.get("c")) == after
    for task in catalogue.tasks("c").all():
        catalogue.tasks("c").cancel(task.id)
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
