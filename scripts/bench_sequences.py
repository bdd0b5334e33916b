"""Where in which piece of music a noisy part of it was heard: sequences beside votes of segments and plain MaxSim.

    apt-get install fluidsynth timgm6mb-soundfont
    cd SCORES && apt-get download openttd-openmsx freedoom planetblupi-music-midi pianobooster liquidwar-data
    for package in *.deb; do dpkg -x $package .; done
    python scripts/bench_sequences.py SCORES [--font FILE] [--dim 128] [--queries 100] [--cache FOLDER]

Every MIDI file below SCORES, and in the WAD files of games, is played and cut into segments (scripts/audio_data.py). A
linear projection is learned on a third of the pieces (scripts/contrastive.py; beside it PCA), the others are asked for:
a part of 1, 2, 3 or 6 s that begins anywhere, at most a quarter of a second from where a segment begins, in pink noise
of 20, 10, 5 or 0 dB below it. All pieces are searched. Told is how often the first answer is the right piece, and of
sequences how often the right place in it, to half a second; since music repeats itself, at other times in the bar than
a segment begins at, a place is right too where the part without noise lies as well as at its own. Bytes are of an hour.

Chang et al. 2021 (arXiv 2010.11910). Figures seen are in docs/papers.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from audio_data import BANDS, FRAMES, HOP, PER_SECOND, RATE, SEGMENT, features, played, scores_in, with_noise
from contrastive import Projection, learned, principal

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.search import Query, search
from app.settings import Settings
from app.types import F32, I64, Document

LENGTHS: Final = (1, 2, 3, 6)
"""Seconds of a query."""
NOISE: Final = (20, 10, 5, 0)
"""Decibels."""
LONGEST: Final = 180
"""Seconds of a piece."""


@dataclass(frozen=True)
class Piece:
    """sound: (samples,). made: (n, features)."""

    name: str
    sound: F32
    made: F32


def pieces(folder: Path, font: Path, cache: Path | None) -> list[Piece]:
    """At least ten seconds each, in the order of their names."""
    found = []
    for name, score in sorted(scores_in(folder).items()):
        kept = None if cache is None else cache / f"{name.replace('/', '-')}.npy"
        if kept is not None and kept.exists():
            sound = np.load(kept)
        else:
            sound = played(score, font)
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                np.save(kept, sound)
        # A tail of silence is no music, and what comes again after three minutes nothing new.
        sound = sound[: LONGEST * RATE]
        loud = np.flatnonzero(np.abs(sound) > 100)
        sound = sound[: loud[-1] + 1] if len(loud) else sound[:0]
        if len(sound) >= 10 * RATE:
            found.append(Piece(name, sound.astype(np.float32), features(sound)))
    return found


def drawn(piece: Piece, seconds: int, random: np.random.Generator) -> int:
    """The sample at which a part begins that is no pause."""
    usual = np.sqrt(np.square(piece.sound).mean())
    while True:
        start = int(random.integers(len(piece.sound) - seconds * RATE + 1))
        if np.sqrt(np.square(piece.sound[start : start + seconds * RATE]).mean()) > 0.3 * usual:
            return start


def pairs(of: Sequence[Piece], count: int, random: np.random.Generator) -> tuple[F32, F32]:
    """(count, features) each: segments, and the same up to a quarter of a second away, in noise."""
    clean, heard = (np.empty((count, FRAMES * BANDS), np.float32) for _ in range(2))
    lengths = np.array([len(piece.sound) for piece in of], np.float64)
    for i, place in enumerate(random.choice(len(of), count, p=lengths / lengths.sum()).tolist()):
        piece = of[place]
        start = drawn(piece, 1, random)
        shifted = min(max(0, start + int(random.integers(-HOP // 2, HOP // 2 + 1))), len(piece.sound) - SEGMENT)
        clean[i] = features(piece.sound[start : start + SEGMENT])[0]
        noisy = with_noise(piece.sound[shifted : shifted + SEGMENT], random.uniform(0, 20), random)
        heard[i] = features(noisy)[0]
    return clean, heard


@contextmanager
def made(kind: Any, of: Sequence[Piece], vectors: Sequence[F32]) -> Iterator[Collection]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(indexes=Path(folder))
        with Catalogue(settings.indexes, Encoders({}), settings) as catalogue:
            collection = catalogue.create(
                "c", model=None, kind=kind, dim=vectors[0].shape[1], lexical=None, keep_vectors=False,
                precision="float32", segments_per_second=PER_SECOND if kind == "sequence" else None,
            )  # fmt: skip
            write_documents(
                collection, [Document(piece.name, vectors=own) for piece, own in zip(of, vectors, strict=True)]
            )
            seal(collection)
            yield collection


def first_by_votes(query: F32, rows: F32, owners: I64) -> int:
    """The document that has the nearest segment of most of the query's; of equal ones that of the largest products."""
    products = query @ rows.T
    best = products.argmax(axis=1)
    found, which = np.unique(owners[best], return_inverse=True)
    worth = np.bincount(which) + 1e-3 * np.bincount(which, products[np.arange(len(query)), best])
    return int(found[worth.argmax()])


def near(start: int, offset: int) -> bool:
    """Whether an offset is where a part begins, to half a second."""
    return abs(offset - start / HOP) <= 1


def right_place(own: F32, clean: F32, start: int, offset: int) -> bool:
    """Whether an offset is a part's beginning, to half a second, or the part lies there as well as where it is from.

    own: (n, dim) of the piece. clean: (m, dim) of the part without noise.
    """

    def lies(at: int) -> float:
        found = own[max(0, at) : at + len(clean)]
        first = max(0, -at)
        return float(np.einsum("ij,ij->", clean[first : first + len(found)], found))

    return near(start, offset) or lies(offset) >= lies(round(start / HOP))


def measured(
    of: Sequence[Piece], asked: Sequence[Piece], by: Projection, count: int, random: np.random.Generator
) -> None:
    vectors = [by.of(piece.made) for piece in of]
    rows = np.concatenate(vectors)
    owners = np.repeat(np.arange(len(of)), [len(own) for own in vectors])
    places = {piece.name: i for i, piece in enumerate(of)}
    hours = len(rows) / PER_SECOND / 3_600
    with made("sequence", of, vectors) as ordered, made("multi_vector", of, vectors) as bag:
        alone = rows[0].nbytes * 3_600 * PER_SECOND
        print(f"   an hour: {ordered.nbytes / hours / 1e6:.2f} MB on disk, {alone / 1e6:.2f} of segments")
        print("   s  dB  sequence  exact  place  to .5 s  votes  MaxSim  ms  exact ms")
        for seconds in LENGTHS:
            for noise in NOISE:
                right, took = np.zeros(6), ([], [])  # type: ignore[var-annotated]
                for _ in range(count):
                    piece = asked[int(random.integers(len(asked)))]
                    start = drawn(piece, seconds, random)
                    sound = with_noise(piece.sound[start : start + seconds * RATE], noise, random)
                    query = by.of(features(sound))
                    for column, exact in ((0, False), (1, True)):
                        begun = time.perf_counter()
                        (hit,) = search(ordered, Query(vectors=query, k=1, exact=exact)).hits
                        took[column].append((time.perf_counter() - begun) * 1e3)
                        right[column] += hit.id == piece.name
                    assert hit.alignment is not None
                    own, clean = vectors[places[piece.name]], piece.sound[start : start + seconds * RATE]
                    placed = right_place(own, by.of(features(clean)), start, hit.alignment.offset)
                    right[2] += hit.id == piece.name and placed
                    right[3] += hit.id == piece.name and near(start, hit.alignment.offset)
                    right[4] += of[first_by_votes(query, rows, owners)].name == piece.name
                    (best,) = search(bag, Query(vectors=query, k=1, exact=True)).hits
                    right[5] += best.id == piece.name
                shares = "  ".join(f"{share:.3f}" for share in right / count)
                times = "  ".join(f"{statistics.median(own):.1f}" for own in took)
                print(f"   {seconds}  {noise:2}  {shares}  {times}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--font", type=Path, default=Path("/usr/share/sounds/sf2/TimGM6mb.sf2"))
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--queries", type=int, default=100, help="of each length and noise")
    parser.add_argument("--pairs", type=int, default=6_000, help="of segments to learn from")
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--cache", type=Path, help="a folder that keeps what was played")
    args = parser.parse_args()
    of = pieces(args.scores, args.font, args.cache)
    random = np.random.default_rng(0)
    order = random.permutation(len(of)).tolist()
    heard, asked = [of[i] for i in order[: len(of) // 3]], [of[i] for i in order[len(of) // 3 :]]
    hours = sum(len(piece.sound) for piece in of) / RATE / 3_600
    segments = sum(len(piece.made) for piece in of)
    print(f"{len(of)} pieces, {hours:.2f} hours, {segments:,} segments; {len(heard)} to learn from")
    began = time.process_time()
    clean, noisy = pairs(heard, args.pairs, random)
    print(f"pairs: {time.process_time() - began:.0f} s of processor time", flush=True)
    for name in ("contrastive", "PCA"):
        began = time.process_time()
        by = learned(clean, noisy, args.dim, args.rounds) if name == "contrastive" else principal(clean, args.dim)
        print(f"{name}, {args.dim} dimensions, {time.process_time() - began:.0f} s of processor time", flush=True)
        measured(of, asked, by, args.queries, np.random.default_rng(1))


if __name__ == "__main__":
    main()
