"""Documents of a bulk build encoded on a Ray cluster: texts go there, rows come back, and this process alone writes.

Encoding is nearly all of the time of a build of texts, and needs nothing but the texts: so that is what is shared. What
is durable stays in one place, the collection itself, so that every id is there once whatever happens to workers and
hosts, and a build that was interrupted passes over what stands, as without a cluster.

A batch is a task of Ray, not a call of an actor: Ray runs it wherever a processor is free, and again elsewhere where
its process or its host died. A process that has opened a model keeps it for the next task. Rows come as they are
stored, coded, a few dozen bytes a token instead of fifteen hundred.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from app.changes.plan import Made
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage
from app.collection.passages import Passages
from app.collection.spec import CollectionSpec
from app.compute.workers import Workers
from app.encoders.model_folder import converted_here
from app.encoders.protocol import Fingerprint
from app.encoders.registry import Encoders
from app.errors import EncoderUnavailable, Invalid, SheafError, TextRefused
from app.passages.encoding import Splitter, encoded_rows
from app.settings import DistilledModel, ModelSettings
from app.shards.members import require_cluster
from app.sources.extras import library
from app.types import Document, Mask

LOCAL: Final = "local"
"""The address of a cluster of this machine alone, made for the build."""
TRIED: Final = 4
"""How often a batch is begun anew elsewhere: a text that ends each process that reads it must not go round for ever."""
AHEAD: Final = 2
"""Batches that are on their way for each processor: one that is encoded, one that waits beside it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a collection's texts become its rows: all that a worker is told. models: the settings of the encoders that it
    names, by name. converted: where models lie that were converted on the machine of the build. fingerprint: of the
    encoder that made the vectors that stand."""

    spec: Mapping[str, Any]
    stage: Mapping[str, Any]
    models: Mapping[str, ModelSettings]
    converted: Path
    fingerprint: Fingerprint
    most: int
    threads: int


@dataclass(frozen=True, slots=True)
class Rows:
    """A worker's answer: rows as safetensors, of which documents the encoder cut the text."""

    content: bytes
    cut: Mask


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker's answer where there are no rows. texts: why each is refused, by places; of none the encoder is not
    available, for the reason in ``message``."""

    message: str
    texts: Mapping[int, str]


def encode(recipe: Recipe, documents: Sequence[Document]) -> Rows | Refused:
    """The rows of some documents, in a worker. Raises nothing of its own, for errors do not travel whole."""
    try:
        return _encode(recipe, documents)
    except TextRefused as error:
        return Refused(error.message, error.texts)
    except SheafError as error:
        return Refused(error.message, {})


def _encode(recipe: Recipe, documents: Sequence[Document]) -> Rows:
    spec = CollectionSpec.from_json(recipe.spec)
    assert spec.model is not None, "a collection without an encoder has nothing to encode"
    encoders = _encoders(tuple(recipe.models.items()), recipe.converted, recipe.threads)
    model, kind, dim = spec.model, spec.kind, spec.dim
    encoder = encoders.get(model, kind, dim, patient=True)
    if differences := recipe.fingerprint.differences(encoder.fingerprint):
        raise EncoderUnavailable(
            f"{os.uname().nodename} has another encoder {model!r}: {', '.join(differences)} differ"
        )
    sparse = None if spec.sparse_model is None else partial(encoders.encode_sparse, spec.sparse_model, task="document")
    rows, cut = encoded_rows(
        Splitter(spec, encoder, recipe.most).windows(documents),
        {},
        lambda texts: encoders.encode_documents(model, kind, texts, dim),
        spec,
        FirstStage.from_json(recipe.stage).encoding,
        Workers(recipe.threads),
        sparse,
        encoder,
    )
    return Rows(rows.to_bytes(), cut)


@cache
def _encoders(models: tuple[tuple[str, ModelSettings], ...], converted: Path, threads: int) -> Encoders:
    """Of this process, open from its first batch on."""
    return Encoders(dict(models), converted_here(converted), threads)


class Cluster:
    """A Ray cluster that encodes, as long as the ``with`` lasts."""

    def __init__(self, address: str, *, gpus: float = 0.0) -> None:
        """address: of a running cluster, `HOST:PORT` or `auto`; LOCAL makes one. gpus: of each task, which may be a
        part of one.

        Raises Invalid where there is none, or none that has them.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Else a task that asks for no GPU is told to mind a change of the next version.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._ray = library("ray", "cluster", "a Ray cluster", "asked")
        require_cluster(address)
        own: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {"address": address}
        try:
            self._ray.init(**own, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise Invalid(f"no Ray cluster answers at {address}: {' '.join(str(error).split())[:300]}") from error
        has = self._ray.cluster_resources()
        if gpus > has.get("GPU", 0):
            self._ray.shutdown()
            raise Invalid(f"expected a cluster with {gpus:g} GPUs for each task; it has {has.get('GPU', 0):g}")
        self.processors = max(1, int(has.get("CPU", 1)))
        self._task = self._ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIED, retry_exceptions=False)(encode)
        self._recipe: tuple[Recipe, Any] | None = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ray.shutdown()

    @property
    def ahead(self) -> int:
        """Batches that may be on their way."""
        return AHEAD * self.processors

    def begin(self, collection: Collection, documents: Sequence[Document]) -> Made:
        """Rows of these documents on their way, one or more, of distinct ids. Raises Invalid where the collection has
        no encoder, Conflict where it has another."""
        places = {document.id: place for place, document in enumerate(documents)}
        bare = [Document(one.id, one.text, one.title, turns=one.turns, summary=one.summary) for one in documents]
        answer = self._task.remote(self._told(collection), bare)
        return Made(places, partial(self._wait, answer, len(documents)))

    def _told(self, collection: Collection) -> Any:
        """What a task is told, sent to the cluster once."""
        spec, settings = collection.spec, collection.resources.settings
        if spec.model is None:
            raise Invalid(f"collection {collection.name} has no encoder: a cluster would have nothing to do")
        named = [name for name in (spec.model, spec.sparse_model) if name in settings.models]
        heads = [one for name in named if isinstance(one := settings.models[name], DistilledModel)]
        names = [*named, *(one.base for one in heads if one.base in settings.models)]
        recipe = Recipe(
            spec.to_json(),
            collection.stage.to_json(),
            {name: settings.models[name] for name in names},
            settings.converted.absolute(),
            collection.encoder().fingerprint,
            settings.max_passages,
            1,
        )
        if self._recipe is None or self._recipe[0] != recipe:
            self._recipe = recipe, self._ray.put(recipe)
        return self._recipe[1]

    def _wait(self, answer: Any, documents: int) -> tuple[Passages, Mask]:
        try:
            found = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            raise EncoderUnavailable(
                f"a batch was lost on the cluster, {TRIED + 1} times in all: {' '.join(str(error).split())[:300]}"
            ) from error
        if isinstance(found, Refused):
            raise TextRefused(found.texts) if found.texts else EncoderUnavailable(found.message)
        return Passages.from_bytes(found.content, documents), found.cut
