"""Measures a collection on a BEIR folder's judgements: quality, recall of the approximate path, latency.

    evaluate.py scifact/ --collection scifact
    evaluate.py scifact/ --collection scifact-dense --kind dense --json scifact-dense.json

The collection is built first, or brought up to date, from the folder's corpus. Each query is encoded by itself and then
searched with the ready embedding: by meaning, as any search is and exactly; and where words are indexed by them
(`lexical`), by pooled vectors (`dense`), and by all together (`hybrid`, whose weights follow the queries). Quality is
ir_measures' (MacAvaney et al. 2022).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import ir_measures
import numpy as np
from build_index import add_spec, asked, build, report
from ir_measures import AP, RR, R, nDCG
from progress import Progress
from pydantic import ValidationError
from pydantic_settings import SettingsError

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.errors import Conflict, Invalid, SheafError
from app.lexical.asked import Asked, Learned
from app.measure.truth import best_in_float32
from app.query.encoded import EncodedQuery
from app.query.preparing import encode_queries
from app.search import Mode, Query, search, search_encoded
from app.settings import Settings, refusals
from app.sources.beir import Beir, beir_qrels, beir_queries

MEASURES: Final = (nDCG @ 10, R @ 100, RR @ 10, AP @ 100)
DEPTH: Final = 100
WARM_UP: Final = 3
"""Searches that are not measured: the first ones load and check what they touch."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--collection", required=True, metavar="NAME")
    parser.add_argument("--split", default="test", help="which judgements: qrels/SPLIT.tsv (default: test)")
    parser.add_argument("--candidates", type=int, metavar="N", help="passages that are rescored, 100 or more")
    parser.add_argument(
        "--float32", action="store_true", help="also against vectors before they were coded; encodes the corpus again"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    parser.add_argument("--indexes", type=Path, metavar="DIR", help="the folder of the collections (SHEAF_INDEXES)")
    add_spec(parser)
    return parser


def evaluate(
    collection: Collection,
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    candidates: int | None = None,
    *,
    float32: bool = False,
) -> dict[str, Any]:
    """Measures over the judged queries. Times are milliseconds. float32: also holds them to vectors before coding.

    Raises Invalid for a judged query without text, Conflict (no_encoder) for a collection that cannot encode one.
    """
    if missing := sorted(set(qrels) - set(queries)):
        raise Invalid(f"{len(missing)} judged queries have no text, the first: {missing[0]!r}")
    modes: list[Mode] = [] if collection.spec.lexical is None else ["lexical", "dense", "hybrid"]
    runs: dict[str, dict[str, dict[str, float]]] = {"approximate": {}, "exact": {}, **{mode: {} for mode in modes}}
    took: dict[str, list[float]] = {"encode": [], **{path: [] for path in runs}}
    shared: list[float] = []
    asked: list[EncodedQuery] = []
    first_ten: list[set[str]] = []
    for identifier in list(qrels)[:WARM_UP]:
        for mode in (*modes, "semantic"):
            search(collection, Query(text=queries[identifier], k=DEPTH, mode=mode))
    # Weights begin as in a new collection, and what is measured here teaches it nothing.
    learned, collection.learned = collection.learned, Learned(Asked())
    with Progress("evaluate", "queries", len(qrels)) as bar:
        for done, identifier in enumerate(qrels, 1):
            start = time.perf_counter()
            (ready,) = encode_queries(collection, [Query(text=queries[identifier])])
            took["encode"].append((time.perf_counter() - start) * 1e3)
            asked.append(ready)
            top: dict[str, list[str]] = {}
            asks = {path: Query(k=DEPTH, exact=path == "exact", candidates=candidates) for path in list(runs)[:2]}
            asks |= {mode: Query(queries[identifier], k=DEPTH, candidates=candidates, mode=mode) for mode in modes}
            for path, query in asks.items():
                result = search_encoded(collection, query, ready)
                took[path].append(result.took_ms)
                top[path] = [hit.id for hit in result.hits]
                runs[path][identifier] = {hit.id: -rank for rank, hit in enumerate(result.hits)}
            found, truth = set(top["approximate"][:10]), top["exact"][:10]
            first_ten.append(found)
            shared.append(len(found.intersection(truth)) / len(truth) if truth else 1.0)
            bar.update(done)
    rho, collection.learned = collection.learned.asked.rho, learned
    before_coding: float | None = None
    if float32:
        best = best_in_float32(collection, asked, DEPTH)
        runs["float32"] = {
            identifier: {name: -rank for rank, name in enumerate(names)}
            for identifier, names in zip(qrels, best, strict=True)
        }
        pairs = zip(first_ten, best, strict=True)
        before_coding = float(np.mean([len(found.intersection(b[:10])) / max(1, len(b[:10])) for found, b in pairs]))
    # Ranks as scores keep Sheaf's order among equal scores.
    quality = {
        path: {str(m): float(v) for m, v in ir_measures.calc_aggregate(MEASURES, qrels, run).items()}
        for path, run in runs.items()
    }
    latency = {path: {f"p{q}": float(np.percentile(times, q)) for q in (50, 95)} for path, times in took.items()}
    return {
        "queries": len(qrels),
        "recall@10": float(np.mean(shared)),
        "recall@10_float32": before_coding,
        "quality": quality,
        "rho": rho,
        "latency_ms": latency,
    }


def table(found: Mapping[str, Any]) -> str:
    """For people."""
    names = [str(measure) for measure in MEASURES]
    lines = ["".join(f"{head:>12}" for head in ("", *names, "p50 ms", "p95 ms"))]
    for path, quality in found["quality"].items():
        values = [f"{quality[name]:.4f}" for name in names]
        # Search over vectors before they were coded is no path of the engine, so it has no time.
        times = [f"{found['latency_ms'][path][q]:.1f}" if path in found["latency_ms"] else "" for q in ("p50", "p95")]
        lines.append("".join(f"{cell:>12}" for cell in (path, *values, *times)))
    encode = found["latency_ms"]["encode"]
    lines.append(f"recall@10 of approximate against exact: {found['recall@10']:.4f}")
    if found["recall@10_float32"] is not None:
        lines.append(f"recall@10 of approximate against exact in float32: {found['recall@10_float32']:.4f}")
    lines.append(f"encoding a query: p50 {encode['p50']:.1f} ms, p95 {encode['p95']:.1f} ms")
    return "\n".join(lines)


def run(args: argparse.Namespace, settings: Settings) -> None:
    """Builds, measures, prints. Raises SheafError."""
    source, queries, qrels = Beir(args.folder), beir_queries(args.folder), beir_qrels(args.folder, args.split)
    encoders = Encoders(settings.models, settings.converted, settings.threads)
    with Catalogue(settings.indexes, encoders, settings) as catalogue:
        try:
            summary = build(catalogue, args.collection, source, asked(args), "stop")
            report(args.collection, summary)
        except Conflict as error:
            if error.code != "collection_busy":
                raise
            print(f"measuring collection {args.collection} as it is, since {error}", file=sys.stderr)
        collection = catalogue.get(args.collection)
        found = evaluate(collection, queries, qrels, args.candidates, float32=args.float32)
        info = catalogue.describe(args.collection)
    found = {
        "collection": info.name,
        "model": info.encoder.model,
        "kind": info.encoder.kind,
        "similarity": info.similarity,
        "documents": info.documents,
        "skipped_documents": source.skipped,
        "bytes": info.bytes,
        "split": args.split,
        "k": DEPTH,
        "candidates": args.candidates,
        **found,
    }
    encoder = info.encoder
    print(f"{info.documents:,} documents, {encoder.kind} vectors of {encoder.model}, {found['queries']:,} queries")
    print(table(found))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        run(args, Settings() if args.indexes is None else Settings(indexes=args.indexes))
    except (ValidationError, SettingsError) as error:
        print(*refusals(error), sep="\n", file=sys.stderr)
        return 2
    except (SheafError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
