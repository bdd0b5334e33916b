"""A Poincaré embedding of WordNet's nouns: points of the unit ball, near each other where one is a kind of the other.

Riemannian stochastic gradient descent on the loss of Nickel, Kiela: "Poincaré Embeddings for Learning Hierarchical
Representations", 2017 (arXiv 1705.08039), section 3.1, equations 4 to 6, in NumPy: a noun and one of its kinds against
nouns that are neither. Useful for: scripts/similarities.py. Not useful for: more than some ten thousand nouns.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.types import F32, F64, I64

EDGE: Final = 1 - 1e-5
"""The longest point."""
BURN_IN: Final = 10
"""Rounds at a tenth of the rate, in which points find their side of the ball."""
NEGATIVES: Final = 20
BATCH: Final = 64


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
    near = {(int(a), int(b)) for a, b in pairs} | {(int(b), int(a)) for a, b in pairs}
    codes = np.array(sorted(a * count + b for a, b in near), np.int64)
    often = np.bincount(pairs.ravel(), minlength=count) ** 0.75
    for turn in range(rounds):
        step = rate / 10 if turn < BURN_IN else rate
        order = random.permutation(len(pairs))
        for start in range(0, len(order), BATCH):
            nouns, others = pairs[order[start : start + BATCH]].T
            if turn < BURN_IN:
                drawn = random.choice(count, (len(nouns), NEGATIVES), p=often / often.sum())
            else:
                drawn = random.integers(count, size=(len(nouns), NEGATIVES))
            beside = np.concatenate([others[:, None], drawn], axis=1)
            known = nouns[:, None] * count + beside
            taken = codes[np.minimum(np.searchsorted(codes, known), len(codes) - 1)] == known
            taken |= beside == nouns[:, None]
            taken[:, 0] = False
            _descend(points, nouns, beside, ~taken, step)
    return points.astype(np.float32)


def _descend(points: F64, nouns: I64, beside: I64, counts: NDArray[np.bool_], step: float) -> None:
    """One step, in place. beside: (n, m), the first of each what the noun is to be near to. counts: (n, m)."""
    u, v = points[nouns][:, None], points[beside]
    alpha, beta = 1 - np.square(u).sum(axis=2), 1 - np.square(v).sum(axis=2)
    apart = u - v
    square = np.square(apart).sum(axis=2)
    gamma = 1 + 2 * square / (alpha * beta)
    weight = np.where(counts, np.exp(-(far := np.arccosh(gamma)) + far.min(axis=1, keepdims=True)), 0)
    share = weight / weight.sum(axis=1, keepdims=True)
    # Of -log of the first one's share, by each distance.
    slope = -share
    slope[:, 0] += 1
    root = np.sqrt(np.maximum(gamma * gamma - 1, 1e-12))
    # Equation 4, for both ends of each distance.
    of_u = 4 / (beta * root) / alpha**2
    by_u = (of_u * (np.square(v).sum(axis=2) - 2 * (u * v).sum(axis=2) + 1))[:, :, None] * u - (of_u * alpha)[
        :, :, None
    ] * v
    of_v = 4 / (alpha * root) / beta**2
    by_v = (of_v * (np.square(u).sum(axis=2) - 2 * (u * v).sum(axis=2) + 1))[:, :, None] * v - (of_v * beta)[
        :, :, None
    ] * u
    move = np.zeros_like(points)
    np.add.at(move, nouns, (slope[:, :, None] * by_u).sum(axis=1))
    np.add.at(move, beside.ravel(), (slope[:, :, None] * by_v).reshape(-1, points.shape[1]))
    moved = np.unique(np.concatenate([nouns, beside.ravel()]))
    scale = np.square(1 - np.square(points[moved]).sum(axis=1, keepdims=True)) / 4
    new = points[moved] - step * scale * move[moved]
    size = np.linalg.norm(new, axis=1, keepdims=True)
    points[moved] = np.where(size >= EDGE, new / np.maximum(size, 1e-12) * EDGE, new)
