"""What a weight of titles makes of searches by words: nDCG@10, and the median time.

    SHEAF_INDEXES=indexes python scripts/bench_fields.py NAME=BEIR_FOLDER ...

Each collection NAME holds its folder's corpus; its judged queries (300 at most) are searched in the mode `lexical`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Final

import numpy as np

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.evaluation.measures import mean
from app.search import Query, search
from app.settings import Settings
from app.sources.beir import beir_qrels, beir_queries

WEIGHTS: Final = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
MOST: Final = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", metavar="NAME=BEIR_FOLDER")
    settings = Settings()
    with Catalogue(settings.indexes, Encoders(settings.models), settings) as catalogue:
        for named in parser.parse_args().collections:
            name, _, folder = named.partition("=")
            collection, qrels, texts = catalogue.get(name), beir_qrels(Path(folder)), beir_queries(Path(folder))
            names = [one for one in texts if one in qrels][:MOST]
            print(f"{name}: {len(names)} queries, {collection.published.live:,} documents")
            for weight in WEIGHTS:
                run, took = dict[str, list[str]](), list[float]()
                for one in names:
                    query = Query(text=texts[one], mode="lexical", field_weights={"title": weight}, include=frozenset())
                    began = time.perf_counter()
                    run[one] = [hit.id for hit in search(collection, query).hits]
                    took.append((time.perf_counter() - began) * 1e3)
                judged = {one: qrels[one] for one in names}
                quality = mean("nDCG@10", judged, run)
                print(f"  title {weight:4g}  nDCG@10 {quality:.4f}  {np.median(took):6.2f} ms", flush=True)


if __name__ == "__main__":
    main()
