"""A sentence-transformers pipeline that is loaded and ready to run: prompts, lengths, batches, the forward pass.

Both model families stand on it: a SentenceTransformer reads pooled and token vectors off the forward pass, a ColBERT
its projected and masked token vectors. Importing this module imports neither torch nor sentence-transformers.

Two passes over the tokenizer: the first counts each text's tokens uncut, which tells what is truncated and orders
the batches; the second makes the padded batches. Counting costs about one percent of a forward pass.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from app.encoders import model_folder
from app.encoders.batches import by_length, estimated, gather, token_places
from app.encoders.prompts import Task, in_force
from app.encoders.protocol import TokenPlaces
from app.encoders.torch.installed import has
from app.errors import EncoderRefused
from app.types import F32, I64, Encoded, Kind, Mask

log = logging.getLogger(__name__)

DRIVERS: Final = tuple(map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))
"""NVIDIA's, AMD's, and Windows's under its Linux."""
PADDED_TOKENS = 8_192
"""Tokens in one forward pass, padding included. Any bound from 1,024 up is as fast on a core; memory grows with it."""
PADDING = 256
"""Tokens of padding in one forward pass: about what another pass costs. It halves the time of mixed short texts."""

# The libraries' verbosity is one for the process, so one model loads at a time.
_LOADING = threading.Lock()


class Vectors(NamedTuple):
    """The vectors that a family reads off one batch: pooled (rows, dim) and, unless dense, one (tokens, dim) a row;
    float32."""

    pooled: F32
    tokens: Sequence[F32] | None


class Passed(NamedTuple):
    """A batch after the network. features: every module's output. attended: the tokenizer's own mask, or None."""

    features: dict[str, Any]
    attended: Any


class Backbone:
    """A pipeline in evaluation mode, float32, that several threads may run at once."""

    def __init__(
        self,
        family: Literal["SentenceTransformer", "MultiVectorEncoder", "CrossEncoder", "SparseEncoder"],
        folder: Path,
        device: str,
        given: Mapping[Task, str | None],
    ) -> None:
        """given: the operator's prompts, in the place of the model's own.

        Raises EncoderRefused where the libraries cannot load the folder, or would make weights up.
        """
        self.model = _load(family, folder, device)
        self.folder, self.device = folder, device
        self.weights = model_folder.weights_digest(folder)
        self.prompts = in_force(self.model.prompts, given)
        # A fast tokenizer keeps truncation and padding as its own state, and panics when two threads set them.
        self._tokenizing = threading.Lock()

    def limit(self, task: Task) -> int | None:
        """Tokens after which a text is cut, special tokens and prompt included; None where there is no limit."""
        transformer = self._transformer(task)
        if transformer is None:
            return None
        own = transformer.query_length if task == "query" else transformer.document_length
        own = transformer.processing_kwargs.get("text", {}).get("max_length", own)
        expansion = transformer.query_expansion if task == "query" else None
        if expansion is not None and expansion["strategy"] == "fixed":
            return int(expansion["length"])
        if expansion is not None and own is not None:
            own = max(own, expansion["length"])
        limit = transformer.max_seq_length if own is None else own
        # A tokenizer that was never given a limit says 10**30.
        return None if limit is None or limit > 10**9 else int(limit)

    @property
    def room(self) -> int | None:
        """Tokens of a document's text that are read; as in ``Encoder.room``."""
        limit = self.limit("document")
        if limit is None:
            return None
        with self._tokenizing:
            taken = len(self._transformer("document").tokenizer(self.prompts["document"])["input_ids"])
        return max(1, limit - taken)

    def tokens(self, texts: Sequence[str]) -> list[I64]:
        """As ``Encoder.tokens``."""
        transformer = self._transformer("document")
        if transformer is None or not transformer.tokenizer.is_fast:
            return estimated(texts)
        with self._tokenizing:
            found = (
                transformer.tokenizer(
                    list(texts),
                    add_special_tokens=False,
                    padding=False,
                    truncation=False,
                    return_attention_mask=False,
                    return_token_type_ids=False,
                    return_offsets_mapping=True,
                    verbose=False,
                )["offset_mapping"]
                if texts
                else []
            )
        return [np.array([start for start, _ in own], np.int64) for own in found]

    def token_places(
        self, texts: Sequence[str], task: Task, mask: Callable[[Sequence[int], Task], Mask] | None = None
    ) -> list[TokenPlaces] | None:
        """As ``Encoder.token_places``. mask: of the ids of a text's tokens, which have a vector; None: all."""
        transformer = self._transformer(task)
        if transformer is None or not transformer.tokenizer.is_fast or "message" in transformer.modality_config:
            return None
        tokenizer, prompt, limit = transformer.tokenizer, self.prompts[task], self.limit(task)
        prompted = [prompt + text for text in texts]
        with self._tokenizing:
            found = tokenizer(
                prompted,
                padding=False,
                truncation=limit is not None,
                max_length=limit,
                return_offsets_mapping=True,
                return_special_tokens_mask=True,
                verbose=False,
            )
        places = []
        for text, ids, offsets, special in zip(
            prompted, found["input_ids"], found["offset_mapping"], found["special_tokens_mask"], strict=True
        ):
            named = {i: tokenizer.convert_ids_to_tokens(ids[i]) for i, one in enumerate(special) if one}
            if not ids:
                ids, offsets, named = [0], [(-1, -1)], {0: self._nothing(tokenizer)}
            own = token_places(text, len(prompt), offsets, named)
            if mask is not None:
                own = own.only(mask(ids, task))
            places.append(own.expanded(*self._expansion(task, len(ids))))
        return places

    def _expansion(self, task: Task, tokens: int) -> tuple[int, str]:
        """How many tokens are added to so many of a query, and which."""
        transformer = self._transformer(task)
        expansion = transformer.query_expansion if task == "query" else None
        if expansion is None:
            return 0, ""
        tokenizer = transformer.tokenizer
        token = expansion["token"] or tokenizer.mask_token or tokenizer.eos_token or ""
        return max(0, int(expansion["length"]) - tokens), str(token)

    def details(self) -> dict[str, str]:
        """The part of a fingerprint that every pipeline has; see ``Fingerprint.details``."""
        return {
            "configuration": model_folder.configuration_digest(self.folder),
            "tokenizer": model_folder.tokenizer_digest(self.folder),
            "query_prompt": self.prompts["query"],
            "document_prompt": self.prompts["document"],
            "query_max_length": str(self.limit("query")),
            "document_max_length": str(self.limit("document")),
            "precision": "float32",
        }

    def encode(
        self, texts: Sequence[str], task: Task, dim: int, kind: Kind, read: Callable[[Passed], Vectors]
    ) -> Encoded:
        """Every text through the network in batches of like length; ``read`` takes the vectors off each batch."""
        texts, lengths, truncated = self.measure(texts, task)
        pooled: list[F32] = [np.empty(0, np.float32)] * len(texts)
        tokens: list[F32] = list(pooled)
        for rows in by_length(lengths, PADDED_TOKENS, PADDING):
            vectors = read(self.forward([texts[row] for row in rows], task))
            for i, row in enumerate(rows):
                pooled[row] = vectors.pooled[i]
                if vectors.tokens is not None:
                    tokens[row] = vectors.tokens[i]
        return gather(dim, pooled, tokens if kind == "multi_vector" else None, truncated)

    def forward(self, texts: Sequence[str], task: Task) -> Passed:
        """One padded batch through tokenizer and network: the only place that runs them."""
        import torch
        from sentence_transformers.util import batch_to_device

        with self._tokenizing:
            features = self.model.preprocess(list(texts), prompt=self.prompts[task], task=task)
        attended = features.get("attention_mask")
        with torch.inference_mode():
            return Passed(self.model(batch_to_device(features, self.model.device), task=task), attended)

    def measure(self, texts: Sequence[str], task: Task) -> tuple[list[str], I64, Mask]:
        """The texts to run, their padded lengths (n,) in tokens, and which the limit cuts (n,).

        A text without any token, which a network cannot take, stands as the tokenizer's end or unknown token.
        A model whose first module has no tokenizer of this kind has no limit; characters order its batches.
        """
        transformer = self._transformer(task)
        if transformer is None or not texts:
            return list(texts), np.array([len(t) // 4 + 1 for t in texts], np.int64), np.zeros(len(texts), bool)
        tokenizer = transformer.tokenizer
        prompt = self.prompts[task]
        with self._tokenizing:
            ids = tokenizer(
                [prompt + text for text in texts],
                padding=False,
                truncation=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )["input_ids"]
        lengths = np.array([len(row) for row in ids], np.int64)
        run = [text if length else self._nothing(tokenizer) for text, length in zip(texts, lengths, strict=True)]
        limit = self.limit(task)
        truncated = lengths > limit if limit is not None else np.zeros(len(run), bool)
        expansion = transformer.query_expansion if task == "query" else None
        lengths = np.maximum(lengths, expansion["length"] if expansion is not None else 1)
        return run, np.minimum(lengths, limit) if limit is not None else lengths, truncated

    @staticmethod
    def _nothing(tokenizer: Any) -> str:
        """The vectors of a text without any token."""
        return str(tokenizer.eos_token or tokenizer.unk_token or ".")

    def _transformer(self, task: Task) -> Any:
        """The Transformer module that a task's texts enter, or None where another module stands first."""
        from sentence_transformers.base.modules import Router, Transformer

        first = self.model[0]
        if isinstance(first, Router) and task in first.sub_modules:
            first = first.sub_modules[task][0]
        return first if isinstance(first, Transformer) and first.tokenizer is not None else None


def _load(family: str, folder: Path, device: str) -> Any:
    import sentence_transformers
    import torch
    from safetensors import SafetensorError
    from sentence_transformers.base.modules import Transformer

    # Errors that libraries raise for a folder that is broken, needs remote code or another package, or a device
    # that is not there; AssertionError is torch's for a device it was not built for.
    broken = (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError, AssertionError)
    with _LOADING, _quiet():
        try:
            model = getattr(sentence_transformers, family)(
                str(folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            )
            _check_complete(model, folder)
            model.to(device).float().eval()
        except (*broken, SafetensorError) as error:
            raise EncoderRefused(f"{folder} does not load as {family} on {device}: {error}") from error
    for module in model.modules():
        if isinstance(module, Transformer):
            module.unpad_inputs = False
            _keep_to_positions(module, folder)
    return model


def _keep_to_positions(transformer: Any, folder: Path) -> None:
    """No text of more tokens than the network has learned positions for, whatever length was saved with it."""
    most = _positions(transformer.model)
    if most is None or transformer.tokenizer is None:
        return
    saved = transformer.max_seq_length
    if saved is None or saved > most:
        transformer.max_seq_length = most
    own = transformer.processing_kwargs.get("text", {})
    lengths = [saved, transformer.query_length, transformer.document_length, own.get("max_length")]
    for name in ("query_length", "document_length"):
        if (getattr(transformer, name) or 0) > most:
            setattr(transformer, name, most)
    if (own.get("max_length") or 0) > most:
        own["max_length"] = most
    # A tokenizer that was never given a limit says 10**30.
    more = [length for length in lengths if length is not None and most < length < 10**9]
    if more:
        log.warning(
            "%s has %d positions: texts are cut there, not at the %d tokens it was saved with", folder, most, max(more)
        )


def _positions(network: Any) -> int | None:
    """Tokens that the network has learned positions for; None where it needs none."""
    from torch.nn import Embedding

    for name, module in network.named_modules():
        if name.rsplit(".", 1)[-1] in ("position_embeddings", "embed_positions", "wpe") and isinstance(
            module, Embedding
        ):
            # RoBERTa and its kin count from behind the padding's, BART's from an offset.
            before = 0 if module.padding_idx is None else module.padding_idx + 1
            return int(module.num_embeddings) - before - int(getattr(module, "offset", 0))
    return None


def _check_complete(model: Any, folder: Path) -> None:
    """Raises EncoderRefused where weights were not in the files, so that transformers drew them at random."""
    from sentence_transformers.base.modules import Transformer

    # transformers marks each tensor that it read from a file. A pooler is often missing, and feeds nothing
    # where the token embeddings are what is taken.
    missing = [
        name
        for module in model.modules()
        if isinstance(module, Transformer)
        for name, weight in module.model.named_parameters()
        if not getattr(weight, "_is_hf_initialized", False)
        and not (module.module_output_name == "token_embeddings" and "pooler." in name)
    ]
    if missing:
        raise EncoderRefused(
            f"{folder}: the weight files have no {missing[0]} (and {len(missing) - 1} more), which would be random; "
            "save the model again with all its weights"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no load reports: what matters in them is checked and raised."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    loggers = [logging.getLogger(name) for name in ("transformers", "sentence_transformers")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def choose_device(asked: str, drivers: Sequence[Path] = DRIVERS) -> str:
    """A name of torch's: ``asked`` itself, or for `auto` what there is, `cuda` (AMD's too) or `cpu`.

    Asking torch costs its import, seconds and hundreds of megabytes that a server of converted models does without. So
    the machine is asked first: without the device file of a driver there is no GPU, and torch stays out.

    >>> choose_device("cuda:1"), choose_device("auto", [])
    ('cuda:1', 'cpu')
    """
    if asked != "auto":
        return asked
    if not any(path.exists() for path in drivers) or not has("torch"):
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        log.info("there is a GPU's driver, but torch %s cannot use it: models run on the CPU", torch.__version__)
        return "cpu"
    try:
        torch.zeros(1, device="cuda")
    except RuntimeError as error:
        log.warning("the GPU does not work, models run on the CPU: %s", error)
        return "cpu"
    return "cuda"
