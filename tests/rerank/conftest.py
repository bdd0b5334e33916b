"""Models that rerank: cross encoders made on the spot, and encoders whose MaxSim does."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import TinyModels


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def cross(tiny: TinyModels) -> Path:
    return tiny.cross()


@pytest.fixture(scope="session")
def zip_lover(tiny: TinyModels) -> Path:
    """A cross encoder that is known to be right: it has learned to prefer texts with the word `zip`."""
    return tiny.preferring("zip")
