"""Who waits for shards, and who does not: over shards that say what the test has them say. What they answer over a real
cluster is held to in tests/api/test_shards.py."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from made import DIM, write_in_segments

import app.shards.router
from app.catalogue.catalogue import Catalogue
from app.compute.deadline import deadline
from app.encoders.registry import Encoders
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.main import HANDLERS
from app.search import Query, search
from app.settings import DeterministicModel, Settings
from app.shards.members import Member, Members
from app.shards.messages import COMING, Held, Key
from app.shards.router import GIVEN_UP_S, Elsewhere, Router
from app.types import Document

Wait = Callable[[Callable[[], bool]], None]
LEXICAL = Query(text="word1", mode="lexical", k=3)
SEARCH_S = 20.0
"""The time of a search: a third of what a new generation would wait for shards."""


class Told:
    """Two shards, each on a machine of its own. why: of a segment, why they do not have it; nothing: they do."""

    ray = None

    def __init__(self) -> None:
        self.now: dict[str, Member] = members("a/0", "b/0")
        self.why: Callable[[Key], str] = lambda key: ""
        self.wanted: Mapping[str, tuple[str, list[Held]]] = {}

    def look(self) -> None:
        """None comes, none goes."""

    def tell(self, wanted: Mapping[str, tuple[str, list[Held]]]) -> bool:
        self.wanted = wanted
        for name, member in self.now.items():
            version, held = wanted.get(name, ("", []))
            member.says(version, {one.key: self.why(one.key) for one in held})
        return False

    def names(self) -> set[str]:
        return {one.record.name for _, held in self.wanted.values() for one in held}


def members(*names: str) -> dict[str, Member]:
    return {name: Member(name, name[0], None, None) for name in names}


def settings(folder: Path, store: Path, **chosen: Any) -> Settings:
    models = {"words": DeterministicModel(type="deterministic", dim=DIM)}
    return Settings(indexes=folder, models=models, seal_documents=10**6, store=f"file://{store}", **chosen)


def serve(stack: ExitStack, chosen: Settings, router: Router | None = None) -> Catalogue:
    catalogue = stack.enter_context(Catalogue(chosen.indexes, Encoders(chosen.models), chosen, HANDLERS, router))
    catalogue.serve(f"http://{chosen.indexes.name}")
    return catalogue


def documents(count: int, first: int = 0) -> list[Document]:
    random = np.random.default_rng(first)
    words = [f"word{i}" for i in range(9)]
    return [Document(f"d{first + i}", " ".join(random.choice(words, 9))) for i in range(count)]


class Pair:
    """A writer, and a reader whose segments are elsewhere."""

    def __init__(self, stack: ExitStack, place: Path) -> None:
        self.told = Told()
        self._writer = serve(stack, settings(place / "w", place / "store")).create("m", model="words", kind="dense")
        write_in_segments(self._writer, documents(60), 20)
        self.router = Router(cast(Members, self.told), 0.5)
        stack.callback(self.router.stop)
        self._written = 60
        chosen = settings(place / "r", place / "store", role="reader")
        self.reader = serve(stack, chosen, self.router).get("m")

    def write(self, *, sealed: bool = False) -> None:
        write_documents(self._writer, documents(20, self._written))
        self._written += 20
        if sealed:
            seal(self._writer)

    @property
    def names(self) -> set[str]:
        """Of the segments that searches see."""
        return {view.part.record.name for view in self.reader.published.segments}

    @property
    def written(self) -> bool:
        """Whether searches see all that was written."""
        with deadline(time.monotonic() + SEARCH_S):
            found = search(self.reader, LEXICAL)
        assert found.hits
        return self.reader.published.commit == self._writer.published.commit

    @property
    def elsewhere(self) -> Elsewhere:
        found = self.reader.published.segments[0].part.elsewhere
        assert isinstance(found, Elsewhere)
        return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        # Longer than any test waits.
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(app.shards.router, "READY_S", 600.0)
        yield Pair(stack, tmp_path_factory.mktemp("routed"))


@pytest.mark.parametrize("why", ["", COMING, "the disk is full"])
def test_a_write_without_a_segment_waits_for_no_shard(pair: Pair, eventually: Wait, why: str):
    pair.told.why = lambda key: why
    eventually(lambda: all(bool(one.failed or one.ready) == (why != COMING) for one in pair.told.now.values()))
    pair.write()
    eventually(lambda: pair.written)


def test_a_segment_that_no_shard_can_have_is_not_waited_for(pair: Pair, eventually: Wait):
    pair.told.why = lambda key: "the disk is full"
    before = pair.names
    pair.write(sealed=True)
    eventually(lambda: pair.written)
    assert pair.names - before


def test_while_a_segment_is_expected_searches_go_on_and_then_see_it(pair: Pair, eventually: Wait):
    pair.told.why = lambda key: ""
    eventually(lambda: pair.written)
    old = pair.names
    pair.told.why = lambda key: "" if key.name in old else COMING
    pair.write(sealed=True)
    eventually(lambda: pair.told.names() > old)
    for _ in range(3):
        assert not pair.written
    # A search that follows the commit before leaves alone what is expected.
    with pair.reader.database.read() as connection:
        assert pair.router.of("m", connection) is pair.elsewhere
    assert {one.record.name for one in pair.elsewhere.wanted} > old
    pair.told.why = lambda key: ""
    eventually(lambda: pair.written)
    assert pair.names - old
    # And what is there is all that is wanted.
    eventually(lambda: {one.record.name for one in pair.elsewhere.wanted} == pair.names)


def test_only_what_is_new_is_waited_for(pair: Pair, eventually: Wait):
    old = pair.names
    pair.told.why = lambda key: COMING if key.name in old else ""
    eventually(lambda: not any(one.ready for one in pair.told.now.values()))
    pair.write(sealed=True)
    eventually(lambda: pair.written)
    assert pair.names - old


@pytest.mark.parametrize("gone", [True, False])
def test_shards_that_are_gone_or_silent_are_not_waited_for(pair: Pair, eventually: Wait, gone: bool):
    there = pair.told.now
    pair.told.why = lambda key: COMING
    try:
        if gone:
            pair.told.now = {}
        else:
            pair.told.tell = lambda wanted: False  # type: ignore[method-assign]
            for one in there.values():
                one.ready, one.heard = frozenset(), True
                one.says_nothing(time.monotonic() - 2 * GIVEN_UP_S)
        before = pair.names
        pair.write(sealed=True)
        pair.router.settle()
        eventually(lambda: pair.written)
        assert pair.names - before
    finally:
        vars(pair.told).pop("tell", None)
        pair.told.now, pair.told.why = there, lambda key: ""


def test_a_segment_is_with_shards_that_are_there_while_they_come_and_go():
    told = Told()
    router = Router(cast(Members, told), 0.5)
    keys = [Key("h", f"s{i}", 1) for i in range(30)]
    sets = [members("a/0", "b/0", "c/0"), members("a/0", "b/0"), members("c/0")]
    errors: list[Exception] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                for key in keys:
                    assert router.copies(key)
            except (KeyError, AssertionError) as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(3)]
    told.now = sets[0]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for one in threads:
            one.start()
        for i in range(400):
            told.now = dict(sets[i % 3])
            time.sleep(0)
    finally:
        ended.set()
        for one in threads:
            one.join()
        sys.setswitchinterval(interval)
        router.stop()
    assert errors == []
    assert all(told.now[one.name] is one for one in router.copies(keys[0]))


def test_a_shard_that_fell_silent_is_asked_last():
    told = Told()
    router = Router(cast(Members, told), 0.5)
    router.stop()
    key = Key("h", "s", 1)
    first, second = router.copies(key)
    first.says("v", {key: ""})
    second.says("v", {key: ""})
    assert router.copies(key) == [first, second]
    first.says_nothing(time.monotonic())
    assert first.suspect
    first.suspect_until = 0.0
    assert first.silent
    assert router.copies(key) == [second, first]
    first.says("v", {key: ""})
    assert not first.silent
    second.says("v", {key: "the disk is full"})
    assert router.copies(key) == [first, second]
    second.says("v", {key: COMING})
    first.says("v", {key: "the disk is full"})
    assert router.copies(key) == [second, first]
    # One that has only begun says nothing yet.
    new = replace(first, heard=False)
    new.says_nothing(time.monotonic())
    assert not new.silent
