"""What runs each kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.collection.tasks import Handler
from app.importing import run_import
from app.rebuild import run_rebuild
from app.snapshotting import run_snapshot
from app.tuning.tune import run_tune

HANDLERS: Final[Mapping[str, Handler]] = {
    "import": run_import,
    "rebuild": run_rebuild,
    "tune": run_tune,
    "snapshot": run_snapshot,
}
