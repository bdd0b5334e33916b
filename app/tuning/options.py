"""The first stages that tuning tries: each with the vectors that it gives a trial's passages and queries.

They come in order of cost to try. A learned encoding is fitted once, at its largest rank: a lesser rank is its first
coordinates, so all ranks are tried for one fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from app.collection.first_stage import FirstStage, Source, default_parameters
from app.collection.layers import POOLED, scored
from app.collection.spec import CollectionSpec
from app.compute.workers import Workers
from app.encodings.protocol import Encoding, Sample
from app.encodings.recipes import MuveraRecipe, RidgeRecipe
from app.encodings.ridge import Ridge, RidgeParameters
from app.tuning.trials import TrialSet
from app.types import F32

RANKS: Final = (1_024, 512, 256, 128)
"""Of a learned encoding. More than the most finds no more on any collection measured."""
SAMPLES_PER_PASSAGE: Final = 4
"""A small collection has too few passages to learn more from; the time of a fit grows with the cube of its samples."""
LEAST_SAMPLES: Final = 256
STORED: Final = np.float16
"""Encodings are stored in half precision, so they are tried in it."""


@dataclass(frozen=True)
class Option:
    """A first stage to try. vectors: for each source what it gives the trial's passages and its queries, float32.
    fitted: what its encoding was fitted on.
    """

    name: str
    stage: FirstStage
    recipe: dict[str, Any] | None
    vectors: dict[Source, tuple[F32, F32]]
    fitted: dict[str, Any] = field(default_factory=dict)

    @property
    def dims(self) -> int:
        """Numbers a passage that its sources search, pooled vectors included."""
        return sum(documents.shape[1] for documents, _ in self.vectors.values())


def options(
    spec: CollectionSpec,
    trial: TrialSet,
    sample: Sample | None,
    workers: Workers,
    check: Callable[[], None],
    tell: Callable[[str], None],
) -> Iterator[Option]:
    """Every option. sample: what learned encodings are fitted on; tell: what is tried. A dense collection has only its
    vectors.
    """
    stage = FirstStage.default(spec)
    pooled = (trial.pooled, trial.query_pooled)
    tell("pooled")
    yield Option("pooled", replace(stage, sources=("pooled",), encoding=None), None, {"pooled": pooled})
    if scored(spec) == POOLED:
        return
    assert sample is not None
    parameters = default_parameters(spec)
    for name, recipe in (("muvera", MuveraRecipe(parameters)), ("muvera, centred", MuveraRecipe(parameters, True))):
        check()
        tell(name)
        encoding = recipe.fit(sample, workers, check)
        yield from _alone_and_beside(name, stage, encoding, recipe.to_json(), _encoded(encoding, trial), pooled)
    check()
    tell("ridge")
    samples = min(RidgeParameters().samples, max(LEAST_SAMPLES, SAMPLES_PER_PASSAGE * trial.size))
    widest = RidgeRecipe(RidgeParameters(rank=min(RANKS[0], samples), samples=samples))
    ridge = widest.fit(sample, workers, check)
    assert isinstance(ridge, Ridge)
    documents, queries = _encoded(ridge, trial)
    for rank in RANKS:
        if rank <= ridge.encoded_dim:
            check()
            recipe_of_rank = RidgeRecipe(replace(widest.parameters, rank=rank))
            vectors = np.ascontiguousarray(documents[:, :rank]), np.ascontiguousarray(queries[:, :rank])
            yield from _alone_and_beside(
                f"ridge {rank}", stage, ridge.reduced(rank), recipe_of_rank.to_json(), vectors, pooled
            )


def _alone_and_beside(
    name: str,
    stage: FirstStage,
    encoding: Encoding,
    recipe: dict[str, Any],
    vectors: tuple[F32, F32],
    pooled: tuple[F32, F32],
) -> Iterator[Option]:
    """The encoding as the one source, and in turn with pooled vectors."""
    alone: dict[Source, tuple[F32, F32]] = {"fde": vectors}
    yield Option(name, replace(stage, sources=("fde",), encoding=encoding), recipe, alone)
    both = replace(stage, sources=("fde", "pooled"), encoding=encoding)
    yield Option(f"{name}, and pooled in turn", both, recipe, {**alone, "pooled": pooled})


def _encoded(encoding: Encoding, trial: TrialSet) -> tuple[F32, F32]:
    documents = encoding.encode_documents(trial.passages, trial.pooled).astype(STORED).astype(np.float32)
    return documents, encoding.encode_queries(trial.queries, trial.query_pooled)
