"""CrossEncoder models: a query and a text go through the network together, which gives one number.

Each pair goes alone, in one thread, and as many pairs at a time as there are threads. In a batch, padding and the
shape of the products move a score by 1e-7 or so, and what stands beside a text is no reason for its place; and threads
that share the small products of one pair wait for each other longer than they compute where the machine is busy.
The last activation is taken in float64: in float32 a sigmoid makes one of all that the model is sure of.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from app.encoders import model_folder
from app.encoders.torch.backbone import Backbone
from app.errors import EncoderRefused, EncoderUnavailable

_SETTING: Final = threading.Lock()


class CrossEncoderModel:
    """Several threads may score at once; they share the model's own."""

    def __init__(self, folder: Path, device: str, threads: int) -> None:
        """Raises EncoderRefused for a folder that is no CrossEncoder, or gives no or several numbers."""
        model_folder.check_cross_encoder(folder)
        self._backbone = Backbone("CrossEncoder", folder, device, {})
        self._model: Any = self._backbone.model
        if self._model.num_labels != 1:
            raise EncoderRefused(f"{folder} gives {self._model.num_labels} numbers for a text; a reranker gives one")
        self._prompt = self._model.prompts.get(self._model.default_prompt_name)
        # As in the backbone: two threads must not set a tokenizer's padding at once.
        self._tokenizing = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, "sheaf-rerank", initializer=_compute_alone)
        # A first pass is made now, and a fault of the model is known.
        self.scores("a", ["a"])

    @property
    def backend(self) -> str:
        return f"torch, {self._backbone.device}"

    @property
    def max_tokens(self) -> int | None:
        return self._backbone.limit("document")

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        return list(self._pool.map(partial(self._score, query), texts))

    def close(self) -> None:
        """Ends the threads; the model scores no more."""
        self._pool.shutdown()

    def _score(self, query: str, text: str) -> float:
        import torch
        from sentence_transformers.util import batch_to_device

        with self._tokenizing:
            features = self._model.preprocess([[query, text]], prompt=self._prompt)
        try:
            with torch.inference_mode():
                last = self._model(batch_to_device(features, self._model.device))["scores"]
                found = float(self._model.activation_fn(last.double()).reshape(()))
        except RuntimeError as error:
            raise EncoderUnavailable(f"{self._backbone.folder} does not score a text: {error}") from error
        if not math.isfinite(found):
            raise EncoderRefused(f"{self._backbone.folder} gave a score of {found}; its weights are broken")
        return found


def _compute_alone() -> None:
    """This thread shares what it computes with no other."""
    import torch

    with _SETTING:
        usual = torch.get_num_threads()
        torch.set_num_threads(1)
        # Threads to come begin with what was set last, in whichever thread.
        other = threading.Thread(target=torch.set_num_threads, args=(usual,))
        other.start()
        other.join()
