"""An encoder whose vectors are a head's (``head``) of another encoder's pooled ones, in any runtime: no torch needed.

It reads texts as that encoder does: its tokenizer, prompts and limits.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.encoders.batches import require_finite
from app.encoders.heads.head import Head
from app.encoders.prompts import Task
from app.encoders.protocol import Encoder, Fingerprint, TokenPlaces
from app.errors import EncoderRefused
from app.scoring.networks.forward import directions
from app.types import F32, I64, Encoded, Kind


class DistilledEncoder:
    """A head over an encoder of dense vectors (app.encoders.protocol.MatryoshkaEncoder)."""

    def __init__(self, head: Head, base: Encoder, dim: int | None = None) -> None:
        """dim: one of the head's; None for all its numbers.

        Raises EncoderRefused for a head that was learned on another encoder.
        """
        differences = head.base.differences(base.fingerprint)
        if base.dim != head.inputs:
            differences.append(f"dim ({head.inputs} then, {base.dim} now)")
        if differences:
            raise EncoderRefused(
                f"the head was learned on another encoder ({head.base.model}) than the one that it is put on "
                f"({base.fingerprint.model}): {', '.join(differences)} differ. Name the former one as its base, or "
                "learn a head on this one with scripts/distil.py"
            )
        self._head, self._base = head, base
        self._dim = head.dims[0] if dim is None else dim
        # What the encoder below says of prompts and limits holds of this one; what it is, the head's digest says too.
        details = {**base.fingerprint.details, "dim": str(self._dim)}
        self._fingerprint = Fingerprint("distilled", head.digest, details)

    @property
    def kind(self) -> Kind:
        return "dense"

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def dims(self) -> tuple[int, ...]:
        return self._head.dims

    @property
    def backend(self) -> str:
        return f"a head on {self._base.backend}"

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def room(self) -> int | None:
        return self._base.room

    def of_dim(self, dim: int) -> DistilledEncoder:
        return DistilledEncoder(self._head, self._base, dim)

    def first(self, pooled: F32) -> F32:
        """(n, dims[0]) -> (n, dim) of length 1."""
        return pooled if pooled.shape[1] == self._dim else directions(pooled[:, : self._dim])

    def tokens(self, texts: Sequence[str]) -> list[I64]:
        return self._base.tokens(texts)

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces] | None:
        return self._base.token_places(texts, task)

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        return self._of(self._base.encode_documents(texts), "document")

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self._of(self._base.encode_queries(texts), "query")

    def _of(self, encoded: Encoded, task: Task) -> Encoded:
        vectors = self.first(self._head.of(encoded.pooled, task))
        require_finite(vectors)
        return Encoded(vectors, None, encoded.truncated)
