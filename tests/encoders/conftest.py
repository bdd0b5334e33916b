"""Models and servers that the encoders' tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from embedding_server import EmbeddingServer
from tiny_models import TinyModels

from app.encoders import local
from app.encoders.registry import Encoders
from app.settings import LocalModel


@pytest.fixture(scope="session", autouse=True)
def unprepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is answered out of what this machine's own installation has converted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "PREPARED", tmp_path_factory.mktemp("unprepared"))
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def opened() -> Iterator[Callable[..., Any]]:
    """Opens a folder as an encoder through the registry, once for the session: opened(folder, type, kind)."""
    registries: dict[tuple[str, str], Encoders] = {}

    def open_folder(folder: Path, type: Any = "sentence_transformer", kind: Any = "multi_vector") -> Any:
        key = (str(folder), type)
        if key not in registries:
            registries[key] = Encoders({"tiny": LocalModel(type=type, path=str(folder))})
        return registries[key].get("tiny", kind)

    yield open_folder
    for registry in registries.values():
        registry.close()


@pytest.fixture(scope="session")
def builtin() -> Encoders:
    return Encoders({})


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    found = EmbeddingServer()
    yield found
    found.close()
