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
from app.encoders.torch.encoder import TorchEncoder
from app.errors import EncoderRefused
from app.types import Kind


class SentenceTransformerEncoder(TorchEncoder):
    """One kind of vectors over a loaded pipeline."""

    def __init__(self, backbone: Backbone, kind: Kind) -> None:
        """Raises EncoderRefused where the pipeline has no such vectors."""
        shapes = {task: _shape(backbone, kind, task) for task in ("query", "document")}
        if shapes["query"] != shapes["document"]:
            raise EncoderRefused(f"{backbone.folder}: queries and documents have other dimensions: {shapes}")
        sentence, token = shapes["document"]
        self._mean_of_tokens = kind == "multi_vector" and sentence != token
        details = backbone.details()
        if kind == "multi_vector":
            details["pooled"] = "mean of token vectors" if self._mean_of_tokens else "sentence embedding"
        fingerprint = Fingerprint("sentence_transformer", backbone.weights, details)
        super().__init__(backbone, kind, token if kind == "multi_vector" else sentence, fingerprint)

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces] | None:
        return self._backbone.token_places(texts, task)

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


def _shape(backbone: Backbone, kind: Kind, task: Task) -> tuple[int, int]:
    """Dimensions of the sentence embedding and, in a multi-vector encoder, of a token vector (else 0)."""
    features = backbone.forward(["a"], task).features
    sentence = int(features["sentence_embedding"].shape[1])
    cut = backbone.model.truncate_dim
    sentence = sentence if cut is None else min(sentence, cut)
    if kind == "dense":
        return sentence, 0
    tokens, mask = features.get("token_embeddings"), features.get("attention_mask")
    if tokens is None or mask is None or tokens.shape[:2] != mask.shape:
        raise EncoderRefused(f"{backbone.folder} gives no vector for each token of a {task}; it serves as dense only")
    return sentence, int(tokens.shape[2])
