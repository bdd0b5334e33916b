"""Music for scripts/bench_sequences.py: MIDI files of Debian packages, played by fluidsynth, as log-mel segments.

A segment is a second of sound, and one begins each half second: 30 spectra of 64 mel bands from 300 to 4,000 Hz in
decibels below the loudest; those of Chang et al. 2021 (arXiv 2010.11910) have four times as many bands.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.types import F32, F64

I16 = NDArray[np.int16]

RATE: Final = 8_000
"""Samples a second."""
SEGMENT: Final = RATE
"""Samples of a segment."""
HOP: Final = RATE // 2
PER_SECOND: Final = RATE / HOP
WINDOW: Final = 512
"""Samples of a spectrum."""
STEP: Final = 250
"""From one to the next."""
FRAMES: Final = (SEGMENT - WINDOW) // STEP + 1
"""Spectra of a segment."""
BANDS: Final = 64
LOWEST, HIGHEST = 300.0, 4_000.0
"""Hz."""
RANGE: Final = 30.0
"""Decibels below the loudest that count: what is weaker drowns in noise (docs/decisions.md)."""


def scores_in(folder: Path) -> dict[str, bytes]:
    """The MIDI files below a folder and in the WAD files of games, by name; each content once."""
    found: dict[bytes, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".mid", ".midi"):
            found.setdefault(path.read_bytes(), f"{path.parent.name}/{path.stem}")
        elif path.suffix.lower() == ".wad":
            for name, content in _of_wad(path.read_bytes()):
                found.setdefault(content, f"{path.stem}/{name}")
    return {name: content for content, name in found.items()}


def _of_wad(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The lumps of an id Software WAD that are MIDI: a header of 12 bytes names a directory of entries of 16."""
    count, directory = struct.unpack_from("<ii", content, 4)
    for entry in range(directory, directory + 16 * count, 16):
        start, size, name = struct.unpack_from("<ii8s", content, entry)
        if content[start : start + 4] == b"MThd":
            yield name.rstrip(b"\0").decode("ascii"), content[start : start + size]


def played(score: bytes, font: Path) -> I16:
    """(samples,): a MIDI file by fluidsynth with a sound font, both channels together. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        midi, raw = Path(folder, "a.mid"), Path(folder, "a.raw")
        midi.write_bytes(score)
        command = ["fluidsynth", "-niq", "-r", str(RATE), "-g", "0.5", "-T", "raw", "-O", "s16", "-F", str(raw)]
        subprocess.run([*command, str(font), str(midi)], check=True, capture_output=True)
        sound = np.fromfile(raw, "<i2").reshape(-1, 2)
    found: I16 = (sound.astype(np.int32).sum(axis=1) // 2).astype(np.int16)
    return found


@cache
def _mel() -> F32:
    """(bands, bins): triangles that are evenly wide in mel."""

    def mel(hertz: F64) -> F64:
        found: F64 = 2_595 * np.log10(1 + hertz / 700)
        return found

    lowest, highest = mel(np.array([LOWEST, HIGHEST])).tolist()
    edges = np.linspace(lowest, highest, BANDS + 2)
    bins = mel(np.linspace(0, RATE / 2, WINDOW // 2 + 1))
    up = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    found: F32 = np.maximum(0, np.minimum(up, down)).astype(np.float32)
    return found


def features(sound: NDArray[np.floating] | I16) -> F32:
    """(samples,) -> (n, FRAMES * BANDS), from -1 to 1: of a segment each half second, as many as there are in whole."""
    if len(sound) < SEGMENT:
        return np.zeros((0, FRAMES * BANDS), np.float32)
    spectra = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float32), WINDOW)[::STEP]
    power = np.square(np.abs(np.fft.rfft(spectra * np.hanning(WINDOW).astype(np.float32)))).astype(np.float32)
    decibels = 10 * np.log10(power @ _mel().T + 1e-3)
    starts = np.arange(0, len(sound) - SEGMENT + 1, HOP) // STEP
    made = decibels[starts[:, None] + np.arange(FRAMES)].reshape(len(starts), -1)
    made -= made.max(axis=1, keepdims=True)
    found: F32 = np.maximum(made, -RANGE) / (RANGE / 2) + 1
    return found


def with_noise(sound: NDArray[np.floating], decibels: float, random: np.random.Generator) -> F32:
    """With pink noise (as much of it in each octave) that is so many decibels weaker."""
    spectrum = np.fft.rfft(random.standard_normal(len(sound)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, len(sound))
    power = np.square(sound, dtype=np.float64).mean() / np.square(noise).mean()
    found: F32 = (sound + noise * np.sqrt(power / 10 ** (decibels / 10))).astype(np.float32)
    return found
