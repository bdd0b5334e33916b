"""The encoders that requests may name: `builtin`, and what the operator configured. Opened at first use, kept.

Importing this module imports neither torch nor sentence-transformers, so that a server of callers' own vectors
starts fast; each family's module is imported when one of its models is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

from app.compute.quota import cores
from app.encoders import device
from app.encoders.counted import Count, CountedEncoder
from app.encoders.protocol import Encoder
from app.encoders.together import Together
from app.errors import EncoderUnavailable, Invalid
from app.settings import DeterministicModel, LocalModel, ModelSettings, RemoteModel
from app.types import Encoded, Kind

BUILTIN = "builtin"

_Maker: TypeAlias = Callable[[Kind], Encoder]
_KINDS: dict[str, tuple[Kind, ...]] = {
    "sentence_transformer": ("multi_vector", "dense"),
    "colbert": ("multi_vector",),
    "remote": ("dense",),
    "deterministic": ("multi_vector", "dense"),
}


class Encoders:
    """Encoders by name and kind, for several threads.

    Both kinds of one model share its loaded weights. A model that fails to open is tried again at the next call.

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
    ) -> None:
        """cache: the folder of converted models; without one torch runs them. threads: that encode; 0 is one a core.
        count: told of every call of an encoder.

        Raises Invalid where a configured model takes the name `builtin`.
        """
        if BUILTIN in models:
            raise Invalid(f"the name {BUILTIN!r} is taken by the encoder that comes with Sheaf; choose another")
        self._models = dict(models)
        self._cache = cache
        self._threads = threads
        self._count = count
        # One lock a model: a slow load keeps no other model waiting.
        self._locks = {name: threading.Lock() for name in self.names()}
        self._makers: dict[str, _Maker] = {}
        self._open: dict[tuple[str, Kind], Encoder] = {}
        self._together: dict[tuple[str, Kind], Together] = {}
        self._closing = ExitStack()

    def names(self) -> list[str]:
        """`builtin` first, then the configured ones in order."""
        return [BUILTIN, *sorted(self._models)]

    def kinds(self, name: str) -> tuple[Kind, ...]:
        """The kinds of collection that a model can encode for, the default first. Loads nothing.

        Raises Invalid for an unknown name.
        """
        if name == BUILTIN:
            return _KINDS["sentence_transformer"]
        if name not in self._models:
            raise Invalid.at("/encoder/model", f"no encoder is named {name!r}; there are {', '.join(self.names())}")
        return _KINDS[self._models[name].type]

    def get(self, name: str, kind: Kind) -> Encoder:
        """The encoder, opened if it is not open yet.

        Raises Invalid for an unknown name or a kind that the model does not have, EncoderRefused for a model that
        is not what it claims, EncoderUnavailable for one that cannot be fetched now.
        """
        kinds = self.kinds(name)
        if kind not in kinds:
            raise Invalid.at("/encoder/kind", f"{name!r} has the kinds {', '.join(kinds)}, not {kind!r}")
        found = self._open.get((name, kind))
        if found is not None:
            return found
        with self._locks[name]:
            if name not in self._makers:
                self._makers[name] = self._maker(name)
            if (name, kind) not in self._open:
                made = self._makers[name](kind)
                encoder = made if self._count is None else CountedEncoder(name, made, self._count)
                at_once = self._threads or cores()
                self._together[name, kind] = Together(encoder.encode_queries, at_once)
                self._open[name, kind] = encoder
            return self._open[name, kind]

    def encode_queries(self, name: str, kind: Kind, texts: Sequence[str]) -> Encoded:
        """As the encoder's own, together with what other threads ask of it meanwhile (``app.encoders.together``)."""
        self.get(name, kind)
        together = self._together.get((name, kind))
        if together is None:
            raise EncoderUnavailable(f"the encoder {name!r} was just closed")
        return together.encode_queries(texts)

    def close(self) -> None:
        """Drops every model and closes connections; a later ``get`` opens anew."""
        with ExitStack() as held:
            for lock in self._locks.values():
                held.enter_context(lock)
            for together in self._together.values():
                together.close()
            self._together.clear()
            self._open.clear()
            self._makers.clear()
            self._closing.close()

    def _maker(self, name: str) -> _Maker:
        if name == BUILTIN:
            from app.encoders.builtin import verified_folder

            return self._local(verified_folder(), device.choose("auto"))
        match self._models[name]:
            case DeterministicModel(dim=dim):
                from app.encoders.deterministic import DeterministicEncoder

                return lambda kind: DeterministicEncoder(dim, kind)
            case RemoteModel() as settings:
                from app.encoders.remote import RemoteEncoder

                remote = RemoteEncoder(settings)
                self._closing.callback(remote.close)
                return lambda kind: remote
            case LocalModel(type="colbert") as settings:
                from app.encoders.colbert import ColbertEncoder
                from app.encoders.model_folder import locate

                colbert = ColbertEncoder(locate(settings.path, settings.revision), device.choose(settings.device))
                return lambda kind: colbert
            case LocalModel() as settings:
                from app.encoders.model_folder import locate

                return self._local(locate(settings.path, settings.revision), device.choose(settings.device))

    def _local(self, folder: Path, chosen: str) -> _Maker:
        from app.encoders.local import open_folder

        make, close = open_folder(folder, chosen, self._cache, self._threads)
        self._closing.callback(close)
        return make
