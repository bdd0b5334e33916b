"""Text -> vectors without torch: tokenizers, OpenVINO, NumPy. Serves what conversion.py wrote.

A text is tokenised once; its count says which batch it goes to. Batches are small (they stay in a core's cache), of
like length, and run on all cores at once, each on its own. Lengths are rounded up to multiples of eight, because
OpenVINO prepares itself for every new shape (4 ms) and keeps what it prepared.

bfloat16 where the CPU has it: twice as fast as float32 in OpenVINO. Each start compares its vectors with those of
torch in float32, and takes the next precision where they are not the same encoder's, by the measure that holds
between batches too: a cosine of .9999.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Final

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from app.encoders.batches import by_length, require_finite, token_places
from app.encoders.openvino.by_word import ByWord, parts_at_spaces
from app.encoders.openvino.conversion import MODEL, PROBE, TOKENIZER
from app.encoders.openvino.model_cache import Entry
from app.encoders.openvino.runtime import Network, NotConverted, Precision, precisions
from app.encoders.prompts import Task
from app.encoders.protocol import Fingerprint, TokenPlaces
from app.types import F32, I64, Encoded, Kind, Mask, TokenVectors

PADDED_TOKENS: Final = 512
"""Tokens in one batch, padding included. Fast from 256 to 4,096; a query waits for one batch at most."""
PADDING: Final = 32
"""Tokens of padding in one batch; another batch costs about as much."""
MULTIPLE: Final = 8
SAME: Final = 0.9999
"""The cosine from which vectors count as the same encoder's (the encoder protocol has it between batches)."""
SAME_TOKEN: Final = 0.999
"""The same for the worst single token; their mean is held to SAME."""


class ConvertedModel:
    """A converted transformer, ready to run; several threads may use it at once."""

    def __init__(self, entry: Entry, weights: str, threads: int) -> None:
        """Raises NotConverted where no precision gives the vectors that torch gave."""
        content = entry.content
        self.weights = weights
        self.dim: int = content["dim"]
        self.details: dict[Kind, dict[str, str]] = content["details"]
        self._prompts: dict[Task, str] = content["prompts"]
        self._limits: dict[Task, int | None] = content["limits"]
        self._substitute: str = content["substitute"]
        self._normalised: bool = content["normalised"]
        saved = (entry.folder / TOKENIZER).read_text(encoding="utf-8")
        self._tokenizers = _tokenizers(saved, self._limits)
        (self._whole,) = _tokenizers(saved, {"document": None}).values()
        self._by_word: dict[Task, ByWord] = {}
        if parts_at_spaces(saved):
            by_limit = {limit: ByWord(saved, limit) for limit in set(self._limits.values())}
            self._by_word = {task: by_limit[limit] for task, limit in self._limits.items()}
        self._threads = threads
        self._pool = ThreadPoolExecutor(max(1, threads - 1), "sheaf-encode")
        probe = load_file(entry.folder / PROBE)
        reason = ""
        for precision in precisions():
            self._network = Network(entry.folder / MODEL, content["inputs"], precision, threads)
            self.precision: Precision = precision
            reason = self._difference(content["probe"], probe)
            if not reason:
                return
        self.close()
        raise NotConverted(f"converted, it gives other vectors than in torch: {reason}")

    def encode(self, texts: Sequence[str], task: Task, kind: Kind) -> Encoded:
        """Every text through tokenizer and network, in batches of like length."""
        encodings, truncated = self._tokenise(texts, task)
        lengths = np.array([len(encoding) for encoding in encodings], np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        # The answer's own arrays, filled batch by batch: each vector is written once, and by all threads.
        pooled = np.empty((len(texts), self.dim), np.float32)
        values = np.empty((int(offsets[-1]), self.dim), np.float32) if kind == "multi_vector" else None

        def run(rows: I64) -> None:
            with self._forward([encodings[row] for row in rows]) as found:
                for own, row in zip(found, rows.tolist(), strict=True):
                    own = own[: lengths[row]]
                    mean = own.mean(axis=0)
                    pooled[row] = mean / max(float(np.linalg.norm(mean)), 1e-12) if self._normalised else mean
                    if values is not None:
                        # Not finite where a value is not.
                        norms = np.sqrt(np.einsum("ij,ij->i", own, own))
                        require_finite(norms)
                        part = values[offsets[row] : offsets[row + 1]]
                        np.divide(own, np.maximum(norms, 1e-12)[:, None], out=part)

        self._each(run, by_length(-(-lengths // MULTIPLE) * MULTIPLE, PADDED_TOKENS, PADDING))
        require_finite(pooled)
        return Encoded(pooled, None if values is None else TokenVectors(values, offsets), truncated)

    def token_ids(self, texts: Sequence[str], task: Task) -> list[list[int]]:
        """The token ids that the network is given for each text, special tokens and prompt included."""
        return [encoding.ids for encoding in self._tokenise(texts, task)[0]]

    @property
    def room(self) -> int | None:
        """Tokens of a document's text that are read; as in ``Encoder.room``."""
        limit = self._limits["document"]
        return None if limit is None else max(1, limit - len(self._whole.encode(self._prompts["document"])))

    def tokens(self, texts: Sequence[str]) -> list[I64]:
        """As ``Encoder.tokens``."""
        if by_word := self._by_word.get("document"):
            return [spans[:, 0] for spans in by_word.spans(texts)]
        found = self._whole.encode_batch(list(texts), add_special_tokens=False)
        return [np.array([start for start, _ in encoding.offsets], np.int64) for encoding in found]

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces]:
        """As ``Encoder.token_places``."""
        tokenizer, prompt = self._tokenizers[task], self._prompts[task]
        prompted = [prompt + text for text in texts]
        if by_word := self._by_word.get(task):
            made = by_word.with_special(prompted)
            if all(len(spans) for spans, _ in made):
                return [token_places(text, len(prompt), *own) for text, own in zip(prompted, made, strict=True)]
        found = []
        for text, encoding in zip(prompted, tokenizer.encode_batch(prompted), strict=True):
            ids, mask = encoding.ids, encoding.special_tokens_mask
            special = {i: str(tokenizer.id_to_token(ids[i])) for i, one in enumerate(mask) if one}
            # Where a text has no token, another stands for it.
            offsets = encoding.offsets or [(-1, -1)]
            special = special if len(encoding) else {0: self._substitute}
            found.append(token_places(text, len(prompt), offsets, special))
        return found

    def close(self) -> None:
        """Ends the threads; the model encodes no more."""
        self._pool.shutdown()

    def _tokenise(self, texts: Sequence[str], task: Task) -> tuple[list[Any], Mask]:
        """Encodings of one token or more, and which texts (n,) the limit cut."""
        tokenizer, prompt, limit = self._tokenizers[task], self._prompts[task], self._limits[task]
        found = tokenizer.encode_batch_fast([prompt + text for text in texts])
        for i, encoding in enumerate(found):
            if not len(encoding):
                found[i] = tokenizer.encode(prompt + self._substitute)
        cut = [len(encoding) == limit and bool(encoding.overflowing) for encoding in found]
        return found, np.array(cut, bool)

    def _forward(self, encodings: Sequence[Any]) -> AbstractContextManager[F32]:
        """(rows, length, dim) of one padded batch: the only place that runs the network. Gone when the context ends."""
        length = -(-max(len(encoding) for encoding in encodings) // MULTIPLE) * MULTIPLE
        ids, mask, types = (np.zeros((len(encodings), length), np.int64) for _ in range(3))
        for i, encoding in enumerate(encodings):
            ids[i, : len(encoding)] = encoding.ids
            types[i, : len(encoding)] = encoding.type_ids
            mask[i, : len(encoding)] = 1
        return self._network.run(ids, mask, types)

    def _each(self, run: Callable[[I64], None], batches: list[I64]) -> None:
        """Every batch, on all threads; the caller's is one of them, so a single batch waits for no other."""
        waiting = deque(batches)

        def work() -> None:
            while waiting:
                try:
                    rows = waiting.popleft()
                except IndexError:
                    return
                run(rows)

        others = [self._pool.submit(work) for _ in range(min(self._threads, len(batches)) - 1)]
        try:
            work()
        finally:
            waiting.clear()
            for other in others:
                if not other.cancel():
                    other.result()

    def _difference(self, texts: Sequence[str], expected: dict[str, F32]) -> str:
        """How the vectors differ from those that torch gave; empty where they do not."""
        found = self.encode(texts, "document", "multi_vector")
        assert found.tokens is not None
        if found.tokens.values.shape != expected["tokens"].shape:
            return f"{len(found.tokens.values)} token vectors instead of {len(expected['tokens'])}"
        pooled = _cosines(found.pooled, expected["pooled"])
        tokens = _cosines(found.tokens.values, expected["tokens"])
        if pooled.min() < SAME or tokens.mean() < SAME or tokens.min() < SAME_TOKEN:
            return (
                f"in {self.precision} a pooled vector has a cosine of {pooled.min():.5f}, token vectors "
                f"{tokens.mean():.5f} in the mean and {tokens.min():.5f} at least"
            )
        return ""


class ConvertedEncoder:
    """One kind of vectors of a converted model."""

    def __init__(self, model: ConvertedModel, kind: Kind) -> None:
        self._model = model
        self._kind = kind
        # As in torch, precision included: the vectors were just compared with torch's.
        self._fingerprint = Fingerprint("sentence_transformer", model.weights, model.details[kind])

    @property
    def kind(self) -> Kind:
        return self._kind

    @property
    def dim(self) -> int:
        return self._model.dim

    @property
    def backend(self) -> str:
        return f"openvino, {self._model.precision}"

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def room(self) -> int | None:
        return self._model.room

    def tokens(self, texts: Sequence[str]) -> list[I64]:
        return self._model.tokens(texts)

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces] | None:
        return self._model.token_places(texts, task)

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        return self._model.encode(texts, "document", self._kind)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self._model.encode(texts, "query", self._kind)


def _tokenizers(saved: str, limits: dict[Task, int | None]) -> dict[Task, Tokenizer]:
    """One a limit: how a tokenizer cuts is its own state, which no thread may change while others use it."""
    by_limit: dict[int | None, Tokenizer] = {}
    for limit in limits.values():
        if limit not in by_limit:
            tokenizer = Tokenizer.from_str(saved)
            tokenizer.no_padding()
            tokenizer.no_truncation()
            if limit is not None:
                tokenizer.enable_truncation(limit)
            by_limit[limit] = tokenizer
    return {task: by_limit[limit] for task, limit in limits.items()}


def _cosines(one: F32, other: F32) -> F32:
    """Row by row, (n,)."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    found: F32 = np.einsum("ij,ij->i", one, other) / np.maximum(lengths, 1e-12)
    return found
