"""How encodings are made: each recipe a kind with its parameters, stored as JSON so that it can be followed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from app.compute.workers import Workers
from app.encodings.features import mean_of
from app.encodings.muvera import Muvera, MuveraParameters
from app.encodings.pooled import Pooled, WithPooled
from app.encodings.protocol import Check, Encoding, Recipe, Sample, Seen
from app.encodings.ridge import Ridge, RidgeParameters
from app.errors import Invalid


@dataclass(frozen=True, slots=True)
class MuveraRecipe:
    """centred: whether the mean of the documents' vectors is taken off them."""

    parameters: MuveraParameters
    centred: bool = False

    @property
    def learns(self) -> bool:
        return self.centred

    def fit(
        self, sample: Sample, workers: Workers | None = None, check: Check = lambda: None, seen: Seen | None = None
    ) -> Encoding:
        tokens = sample.documents
        if not self.centred:
            return Muvera(tokens.dim, self.parameters)
        if not len(tokens.values):
            raise Invalid("expected at least one document to take the mean of")
        mean = mean_of(tokens)
        if not np.isfinite(mean).all():
            raise Invalid("the documents have a value that is not finite")
        return Muvera(tokens.dim, self.parameters, mean)

    def to_json(self) -> dict[str, Any]:
        return {"type": "muvera", "centred": self.centred, **asdict(self.parameters)}


@dataclass(frozen=True, slots=True)
class PooledRecipe:
    """Nothing to choose."""

    @property
    def learns(self) -> bool:
        return False

    def fit(
        self, sample: Sample, workers: Workers | None = None, check: Check = lambda: None, seen: Seen | None = None
    ) -> Encoding:
        return Pooled(sample.documents.dim)

    def to_json(self) -> dict[str, Any]:
        return {"type": "pooled"}


@dataclass(frozen=True, slots=True)
class RidgeRecipe:
    """pooled: how much the score of an appended pooled vector varies, in units of the other's; 0 appends none."""

    parameters: RidgeParameters
    pooled: float = 0.0

    @property
    def learns(self) -> bool:
        return True

    def fit(
        self, sample: Sample, workers: Workers | None = None, check: Check = lambda: None, seen: Seen | None = None
    ) -> Encoding:
        if not 0 <= self.pooled <= 100:
            raise Invalid(f"pooled: expected a number from 0 to 100, got {self.pooled!r}")
        alone = seen if not self.pooled else None
        ridge = Ridge.fit(sample.documents, sample.queries, self.parameters, workers, check, alone)
        return WithPooled.fit(ridge, self.pooled, sample) if self.pooled else ridge

    def to_json(self) -> dict[str, Any]:
        return {"type": "ridge", "pooled": self.pooled, **asdict(self.parameters)}


def recipe_from_json(description: Mapping[str, Any]) -> Recipe:
    """The recipe whose ``to_json`` this is. Raises Invalid for anything else."""
    values = {name: value for name, value in description.items() if name != "type"}
    kind = description.get("type")
    if kind == "pooled" and not values:
        return PooledRecipe()
    own = values.pop("centred" if kind == "muvera" else "pooled", None)
    if kind == "muvera" and isinstance(own, bool) and set(values) == {field.name for field in fields(MuveraParameters)}:
        return MuveraRecipe(MuveraParameters(**values), own)
    if (
        kind == "ridge"
        and isinstance(own, int | float)
        and set(values) == {field.name for field in fields(RidgeParameters)}
    ):
        return RidgeRecipe(RidgeParameters(**values), own)
    raise Invalid(f"expected a recipe of type muvera, pooled or ridge with all its parameters, got {dict(description)}")
