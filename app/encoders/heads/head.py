"""A head: a small network over an encoder's pooled vector, learned from a teacher, and its file.

Zhang, Li, Zeng, Wang: "Jasper and Stella: distillation of SOTA embedding models", 2024 (arXiv 2412.19048). A head
gives ``dims[0]`` numbers, of which the first ``dims[1]``, ``dims[2]``... are vectors too (Matryoshka); all have length
1. Queries and documents share a network, or each has its own.

The file is safetensors. Its metadata says what it is of: the encoder that it was learned on, by its fingerprint (over
another one a head would give vectors that look right and rank badly), and the digest of all of it, which names the
head and shows damage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from app.encoders.prompts import Task
from app.encoders.protocol import Fingerprint
from app.errors import EncoderRefused, Invalid
from app.scoring.networks.forward import directions, outputs
from app.scoring.networks.network import ACTIVATIONS, Activation, Layer, Network
from app.types import F32, MAX_DIM

FILE: Final = "head.safetensors"
FORMAT: Final = "1"
SIDES: Final[tuple[Task, ...]] = ("query", "document")
_ABOUT: Final = {"activation", "base", "dims", "inputs", "sides", "teacher"}


@dataclass(frozen=True, eq=False)
class Head:
    """base: of the encoder, as it makes dense vectors. inputs: numbers of its pooled vector. dims: descending.
    networks: of each side, the same object where both share it. teacher: what it imitates, for people.

    >>> turn = Network((Layer(np.array([[0, 1], [1, 0]], np.float32)),))
    >>> head = Head(Fingerprint("m", "w", {}), 2, (2, 1), {"query": turn, "document": turn})
    >>> head.of(np.array([[3, 4]], np.float32), "query").tolist()
    [[0.800000011920929, 0.6000000238418579]]
    """

    base: Fingerprint
    inputs: int
    dims: tuple[int, ...]
    networks: Mapping[Task, Network]
    teacher: Mapping[str, Any] = field(default_factory=dict)

    def of(self, pooled: F32, task: Task) -> F32:
        """(n, inputs) float32 -> (n, dims[0]) of length 1: the same bits whatever is beside a row."""
        return directions(outputs(self.networks[task], pooled))

    def check(self) -> None:
        """Raises Invalid for what is no head."""
        if not 1 <= self.inputs <= MAX_DIM:
            raise Invalid(f"expected 1 to {MAX_DIM:,} inputs, got {self.inputs:,}")
        if not self.dims or any(not 1 <= one <= MAX_DIM for one in self.dims):
            raise Invalid(f"expected dimensions from 1 to {MAX_DIM:,}, got {list(self.dims)}")
        if any(one <= other for one, other in pairwise(self.dims)):
            raise Invalid(f"expected dimensions that descend, got {list(self.dims)}")
        for side in SIDES:
            network = self.networks[side]
            if network.inputs != self.inputs:
                raise Invalid(f"expected a network of {self.inputs:,} inputs for a {side}, got {network.inputs:,}")
            network.check(outputs=self.dims[0])
            # Pooled vectors may have any length that a model gives; far beyond these, sums would leave float32.
            network.check_length(1e6)

    @cached_property
    def digest(self) -> str:
        """SHA-256, hexadecimal: the same for heads that give the same vectors of the same encoder's."""
        return _digest(self._about, self._tensors)

    @property
    def _about(self) -> dict[str, Any]:
        base = {"model": self.base.model, "weights": self.base.weights, "details": dict(self.base.details)}
        sides = {side: name for name, (members, _) in self._named.items() for side in members}
        return {
            "activation": self.networks["query"].activation,
            "base": base,
            "dims": list(self.dims),
            "inputs": self.inputs,
            "sides": sides,
            "teacher": dict(self.teacher),
        }

    @property
    def _named(self) -> dict[str, tuple[list[Task], Network]]:
        """Networks by their names in the file, with the sides that have them."""
        query, document = self.networks["query"], self.networks["document"]
        if query is document:
            return {"both": (["query", "document"], query)}
        return {"query": (["query"], query), "document": (["document"], document)}

    @property
    def _tensors(self) -> dict[str, F32]:
        found: dict[str, F32] = {}
        for name, (_, network) in self._named.items():
            for place, layer in enumerate(network.layers):
                found[f"{name}.{place}.weights"] = np.ascontiguousarray(layer.weights, np.float32)
                if layer.bias is not None:
                    found[f"{name}.{place}.bias"] = np.ascontiguousarray(layer.bias, np.float32)
        return found

    def to_bytes(self) -> bytes:
        """The file. Raises Invalid for what is no head."""
        self.check()
        about = json.dumps(self._about, sort_keys=True)
        return save(self._tensors, {"sheaf_head": FORMAT, "about": about, "sha256": self.digest})


def read_head(folder: Path) -> Head:
    """Of a folder that scripts/distil.py wrote, or of the file in it.

    Raises EncoderRefused for what is no head, or is damaged.
    """
    path = folder / FILE if folder.is_dir() else folder
    if not path.is_file():
        raise EncoderRefused(f"{folder} holds no head: there is no {FILE}; scripts/distil.py makes one")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except (SafetensorError, TypeError) as error:
        raise EncoderRefused(f"{path} is not a safetensors file: {error}") from error
    if metadata.get("sheaf_head") != FORMAT:
        got = metadata.get("sheaf_head")
        raise EncoderRefused(f"{path}: expected a head of format {FORMAT} that scripts/distil.py made, got {got}")
    try:
        about = json.loads(metadata["about"])
        if set(about) != _ABOUT or any(one.dtype != np.float32 for one in tensors.values()):
            raise ValueError("other parts than a head has")
        if _digest(about, tensors) != metadata["sha256"]:
            raise ValueError("its SHA-256 is not that of its content")
        head = _head(about, tensors)
        head.check()
    except (KeyError, TypeError, ValueError, AttributeError, Invalid) as error:
        said = error.message if isinstance(error, Invalid) else error
        raise EncoderRefused(f"{path} is damaged ({said}): make it again with scripts/distil.py") from error
    return head


def _head(about: dict[str, Any], tensors: dict[str, F32]) -> Head:
    if about["activation"] not in ACTIVATIONS:
        raise ValueError(f"expected an activation of {ACTIVATIONS}, got {about['activation']!r}")
    named = {name: _network(name, tensors, about["activation"]) for name in set(about["sides"].values())}
    base = Fingerprint(about["base"]["model"], about["base"]["weights"], about["base"]["details"])
    networks = {side: named[about["sides"][side]] for side in SIDES}
    return Head(base, about["inputs"], tuple(about["dims"]), networks, about["teacher"])


def _network(name: str, tensors: dict[str, F32], activation: Activation) -> Network:
    layers = []
    for place in count():
        weights = tensors.get(f"{name}.{place}.weights")
        if weights is None:
            break
        if weights.ndim != 2:
            raise ValueError(f"expected a matrix {name}.{place}.weights")
        layers.append(Layer(weights, tensors.get(f"{name}.{place}.bias")))
    return Network(tuple(layers), activation)


def _digest(about: dict[str, Any], tensors: dict[str, F32]) -> str:
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].shape} ".encode() + tensors[name].tobytes())
    return found.hexdigest()
