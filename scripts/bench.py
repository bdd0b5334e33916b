"""Sheaf beside what a user would pick instead: the same vectors, one run, each contender in an environment of its own.

    python scripts/bench.py BEIR_FOLDER [--dim 128] [--only sheaf exact ...] [--cache FOLDER] [--envs FOLDER]
        [--json FILE] [--queries N]

The vectors are the built-in model's, token vectors projected to --dim dimensions as scripts/bench_first_stage.py does.
Contenders, one after another, all with the machine's cores: exact MaxSim by BLAS; fast-plaid; MUVERA as fastembed
computes it, in a FAISS flat index; pooled vectors in a flat index; Sheaf with callers' vectors, which sees no text
and no query before they are timed. Environments are made with pip at the first run and kept in --envs, as is
the machine code that Sheaf compiles once in an installation (a first build includes it); fast-plaid wants one exact
release of torch, some gigabytes.

recall is the share of the exact top 10 (MaxSim in float32) in the first 10 hits; times are of one query at a time,
embedding given. bytes: what queries read, a document.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from bench_first_stage import Projection, projected
from first_stage import Vectors, collected

from app.compute.quota import cores
from app.evaluation.measures import mean
from app.sources.beir import beir_qrels
from app.types import I64

PEERS: Final = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Contender:
    """script: in ``scripts/peers``. requires: its environment, as pip has it; none: this one."""

    script: str
    requires: tuple[str, ...] = ()


CONTENDERS: Final = {
    "sheaf": Contender("sheaf_engine.py"),
    "exact": Contender("exact_blas.py"),
    "pooled": Contender("pooled_flat.py"),
    "muvera": Contender("fastembed_muvera.py", ("fastembed==0.9.1", "faiss-cpu==1.15.1", "numpy==2.4.6")),
    "plaid": Contender("fast_plaid_index.py", ("fast-plaid==1.7.0.2110", "numpy==2.4.6")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--cache", type=Path, help="a folder that keeps encodings and exact scores")
    parser.add_argument("--envs", type=Path, default=Path(tempfile.gettempdir()) / "sheaf-bench")
    parser.add_argument("--queries", type=int, help="only the first N queries")
    parser.add_argument("--json", type=Path, help="write everything there too")
    args = parser.parse_args()
    whole = collected(args.folder, args.cache)
    exact_at = args.cache / f"{args.folder.name}.{args.dim}.exact.npy" if args.cache else None
    vectors = projected(whole, Projection.fitted(whole.tokens, args.dim), exact_at)
    count = min(args.queries or len(vectors.query_ids), len(vectors.query_ids))
    print(
        f"{args.folder.name}: {len(vectors.ids)} documents, {count} queries, "
        f"{len(vectors.tokens.values)} token vectors of {vectors.tokens.dim} dims; {cores()} cores"
    )
    results: dict[str, Any] = {}
    print(f"{'contender':34} {'build s':>8} {'bytes':>8} {'recall':>7} {'nDCG@10':>8} {'median ms':>10} {'p95 ms':>8}")
    with tempfile.TemporaryDirectory() as work:
        given = Path(work) / "vectors.npz"
        store(vectors, count, given)
        for name in args.only:
            python = environment(name, CONTENDERS[name], args.envs)
            found = run(CONTENDERS[name], given, Path(work) / name, python, args.envs / "compiled")
            results[name] = summary(vectors, count, beir_qrels(args.folder), found)
            show(name, results[name])
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


def store(vectors: Vectors, count: int, path: Path) -> None:
    """Writes the file that ``contender.Vectors`` reads."""
    asked = vectors.query_tokens.slice(0, count)
    np.savez(
        path,
        allow_pickle=False,
        values=vectors.tokens.values.astype(np.float32),
        offsets=vectors.tokens.offsets,
        pooled=vectors.pooled,
        query_values=np.ascontiguousarray(asked.values, np.float32),
        query_offsets=asked.offsets,
        query_pooled=vectors.query_pooled[:count],
    )


def environment(name: str, contender: Contender, folder: Path) -> Path:
    """The Python to run the contender with."""
    if not contender.requires:
        return Path(sys.executable)
    home = folder / name
    python = home / "bin" / "python"
    done = home / "requirements.txt"
    if not done.is_file() or done.read_text().split() != list(contender.requires):
        print(f"making an environment for {name}: {' '.join(contender.requires)}", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *contender.requires], check=True)
        done.write_text("\n".join(contender.requires))
    return python


def run(contender: Contender, vectors: Path, work: Path, python: Path, compiled: Path) -> dict[str, Any]:
    """The contender's own result. compiled: where numba keeps machine code. Raises CalledProcessError."""
    result = work.with_suffix(".json")
    kept = {**os.environ, "NUMBA_CACHE_DIR": str(compiled)}
    subprocess.run([python, PEERS / contender.script, vectors, result, work], check=True, env=kept)
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def summary(vectors: Vectors, count: int, qrels: dict[str, dict[str, int]], found: dict[str, Any]) -> dict[str, Any]:
    """The table's numbers. Times in milliseconds."""
    top: I64 = np.argsort(-vectors.exact[:count], axis=1, kind="stable")[:, :10]
    runs = {}
    for setting, measured in found["runs"].items():
        rows = measured["rows"]
        recall = np.mean([np.isin(t, r).mean() for t, r in zip(top, rows, strict=True)])
        ranked = {
            query: [vectors.ids[row] for row in found_rows]
            for query, found_rows in zip(vectors.query_ids, rows, strict=False)
            if query in qrels
        }
        judged = {query: qrels[query] for query in ranked}
        runs[setting] = {
            "recall@10": float(recall),
            "nDCG@10": mean("nDCG@10", judged, ranked),
            "median_ms": float(np.median(measured["ms"])),
            "p95_ms": float(np.percentile(measured["ms"], 95)),
        }
    return {"build_s": found["build_s"], "bytes": found["bytes"] / len(vectors.ids), "runs": runs}


def show(name: str, result: dict[str, Any]) -> None:
    for setting, run in result["runs"].items():
        print(
            f"{name + ', ' + setting:34} {result['build_s']:8.1f} {result['bytes']:8.0f} {run['recall@10']:7.4f} "
            f"{run['nDCG@10']:8.4f} {run['median_ms']:10.2f} {run['p95_ms']:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
