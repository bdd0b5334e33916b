"""The collections of a store: what a server may change of them that is not, or not any more, their writer, and what
stands where answers are lost, the store is away or something in it is damaged."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from made import OpenCatalogue

from app.catalogue import stored
from app.catalogue.catalogue import Catalogue
from app.catalogue.listed import undone
from app.catalogue.stored import StoredHomes
from app.collection.collection import Collection
from app.errors import Conflict, Damaged, NotFound, SheafError, StoreUnavailable, Unsure
from app.ingest import write_documents
from app.objects.folder import Folder
from app.objects.persistent import Persistent
from app.replicas.listing import LISTING, Collections, Listing, _checksum, collections_of, new_history
from app.store.local_directory import LocalDirectory
from app.types import Document

Open = Callable[..., Catalogue]


@dataclass
class Trouble:
    """down: what is part of the names that are not answered. lost: whether the next listing is put, and not answered,
    nor anything after it."""

    down: str | None = None
    lost: bool = False


@dataclass
class Faulty:
    """The requests of a folder."""

    path: Path
    trouble: Trouble
    folder: Folder = field(init=False)

    def __post_init__(self) -> None:
        self.folder = Folder(self.path)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.folder, name)
        if name in ("get", "read", "put_new", "replace", "put", "list", "remove"):
            return lambda *given: self._asked(name, found, *given)
        return found

    def _asked(self, name: str, call: Callable[..., Any], *given: Any) -> Any:
        if self.trouble.down is not None and self.trouble.down in f"{self.path}/{given[0]}":
            raise StoreUnavailable("the store is away")
        if self.trouble.lost and name in ("replace", "put_new") and given[0] == LISTING:
            call(*given)
            self.trouble.down, self.trouble.lost = "", False
            raise Unsure("no answer came")
        return call(*given)


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


@pytest.fixture
def serve(
    open_catalogue: OpenCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Trouble
) -> Iterator[Open]:
    """Servers over one store, each with a folder of its own; what they do in the background, tests do."""
    monkeypatch.setattr(
        stored,
        "open_objects",
        lambda url: Persistent(Faulty(Path(url.removeprefix("file://")), trouble), deadline_s=0.1),
    )
    monkeypatch.setattr(StoredHomes, "start", lambda *given: None)
    with ExitStack() as stack:

        def begin(name: str, role: str = "writer") -> Catalogue:
            chosen: dict[str, Any] = {"store": f"file://{tmp_path}/store", "role": role}
            catalogue = stack.enter_context(open_catalogue(tmp_path / name, tasks=True, **chosen))
            catalogue.serve(f"http://{name}")
            return catalogue

        yield begin
        trouble.down, trouble.lost = None, False


def tend(catalogue: Catalogue) -> None:
    homes = catalogue.homes
    assert isinstance(homes, StoredHomes)
    (homes._tend if homes.writes else homes._look)(catalogue.exchange, catalogue.aliases)


def listing(tmp_path: Path) -> Listing:
    return Collections(Persistent(Folder(tmp_path / "store"))).read()


def made(catalogue: Catalogue, *names: str) -> Collection:
    return [catalogue.create(name, model="words", kind="multi_vector") for name in names][-1]


def write(collection: Collection, *names: str) -> None:
    write_documents(collection, [Document(name, f"{name} is written") for name in names])


def ids(collection: Collection) -> list[str]:
    return [one.id for one in collection.listing(None, 1_000)[0]]


# What another server has


def test_a_stale_writer_removes_nothing_of_anothers(serve: Open, tmp_path: Path):
    stale = serve("stale")
    made(stale, "c", "d")
    write(stale.get("c"), "a")
    writer = serve("writer")
    before = listing(tmp_path)
    # It has written nothing since, so its log has not told it.
    with pytest.raises(Conflict, match="another server has become the writer") as refused:
        stale.delete("c")
    assert refused.value.code == "collection_busy"
    assert listing(tmp_path) == before
    write(writer.get("c"), "b")
    # Another collection of the name.
    writer.delete("d")
    write(made(writer, "d"), "new")
    with pytest.raises(Conflict, match="another server has become the writer"):
        stale.delete("d")
    reader = serve("reader", "reader")
    assert (ids(reader.get("c")), ids(reader.get("d"))) == (["a", "b"], ["new"])


def test_a_stale_writer_replaces_nothing_of_anothers(serve: Open, tmp_path: Path):
    stale = serve("stale")
    made(stale, "c", "other")
    writer = serve("writer")
    write(writer.get("c"), "a")
    homes = stale.homes
    with (
        pytest.raises(Conflict, match="another server has become the writer"),
        homes.housed("c", stale.files.folder("other")),
    ):
        raise AssertionError("it is not the writer")
    assert ids(serve("reader", "reader").get("c")) == ["a"]


def test_a_claim_between_look_and_change_is_seen(serve: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stale = serve("stale")
    made(stale, "c")
    homes = stale.homes
    assert isinstance(homes, StoredHomes)
    read = homes.listed.read

    def overtaken() -> Listing:
        now = read()
        serve("writer")
        return now

    monkeypatch.setattr(homes.listed, "read", overtaken)
    with pytest.raises(Conflict, match="another server has become the writer"):
        stale.delete("c")
    assert "c" in listing(tmp_path).histories


def test_a_writer_that_was_overtaken_claims_nothing_back(serve: Open, tmp_path: Path):
    stale = serve("stale")
    made(stale, "c")
    writer = serve("writer")
    write(writer.get("c"), "a")
    made(writer, "later")
    # As after damage that was found, or when its copy is too old.
    homes = stale.homes
    assert isinstance(homes, StoredHomes)
    homes._stale("c")
    tend(stale)
    # And so often from now on as a reader.
    assert homes._tend(stale.exchange, stale.aliases) == stored.LOOK_S
    assert ids(stale.get("c")) == ["a"]
    assert "later" in [one.name for one in stale.describe_all()]
    with pytest.raises(Conflict, match="another server has become the writer"):
        write(stale.get("c"), "b")
    write(writer.get("c"), "c")
    write(writer.get("later"), "d")
    # What it deletes goes.
    writer.delete("later")
    tend(stale)
    with pytest.raises(NotFound):
        stale.get("later")


def test_aliases_that_another_server_made_stay(serve: Open, tmp_path: Path):
    first = serve("first")
    made(first, "c")
    second = serve("second")
    second.aliases.set("theirs", "c")
    first.aliases.set("ours", "c")
    assert listing(tmp_path).aliases == {"ours": "c", "theirs": "c"} == first.aliases.all()
    second.aliases.delete("theirs")
    assert listing(tmp_path).aliases == {"ours": "c"} == second.aliases.all()
    made(second, "name")
    with pytest.raises(Conflict) as taken:
        first.aliases.set("name", "c")
    assert taken.value.code == "collection_exists"


def test_what_failed_isundone_where_nobody_else_was_at_it():
    before = Listing("s", {"c": new_history("c")}, {"a": "c"}, {}, {})
    before = replace(before, writers={before.histories["c"]: "me"})
    deleted = before.without("c")
    assert undone("c", before, None, deleted) == replace(before, gone={})
    taken = deleted.named("c", new_history("c"), "other")
    assert undone("c", before, None, taken) == taken
    put = new_history("c")
    replaced = before.named("c", put, "me")
    assert undone("c", before, put, replaced).histories == before.histories
    again = replaced.named("c", new_history("c"), "other")
    assert undone("c", before, put, again) == again
    # Nothing is left of it, or its name is given away.
    emptied = deleted.emptied(before.histories["c"])
    assert undone("c", before, None, emptied) == emptied
    aliased = deleted.with_alias("c", "other")
    assert undone("c", before, None, aliased) == aliased


# Lost answers


def test_a_deletion_whose_answer_was_lost_is_found(
    serve: Open, trouble: Trouble, tmp_path: Path, eventually: Callable[[Callable[[], bool]], None]
):
    writer = serve("writer")
    made(writer, "c")
    trouble.lost = True
    with pytest.raises(Unsure):
        writer.delete("c")
    trouble.down = None
    assert listing(tmp_path).histories == {}
    # Nothing is acknowledged that goes.
    with pytest.raises(SheafError):
        write(writer.get("c"), "late")

    def is_gone() -> bool:
        # A copy is left alone while a commit of the background is under way.
        tend(writer)
        return not writer.describe_all()

    eventually(is_gone)
    with pytest.raises(NotFound):
        writer.get("c")
    made(writer, "c")


def test_a_creation_whose_answer_was_lost_is_found(serve: Open, trouble: Trouble):
    writer = serve("writer")
    trouble.lost = True
    with pytest.raises(Unsure):
        made(writer, "c")
    trouble.down = None
    with pytest.raises(Conflict):
        made(writer, "c")
    tend(writer)
    write(writer.get("c"), "a")


# A store that is away, or not what it was


def test_a_store_without_its_listing_is_not_an_empty_one(serve: Open, tmp_path: Path):
    writer, reader = serve("writer"), serve("reader", "reader")
    made(writer, "c")
    tend(reader)
    assert reader.get("c") is not None
    (tmp_path / "store").rename(tmp_path / "unmounted")
    for catalogue in (reader, writer):
        with pytest.raises(StoreUnavailable, match=r"has no collections\.json any more"):
            tend(catalogue)
        assert [one.name for one in catalogue.describe_all()] == ["c"]
    # Another one is mounted there.
    made(serve("stranger"), "other")
    with pytest.raises(StoreUnavailable, match="is another store than it was"):
        tend(reader)
    assert [one.name for one in reader.describe_all()] == ["c"]


def test_a_disk_that_takes_no_note_of_the_store_fails_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root, objects = LocalDirectory(tmp_path / "s"), Persistent(Folder(tmp_path / "store"))
    root.make()

    def full(self: LocalDirectory, name: str) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LocalDirectory, "create", full)
        collections = collections_of(objects, root, "file://store")
        changed = collections.change(lambda now: now.named("c", new_history("c"), "me"))
        assert collections.read() == changed
    assert root.list() == []
    # Once there is room it is noted after all.
    collections.read()
    (tmp_path / "store" / LISTING).unlink()
    for known in (collections, collections_of(objects, root, "file://store")):
        with pytest.raises(StoreUnavailable, match="any more"):
            known.read()


@pytest.mark.parametrize("history", ["", "..", "../c-0123456789abcdef", "c-0123456789abcdef/x"])
def test_a_listing_that_was_touched_is_refused(tmp_path: Path, history: str):
    collections = Collections(Persistent(Folder(tmp_path)))
    collections.change(lambda now: now.named("c", new_history("c"), "me"))
    path = tmp_path / LISTING
    value = json.loads(path.read_bytes())
    value["gone"] = {history: 1.0}
    path.write_text(json.dumps(value))
    with pytest.raises(Damaged, match="its checksum is another"):
        collections.read()
    del value["crc32"]
    path.write_text(json.dumps({**value, "crc32": _checksum(value)}))
    with pytest.raises(Damaged, match="a history that no collection has"):
        collections.change(lambda now: now.without("c"))


def test_a_start_that_the_store_interrupts_goes_on(serve: Open, trouble: Trouble):
    first = serve("first")
    for name in "abc":
        write(made(first, name), "one")
    trouble.down = "histories/b-"
    second = serve("second")
    assert second.ready
    assert [one.name for one in second.describe_all()] == ["a", "c"]
    trouble.down = None
    tend(second)
    assert [ids(second.get(name)) for name in "abc"] == [["one"]] * 3


@pytest.mark.parametrize("role", ["writer", "reader"])
def test_one_damaged_collection_keeps_no_other_waiting(serve: Open, tmp_path: Path, role: str):
    first = serve("first")
    for name in "abc":
        write(made(first, name), "one")
    [base] = (tmp_path / "store/histories").glob("b-*/files/*/*/base")
    base.write_bytes(b"x" * base.stat().st_size)
    other = serve("other", role)
    assert other.ready
    assert [ids(other.get(name)) for name in "ac"] == [["one"]] * 2
    write(made(first, "d"), "one")
    first.aliases.set("alias", "d")
    tend(other)
    assert ids(other.get("alias")) == ["one"]


def test_collections_are_described_while_the_store_is_away(serve: Open, trouble: Trouble):
    with serve("writer") as writer:
        made(writer, "c")
    trouble.down = ""
    writer = serve("writer")
    assert [(one.name, one.state) for one in writer.describe_all()] == [("c", "ready")]


def test_a_catalogue_is_closed_whatever_one_collection_raises(serve: Open, monkeypatch: pytest.MonkeyPatch):
    writer = serve("writer")
    made(writer, "a", "b")
    copies = [opened.copy for opened in writer._open.values()]
    end = copies[0].close  # type: ignore[union-attr]

    def fail() -> None:
        end()
        raise StoreUnavailable("the store is away")

    with monkeypatch.context() as failing:
        failing.setattr(copies[0], "close", fail)
        failing.setattr(writer.homes, "stop", fail)
        with pytest.raises(StoreUnavailable):
            writer.close()
    assert [copy.closed for copy in copies] == [True, True]  # type: ignore[union-attr]
    assert ids(serve("writer").get("b")) == []


# Threads


def test_an_alias_that_waits_for_the_store_keeps_nobody_waiting(serve: Open, monkeypatch: pytest.MonkeyPatch):
    writer = serve("writer")
    made(writer, "c")
    publish, free = writer.aliases.publish, []

    def published(alias: str, collection: str | None) -> Any:
        def look() -> None:
            free.append(writer._lock.acquire(blocking=False))
            if free[-1]:
                writer._lock.release()

        other = threading.Thread(target=look)
        other.start()
        other.join()
        return publish(alias, collection)

    monkeypatch.setattr(writer.aliases, "publish", published)
    writer.aliases.set("a", "c")
    writer.aliases.delete("a")
    assert free == [True, True]


def test_what_is_known_of_the_listing_does_not_go_back(serve: Open, monkeypatch: pytest.MonkeyPatch):
    homes = serve("writer").homes
    assert isinstance(homes, StoredHomes)
    read, began, go_on = homes.listed.collections.read, threading.Event(), threading.Event()

    def late() -> Listing:
        now = read()
        began.set()
        go_on.wait(10)
        return now

    monkeypatch.setattr(homes.listed.collections, "read", late)
    looking = threading.Thread(target=homes.listed.read)
    looking.start()
    began.wait(10)
    history = new_history("c")
    changing = threading.Thread(target=homes.listed.change, args=(lambda now: now.named("c", history, "me"),))
    changing.start()
    # Without the lock it has ended by now.
    changing.join(0.1)
    go_on.set()
    looking.join()
    changing.join()
    assert homes.listed.now is not None
    assert homes.listed.now.histories == {"c": history}
