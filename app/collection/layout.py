"""The names in a collection's folder. indexes/README.md says what each holds."""

from __future__ import annotations

from typing import Final

DATABASE: Final = "collection.sqlite"
MARK: Final = "commits.mark"
WRITER_LOCK: Final = "writer.lock"
SEGMENTS: Final = "segments"
TAIL: Final = "tail"
IMPORTS: Final = "imports"
ENCODINGS: Final = "encodings"
SNAPSHOTS: Final = ".snapshots"
"""Beside the collections, where no collection's name can reach."""
