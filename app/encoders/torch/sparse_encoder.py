"""SparseEncoder models (SPLADE and its kin): a text becomes weights of the words of a vocabulary, most of them 0.

Formal, Lassance, Piwowarski, Clinchant (SPLADE v2, 2021). A model may read queries in another way than documents, down
to a table of weights without any network (inference-free SPLADE): both ways are the pipeline's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.encoders import model_folder
from app.encoders.batches import by_length
from app.encoders.prompts import Task
from app.encoders.protocol import Fingerprint
from app.encoders.torch.backbone import PADDED_TOKENS, PADDING, Backbone
from app.errors import EncoderRefused
from app.sparse.rows import packed
from app.types import EncodedSparse, SparseVector


class SparseEncoderModel:
    """Several threads may encode at once."""

    def __init__(self, folder: Path, device: str) -> None:
        """Raises EncoderRefused for a folder that is no SparseEncoder, or gives weights below 0."""
        model_folder.check_sparse_encoder(folder)
        self._backbone = Backbone("SparseEncoder", folder, device, {})
        self._most: int | None = self._backbone.model.max_active_dims
        details = {**self._backbone.details(), "max_active_dims": str(self._most)}
        self.fingerprint = Fingerprint("sparse_encoder", self._backbone.weights, details)
        # A first pass is made now, and a fault of the model is known.
        for task in ("query", "document"):
            self.encode(["a"], task)

    @property
    def backend(self) -> str:
        return f"torch, {self._backbone.device}"

    @property
    def max_tokens(self) -> int | None:
        return self._backbone.limit("document")

    def encode(self, texts: Sequence[str], task: Task) -> EncodedSparse:
        """Every text through the pipeline in batches of like length. Weights of 0 are no weights."""
        import torch
        from sentence_transformers.util import select_max_active_dims

        texts, lengths, truncated = self._backbone.measure(texts, task)
        found: list[SparseVector | None] = [None] * len(texts)
        for rows in by_length(lengths, PADDED_TOKENS, PADDING):
            weights = self._backbone.forward([texts[row] for row in rows], task).features["sentence_embedding"]
            with torch.inference_mode():
                weights = weights.to_dense() if weights.is_sparse else weights
                if self._most is not None:
                    weights = select_max_active_dims(weights, max_active_dims=self._most)
            for row, own in zip(rows, weights.float().cpu().numpy(), strict=True):
                found[row] = self._vector(own)
        return EncodedSparse(packed(found), truncated)

    def terms(self, indices: Sequence[int]) -> list[str]:
        """The words of the vocabulary, as the tokenizer has them."""
        tokenizer: Any = self._backbone.model.tokenizer
        return [str(token) for token in tokenizer.convert_ids_to_tokens(list(indices))]

    def _vector(self, weights: np.ndarray[Any, np.dtype[np.float32]]) -> SparseVector:
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise EncoderRefused(
                f"{self._backbone.folder} gives weights that are not finite or below 0; sparse vectors have none"
            )
        (indices,) = np.nonzero(weights)
        return SparseVector(indices.astype(np.int32), weights[indices])
