"""An encoder whose calls are counted and timed, for the metrics; it gives what the one inside gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from app.encoders.protocol import Encoder, Fingerprint
from app.types import Encoded, Kind

Count: TypeAlias = Callable[[str, str, int, float, bool], None]
"""model, `documents` or `queries`, texts, seconds, whether it failed. Called from any thread."""


class CountedEncoder:
    """See ``app.encoders.protocol.Encoder``."""

    def __init__(self, model: str, inner: Encoder, count: Count) -> None:
        self._model, self._inner, self._count = model, inner, count

    @property
    def kind(self) -> Kind:
        return self._inner.kind

    @property
    def dim(self) -> int:
        return self._inner.dim

    @property
    def fingerprint(self) -> Fingerprint:
        return self._inner.fingerprint

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        return self._counted("documents", self._inner.encode_documents, texts)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self._counted("queries", self._inner.encode_queries, texts)

    def _counted(self, role: str, encode: Callable[[Sequence[str]], Encoded], texts: Sequence[str]) -> Encoded:
        started, failed = time.perf_counter(), True
        try:
            found = encode(texts)
            failed = False
            return found
        finally:
            if texts:
                self._count(self._model, role, len(texts), time.perf_counter() - started, failed)
