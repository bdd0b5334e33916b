"""Files that a client writes for its caller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path | str) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the path's place at the end; nothing of it stays where there is an error."""
    part = Path(f"{path}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
