"""Samples that several tests share."""

from __future__ import annotations

import pytest
from clustered_vectors import Sample, clustered


@pytest.fixture(scope="session")
def small() -> Sample:
    return clustered(700, 24, 9)


@pytest.fixture(scope="session")
def large() -> Sample:
    return clustered(12_000, 32, 40)
