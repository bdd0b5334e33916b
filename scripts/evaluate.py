"""Measures a collection on a BEIR folder's judgements: quality, recall of the approximate path, latency.

    evaluate.py scifact/ --collection scifact
    evaluate.py scifact/ --collection scifact-dense --kind dense --json scifact-dense.json
    evaluate.py scifact/ --collection scifact --run-out sheaf.run --run-in bm25.run other.run
    evaluate.py scifact/ --run-in bm25.run other.run

The collection is built first, or brought up to date, from the folder's corpus. Each query is encoded by itself and then
searched with the ready embedding: by meaning, as any search is and exactly; and where words are indexed by them
(`lexical`), by pooled vectors (`dense`), and by all together (`hybrid`, whose weights follow the queries). Quality is
that of trec_eval's measures.

Runs are files of TREC's form. What is written is the approximate search (`--run-of` another way); runs of others
(`--run-in`) are measured and compared as Sheaf's own, and alone where no collection is named.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from build_index import asked, build, report
from build_options import add_spec
from progress import Progress
from pydantic import ValidationError
from pydantic_settings import SettingsError

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.errors import Conflict, Invalid, SheafError
from app.evaluation.compare import Searched, Setting, evaluated, search_all
from app.evaluation.judged import Judged
from app.evaluation.measures import DEFAULT, measured, parsed
from app.evaluation.runs import read_run, run_lines
from app.lexical.asked import Asked
from app.measure.truth import best_in_float32
from app.query.preparing import encode_queries
from app.search import Mode, Query
from app.settings import Settings, refusals
from app.sources.beir import Beir, beir_qrels, beir_queries
from app.sources.lines import Lines

MEASURES: Final = parsed(DEFAULT, "")
DEPTH: Final = 100
WARM_UP: Final = 3
"""Searches that are not measured: the first ones load and check what they touch."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--collection", metavar="NAME", help="may be left out with --run-in")
    parser.add_argument("--run-out", type=Path, metavar="FILE", help="write what was found there, as a TREC run")
    parser.add_argument(
        "--run-of",
        choices=("approximate", "exact", "lexical", "dense", "hybrid"),
        default="approximate",
        help="the way to search that --run-out has (default: approximate)",
    )
    parser.add_argument(
        "--run-in", type=Path, nargs="+", default=[], metavar="FILE", help="TREC runs to measure beside, or alone"
    )
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
    foreign: Mapping[str, Mapping[str, list[str]]] | None = None,
    keep: Callable[[Searched], None] | None = None,
) -> dict[str, Any]:
    """Measures over the judged queries. Times are milliseconds. float32: also holds them to vectors before coding.
    foreign: runs of others, by name, to compare with. keep: is given what was found.

    Raises Invalid for a judged query without text, Conflict (no_encoder) for a collection that cannot encode one.
    """
    if missing := sorted(set(qrels) - set(queries)):
        raise Invalid(f"{len(missing)} judged queries have no text, the first: {missing[0]!r}")
    judged = [Judged(identifier, grades, queries[identifier]) for identifier, grades in qrels.items()]
    settings = _settings(judged, candidates, words=collection.spec.lexical is not None)
    first = [Setting(setting.name, setting.queries[:WARM_UP]) for setting in settings]
    search_all(collection, judged[:WARM_UP], first)
    with Progress("evaluate", "queries", len(judged)) as bar:
        # Weights begin as in a new collection.
        searched = search_all(collection, judged, settings, begin=Asked(), tell=lambda done, _: bar.update(done))
    if keep is not None:
        keep(searched)
    for name, run in (foreign or {}).items():
        searched.found[name], searched.took[name] = _of_judged(run, qrels), [0.0]
    found = evaluated(judged, searched, MEASURES, DEPTH)
    quality = {one.name: {measure: value.mean for measure, value in one.measures.items()} for one in found.settings}
    approximate, exact = searched.found["approximate"], searched.found["exact"]
    before_coding: float | None = None
    if float32:
        encoded = encode_queries(collection, [Query(text=one.text) for one in judged])
        best = dict(zip(approximate, best_in_float32(collection, encoded, DEPTH), strict=True))
        quality["float32"] = {
            measure: float(np.mean(list(by_query.values())))
            for measure, by_query in measured(MEASURES, qrels, best).items()
        }
        before_coding = _recall(approximate, best)
    took = {"encode": searched.encode_ms, **searched.took}
    took = {path: ms for path, ms in took.items() if path not in (foreign or {})}
    return {
        "queries": len(judged),
        "recall@10": _recall(approximate, exact),
        "recall@10_float32": before_coding,
        "quality": quality,
        "evaluation": asdict(found),
        "rho": searched.rho.get("hybrid", Asked().rho),
        "latency_ms": {path: {f"p{q}": float(np.percentile(ms, q)) for q in (50, 95)} for path, ms in took.items()},
    }


def _of_judged(run: Mapping[str, list[str]], qrels: Mapping[str, Any]) -> dict[str, list[str]]:
    """As deep as a search of ours; nothing was found for a query that the run does not have."""
    return {query: run.get(query, [])[:DEPTH] for query in qrels}


def foreign_runs(paths: Sequence[Path]) -> dict[str, dict[str, list[str]]]:
    """By the names of their files. Raises Invalid, NotFound."""
    runs: dict[str, dict[str, list[str]]] = {}
    for path in paths:
        name = path.name if path.name not in runs else str(path)
        if name in runs or name in ("approximate", "exact", "lexical", "dense", "hybrid", "float32", "encode"):
            raise Invalid(f"two runs are called {name}: rename a file")
        runs[name] = read_run(Lines(path).entries(), str(path))
    return runs


def measure_runs(runs: Mapping[str, Mapping[str, list[str]]], qrels: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """What runs of others are worth, without a collection."""
    judged = [Judged(identifier, grades, None) for identifier, grades in qrels.items()]
    own = {name: _of_judged(run, qrels) for name, run in runs.items()}
    found = evaluated(judged, Searched(own, {}, {name: [0.0] for name in own}), MEASURES, DEPTH)
    quality = {one.name: {measure: value.mean for measure, value in one.measures.items()} for one in found.settings}
    return {"queries": len(judged), "quality": quality, "evaluation": asdict(found), "latency_ms": {}}


def _settings(judged: Sequence[Judged], candidates: int | None, *, words: bool) -> list[Setting]:
    """By meaning, as any search is and exactly; and where there are words by them, by pooled vectors and by all."""
    plain = Query(k=DEPTH, candidates=candidates, include=frozenset())
    ways = {"approximate": plain, "exact": replace(plain, exact=True)}
    modes: tuple[Mode, ...] = ("lexical", "dense", "hybrid") if words else ()
    ways |= {mode: replace(plain, mode=mode) for mode in modes}
    return [Setting(name, [replace(way, text=one.text) for one in judged]) for name, way in ways.items()]


def _recall(found: Mapping[str, Sequence[str]], truth: Mapping[str, Sequence[str]]) -> float:
    """Of the ten best, the mean over queries."""
    return float(
        np.mean(
            [len({*found[one][:10]}.intersection(best[:10])) / max(1, len(best[:10])) for one, best in truth.items()]
        )
    )


def table(found: Mapping[str, Any]) -> str:
    """For people."""
    names = [str(measure) for measure in MEASURES]
    lines = ["".join(f"{head:>12}" for head in ("", *names, "p50 ms", "p95 ms"))]
    for path, quality in found["quality"].items():
        values = [f"{quality[name]:.4f}" for name in names]
        # Search over vectors before they were coded is no path of the engine, so it has no time.
        times = [f"{found['latency_ms'][path][q]:.1f}" if path in found["latency_ms"] else "" for q in ("p50", "p95")]
        lines.append("".join(f"{cell:>12}" for cell in (path, *values, *times)))
    lines += _compared(found["evaluation"])
    if "recall@10" not in found:
        return "\n".join(lines)
    encode = found["latency_ms"]["encode"]
    lines.append(f"recall@10 of approximate against exact: {found['recall@10']:.4f}")
    if found["recall@10_float32"] is not None:
        lines.append(f"recall@10 of approximate against exact in float32: {found['recall@10_float32']:.4f}")
    lines.append(f"encoding a query: p50 {encode['p50']:.1f} ms, p95 {encode['p95']:.1f} ms")
    return "\n".join(lines)


def _compared(evaluation: Mapping[str, Any]) -> list[str]:
    """The first measure of each path with its interval, and which paths differ in it by more than chance."""
    measure = str(MEASURES[0])
    means = [
        f"{one['name']} {value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
        for one in evaluation["settings"]
        for value in [one["measures"][measure]]
    ]
    pairs = [one for one in evaluation["differences"] if one["measure"] == measure and one["different"]]
    told = [f"{one['than']} to {one['setting']} {one['mean']:+.4f} (p {one['p_corrected']:.4f})" for one in pairs]
    return [
        f"{measure} with 95 % intervals: {', '.join(means)}",
        f"different by more than chance: {', '.join(told) or 'none'}",
    ]


def run(args: argparse.Namespace, settings: Settings) -> None:
    """Builds, measures, prints. Raises SheafError."""
    foreign = foreign_runs(args.run_in)
    if args.collection is None:
        if not foreign or args.run_out is not None:
            raise Invalid("which collection (--collection)? Without one there are runs to measure alone (--run-in)")
        found = measure_runs(foreign, beir_qrels(args.folder, args.split))
        print(table(found))
        if args.json is not None:
            args.json.write_text(json.dumps(found, indent=2) + "\n")
        return

    def keep(searched: Searched) -> None:
        if args.run_out is not None:
            if args.run_of not in searched.found:
                raise Invalid(f"{args.run_of} is no way to search this collection, which has no words")
            scores = searched.scores[args.run_of]
            lines = run_lines(searched.found[args.run_of], scores, f"sheaf-{args.run_of}")
            args.run_out.write_text("".join(lines))

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
        found = evaluate(collection, queries, qrels, args.candidates, float32=args.float32, foreign=foreign, keep=keep)
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
