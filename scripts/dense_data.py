"""Dense vectors of any number with the structure of real ones: sentences through the built-in encoder, others drawn
around them.

The real ones: sentences of 30 to 400 characters of the standard library's documentation (python_docs.py) and of BEIR
folders, which also give the queries. A made vector is a real one moved by `SHIFT` times the difference of two others,
of length 1 again: so neighbours lie where real ones have them, and nothing is isotropic noise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from progress import Progress
from python_docs import PythonDocs
from scale_data import SHARES, unit

from app.encoders.registry import Encoders
from app.settings import Settings
from app.types import F32, I64, Document

SHIFT: Final = 0.6
CHUNK: Final = 50_000
"""Vectors drawn at a time, from a random stream of their own."""
MOST: Final = 30_000
"""Sentences that are encoded, drawn evenly; the others are made."""
_BATCH: Final = 4_096
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"(\d])")


@dataclass(frozen=True)
class Vectors:
    """docs: (n, dim) float32 of length 1, the first ``real`` of them encoded sentences. queries: (m, dim) likewise.
    part: (n,), uniform among `SHARES`: ``part < x`` keeps x thousandths."""

    docs: F32
    queries: F32
    part: I64
    real: int

    @classmethod
    def of(cls, folders: Sequence[Path], size: int, kept: Path) -> Vectors:
        """size: of ``docs``. kept: where encoded sentences are, or are put."""
        if not kept.is_file():
            _encode(folders, kept)
        with np.load(kept, allow_pickle=False) as stored:
            real, queries = unit(stored["docs"])[:size], unit(stored["queries"])
        docs = np.concatenate([real, *_drawn(real, size - len(real))])
        return cls(docs, queries, np.random.default_rng(5).integers(0, SHARES, size), len(real))

    def nearest(self, k: int, share: int | None = None) -> I64:
        """(m, k) places of the largest inner products in float32, best first, with every number read; -1 where there
        are no more. share: of those whose part is below it."""
        rows = np.arange(len(self.docs)) if share is None else np.flatnonzero(self.part < share)
        docs = self.docs if share is None else self.docs[rows]
        found = np.full((len(self.queries), k), -1, np.int64)
        width = min(k, len(rows))
        for start in range(0, len(found), 50):
            scores = self.queries[start : start + 50] @ docs.T
            best = np.argpartition(-scores, width - 1, axis=1)[:, :width]
            order = np.take_along_axis(-scores, best, 1).argsort(axis=1, kind="stable")
            found[start : start + 50, :width] = rows[np.take_along_axis(best, order, 1)]
        return found


def _drawn(real: F32, size: int) -> Iterator[F32]:
    for start in range(0, size, CHUNK):
        random = np.random.default_rng([1, start])
        n = min(CHUNK, size - start)
        origin, one, other = (real[random.integers(len(real), size=n)] for _ in range(3))
        yield unit(origin + np.float32(SHIFT) * (one - other))


def _encode(folders: Sequence[Path], kept: Path) -> None:
    texts = [text for folder in folders for text in _lines(folder / "corpus.jsonl")]
    texts += [entry.found.text for entry in PythonDocs().entries() if isinstance(entry.found, Document)]
    sentences = list(dict.fromkeys(one for text in texts for one in _sentences(text)))
    asked = list(dict.fromkeys(text for folder in folders for text in _lines(folder / "queries.jsonl")))
    random = np.random.default_rng(0)
    sentences = [sentences[i] for i in random.permutation(len(sentences))[:MOST]]
    asked = [asked[i] for i in random.permutation(len(asked))]
    settings = Settings()
    encoders = Encoders(settings.models, settings.converted, settings.threads)
    encoder, parts = encoders.get("builtin", "dense"), list[F32]()
    with Progress("sentences", "texts", len(sentences)) as bar:
        for start in range(0, len(sentences), _BATCH):
            parts.append(encoder.encode_documents(sentences[start : start + _BATCH]).pooled)
            bar.update(start + len(parts[-1]), len(sentences), "encoding")
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.savez(kept, docs=np.concatenate(parts), queries=encoder.encode_queries(asked).pooled)
    encoders.close()


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            yield ". ".join(filter(None, (record.get("title"), record["text"])))


def _sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in _SENTENCE.split(" ".join(paragraph.split())):
            if 30 <= len(sentence) <= 400 and sum(map(str.isalpha, sentence)) > 0.6 * len(sentence):
                yield sentence
