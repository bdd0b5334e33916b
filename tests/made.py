"""The types that the fixtures of conftest.py make, by name. (A conftest cannot be imported from: there are several.)"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.deterministic import DeterministicEncoder
from app.encoders.protocol import Encoder
from app.encoders.registry import Encoders
from app.settings import Settings
from app.types import Encoded, Kind

DIM = 32
OpenCatalogue = Callable[..., Catalogue]
MakeCollection = Callable[..., Collection]


class CountingEncoder(DeterministicEncoder):
    """The deterministic encoder, which remembers the texts that it was given."""

    def __init__(self, dim: int, kind: Kind) -> None:
        super().__init__(dim, kind)
        self.texts: list[str] = []

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        self.texts += texts
        return super().encode_documents(texts)


class OneEncoder(Encoders):
    """Gives one encoder, the test's own, under every name, to documents and to queries."""

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        super().__init__(settings.models)
        self._encoder = encoder

    def get(self, name: str, kind: Kind, *, patient: bool = False) -> Encoder:
        return self._encoder

    def encode_queries(self, name: str, kind: Kind, texts: Sequence[str], *, alone: bool = False) -> Encoded:
        return self._encoder.encode_queries(texts)
