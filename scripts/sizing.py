"""The room that a document takes: bytes on disk by what they are, and memory, for each precision of token vectors.

    python scripts/sizing.py --folder FOLDER [--documents 10000] [--dim 384] [--precision 1bit 4bit float16 dense]

Passages are made around real ones, 64 vectors each (scripts/scale_data.py), without text and with one small metadata
value; callers' vectors are not kept beside. `dense` is a dense collection. Each collection is written in a process of
its own and opened in another, which says what it loads for each document, how much of the mapped files it has touched
after 100 searches, and after one exact search, and what the process holds then beside mapped files, in MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

import numpy as np
import scale_data
from scale import Made, refuse
from scale_data import CHUNK, TOKENS, Pool

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.load.bulk import fill
from app.search import Query, search
from app.settings import Settings
from app.sources.protocol import Entry
from app.store.layout import SEGMENTS
from app.types import Document, Precision

PRECISIONS: Final = ("1bit", "1.25bit", "2bit", "4bit", "8bit", "float16", "dense")
SEARCHES: Final = 100
PARTS: Final = {"tokens.npy": "tokens", "encoded.npy": "encoded", "pooled.npy": "pooled", "raw.npy": "raw"}


def main() -> None:
    args = parser().parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.step:
        print(json.dumps({"build": build, "open": look}[args.step](args, args.precision[0])))
        return
    head = [
        "",
        "tokens",
        "encoded",
        "pooled",
        "indexes",
        "database",
        "other",
        "disk",
        "loaded",
        "mapped",
        "exact",
        "MB",
    ]
    print(f"{args.documents:,} documents of {TOKENS} vectors of {args.dim} dimensions; bytes a document")
    print("".join(f"{name:>10}" for name in head), flush=True)
    for precision in args.precision:
        found: dict[str, float] = {}
        for step in ("build", "open"):
            command = [sys.executable, __file__, *sys.argv[1:], "--precision", precision, "--step", step]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found |= json.loads(done.stdout.splitlines()[-1])
        print(f"{precision:>10}" + "".join(f"{found[name]:10,.0f}" for name in head[1:]), flush=True)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--folder", type=Path, required=True, help="for the collections; remove it afterwards")
    made.add_argument("--documents", type=int, default=10_000)
    made.add_argument("--dim", type=int, default=384)
    made.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    made.add_argument("--model", default="builtin", help="the encoder of the real texts")
    made.add_argument("--texts", type=int, default=2_000, help="real texts, at most")
    made.add_argument("--step", choices=("build", "open"), help="one step of one precision, in this process")
    return made


class Passages(Made):
    """Made passages, in a dense collection by one vector each."""

    dense = False

    def entries(self) -> Iterator[Entry]:
        for entry in super().entries():
            document = entry.found
            assert isinstance(document, Document)
            assert document.vectors is not None
            vectors = document.vectors.mean(axis=0, keepdims=True) if self.dense else document.vectors
            yield Entry(entry.line, replace(document, vectors=vectors))


def opened(args: argparse.Namespace) -> Catalogue:
    settings = Settings(indexes=args.folder / "indexes")
    return Catalogue(settings.indexes, Encoders({}), settings)


def name_of(args: argparse.Namespace, precision: str) -> str:
    return f"{precision.replace('.', '-')}-{args.dim}-{args.documents}"


def build(args: argparse.Namespace, precision: str) -> dict[str, float]:
    """Bytes on disk, a document."""
    pool = Pool.load(args.folder / f"pool-{args.dim}.npz", args.texts, args.dim, args.model)
    name, dense = name_of(args, precision), precision == "dense"
    with opened(args) as catalogue:
        if not (catalogue.folder / name).exists():
            catalogue.create(
                name,
                model=None,
                kind="dense" if dense else "multi_vector",
                dim=args.dim,
                keep_vectors=False,
                precision=None if dense else cast("Precision", precision),
            )
        source = Passages(pool, args.documents, 0, -(-args.documents // CHUNK))
        source.dense = dense
        fill(catalogue.get(name), source, on_error="stop", bad_line=refuse, progress=lambda summary: None)
    parts = dict.fromkeys(("tokens", "encoded", "pooled", "raw", "indexes", "database", "other"), 0)
    for path in (args.folder / "indexes" / name).rglob("*"):
        if path.is_file():
            index = "indexes" if path.suffix == ".index" else "other"
            part = "database" if path.name.startswith("collection.sqlite") else PARTS.get(path.name, index)
            # A file that does not grow with the documents is not theirs.
            parts[part] += path.stat().st_size if part != "other" or path.parts[-3] == SEGMENTS else 0
    sizes = {part: size / args.documents for part, size in parts.items()}
    return {**sizes, "disk": sum(sizes.values())}


def look(args: argparse.Namespace, precision: str) -> dict[str, float]:
    """Memory that a process takes, a document."""
    asked = np.random.default_rng(0).standard_normal((SEARCHES, scale_data.QUERY_TOKENS, args.dim), np.float32)
    with opened(args) as catalogue:
        collection = catalogue.get(name_of(args, precision))
        loaded = sum(view.part.loaded for view in collection.published.segments)
        mapped: dict[str, int] = {}
        for touched, queries, exact in (("mapped", asked, False), ("exact", asked[:1], True)):
            for vectors in queries:
                query = vectors.mean(axis=0, keepdims=True) if precision == "dense" else vectors
                search(collection, Query(vectors=np.ascontiguousarray(query), exact=exact, include=frozenset()))
            mapped[touched] = of_segments(args)
        sizes = {"loaded": loaded, **mapped}
        return {**{what: size / args.documents for what, size in sizes.items()}, "MB": anonymous() / 1e6}


def anonymous() -> int:
    """Bytes of memory that this process holds for itself."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) * 1024


def of_segments(args: argparse.Namespace) -> int:
    """Bytes of mapped segments that this process has touched."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):
            inside = str(args.folder.resolve()) in line
        elif inside and first == "Rss:":
            total += int(line.split()[1]) * 1024
    return total


if __name__ == "__main__":
    main()
