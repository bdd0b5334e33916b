"""Chooses the first stage of a collection by measurement: what was tried, and what it gave.

    tune.py NAME [--target-recall .98] [--k 10] [--max-bytes-per-document N] [--max-memory-per-document N]
        [--queries N | --queries-file FILE] [--json FILE] [--indexes DIR]

The same as ``POST /v1/collections/NAME/tune``, for a collection that no server has open. Queries are drawn from the
collection's own documents, or read from a file, one a line.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from progress import Progress
from pydantic import ValidationError

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.errors import SheafError
from app.search import Query
from app.settings import Settings
from app.tuning.tune import QUERIES, Goal, tune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--target-recall", type=float, default=0.98)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--max-bytes-per-document", type=int, metavar="N")
    parser.add_argument("--max-memory-per-document", type=int, metavar="N", help="of what each search reads whole")
    parser.add_argument("--queries", type=int, default=QUERIES, metavar="N", help="how many to draw")
    parser.add_argument("--queries-file", type=Path, metavar="FILE", help="texts, one a line")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--indexes", type=Path, metavar="DIR", help="the folder of the collections (SHEAF_INDEXES)")
    args = parser.parse_args()
    queries: int | list[Query] = args.queries
    try:
        if args.queries_file:
            queries = [Query(text=line) for line in args.queries_file.read_text().splitlines() if line.strip()]
        settings = Settings() if args.indexes is None else Settings(indexes=args.indexes)
        goal = Goal(args.target_recall, args.k, args.max_bytes_per_document, args.max_memory_per_document)
        encoders = Encoders(settings.models, settings.converted, settings.threads)
        with Catalogue(settings.indexes, encoders, settings) as catalogue, Progress("tune", "steps", None) as bar:
            report = tune(
                catalogue.get(args.name),
                goal,
                queries,
                tell=lambda phase, done, total: bar.update(done, total or None, phase),
            )
    except (SheafError, ValidationError, OSError) as error:
        raise SystemExit(str(error)) from error
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


def show(report: dict[str, object]) -> None:
    """The report as a table."""
    tried = report["tried"]
    assert isinstance(tried, list)
    print(f"{'first stage':40} {'dims':>6} {'bytes':>8} {'memory':>7} {'width':>6} {'recall':>7} {'ms':>7}")
    for one in tried:
        mark = "*" if one["name"] == report["chosen"] else " "
        print(
            f"{mark} {one['name']:38} {one['dims']:6} {one['bytes']:8.0f} {one['memory']:7.0f} {one['width']:6} "
            f"{one['recall']:7.4f} {one['ms']:7.2f}"
        )
    print(f"measured with its own indexes: {report['measured']}")


if __name__ == "__main__":
    main()
