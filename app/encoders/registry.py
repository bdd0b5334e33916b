"""The models that requests may name: `builtin`, and what the operator configured. Opened at first use, kept.

Importing this module imports neither torch nor sentence-transformers, so that a server of callers' own vectors
starts fast; each family's module is imported when one of its models is opened.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from app.compute import deadline
from app.compute.quota import cores
from app.encoders.model_folder import locate, saved_name
from app.encoders.once import once
from app.encoders.prompts import Task, missing
from app.encoders.protocol import CrossEncoder, Encoder, MatryoshkaEncoder, NetworkEncoder, SparseEncoder
from app.encoders.together import Together
from app.encoders.torch.backbone import choose_device
from app.encoders.torch.installed import require
from app.errors import EncoderUnavailable, Invalid
from app.scoring.networks.network import Network
from app.settings import (
    CrossEncoderModel,
    DeterministicModel,
    DistilledModel,
    HypencoderModel,
    LocalModel,
    ModelSettings,
    RemoteModel,
    SavedModel,
    SparseEncoderModel,
)
from app.types import Encoded, EncodedSparse, Kind

log = logging.getLogger(__name__)

BUILTIN = "builtin"

Count: TypeAlias = Callable[[str, str, int, float, bool], None]
"""model, role, texts, seconds, whether it failed. Called from any thread."""
State: TypeAlias = Literal["loaded", "loading", "failed", "not loaded"]
_Maker: TypeAlias = Callable[[Kind], Encoder]
T = TypeVar("T")
_KINDS: dict[str, tuple[Kind, ...]] = {
    "sentence_transformer": ("multi_vector", "dense"),
    "colbert": ("multi_vector",),
    "cross_encoder": (),
    "sparse_encoder": (),
    "hypencoder": ("dense",),
    "distilled": ("dense",),
    "remote": ("dense",),
    "deterministic": ("multi_vector", "dense"),
}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The facts known of a model. kinds: of collections that it encodes for. reranks: whether a search may name it to
    rerank its hits. sparse: whether it makes sparse vectors. From ``dim`` on only of one that is loaded: dim: of its
    vectors, in the kind that is open first. max_tokens: after which a document is cut, None where nothing is known.
    query_prompt, document_prompt: what each text begins with. dims: that a collection may choose of. warning: what it
    lacks. error: why it failed to load."""

    name: str
    kinds: tuple[Kind, ...]
    reranks: bool
    state: State
    backend: str | None = None
    dim: int | None = None
    max_tokens: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    warning: str | None = None
    error: str | None = None
    sparse: bool = False
    dims: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Open:
    encoder: Encoder
    together: Together


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model that is open: encoders of its kinds, scores of pairs, or sparse vectors."""

    encoders: _Maker | None = None
    pairs: CrossEncoder | None = None
    sparse: SparseEncoder | None = None


class Encoders:
    """Encoders by name and kind, cross encoders and sparse encoders by name, for several threads.

    Both kinds of one model share its loaded weights. A model is opened by a thread of its own, for it may take minutes
    (one that is new is converted first); whoever asks for it waits as long as it may, and the opening goes on. One that
    fails to open is tried again at the next call.

    >>> encoders = Encoders({"words": DeterministicModel(type="deterministic", dim=4)})
    >>> encoders.names(), encoders.kinds("words")
    (['builtin', 'words'], ('multi_vector', 'dense'))
    >>> encoders.get("words", "dense").encode_queries(["a"]).pooled.shape
    (1, 4)
    """

    def __init__(
        self,
        models: Mapping[str, ModelSettings],
        cache: Path | None = None,
        threads: int = 0,
        count: Count | None = None,
        patience_s: float | None = None,
    ) -> None:
        """cache: the folder of converted models; without one torch runs them. threads: that encode; 0 is one a core.
        count: told of every call of an encoder. patience_s: how long a call waits for a model that is being opened, if
        its deadline leaves so much; None: until it is open.

        Raises Invalid where a configured model takes the name `builtin`, or is a head of what makes no dense vectors.
        """
        if BUILTIN in models:
            raise Invalid(f"the name {BUILTIN!r} is taken by the encoder that comes with Sheaf; choose another")
        bases = [name for name, one in models.items() if one.type != "distilled" and "dense" in _KINDS[one.type]]
        for name, one in models.items():
            if isinstance(one, DistilledModel) and one.base not in (BUILTIN, *bases):
                raise Invalid(
                    f"the head {name!r} needs a base that makes dense vectors and is no head itself, of "
                    f"{', '.join([BUILTIN, *bases])}; got {one.base!r}"
                )
        self._models = dict(models)
        self._cache, self._threads, self._count, self._patience_s = cache, threads, count, patience_s
        self._lock = threading.Lock()
        self._opening: dict[str, Future[_Loaded]] = {}
        self._failed: dict[str, str] = {}
        self._open: dict[tuple[str, Kind], _Open] = {}
        self._closing = ExitStack()

    def names(self) -> list[str]:
        """`builtin` first, then the configured ones in order."""
        return [BUILTIN, *sorted(self._models)]

    def is_local(self, name: str) -> bool:
        """Whether it runs here and takes time to open."""
        settings = self._models.get(name)
        if isinstance(settings, DistilledModel):
            return self.is_local(settings.base)
        return name == BUILTIN or isinstance(settings, LocalModel | HypencoderModel)

    def kinds(self, name: str) -> tuple[Kind, ...]:
        """The kinds of collection that a model can encode for, the default first; none of a cross encoder and of a
        sparse one. Loads nothing.

        Raises Invalid for an unknown name.
        """
        if name == BUILTIN:
            return _KINDS["sentence_transformer"]
        if name not in self._models:
            raise Invalid.at("/encoder/model", f"no encoder is named {name!r}; there are {', '.join(self.names())}")
        return _KINDS[self._models[name].type]

    def reranks(self, name: str) -> bool:
        """Whether it can tell how well a text answers a query, by itself or by token vectors. Raises Invalid for an
        unknown name."""
        kinds = self.kinds(name)
        return isinstance(self._models.get(name), CrossEncoderModel) or "multi_vector" in kinds

    def is_sparse(self, name: str) -> bool:
        """Whether it makes sparse vectors. Raises Invalid for an unknown name."""
        self.kinds(name)
        return isinstance(self._models.get(name), SparseEncoderModel)

    def has_dims(self, name: str) -> bool:
        """Whether a collection may choose the dimensions of its vectors. Raises Invalid for an unknown name."""
        self.kinds(name)
        return isinstance(self._models.get(name), DistilledModel)

    def makes_networks(self, name: str) -> bool:
        """Whether its queries are networks. Raises Invalid for an unknown name."""
        self.kinds(name)
        return isinstance(self._models.get(name), HypencoderModel)

    def get(self, name: str, kind: Kind, dim: int | None = None, *, patient: bool = False) -> Encoder:
        """The encoder, opened if it is not open yet. dim: of its vectors, where it has several; its own if it does not
        have that. patient: waits until it is open, however long.

        Raises Invalid for an unknown name or a kind that the model does not have, EncoderRefused for a model that
        is not what it claims, EncoderUnavailable for one that cannot be fetched now or is still being opened.
        """
        return _of_dim(self._get(name, kind, patient).encoder, dim)

    def encode_documents(self, name: str, kind: Kind, texts: Sequence[str], dim: int | None = None) -> Encoded:
        """As the encoder's own, and counted. dim: as in ``get``. Raises what ``get`` and it raise."""
        return self._counted(name, "documents", self.get(name, kind, dim).encode_documents, texts)

    def encode_queries(
        self, name: str, kind: Kind, texts: Sequence[str], dim: int | None = None, *, alone: bool = False
    ) -> Encoded:
        """As the encoder's own, counted, and together with what other threads ask of it meanwhile
        (``app.encoders.together``). dim: as in ``get``; queries of all dimensions go together. alone: beside them, for
        long work. Raises what ``get`` and it raise.
        """
        open = self._get(name, kind)
        if alone:
            found = self._counted(name, "queries", open.encoder.encode_queries, texts)
        else:
            found = once(name, kind, texts, open.together.encode_queries)
        cut = _of_dim(open.encoder, dim)
        return replace(found, pooled=cut.first(found.pooled)) if isinstance(cut, MatryoshkaEncoder) else found

    def encode_networks(self, name: str, texts: Sequence[str]) -> list[Network]:
        """As the encoder's own, of a model whose queries are networks, and counted. Raises what ``get`` and it
        raise."""
        encoder = self.get(name, "dense")
        assert isinstance(encoder, NetworkEncoder), "a model that makes networks"
        return once(name, "networks", texts, lambda some: self._counted(name, "queries", encoder.encode_networks, some))

    def cross_encoder(self, name: str, *, patient: bool = False) -> CrossEncoder:
        """As ``get``, of a model that is a cross encoder."""
        self.kinds(name)
        if not isinstance(self._models.get(name), CrossEncoderModel):
            raise Invalid.at("/encoder/model", f"{name!r} is no cross encoder")
        found = self._opened(name, patient).pairs
        assert found is not None, "a cross encoder scores pairs"
        return found

    def sparse_encoder(self, name: str, *, patient: bool = False) -> SparseEncoder:
        """As ``get``, of a model that is a sparse encoder."""
        if not self.is_sparse(name):
            raise Invalid.at("/sparse/model", f"{name!r} is no sparse encoder")
        found = self._opened(name, patient).sparse
        assert found is not None, "a sparse encoder makes sparse vectors"
        return found

    def encode_sparse(self, name: str, texts: Sequence[str], task: Task) -> EncodedSparse:
        """As the sparse encoder's own, and counted. Raises what ``sparse_encoder`` and it raise."""
        role = "queries" if task == "query" else "documents"

        def encode(some: Sequence[str]) -> EncodedSparse:
            return self._counted(name, role, lambda own: self.sparse_encoder(name).encode(own, task), some)

        return once(name, f"sparse {task}", texts, encode)

    def scores(self, name: str, query: str, texts: Sequence[str]) -> list[float]:
        """As the cross encoder's own, and counted. Raises what ``cross_encoder`` and it raise."""
        return self._counted(name, "pairs", partial(self.cross_encoder(name).scores, query), texts)

    def describe(self, name: str) -> ModelInfo:
        """The facts known of it without opening it. Raises Invalid for an unknown name."""
        kinds = self.kinds(name)
        state: State = "failed" if name in self._failed else "not loaded"
        opening = self._opening.get(name)
        if opening is not None:
            state = "loaded" if opening.done() else "loading"
        open = [self._open[name, kind] for kind in kinds if (name, kind) in self._open]
        sparse = self.is_sparse(name)
        info = ModelInfo(name, kinds, self.reranks(name), state, error=self._failed.get(name), sparse=sparse)
        if state == "loaded" and sparse:
            model = self.sparse_encoder(name)
            return replace(info, backend=model.backend, max_tokens=model.max_tokens)
        if state == "loaded" and not kinds:
            cross = self.cross_encoder(name)
            return replace(info, backend=cross.backend, max_tokens=cross.max_tokens)
        if not open:
            return info
        encoder = open[0].encoder
        details = encoder.fingerprint.details
        said = details.get("query_prompt", ""), details.get("document_prompt", "")
        limit = details.get("document_max_length", details.get("max_length", ""))
        return replace(
            info,
            backend=encoder.backend,
            dim=encoder.dim,
            max_tokens=int(limit) if limit.isdigit() else None,
            query_prompt=said[0],
            document_prompt=said[1],
            dims=encoder.dims if isinstance(encoder, MatryoshkaEncoder) else (),
            warning=missing(self._known_as(name), *said),
        )

    def close(self) -> None:
        """Drops every model and closes connections, once none is being opened; a later ``get`` opens anew."""
        wait(list(self._opening.values()))
        with self._lock:
            for open in self._open.values():
                open.together.close()
            self._open.clear()
            self._opening.clear()
            self._closing.close()

    def _counted(self, name: str, role: str, encode: Callable[[Sequence[str]], T], texts: Sequence[str]) -> T:
        started, failed = time.perf_counter(), True
        try:
            found = encode(texts)
            failed = False
            return found
        finally:
            if texts and self._count is not None:
                self._count(name, role, len(texts), time.perf_counter() - started, failed)

    def _get(self, name: str, kind: Kind, patient: bool = False) -> _Open:
        kinds = self.kinds(name)
        if kind not in kinds:
            raise Invalid.at("/encoder/kind", f"{name!r} has the kinds {', '.join(kinds)}, not {kind!r}")
        found = self._open.get((name, kind))
        if found is not None:
            return found
        make = self._opened(name, patient).encoders
        assert make is not None, "what has kinds encodes"
        with self._lock:
            if (name, kind) not in self._open:
                made = make(kind)
                encode = partial(self._counted, name, "queries", made.encode_queries)
                self._open[name, kind] = _Open(made, Together(encode, self._threads or cores()))
                warning = self.describe(name).warning
                if warning is not None:
                    log.warning("the encoder %s: %s", name, warning)
            return self._open[name, kind]

    def _opened(self, name: str, patient: bool) -> _Loaded:
        """The model, waited for."""
        with self._lock:
            opening = self._opening.get(name)
            if opening is None:
                opening = self._opening[name] = Future()
                threading.Thread(target=self._begin, args=(name, opening), name=f"sheaf-open-{name}").start()
        limits = [] if patient else [limit for limit in (self._patience_s, deadline.left()) if limit is not None]
        if not wait([opening], min(limits, default=None)).done:
            raise EncoderUnavailable(
                f"the encoder {name!r} is being loaded, and one that is new here is converted first, which can take "
                "minutes: try again",
                code="encoder_loading",
            )
        return opening.result()

    def _begin(self, name: str, opening: Future[_Loaded]) -> None:
        try:
            made = self._loaded(name)
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits for it
            with self._lock:
                self._failed[name] = str(error)
                self._opening.pop(name, None)
            opening.set_exception(error)
        else:
            self._failed.pop(name, None)
            opening.set_result(made)

    def _known_as(self, name: str) -> Iterable[str]:
        """The files that tell a model's family."""
        match self._models.get(name):
            case DistilledModel(base=base):
                yield from self._known_as(base)
            case LocalModel(path=path):
                yield path
                yield from saved_name(Path(path).expanduser())
            case RemoteModel(model=model):
                yield model

    def _loaded(self, name: str) -> _Loaded:
        settings = self._models.get(name)
        if isinstance(settings, SavedModel):
            require(f"the model {name!r}, of type {settings.type},")
        if isinstance(settings, SparseEncoderModel):
            from app.encoders.torch import sparse_encoder

            folder = locate(settings.path, settings.revision)
            return _Loaded(sparse=sparse_encoder.SparseEncoderModel(folder, choose_device(settings.device)))
        if not isinstance(settings, CrossEncoderModel):
            return _Loaded(encoders=self._maker(name))
        from app.encoders.torch import cross_encoder

        folder, device = locate(settings.path, settings.revision), choose_device(settings.device)
        model = cross_encoder.CrossEncoderModel(folder, device, self._threads or cores())
        self._closing.callback(model.close)
        return _Loaded(pairs=model)

    def _maker(self, name: str) -> _Maker:
        if name == BUILTIN:
            from app.encoders.local import open_builtin

            make, close = open_builtin(choose_device("auto"), self._cache, self._threads)
            self._closing.callback(close)
            return make
        match self._models[name]:
            case DeterministicModel(dim=dim):
                from app.encoders.deterministic import DeterministicEncoder

                return lambda kind: DeterministicEncoder(dim, kind)
            case RemoteModel() as settings:
                from app.encoders.remote import RemoteEncoder

                remote = RemoteEncoder(settings)
                self._closing.callback(remote.close)
                return lambda kind: remote
            case DistilledModel() as settings:
                from app.encoders.heads.encoder import DistilledEncoder
                from app.encoders.heads.head import read_head

                head = read_head(Path(settings.path).expanduser())
                distilled = DistilledEncoder(head, self.get(settings.base, "dense", patient=True))
                return lambda kind: distilled
            case LocalModel(type="colbert") as settings:
                from app.encoders.torch.colbert import ColbertEncoder

                folder = locate(settings.path, settings.revision)
                colbert = ColbertEncoder(folder, choose_device(settings.device), settings.prompts)
                return lambda kind: colbert
            case HypencoderModel() as settings:
                from app.encoders.torch.hypencoder import HypencoderEncoder

                folder = locate(settings.path, settings.revision)
                hypencoder = HypencoderEncoder(folder, choose_device(settings.device))
                return lambda kind: hypencoder
            case LocalModel() as settings:
                folder = locate(settings.path, settings.revision)
                return self._local(folder, settings.device, settings.prompts)
            case CrossEncoderModel() | SparseEncoderModel():
                raise AssertionError(f"{name} encodes nothing")

    def _local(self, folder: Path, asked: str, given: Mapping[Task, str | None]) -> _Maker:
        from app.encoders.local import open_folder

        make, close = open_folder(folder, choose_device(asked), self._cache, self._threads, given)
        self._closing.callback(close)
        return make


def _of_dim(encoder: Encoder, dim: int | None) -> Encoder:
    """With vectors of that many numbers, where it has them."""
    if isinstance(encoder, MatryoshkaEncoder) and dim in encoder.dims and dim != encoder.dim:
        return encoder.of_dim(dim)
    return encoder
