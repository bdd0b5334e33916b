"""The pass through a query's network: the plain loops' own bits, in any batch; and what is no network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product

import numpy as np
import pytest
from brute_force import network_score

from app.errors import Invalid
from app.scoring.networks.forward import scores
from app.scoring.networks.network import (
    ACTIVATIONS,
    MAX_LAYERS,
    MAX_NUMBERS,
    Activation,
    Layer,
    Network,
    Norm,
    Residual,
)
from app.types import F32

NORMS: list[Norm] = ["none", "before", "after"]
RESIDUALS: list[Residual] = ["none", "inner", "all"]


def made(
    *widths: int, activation: Activation = "relu", residual: Residual = "none", norm: Norm = "none", seed: int = 0
) -> Network:
    random = np.random.default_rng(seed)
    layers = [
        Layer(
            (random.standard_normal((size, width)) * (2 / size) ** 0.5).astype(np.float32),
            random.standard_normal(width).astype(np.float32) if number % 2 == 0 else None,
        )
        for number, (size, width) in enumerate(pairwise(widths))
    ]
    network = Network(tuple(layers), activation, residual, norm)
    network.check()
    return network


@pytest.mark.parametrize(("activation", "residual", "norm"), list(product(ACTIVATIONS, RESIDUALS, NORMS)))
def test_scores_are_those_of_plain_loops(activation: Activation, residual: Residual, norm: Norm) -> None:
    network = made(9, 9, 9, 9, 1, activation=activation, residual=residual, norm=norm)
    vectors = np.random.default_rng(1).standard_normal((21, 9)).astype(np.float32)
    expected = np.array([network_score(network, vector) for vector in vectors])
    found = scores(network, vectors)
    if activation in ("relu", "leaky_relu"):
        # Nothing but additions, multiplications, divisions and roots, which are rounded alike everywhere.
        assert found.tolist() == expected.tolist()
    else:
        assert np.allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("widths", [(5, 1), (384, 64, 1), (17, 33, 16, 1), (3, 1, 1)])
def test_the_same_bits_in_any_batch_and_thread(widths: tuple[int, ...]) -> None:
    network = made(*widths, activation="gelu", norm="before")
    vectors = np.random.default_rng(2).standard_normal((150, widths[0])).astype(np.float32)
    whole = scores(network, vectors)
    alone = np.concatenate([scores(network, vectors[i : i + 1]) for i in range(len(vectors))])
    assert alone.tobytes() == whole.tobytes()
    assert scores(network, vectors[::-1])[::-1].tobytes() == whole.tobytes()
    with ThreadPoolExecutor(3) as pool:
        pieces = list(pool.map(lambda start: scores(network, vectors[start : start + 37]), range(0, 150, 37)))
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_one_layer_is_an_inner_product_and_a_network_can_say_or() -> None:
    one, other = np.eye(4, dtype=np.float32)[:2]
    vectors = np.random.default_rng(3).standard_normal((50, 4)).astype(np.float32)
    linear = Network((Layer(one[:, None]),))
    assert scores(linear, vectors).tolist() == vectors[:, 0].tolist()
    # max(a, b) = (a + b + |a - b|) / 2, which no inner product is.
    first = np.stack([one - other, other - one, one + other, -one - other], axis=1)
    either = Network((Layer(first), Layer(np.array([[0.5], [0.5], [0.5], [-0.5]], np.float32))))
    assert np.allclose(scores(either, vectors), vectors[:, :2].max(axis=1), atol=1e-6)


def test_functions_are_true_far_out() -> None:
    x = np.array([-1e30, -800, -90, -5, -1e-3, 0, 1e-8, 0.01, 0.5, 20, 800, 1e30], np.float32)[:, None]
    with np.errstate(over="ignore"):
        expected = {
            "tanh": np.tanh(x.astype(np.float64)),
            "sigmoid": 1 / (1 + np.exp(-x.astype(np.float64))),
            "relu": np.maximum(x, 0),
        }
    one = Layer(np.ones((1, 1), np.float32))
    for name, values in expected.items():
        found = scores(Network((one, one), activation=name), x)  # type: ignore[arg-type]
        assert np.allclose(found, values.ravel().astype(np.float32), rtol=1e-6, atol=0), name
    gelu = scores(Network((one, one), activation="gelu"), x)
    assert np.isfinite(gelu).all()
    assert gelu[[0, 1, 2, 5, 9, 10]].tolist() == [0, 0, 0, 0, 20, 800]


def ones(*shape: int) -> F32:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("network", "pointer", "said"),
    [
        (Network(()), "/layers", "1 to 16 layers"),
        (Network((Layer(ones(1, 1)),) * (MAX_LAYERS + 1)), "/layers", "got 17"),
        (Network((Layer(ones(3, 2)),)), "/layers/0/weights", "expected 1 column, got 2"),
        (Network((Layer(ones(3, 2)), Layer(ones(3, 1)))), "/layers/1/weights", "expected 2 rows"),
        (Network((Layer(ones(3, 2), ones(3)), Layer(ones(2, 1)))), "/layers/0/bias", "expected 2 numbers"),
        (Network((Layer(ones(3, 2)), Layer(ones(2, 1))), residual="all"), "/layers/0/weights", "3 inputs"),
        (Network((Layer(ones(2, 1) * np.float32(np.nan)),)), "/layers/0/weights", "finite"),
        (Network((Layer(ones(2, 1), ones(1) * np.float32(np.inf)),)), "/layers/0/bias", "finite"),
        (Network((Layer(ones(2048, 4097)), Layer(ones(4097, 1)))), "/layers", f"at most {MAX_NUMBERS:,} numbers"),
    ],
)
def test_what_is_no_network_is_told_at_its_place(network: Network, pointer: str, said: str) -> None:
    with pytest.raises(Invalid) as raised:
        network.check("/scorer")
    assert raised.value.problems[0].pointer == f"/scorer{pointer}"
    assert said in raised.value.message


def test_numbers_beyond_float32_are_told_before_they_come() -> None:
    large = Layer(ones(4, 4) * np.float32(1e18))
    network = Network((large, large, Layer(ones(4, 1))))
    with pytest.raises(Invalid, match="beyond float32") as raised:
        network.check_length(10.0, "/scorer")
    assert raised.value.problems[0].pointer == "/scorer/layers/1/weights"
    # A normalised layer begins anew, whatever came in.
    Network(network.layers, norm="before").check_length(10.0)
    Network(network.layers, activation="sigmoid").check_length(1e15)
    Network((Layer(ones(4, 1)),)).check_length(1e15)
    assert np.isfinite(scores(Network(network.layers, norm="after"), ones(1, 4))).all()
