"""Maps that cost no open file at rest."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from app.compute.maps import pages_of


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_a_map_keeps_no_file_open_and_outlives_its_name(tmp_path: Path) -> None:
    path, content = tmp_path / "x", os.urandom(3 * 4096 + 5)
    path.write_bytes(content)
    before = open_files()
    maps = []
    for _ in range(50):
        with path.open("rb") as file:
            maps.append(pages_of(file.fileno(), len(content)))
    assert open_files() == before
    path.unlink()
    assert all(one[:] == content for one in maps)
    with pytest.raises(TypeError):
        maps[0][0] = 1
    maps[0].madvise(mmap.MADV_DONTNEED)
    assert maps[0][:] == content


def test_what_cannot_be_mapped_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    descriptor = os.open(tmp_path / "x", os.O_WRONLY)
    try:
        with pytest.raises(PermissionError):
            pages_of(descriptor, 1)
    finally:
        os.close(descriptor)
