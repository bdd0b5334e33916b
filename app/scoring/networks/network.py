"""A small network that a query brings, and that every document's vector goes through: its number is the score.

Killingback, Zeng, Zamani: "Hypencoder: Hypernetworks for Information Retrieval", 2025 (arXiv 2502.05364), section 3:
an inner product is the least that a query can ask of a document; a network asks anything. A hidden layer is
activation(x W + b), normalised before or after x is added to it again, where it is; the last layer is x W + b, one
number.

Such scores have no bound that is of use (a normalised layer divides by what may be near 0), so there is no fast pass
beside a reference: one pass in float32, each sum in the order of its terms, gives the same bits whatever the batch, the
thread and the machine (``forward``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from app.errors import Invalid
from app.scoring.similarity import lengths
from app.types import F32, I64, MAX_DIM

Activation: TypeAlias = Literal["relu", "leaky_relu", "tanh", "sigmoid", "gelu"]
Residual: TypeAlias = Literal["none", "inner", "all"]
Norm: TypeAlias = Literal["none", "before", "after"]

ACTIVATIONS: Final[tuple[Activation, ...]] = get_args(Activation)
"""Those of the published code: leaky_relu with a slope of .01, gelu by the error function."""
MAX_LAYERS: Final = 16
MAX_NUMBERS: Final = 2**23
"""Weights and biases of a network: 32 MiB, nearly twice those of the largest published one (8 layers of 768)."""
LARGEST: Final = 1e37
"""What no number of a layer may reach, so that none is beyond float32."""
PANEL: Final = 16
"""Columns of weights that lie together, as the pass reads them."""


@dataclass(frozen=True, eq=False)
class Layer:
    """weights: (inputs, outputs). bias: (outputs,), None for none. Both float32 and finite."""

    weights: F32
    bias: F32 | None = None


class Packed(NamedTuple):
    """A network as the pass reads it. panels: of each layer ``PANEL`` columns after the other, row after row, 0 where
    there are none. biases: of each layer, 0 where it has none. widths: (layers + 1,). adds: (layers,), whether its
    input is added to its output."""

    panels: F32
    biases: F32
    widths: I64
    adds: I64


@dataclass(frozen=True, eq=False)
class Network:
    """layers: at least one, the last with one output. residual: to which hidden layers their input is added: `inner`:
    to all but the last of them (as the published networks have it), `all`. norm: where a hidden layer's outputs are
    normalised to mean 0 and variance 1: `before` its input is added, or `after`.

    >>> double = Network((Layer(np.array([[1.0, -1.0]], np.float32)), Layer(np.array([[2.0], [2.0]], np.float32))))
    >>> double.check(), double.inputs, double.numbers
    (None, 1, 4)
    """

    layers: tuple[Layer, ...]
    activation: Activation = "relu"
    residual: Residual = "none"
    norm: Norm = "none"

    @property
    def inputs(self) -> int:
        """Numbers of a vector that it takes."""
        return int(self.layers[0].weights.shape[0])

    @property
    def outputs(self) -> int:
        """Numbers that the last layer gives: one, the score, of a query's network."""
        return int(self.layers[-1].weights.shape[1])

    @property
    def numbers(self) -> int:
        return sum(one.weights.size + (0 if one.bias is None else one.bias.size) for one in self.layers)

    def adds_input(self, number: int) -> bool:
        """Whether a layer's input is added to its output."""
        hidden = len(self.layers) - 1
        return number < {"none": 0, "inner": hidden - 1, "all": hidden}[self.residual]

    @cached_property
    def packed(self) -> Packed:
        """Made once."""
        panels, biases = [], []
        for layer in self.layers:
            size, width = layer.weights.shape
            padded = np.zeros((size, -(-width // PANEL) * PANEL), np.float32)
            padded[:, :width] = layer.weights
            panels.append(padded.reshape(size, -1, PANEL).transpose(1, 0, 2).ravel())
            biases.append(np.zeros(width, np.float32) if layer.bias is None else layer.bias)
        widths = np.array([self.inputs, *(layer.weights.shape[1] for layer in self.layers)], np.int64)
        adds = np.array([self.adds_input(number) for number in range(len(self.layers))], np.int64)
        return Packed(np.concatenate(panels), np.concatenate(biases).astype(np.float32), widths, adds)

    @cached_property
    def named(self) -> bytes:
        """The same for networks that give the same scores."""
        found = hashlib.sha256(repr((self.activation, self.residual, self.norm)).encode())
        for array in self.packed:
            found.update(repr(array.shape).encode() + array.tobytes())
        return found.digest()

    def check(self, at: str = "", outputs: int = 1) -> None:
        """Raises Invalid for what is no network of so many outputs. at: the pointer to it."""
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise Invalid.at(f"{at}/layers", f"a scorer has 1 to {MAX_LAYERS} layers; got {len(self.layers):,}")
        if self.numbers > MAX_NUMBERS:
            raise Invalid.at(f"{at}/layers", f"a scorer has at most {MAX_NUMBERS:,} numbers; got {self.numbers:,}")
        width = self.inputs
        for number, layer in enumerate(self.layers):
            self._check_layer(layer, number, width, f"{at}/layers/{number}")
            width = int(layer.weights.shape[1])
        if width != outputs:
            at, said = f"{at}/layers/{len(self.layers) - 1}/weights", "one number, the score: expected 1 column"
            if outputs != 1:
                said = f"{outputs:,} numbers: expected as many columns"
            raise Invalid.at(at, f"the last layer gives {said}, got {width:,}")

    def _check_layer(self, layer: Layer, number: int, width: int, at: str) -> None:
        rows, columns = layer.weights.shape
        if rows != width:
            raise Invalid.at(
                f"{at}/weights", f"expected {width:,} rows, one for each output of the layer before, got {rows:,}"
            )
        if not 1 <= rows <= MAX_DIM or not 1 <= columns <= MAX_DIM:
            raise Invalid.at(f"{at}/weights", f"expected 1 to {MAX_DIM:,} rows and columns, got {rows:,} x {columns:,}")
        if layer.bias is not None and layer.bias.shape != (columns,):
            raise Invalid.at(
                f"{at}/bias", f"expected {columns:,} numbers, one for each output, got {layer.bias.size:,}"
            )
        if self.adds_input(number) and rows != columns:
            raise Invalid.at(
                f"{at}/weights",
                f"residual {self.residual!r} adds the layer's {rows:,} inputs to its {columns:,} outputs: expected as "
                "many",
            )
        for name, values in (("weights", layer.weights), ("bias", layer.bias)):
            if values is not None and not np.isfinite(values).all():
                raise Invalid.at(f"{at}/{name}", "expected finite numbers")

    def check_length(self, length: float, at: str = "") -> None:
        """Raises Invalid where a vector of that length, or a shorter one, could give a number beyond float32."""
        where = None if length <= self._safe else self._beyond(length)
        if where is not None:
            raise Invalid.at(
                f"{at}/layers/{where}/weights",
                f"its numbers may grow beyond float32 with vectors as long as {length:.3g}: scale the network down",
            )

    @cached_property
    def _safe(self) -> float:
        """A length, of a few, whose vectors were seen to be none too long."""
        return next((length for length in (1e16, 1e6, 1e3, 10.0, 1.001) if self._beyond(length) is None), -1.0)

    def _beyond(self, length: float) -> int | None:
        """The first layer that may give a number of ``LARGEST``, if there is one."""
        bound = length
        for number, layer in enumerate(self.layers):
            # The first layer's by Cauchy and Schwarz; its inputs are no larger than their length.
            sums = lengths(layer.weights.T) if not number else np.abs(layer.weights).sum(axis=0, dtype=np.float64)
            bias = 0.0 if layer.bias is None else np.abs(layer.bias)
            outputs = float((sums * bound + bias).max())
            if not outputs < LARGEST:
                return number
            last = number == len(self.layers) - 1
            bounded = 1.0 if self.activation in ("tanh", "sigmoid") and not last else outputs
            normalised = float(np.sqrt(layer.weights.shape[1])) if self.norm != "none" and not last else bounded
            more = bound if self.adds_input(number) else 0.0
            bound = normalised if self.norm == "after" and not last else normalised + more
        return None


def network(layers: Sequence[tuple[F32, F32 | None]], **how: str) -> Network:
    """Of weights and biases. how: of ``Network``. Raises Invalid."""
    made = Network(tuple(Layer(weights, bias) for weights, bias in layers), **how)  # type: ignore[arg-type]
    made.check()
    return made
