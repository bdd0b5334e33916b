"""A Poincaré embedding of WordNet's nouns: points of the unit ball, near each other where one is a kind of the other.

Riemannian stochastic gradient descent on the loss of Nickel, Kiela: "Poincaré Embeddings for Learning Hierarchical
Representations", 2017 (arXiv 1705.08039), section 3.1, equations 4 to 6: a noun and one of its kinds against
nouns that are neither, one pair after the other. Useful for: scripts/similarities.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from typing import Final

import numpy as np

from app.compute.native import kernel
from app.types import F32, F64, I64

EDGE: Final = 1 - 1e-5
"""The longest point."""
BURN_IN: Final = 10
"""Rounds at a tenth of the rate, in which points find their side of the ball."""
NEGATIVES: Final = 10
PIECE: Final = 65_536
"""Pairs that others are drawn for at a time."""


def nouns(folder: Path, root: str | None) -> tuple[list[str], I64]:
    """The names of the nouns below a root (None: of all), and the pairs (noun, what it is a kind of), of the transitive
    closure. folder: of WordNet's data.noun. root: its first word; of several senses the one with most below it."""
    above: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for line in (folder / "data.noun").read_text().splitlines():
        if line.startswith(" "):
            continue
        fields = line.split(" | ")[0].split()
        words = int(fields[3], 16)
        rest = fields[4 + 2 * words :]
        pointers = [rest[1 + 4 * i : 5 + 4 * i] for i in range(int(rest[0]))]
        names[fields[0]] = f"{fields[4]}.{fields[0]}"
        above[fields[0]] = [one[1] for one in pointers if one[0] in ("@", "@i") and one[2] == "n"]
    closure = {noun: set(_above(noun, above)) for noun in above}
    kept = sorted(above)
    if root is not None:
        senses = [noun for noun, name in names.items() if name.split(".")[0] == root]
        if not senses:
            raise SystemExit(f"WordNet has no noun {root!r}")
        top = max(senses, key=lambda sense: sum(sense in own for own in closure.values()))
        kept = sorted(noun for noun, own in closure.items() if noun == top or top in own)
    places = {noun: place for place, noun in enumerate(kept)}
    pairs = [(places[noun], places[other]) for noun in kept for other in sorted(closure[noun]) if other in places]
    return [names[noun] for noun in kept], np.array(pairs, np.int64)


def _above(noun: str, above: dict[str, list[str]]) -> Iterator[str]:
    for one in above[noun]:
        yield one
        yield from _above(one, above)


def trained(count: int, pairs: I64, dim: int, rounds: int, rate: float, seed: int = 0) -> F32:
    """(count, dim): points. pairs: (n, 2)."""
    random = np.random.default_rng(seed)
    points = random.uniform(-1e-3, 1e-3, (count, dim))
    codes = np.unique(np.concatenate([pairs @ [count, 1], pairs @ [1, count]]))
    starts, near = np.searchsorted(codes, np.arange(count + 1) * count), codes % count
    often = np.cumsum(np.bincount(pairs.ravel(), minlength=count) ** 0.75)
    for turn in range(rounds):
        order = random.permutation(len(pairs))
        for start in range(0, len(order), PIECE):
            some = pairs[order[start : start + PIECE]]
            if turn < BURN_IN:
                drawn = np.searchsorted(often, random.random((len(some), NEGATIVES)) * often[-1])
            else:
                drawn = random.integers(count, size=(len(some), NEGATIVES))
            _descend(points, some, drawn, starts, near, rate / 10 if turn < BURN_IN else rate)
    return points.astype(np.float32)


@kernel
def _descend(points: F64, pairs: I64, drawn: I64, starts: I64, near: I64, rate: float) -> None:
    """A step for each pair, one after the other, in place. drawn: (n, m), beside which of a pair is to be near; those
    of near[starts[noun]:starts[noun + 1]], ascending, which are near to the noun as well, are left out."""
    dim, most = points.shape[1], drawn.shape[1] + 1
    beside = np.empty(most, np.int64)
    weights, roots, products, betas = np.empty(most), np.empty(most), np.empty(most), np.empty(most)
    move, other = np.empty(dim), np.empty(dim)
    for i in range(pairs.shape[0]):
        noun = pairs[i, 0]
        u, own = points[noun], near[starts[noun] : starts[noun + 1]]
        alpha = 1.0
        for d in range(dim):
            alpha -= u[d] * u[d]
        count, total = 0, 0.0
        for j in range(most):
            row = pairs[i, 1] if j == 0 else drawn[i, j - 1]
            if j:
                place = np.searchsorted(own, row)
                if row == noun or (place < len(own) and own[place] == row):
                    continue
            v = points[row]
            square, product, beta = 0.0, 0.0, 1.0
            for d in range(dim):
                square += (u[d] - v[d]) ** 2
                product += u[d] * v[d]
                beta -= v[d] * v[d]
            gamma = 1 + 2 * square / (alpha * beta)
            root = sqrt(max(gamma * gamma - 1, 1e-12))
            # e to the minus distance.
            weights[count] = 1 / (gamma + root)
            total += weights[count]
            beside[count], roots[count], products[count], betas[count] = row, root, product, beta
            count += 1
        move[:] = 0
        for j in range(count):
            v = points[beside[j]]
            # Of -log of the first one's share, by each distance; equation 4, for both ends of each.
            slope = (1.0 if j == 0 else 0.0) - weights[j] / total
            of_u = slope * 4 / (betas[j] * roots[j]) / alpha**2
            of_v = slope * 4 / (alpha * roots[j]) / betas[j] ** 2
            at_u, at_v = of_u * (2 - betas[j] - 2 * products[j]), of_v * (2 - alpha - 2 * products[j])
            for d in range(dim):
                move[d] += at_u * u[d] - of_u * alpha * v[d]
                other[d] = at_v * v[d] - of_v * betas[j] * u[d]
            _move(v, other, rate * betas[j] ** 2 / 4)
        _move(u, move, rate * alpha**2 / 4)


@kernel
def _move(point: F64, move: F64, step: float) -> None:
    """Against a gradient, and back into the ball."""
    square = 0.0
    for d in range(len(point)):
        point[d] -= step * move[d]
        square += point[d] * point[d]
    if square >= EDGE * EDGE:
        for d in range(len(point)):
            point[d] *= EDGE / sqrt(square)
