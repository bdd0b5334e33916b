"""Any SentenceTransformer: `dense` is its sentence embedding; `multi_vector` adds its token vectors, of one pass.

Late interaction from a plain sentence encoder, with no training: the vectors that its pooling would average, each
normalised, are scored by MaxSim (Qdrant's article "any embedding model can become a late interaction model", 2024).
Every attended token counts, special tokens and prompt among them; padding never does.

The two sorts of vector need one dimension. Where they differ (a projection after the pooling, several poolings
side by side, a cut for Matryoshka dimensions) the pooled vector of `multi_vector` is the normalised mean of the
normalised token vectors; `dense` stays the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.encoders.prompts import Task
from app.encoders.protocol import Fingerprint, TokenPlaces
from app.encoders.torch.backbone import Backbone, Passed, Vectors
from app.errors import EncoderRefused
from app.types import I64, Encoded, Kind


class SentenceTransformerEncoder:
    """One kind of vectors over a loaded pipeline."""

    def __init__(self, backbone: Backbone, kind: Kind) -> None:
        """Raises EncoderRefused where the pipeline has no such vectors."""
        self._backbone = backbone
        self._kind = kind
        shapes = {task: self._shape(task) for task in ("query", "document")}
        if shapes["query"] != shapes["document"]:
            raise EncoderRefused(f"{backbone.folder}: queries and documents have other dimensions: {shapes}")
        sentence, token = shapes["document"]
        self._mean_of_tokens = kind == "multi_vector" and sentence != token
        self._dim = token if kind == "multi_vector" else sentence
        details = backbone.details()
        if kind == "multi_vector":
            details["pooled"] = "mean of token vectors" if self._mean_of_tokens else "sentence embedding"
        self._fingerprint = Fingerprint("sentence_transformer", backbone.weights, details)

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

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces] | None:
        return self._backbone.token_places(texts, task)

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        return self._backbone.encode(texts, "document", self._dim, self._kind, self._read)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self._backbone.encode(texts, "query", self._dim, self._kind, self._read)

    def _read(self, passed: Passed) -> Vectors:
        if self._kind == "dense":
            return Vectors(self._sentences(passed).cpu().numpy(), None)
        import torch

        mask = passed.features["attention_mask"].bool()
        flat = torch.nn.functional.normalize(passed.features["token_embeddings"][mask], dim=-1)
        ends = mask.sum(dim=1).cumsum(dim=0).tolist()
        tokens = np.split(flat.cpu().numpy(), ends[:-1])
        if self._mean_of_tokens:
            means = torch.stack([part.mean(dim=0) for part in flat.tensor_split(ends[:-1])])
            pooled = torch.nn.functional.normalize(means, dim=-1)
        else:
            pooled = self._sentences(passed)
        return Vectors(pooled.cpu().numpy(), tokens)

    def _sentences(self, passed: Passed) -> Any:
        """(rows, dim), cut to the Matryoshka dimension that the model was saved with, if any."""
        return passed.features["sentence_embedding"][:, : self._backbone.model.truncate_dim]

    def _shape(self, task: Task) -> tuple[int, int]:
        """Dimensions of the sentence embedding and, in a multi-vector encoder, of a token vector (else 0)."""
        features = self._backbone.forward(["a"], task).features
        sentence = int(features["sentence_embedding"].shape[1])
        cut = self._backbone.model.truncate_dim
        sentence = sentence if cut is None else min(sentence, cut)
        if self._kind == "dense":
            return sentence, 0
        tokens, mask = features.get("token_embeddings"), features.get("attention_mask")
        if tokens is None or mask is None or tokens.shape[:2] != mask.shape:
            raise EncoderRefused(
                f"{self._backbone.folder} gives no vector for each token of a {task}; it serves as dense only"
            )
        return sentence, int(tokens.shape[2])
