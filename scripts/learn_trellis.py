"""The table of app/codes/trellis.py, learned from numbers of a normal distribution.

    python scripts/learn_trellis.py [--out FILE.npy] [--vectors 20000] [--rounds 60] [--seed 0]

Lloyd's algorithm: vectors of 384 numbers are coded by the table as it is, then each entry becomes the mean of what it
stands for. Printed: the mean squared distance of fresh vectors from their codes, with the table learned, in whole
numbers, and with the one in force. Tables are part of the format: what was written with one cannot be read with
another, and its digest stands in app/codes/trellis.py.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from progress import Progress

from app.codes.trellis import CODES, COORDINATES, TABLE, UNIT, search, searched
from app.compute.native import kernel
from app.types import F32

STEPS = 96
START = 0.85
"""Standard deviation of the first table's entries."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)

    def drawn() -> F32:
        numbers: F32 = rng.standard_normal((args.vectors, STEPS, COORDINATES), np.float32) * np.float32(UNIT)
        return numbers

    learned = rng.standard_normal((CODES, CODES, COORDINATES)) * START * UNIT
    with Progress("learning", "rounds", args.rounds) as progress:
        for done in range(args.rounds):
            vectors = drawn()
            entries = coded(vectors, learned)
            counts = np.bincount(entries, minlength=CODES * CODES)
            used = counts > 0
            table = learned.reshape(-1, COORDINATES)
            for i in range(COORDINATES):
                sums = np.bincount(entries, vectors[:, :, i].reshape(-1), CODES * CODES)
                table[used, i] = sums[used] / counts[used]
            progress.update(done + 1)
    whole = np.clip(np.rint(learned), -127, 127).astype(np.int8)
    vectors = drawn()
    for name, one in (("learned", learned), ("in whole numbers", whole), ("in force", TABLE)):
        near = np.asarray(one, np.float32).reshape(-1, COORDINATES)[coded(vectors, one)]
        left = float(np.square(vectors.reshape(-1, COORDINATES) - near).mean()) / UNIT**2
        print(f"{name}: {left:.4f} of the variance is left")
    if args.out is not None:
        np.save(args.out, whole, allow_pickle=False)
        print(f"{args.out}: SHA-256 {hashlib.sha256(whole.tobytes()).hexdigest()}")


def coded(vectors: F32, table: NDArray[Any]) -> NDArray[np.int64]:
    """The entries of all vectors' codes, one after the other."""
    codes = np.zeros(vectors.shape[:2], np.uint8)
    _search_all(vectors, *searched(table), codes)
    before = np.pad(codes, ((0, 0), (1, 0)))[:, :-1]
    return (before.astype(np.int64) * CODES + codes).reshape(-1)


@kernel
def _search_all(vectors: F32, halves: F32, numbers: F32, codes: NDArray[np.uint8]) -> None:
    for i in range(vectors.shape[0]):
        search(vectors[i], halves, numbers, codes[i])


if __name__ == "__main__":
    main()
