"""ColBERT models through MultiVectorEncoder: sentence-transformers' own format, PyLate's, Stanford's.

Prompts (the [Q] and [D] markers), query expansion and the list of skipped tokens are as they were saved. A ColBERT has
no pooled vector of its own; ours is the normalised mean of its token vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from app.encoders import model_folder
from app.encoders.prompts import Task
from app.encoders.protocol import Fingerprint, TokenPlaces
from app.encoders.torch.backbone import Backbone, Passed, Vectors
from app.encoders.torch.encoder import TorchEncoder
from app.errors import EncoderRefused
from app.types import Mask


class ColbertEncoder(TorchEncoder):
    """Multi-vector only. A query has one vector a token and, with expansion, one for each token added."""

    def __init__(self, folder: Path, device: str, given: Mapping[Task, str | None] | None = None) -> None:
        """Raises EncoderRefused for a folder that is no ColBERT, or whose projection is not in its files."""
        from sentence_transformers.base.modules import Dense

        model_folder.check_colbert(folder)
        backbone = Backbone("MultiVectorEncoder", folder, device, given or {})
        projections = sum(isinstance(module, Dense) for module in backbone.model)
        if projections != model_folder.dense_modules(folder):
            raise EncoderRefused(f"{folder}: its projection is not in its files, and would be random")
        widths = {
            task: int(backbone.forward(["a"], task).features["token_embeddings"].shape[2])
            for task in ("query", "document")
        }
        if widths["query"] != widths["document"]:
            raise EncoderRefused(f"{folder}: queries and documents have other dimensions: {widths}")
        details = {**backbone.details(), "pooled": "mean of token vectors"}
        fingerprint = Fingerprint("colbert", backbone.weights, details)
        super().__init__(backbone, "multi_vector", widths["document"], fingerprint)

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces] | None:
        return self._backbone.token_places(texts, task, self._mask)

    def _mask(self, ids: Sequence[int], task: Task) -> Mask:
        """(tokens,): those that are scored, as the model's own masks have it."""
        import torch
        from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

        features = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones((1, len(ids)), dtype=torch.long)}
        for module in self._backbone.model:
            if isinstance(module, MultiVectorMask):
                features = module.forward(features, task=task)
        kept: Mask = features["attention_mask"][0].bool().numpy()
        return kept if kept.any() else np.ones(len(ids), bool)

    def _read(self, passed: Passed) -> Vectors:
        import torch

        embeddings = passed.features["token_embeddings"]
        mask = passed.features["attention_mask"].bool()
        if passed.attended is not None and passed.attended.shape == mask.shape:
            # A text of skipped tokens alone keeps them: a text has at least one vector.
            attended = passed.attended.to(mask.device).bool()
            mask = torch.where(mask.any(dim=1, keepdim=True), mask, attended)
        flat = embeddings[mask]
        ends = mask.sum(dim=1).cumsum(dim=0).tolist()
        means = torch.stack([part.mean(dim=0) for part in flat.tensor_split(ends[:-1])])
        pooled = torch.nn.functional.normalize(means, dim=-1)
        return Vectors(pooled.cpu().numpy(), np.split(flat.cpu().numpy(), ends[:-1]))
