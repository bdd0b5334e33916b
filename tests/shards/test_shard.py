"""A shard, in this process: it answers for the rest where it lacks something, and what its disk spoils comes anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import write_in_segments

import app.shards.shard
import app.store.files
from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.layers import TOKENS
from app.collection.part import Part
from app.compute.workers import Workers
from app.encoders.registry import Encoders
from app.main import HANDLERS
from app.settings import Settings
from app.shards.messages import Held, Lacking, received, sent
from app.shards.router import segments_of
from app.shards.shard import Shard
from app.store.layout import SEGMENTS
from app.types import Document

BLOCK = 4_096
ROWS = np.arange(300, dtype=np.int64)


@dataclass(frozen=True)
class Tokens:
    """Work: the token vectors of rows."""

    def of(self, parts: Sequence[Part], asked: Sequence[Any], workers: Workers) -> list[Any]:
        return [part.ragged(TOKENS).take(rows).values for part, rows in zip(parts, asked, strict=True)]


@dataclass
class Holding:
    """A shard that holds the segments of a collection."""

    shard: Shard
    collection: Collection
    held: list[Held]
    folder: Path

    def said(self) -> list[str]:
        return list(self.shard.hold("", None)[1].values())

    def ask(self, held: Sequence[Held]) -> list[Any]:
        content = sent(([one.key for one in held], [ROWS] * len(held)))
        _, answer = received(self.shard.ask(sent(Tokens()), content, None))
        assert isinstance(answer, list)
        return answer

    def is_right(self, held: Held, answer: Any) -> bool:
        (part,) = [view.part for view in self.collection.published.segments if view.part.record == held.record]
        return isinstance(answer, np.ndarray) and np.array_equal(answer, part.ragged(TOKENS).take(ROWS).values)


Written = tuple[Collection, str]
"""With the address of its store."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    place = tmp_path_factory.mktemp("shard")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(app.store.files, "BLOCK", BLOCK)
        # This process has its own place for compiled code.
        patch.setattr(app.shards.shard, "keep_in", lambda folder: None)
        patch.setattr(app.shards.shard, "prepare", lambda *given: None)
        chosen = Settings(indexes=place / "w", models={}, seal_documents=10**6, store=f"file://{place}/store")
        catalogue = stack.enter_context(Catalogue(chosen.indexes, Encoders({}), chosen, HANDLERS))
        catalogue.serve("http://w")
        collection = catalogue.create("d", model=None, kind="multi_vector", dim=64)
        values = np.random.default_rng(7).normal(size=(700, 3, 64)).astype(np.float32)
        write_in_segments(collection, [Document(f"v{i}", "", vectors=one) for i, one in enumerate(values)], 320)
        yield collection, f"file://{place}/store"


@pytest.fixture
def holding(written: Written, tmp_path: Path, eventually: Callable[[Callable[[], bool]], None]) -> Holding:
    collection, url = written
    with collection.database.read() as connection:
        _, held = segments_of("d", connection)
    assert len(held) == 2
    found = Holding(Shard(url, str(tmp_path), 1), collection, held, tmp_path)
    found.shard.hold("both", sent(held))
    eventually(lambda: found.said() == ["", ""])
    return found


def test_its_copies_lie_in_the_home_of_who_runs_it(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Anybody may make a folder in /tmp before it does."""
    monkeypatch.setenv("HOME", str(tmp_path))
    Shard(written[1], str(Settings().shard_folder), 1)
    assert (tmp_path / ".cache/sheaf/shards/shard-0").is_dir()


def test_what_is_not_there_is_lacking_alone(holding: Holding):
    one, other = holding.held
    unknown = Held("another", one.record, one.files)
    first, second, third = holding.ask([other, unknown, one])
    assert holding.is_right(other, first)
    assert isinstance(second, Lacking)
    assert holding.is_right(one, third)


def test_a_segment_that_the_disk_spoils_is_lacking_and_comes_anew(
    holding: Holding, eventually: Callable[[Callable[[], bool]], None]
):
    good, spoilt = holding.held
    (file,) = holding.folder.glob(f"shard-0/{spoilt.history}/{SEGMENTS}/{spoilt.record.name}/{TOKENS}.npy")
    content = file.read_bytes()
    with file.open("r+b") as opened:
        # Not in the block that opening looks at.
        opened.seek(3 * BLOCK)
        opened.write(bytes(64))
    first, second = holding.ask([spoilt, good])
    assert isinstance(first, Lacking)
    assert holding.is_right(good, second)
    eventually(lambda: holding.said() == ["", ""])
    assert file.read_bytes() == content
    assert all(map(holding.is_right, holding.held, holding.ask(holding.held)))


def test_a_segment_that_is_not_in_the_store_is_said_and_keeps_no_other(
    holding: Holding, eventually: Callable[[Callable[[], bool]], None]
):
    good, other = holding.held
    lost = Held("another", other.record, other.files)
    holding.shard.hold("more", sent([good, lost]))
    eventually(lambda: "is missing" in holding.said()[1])
    first, second = holding.ask([lost, good])
    assert isinstance(first, Lacking)
    assert holding.is_right(good, second)
