"""A linear projection that brings a sound and its noisy, shifted version together: NT-Xent, by hand in NumPy.

Source: Chang et al.: "Neural Audio Fingerprint for High-specific Audio Retrieval based on Contrastive Learning", ICASSP
2021 (arXiv 2010.11910), section 3.1, equation 1; the network there is one linear map after whitening here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.types import F32, F64

BETWEEN: Final = 256
"""Principal components that are whitened before anything is learned."""
PAIRS: Final = 256
"""Of a batch."""
TEMPERATURE: Final = 0.05
RATE: Final = 2e-3


@dataclass(frozen=True, slots=True)
class Projection:
    """mean: (features,). matrix: (features, dim)."""

    mean: F32
    matrix: F32

    def of(self, features: F32) -> F32:
        """(n, features) -> (n, dim), of length 1."""
        made = (features - self.mean) @ self.matrix
        found: F32 = (made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9)).astype(np.float32)
        return found


def principal(features: F32, dim: int, *, white: bool = False) -> Projection:
    """The components of largest variance; white: each with variance 1."""
    mean = features.mean(axis=0)
    centred = (features - mean).astype(np.float64)
    # Of the smaller of the two Gram matrices, which have the same values.
    wide = len(centred) < centred.shape[1]
    values, vectors = np.linalg.eigh((centred @ centred.T if wide else centred.T @ centred) / len(centred))
    values, vectors = np.maximum(values[::-1][:dim], 1e-6), vectors[:, ::-1][:, :dim]
    matrix = centred.T @ vectors / np.sqrt(values * len(centred)) if wide else vectors
    return Projection(mean, (matrix / np.sqrt(values) if white else matrix).astype(np.float32))


def learned(clean: F32, heard: F32, dim: int, rounds: int, seed: int = 0) -> Projection:
    """clean, heard: (n, features), row by row the same sound."""
    white = principal(np.concatenate([clean, heard]), BETWEEN, white=True)
    one, other = ((own - white.mean) @ white.matrix for own in (clean, heard))
    random, between = np.random.default_rng(seed), white.matrix.shape[1]
    weights: F64 = np.eye(between, dim) + 0.01 * random.standard_normal((between, dim))
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, rounds + 1):
        some = random.choice(len(one), min(PAIRS, len(one)), replace=False)
        slope = gradient(weights, np.concatenate([one[some], other[some]]).astype(np.float64))
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * np.square(slope)
        rate = RATE * 0.5 * (1 + np.cos(np.pi * step / rounds))
        weights -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return Projection(white.mean, (white.matrix @ weights).astype(np.float32))


def gradient(weights: F64, pairs: F64) -> F64:
    """Of the mean loss -log(exp(z_i z_p(i) / t) / sum over k != i of exp(z_i z_k / t)), by the weights.

    pairs: (2 n, components), row i + n the positive of row i, and the other way round.
    """
    made = pairs @ weights
    sizes = np.linalg.norm(made, axis=1, keepdims=True)
    unit = made / sizes
    logits = unit @ unit.T / TEMPERATURE
    np.fill_diagonal(logits, -np.inf)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    rows = np.arange(len(pairs))
    shares[rows, np.roll(rows, len(rows) // 2)] -= 1
    by_unit = (shares + shares.T) @ unit / (TEMPERATURE * len(pairs))
    by_made = (by_unit - unit * (by_unit * unit).sum(axis=1, keepdims=True)) / sizes
    found: F64 = pairs.T @ by_made
    return found
