"""A real Ray cluster on loopback."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

HOST: Final[dict[str, Any]] = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
"""What each host is begun with."""


@contextmanager
def ray_cluster(processors: int) -> Iterator[Any]:
    """``ray.cluster_utils.Cluster`` of a head that lends so many processors. One a process."""
    # The paths of its sockets may have no more than 107 characters.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        # Else Ray takes another address of this machine than loopback's. Read when it is imported.
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={**HOST, "num_cpus": processors})
        try:
            yield made
        finally:
            made.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
