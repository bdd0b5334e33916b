"""The common part of encoders over a torch pipeline: all but how vectors are read from what it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from app.encoders.prompts import Task
from app.encoders.protocol import Fingerprint
from app.encoders.torch.backbone import Backbone, Passed, Vectors
from app.types import I64, Encoded, Kind


class TorchEncoder(ABC):
    """One kind of vectors over a loaded pipeline (app.encoders.protocol.Encoder, but for ``token_places``)."""

    def __init__(self, backbone: Backbone, kind: Kind, dim: int, fingerprint: Fingerprint) -> None:
        self._backbone = backbone
        self._kind = kind
        self._dim = dim
        self._fingerprint = fingerprint

    @property
    def kind(self) -> Kind:
        return self._kind

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def backend(self) -> str:
        return f"torch, {self._backbone.device}"

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def room(self) -> int | None:
        return self._backbone.room

    def tokens(self, texts: Sequence[str]) -> list[I64]:
        return self._backbone.tokens(texts)

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        return self._encode(texts, "document")

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self._encode(texts, "query")

    def _encode(self, texts: Sequence[str], task: Task) -> Encoded:
        return self._backbone.encode(texts, task, self._dim, self._kind, self._read)

    @abstractmethod
    def _read(self, passed: Passed) -> Vectors:
        """The vectors of what went through the pipeline."""
