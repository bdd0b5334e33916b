"""Conversations: nDCG@10 of dialogues that ask for dialogues, by how their turns are read.

    python scripts/bench_turns.py BEIR_FOLDER [--last 2] [--decay 1]

The lines of corpus.jsonl and queries.jsonl have `turns`, of documents a `summary` too. Each way is a collection with
the built-in model, searched exactly: turns that are weighed (`"turns": {}`: the latest two, read beside those before),
the latest turn alone, and the whole text (as it is split by default). Of turns the pooled vectors are those of
summaries, and the map from conversations is learned of all documents (queries are others) by the collection itself;
beside that conversations by the means of their own token vectors, and 5-fold cross-fitting: documents of a fold are
scored by a map that was learned without them. CONVERSE (arXiv 2402.13043) trains an encoder
for it, on summaries of a language model. Figures seen are in docs/papers.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.encoders.turns import TurnsSpec, conversed, directed
from app.evaluation.measures import mean, measure, measured
from app.evaluation.statistics import interval, p_value
from app.indexing.summaries import FOLDS, SEED, pairs, ridge_map
from app.ingest import write_documents
from app.query.preparing import encode_queries
from app.search import Mode, Query, search
from app.settings import Settings
from app.sources.beir import beir_qrels
from app.types import Document, Turn, spoken

MODES: Final[tuple[Mode, ...]] = ("lexical", "dense", "semantic", "hybrid")
NAMES: Final = {
    "lexical": "BM25",
    "dense": "dense (of turns: implicit summary)",
    "semantic": "multi_vector",
    "hybrid": "hybrid (the default)",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--last", type=int, default=2)
    parser.add_argument("--decay", type=float, default=1.0)
    return parser


def turns_of(line: Mapping[str, Any]) -> tuple[Turn, ...]:
    return tuple(Turn(one["role"], one["text"]) for one in line["turns"])


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked(line: Mapping[str, Any], spec: TurnsSpec | None, last: int | None, mode: Mode) -> Query:
    turns = turns_of(line)
    plain: dict[str, Any] = {"mode": mode, "k": 10, "exact": True, "include": frozenset()}
    if spec is not None:
        return Query(text=spec.heard(turns), turns=turns, **plain)
    return Query(text=spoken(turns[-last:] if last else turns), **plain)


def beside(collection: Collection, queries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """What the collection itself is not asked for: conversations by their own vectors, and summaries by maps that were
    learned without the documents that they score."""
    spec = collection.spec.turns
    assert spec is not None, "turns are read"
    assert spec.map is not None, "the map was learned"
    conversations, summaries, _, ids = pairs(collection)
    fold = np.random.default_rng(SEED + 1).permutation(len(ids)) % FOLDS
    encoded = encode_queries(collection, [asked(line, spec, None, "semantic") for line in queries])
    given = np.concatenate([conversed(one.vectors) for one in encoded])
    scores = np.zeros((len(queries), len(ids)))
    for one in range(FOLDS):
        out = fold == one
        mean, matrix = ridge_map(conversations[~out], summaries[~out], spec.map.ridge)
        centred = directed(summaries[out] - summaries[~out].mean(axis=0))
        scores[:, out] = directed((given - mean) @ matrix) @ centred.T
    found = {}
    for name, table in (
        ("dense, without summaries", given @ conversations.T),
        ("implicit summary, cross-fitted", scores),
    ):
        order = np.argsort(-table, axis=1, kind="stable")[:, :10].tolist()
        found[f"turns, {name}"] = {line["_id"]: [ids[i] for i in row] for line, row in zip(queries, order, strict=True)}
    return found


def main() -> None:
    """Each way, beside the best of those that read no turns."""
    args = parser().parse_args()
    corpus, queries = read(args.folder / "corpus.jsonl"), read(args.folder / "queries.jsonl")
    grades = {query: own for query, own in beir_qrels(args.folder).items() if any(own.values())}
    ways: dict[str, tuple[TurnsSpec | None, int | None]] = {
        "turns": (TurnsSpec(last=args.last, decay=args.decay), None),
        "the latest turn": (None, 1),
        "whole text": (None, None),
    }
    runs: dict[str, dict[str, list[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(indexes=Path(folder))
        with Catalogue(settings.indexes, Encoders({}), settings) as catalogue:
            for number, (way, (spec, last)) in enumerate(ways.items()):
                collection = catalogue.create(f"c{number}", model="builtin", kind="multi_vector", turns=spec)
                for start in range(0, len(corpus), 64):
                    some = []
                    for line in corpus[start : start + 64]:
                        turns = turns_of(line)
                        kept = turns[-last:] if last else turns
                        made = (turns, line.get("summary", "")) if spec is not None else ((), "")
                        some.append(Document(line["_id"], spoken(kept), turns=made[0], summary=made[1]))
                    write_documents(collection, some)
                own = collection.spec.turns
                for mode in MODES:
                    found = {
                        line["_id"]: [hit.id for hit in search(collection, asked(line, own, last, mode)).hits]
                        for line in queries
                    }
                    runs[f"{way}, {NAMES[mode]}"] = found
                for name in list(runs)[-len(MODES) :]:
                    print(f"{name}: {mean('nDCG@10', grades, runs[name]):.4f}", flush=True)
                if own is not None and own.map is not None:
                    print(f"the map: {own.map.documents} documents, ridge {own.map.ridge}, mean reciprocal rank of the")
                    print(f"own summary, held out: {own.map.held_out:.3f}, unmapped {own.map.unmapped:.3f}")
                    runs |= beside(collection, queries)
    values = {
        name: np.array(list(measured([measure("nDCG@10")], grades, run)["nDCG@10"].values()))
        for name, run in runs.items()
    }
    base = max(
        (name for name in values if name.startswith(("whole", "the latest"))), key=lambda one: values[one].mean()
    )
    print(f"\n{args.folder.name}: {len(corpus):,} documents, {len(grades)} queries; beside {base}:")
    for name, own_values in values.items():
        apart = own_values - values[base]
        told = interval(apart)
        print(
            f"{name:60} {own_values.mean():.4f}  {told.mean:+.4f} ({told.low:+.4f} to {told.high:+.4f}) "
            f"p {p_value(apart):.4f}"
        )


if __name__ == "__main__":
    main()
