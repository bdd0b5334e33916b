"""A cache can always be lost, and never be half there."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from app.encoders.openvino.model_cache import MANIFEST, ModelCache

KEY = {"weights": "a", "version_openvino": "1"}


def write(folder: Path) -> dict[str, Any]:
    (folder / "model.bin").write_bytes(bytes(range(256)) * 10)
    (folder / "model.xml").write_text("<net/>")
    return {"dim": 3, "prompts": {"query": "é "}}


def entries(cache: ModelCache) -> list[str]:
    return sorted(path.name for path in cache.folder.iterdir() if path.name != "lock")


def test_what_was_made_is_loaded(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path / "not" / "there")
    assert cache.load(KEY) is None
    made = cache.make(KEY, write)
    found = ModelCache(cache.folder).load(KEY)
    assert found == made
    assert found.content == {"dim": 3, "prompts": {"query": "é "}}
    assert (found.folder / "model.xml").read_text() == "<net/>"
    assert cache.load({**KEY, "weights": "b"}) is None


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_all_files_of_an_entry_are_as_readable_as_one(tmp_path: Path, mask: int, mode: int) -> None:
    def of_safetensors(folder: Path) -> dict[str, str]:
        save_file({"a": np.ones(1, np.float32)}, folder / "probe.safetensors")
        return {}

    before = os.umask(mask)
    try:
        made = ModelCache(tmp_path).make(KEY, of_safetensors)
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.folder.iterdir()}
    assert found == {"probe.safetensors": mode, MANIFEST: mode}


@pytest.mark.parametrize("name", ["model.bin", "model.xml", MANIFEST])
@pytest.mark.parametrize("damage", ["flip", "shorten", "lengthen", "remove", "empty"])
def test_damage_is_noticed_and_the_entry_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    cache = ModelCache(tmp_path)
    path = cache.make(KEY, write).folder / name
    content = path.read_bytes()
    middle = len(content) // 2
    changed = {
        "flip": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "shorten": content[:-1],
        "lengthen": content + b"x",
        "empty": b"",
    }
    path.unlink()
    if damage != "remove":
        path.write_bytes(changed[damage])
    with caplog.at_level(logging.WARNING):
        assert cache.load(KEY) is None
    assert "is damaged" in caplog.text
    assert "made anew" in caplog.text
    made = cache.make(KEY, write)
    assert path.read_bytes() == content
    assert cache.load(KEY) == made
    assert len(entries(cache)) == 1


def test_every_single_bit_of_the_manifest_counts(tmp_path: Path) -> None:
    """A reader that took its content on trust would serve with another prompt or another limit."""
    cache = ModelCache(tmp_path)
    path = cache.make(KEY, write).folder / MANIFEST
    content = path.read_bytes()
    for position in range(0, len(content), 3):
        changed = bytearray(content)
        changed[position] ^= 4
        path.write_bytes(changed)
        found = cache.load(KEY)
        # White space between its parts may change; what it says may not.
        assert found is None or found.content == {"dim": 3, "prompts": {"query": "é "}}
        assert (found is None) or json.loads(changed) == json.loads(content)


def test_an_entry_of_another_key_is_not_taken(tmp_path: Path) -> None:
    cache, other = ModelCache(tmp_path), {**KEY, "weights": "b"}
    one, two = cache.make(KEY, write).folder, cache.make(other, write).folder
    for path in two.iterdir():
        path.unlink()
    two.rmdir()
    one.rename(two)
    assert cache.load(other) is None


def test_a_file_outside_or_behind_a_link_is_not_taken(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path / "cache")
    path = cache.make(KEY, write).folder / "model.bin"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.load(KEY) is None


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path)

    def fail(folder: Path) -> dict[str, Any]:
        write(folder)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.make(KEY, fail)
    assert entries(cache) == []
    assert cache.make(KEY, write).content["dim"] == 3


def test_what_a_crash_left_and_what_other_versions_made_goes(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path)
    cache.make({**KEY, "version_openvino": "0"}, write)
    cache.make({"weights": "kept", "version_openvino": "0"}, write)
    assert len(entries(cache)) == 2
    for name in (".new-abc", ".old-abc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("not ours")
    made = [cache.make(KEY, write), cache.make({**KEY, "weights": "b"}, write)]
    assert entries(cache) == sorted([*(entry.folder.name for entry in made), "notes.txt"])


def test_several_at_once_write_once(tmp_path: Path) -> None:
    together, written = threading.Barrier(4), []

    def make(_: int) -> dict[str, Any]:
        together.wait()

        def counting(folder: Path) -> dict[str, Any]:
            written.append(folder)
            return write(folder)

        return ModelCache(tmp_path).make(KEY, counting).content

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(make, range(4)))
    assert len(written) == 1
    assert all(each == found[0] for each in found)
