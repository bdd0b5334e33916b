"""One live server with a quick encoder, for all tests of the client and of what is built on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from running import Running

from app.client import Collection, Sheaf
from app.settings import DeterministicModel, Settings

DIM = 16
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    models = {"words": DeterministicModel(type="deterministic", dim=DIM)}
    running = Running(Settings(indexes=tmp_path_factory.mktemp("served"), models=models)).opened()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def sheaf(server: Running) -> Iterator[Sheaf]:
    with Sheaf(server.url) as sheaf:
        yield sheaf


@pytest.fixture
def new(sheaf: Sheaf) -> Callable[..., Collection]:
    """Makes an empty collection, of the quick encoder where nothing else is said."""

    def make(**options: object) -> Collection:
        return sheaf.create(f"c{next(_NUMBERS)}", **{"model": "words", **options})

    return make
