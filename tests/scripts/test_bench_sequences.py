"""Real sound end to end: MIDI files that the test composes, played by fluidsynth, found by a noisy part of them."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from commands import Command

FONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")


def composed(seed: int, seconds: int = 14) -> bytes:
    """A MIDI file of one track: four notes a second, 960 ticks, of one instrument."""
    random = np.random.default_rng(seed)
    track = bytearray([0, 0xC0, int(random.integers(0, 80))])
    for note in random.integers(50, 80, 4 * seconds).tolist():
        track += bytes([0, 0x90, note, 100, 0x81, 0x70, 0x80, note, 0])
    track += b"\0\xff\x2f\0"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) + b"MTrk" + struct.pack(">I", len(track)) + track


def test_music_is_found_by_a_noisy_part(command: Command, tmp_path: Path) -> None:
    if shutil.which("fluidsynth") is None or not FONT.exists():
        assert os.environ.get("SHEAF_REQUIRE_AUDIO") != "1", "fluidsynth and timgm6mb-soundfont must be here in CI"
        pytest.skip("apt-get install fluidsynth timgm6mb-soundfont")
    scores = tmp_path / "scores"
    scores.mkdir()
    for seed in range(9):
        (scores / f"tune{seed}.mid").write_bytes(composed(seed))
    # A game keeps its music among its maps.
    lump = composed(99)
    entry = struct.pack("<ii8s", 12, len(lump), b"D_MAP01\0")
    (scores / "game.wad").write_bytes(struct.pack("<4sii", b"IWAD", 1, 12 + len(lump)) + lump + entry)
    done = command("bench_sequences", scores, "--queries", 4, "--pairs", 200, "--rounds", 40, "--dim", 32)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("10 pieces, 0.04 hours, ")
    tables = done.stdout.partition("contrastive, ")[2].partition("PCA, ")
    for table in tables[::2]:
        rows = {tuple(line.split()[:2]): line.split()[2:] for line in table.splitlines() if line.startswith("   ")}
        # Six seconds in weak noise: the piece and the place in it, by candidates as by every offset.
        assert [float(share) for share in rows["6", "20"][:3]] == [1.0, 1.0, 1.0]
        assert float(rows["3", "10"][0]) >= 0.5
