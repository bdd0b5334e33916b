"""Learned first stages beside MUVERA and pooled vectors: how much of the exact top 10 each finds, and what it costs.

    python scripts/bench_first_stage.py BEIR_FOLDER ... [--cache FOLDER] [--dim 128] [--rank 64 128 256 384 512 1024]
        [--samples 8192] [--landmarks 4096] [--queries texts windows] [--held-out]

Each collection is encoded with the built-in model, token vectors as float16, then projected to --dim dimensions by
uncentred PCA fitted on every 37th vector, and renormalised (--dim 0: left as they are). recall@w is the share of the
exact MaxSim top 10 (float32) among the first w of one list alone. A ridge encoding is fitted once, at the largest
rank; lesser ranks are its first coordinates. It is fitted on all documents, never on a query of the collection; with
--held-out on a random half, and recall is shown for relevant documents inside and outside of that half.

--queries: what the fit takes for queries: `texts`, titles and sentences of the documents through the query
encoder; or `windows`, runs of 24 token vectors of documents, which need no encoder. pq2 and pq1 are the
vector indexes that segments have, of 2 and 1 bits a number, by themselves. Fits and documents: CPU time of all
threads; queries: the median, each alone. The first ridge encoding of a run compiles its loops, which takes seconds.

SciFact, 128 dims, --probes 4096, recall@100 at ranks 128, 256, 512, 1,024: all documents fitted .952 .974 .986 .991; a
random half, its own relevant documents .958 .982 .992 .995, the other half's .933 .961 .977 .983; `windows` .946 .972
.982 .988; 16,384 samples .958 .982 .990 .992, at twice the time of a query. Token vectors of 384 dims: .945 .973 .985
.991. Pooled vectors .926, MUVERA .921 at 10,240.
Pooled scores added at weight .4 (standardised, 384 more dims) give .968 .980 .987 at 128, 256, 512; by turns less.

A cache keeps what scripts/first_stage.py keeps, and NAME.texts.npz (values, offsets, owners) and NAME.DIM.exact.npy.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from first_stage import Vectors, collected, maxsim

from app import vector_index
from app.compute.workers import Workers
from app.encoders.registry import Encoders
from app.encodings.features import widened, windows
from app.encodings.muvera import Muvera, MuveraParameters
from app.encodings.protocol import Encoding
from app.encodings.ridge import Ridge, RidgeParameters
from app.errors import SheafError
from app.sources.beir import Beir
from app.types import F32, I64, Document, Mask, TokenVectors

WIDTHS = (50, 100, 200)
DEFAULTS = RidgeParameters()
MUVERA = MuveraParameters(20, 5, 16, fill=False)
TEXTS = 6_000
"""Titles and sentences encoded as queries: about as many, at least one a document."""
CODES = {"pq2": 2, "pq1": 1}
"""Kinds of vector index (app/vector_index/coded.py), and their bits a number."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="BEIR_FOLDER")
    parser.add_argument("--cache", type=Path, help="a folder that keeps encodings and exact scores")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rank", type=int, nargs="+", default=[64, 128, 256, 384, 512, 1024])
    parser.add_argument("--samples", type=int, nargs="+", default=[DEFAULTS.samples])
    parser.add_argument("--landmarks", type=int, nargs="+", default=[DEFAULTS.landmarks])
    parser.add_argument("--probes", type=int, default=DEFAULTS.probes)
    parser.add_argument("--regularisation", type=float, default=DEFAULTS.regularisation)
    parser.add_argument("--bandwidth", type=float, default=DEFAULTS.bandwidth)
    parser.add_argument("--prior", type=float, default=DEFAULTS.prior)
    parser.add_argument("--queries", nargs="+", default=["texts"], choices=("texts", "windows"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--no-muvera", action="store_true", help="leave MUVERA and pooled vectors out")
    args = parser.parse_args()
    base = RidgeParameters(
        rank=max(args.rank),
        probes=args.probes,
        bandwidth=args.bandwidth,
        regularisation=args.regularisation,
        prior=args.prior,
    )
    for folder in args.folders:
        try:
            vectors = collected(folder, args.cache)
            projection = Projection.fitted(vectors.tokens, args.dim)
            exact_at = args.cache / f"{folder.name}.{args.dim}.exact.npy" if args.cache else None
            vectors = projected(vectors, projection, exact_at)
            print(
                f"\n{folder.name}: {len(vectors.ids)} passages, {len(vectors.query_ids)} queries, "
                f"{vectors.tokens.dim} dims, {len(vectors.tokens.values)} token vectors"
            )
            measure = Measure(vectors, args.held_out, Workers(args.threads))
            if not args.no_muvera:
                measure.show("pooled", vectors.pooled, vectors.query_pooled)
                measure.encoding("MUVERA 20,5,16", Muvera(vectors.tokens.dim, MUVERA), [])
            for source in args.queries:
                queries = owners = None
                if source == "texts":
                    rows = {name: row for row, name in enumerate(vectors.ids)}
                    queries, owners = query_texts(folder, args.cache, rows)
                    queries = projection(queries)
                for samples in args.samples:
                    for landmarks in args.landmarks:
                        given = replace(base, samples=samples, landmarks=landmarks)
                        measure.ridge(f"ridge {source} {samples}/{landmarks}", given, queries, owners, args.rank)
        except SheafError as error:
            raise SystemExit(f"{folder}: {error.message}") from error


class Measure:
    """Prints one row for each first stage of a collection."""

    def __init__(self, vectors: Vectors, held_out: bool, workers: Workers) -> None:
        self._vectors, self._workers = vectors, workers
        self._top: I64 = np.argsort(-vectors.exact, axis=1, kind="stable")[:, :10]
        n = len(vectors.ids)
        chosen = np.random.RandomState(0).permutation(n)[: n // 2 if held_out else n]
        self._fitted: Mask = np.zeros(n, np.bool_)
        self._fitted[chosen] = True
        recalls = " ".join(f"{'@' + str(w):>6}" for w in WIDTHS) + ("     in    out" if held_out else "")
        print(f"{'first stage':34} {'dims':>6} {'bytes':>6} {'fit s':>6} {'ms/doc':>6} {'ms/query':>8}  {recalls}")

    def show(
        self,
        name: str,
        documents: F32,
        queries: F32,
        *,
        kind: str | None = None,
        size: float | None = None,
        costs: tuple[str, str, str] = ("",) * 3,
    ) -> None:
        """kind: of vector index; exact if not given. size: bytes a document; of float32 if not given.
        costs: of a fit, a document, a query.
        """
        if kind is None:
            ranking = np.argsort(-(queries @ documents.T), axis=1, kind="stable")
        else:
            ranking = vector_index.build(kind, documents).search(np.ascontiguousarray(queries), WIDTHS[-1]).rows
        found = {w: (self._top[:, :, None] == ranking[:, None, :w]).any(axis=2) for w in WIDTHS}
        numbers = " ".join(f"{found[w].mean():6.4f}" for w in WIDTHS)
        if not self._fitted.all():
            inside = self._fitted[self._top]
            numbers += f" {found[100][inside].mean():6.4f} {found[100][~inside].mean():6.4f}"
        dims = documents.shape[1]
        size = 4 * dims if size is None else size
        fit, document, query = costs
        print(f"{name:34} {dims:6} {size:6.0f} {fit:>6} {document:>6} {query:>8}  {numbers}", flush=True)

    def encoding(self, name: str, encoding: Encoding, ranks: list[int], fit: str = "") -> None:
        tokens, asked = self._vectors.tokens, self._vectors.query_tokens
        (parts, per_document), wall = clocked(
            lambda: timed(
                lambda: self._workers.map_slices(
                    len(tokens), lambda a, b: encoding.encode_documents(tokens.slice(a, b))
                ),
                len(tokens),
            )
        )
        documents = np.concatenate(parts)
        each = [clocked(partial(encoding.encode_queries, asked.slice(i, i + 1))) for i in range(len(asked))]
        queries = np.concatenate([found for found, _ in each])
        per_query = float(np.median([seconds for _, seconds in each]))
        costs = fit, f"{1e3 * per_document:.2f}", f"{1e3 * per_query:.2f}"
        print(f"{name}: all documents encoded in {wall:.1f} s by {self._workers.threads} threads")
        for rank in sorted({min(rank, encoding.encoded_dim) for rank in ranks or [encoding.encoded_dim]}):
            kept = documents[:, :rank]
            self.show(name, kept, queries[:, :rank], costs=costs)
            for kind, bits in CODES.items() if ranks else ():
                whole = np.ascontiguousarray(kept)
                self.show(f"  {kind}", whole, queries[:, :rank], kind=kind, size=bits * rank / 8)

    def ridge(
        self,
        name: str,
        parameters: RidgeParameters,
        queries: TokenVectors | None,
        owners: I64 | None,
        ranks: list[int],
    ) -> None:
        documents = self._vectors.tokens
        if not self._fitted.all():
            documents = documents.take(np.flatnonzero(self._fitted))
            if queries is not None:
                queries = queries.take(np.flatnonzero(self._fitted[owners]))
        given = windows(documents, parameters.probes) if queries is None else queries
        (fitted, seconds), wall = clocked(
            lambda: timed(lambda: Ridge.fit(documents, given, parameters, self._workers), 1)
        )
        print(f"{name}: fitted in {wall:.1f} s by {self._workers.threads} threads")
        self.encoding(name, fitted, ranks, f"{seconds:.1f}")


@dataclass(frozen=True)
class Projection:
    """To the span of ``basis``, (dim, fewer), and to length 1 again; without one, nothing."""

    basis: F32 | None

    @classmethod
    def fitted(cls, tokens: TokenVectors, dim: int) -> Projection:
        if dim == 0:
            return cls(None)
        sample = widened(tokens.values[::37])
        vectors = np.linalg.eigh((sample.T @ sample).astype(np.float64))[1]
        return cls(np.ascontiguousarray(vectors[:, ::-1][:, :dim], np.float32))

    def __call__(self, tokens: TokenVectors) -> TokenVectors:
        if self.basis is None:
            return tokens
        out = np.empty((len(tokens.values), self.basis.shape[1]), np.float32)
        for start in range(0, len(out), 1 << 16):
            part = widened(tokens.values[start : start + (1 << 16)]) @ self.basis
            out[start : start + (1 << 16)] = part / np.linalg.norm(part, axis=1, keepdims=True)
        return TokenVectors(out, tokens.offsets)


def projected(vectors: Vectors, projection: Projection, exact_at: Path | None) -> Vectors:
    """The same with projected token vectors, and exact scores of them."""
    if projection.basis is None:
        return vectors
    tokens, queries = projection(vectors.tokens), projection(vectors.query_tokens)
    if exact_at and exact_at.is_file():
        exact = np.load(exact_at, allow_pickle=False)
    else:
        exact = maxsim(queries, tokens)
        if exact_at:
            np.save(exact_at, exact)
    return replace(vectors, tokens=tokens, query_tokens=queries, exact=exact)


def query_texts(folder: Path, cache: Path | None, rows: dict[str, int]) -> tuple[TokenVectors, I64]:
    """Some titles and sentences through the query encoder, and the row of the document that each is from."""
    at = cache / f"{folder.name}.texts.npz" if cache else None
    if at and at.is_file():
        with np.load(at, allow_pickle=False) as stored:
            return TokenVectors(stored["values"], stored["offsets"]), stored["owners"]
    random = np.random.RandomState(0)
    found = [entry.found for entry in Beir(folder).entries()]
    each = -(-TEXTS // len(found))
    texts, owners = [], []
    for document in found:
        if isinstance(document, Document):
            pieces = [document.title, *re.split(r"(?<=[.?!])\s+|\n+", document.text)]
            pieces = [piece for piece in pieces if len(piece.split()) > 2] or [document.passage]
            chosen = random.permutation(len(pieces))[:each]
            texts += [pieces[i] for i in chosen]
            owners += [rows[document.id]] * len(chosen)
    tokens = Encoders({}).get("builtin", "multi_vector").encode_queries(texts).tokens
    assert tokens is not None  # a multi_vector encoder gives them
    if at:
        np.savez(at, values=tokens.values, offsets=tokens.offsets, owners=np.array(owners))
    return tokens, np.array(owners)


Result = TypeVar("Result")


def timed(call: Callable[[], Result], count: int) -> tuple[Result, float]:
    """Its result, and CPU seconds for one of ``count``."""
    start = time.process_time()
    result = call()
    return result, (time.process_time() - start) / count


def clocked(call: Callable[[], Result]) -> tuple[Result, float]:
    """Its result, and seconds."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
