"""What a Ray cluster saves of a bulk build of texts, and what a host that is lost in the middle of one costs.

    python scripts/bench_ray.py FOLDER [--documents 1000] [--rounds 3]

FOLDER: of BEIR. Its first documents are built by the built-in encoder without a cluster, with one thread that encodes;
on a cluster of one host of one processor; of two; and of two of which one is lost after the first third. Hosts are
Ray's, on this machine: so two cores have to be free, beside what writes. By turns, seconds at the median and ratios.
What a cluster takes to start is not counted, and neither is a host's first batch, with which it opens its model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

# Hosts on loopback; read when Ray is imported.
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}

import numpy as np
from bench_words import Made
from ray.cluster_utils import Cluster as Hosts

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.errors import RequestError
from app.load.bulk import Summary, fill
from app.load.cluster import Cluster
from app.settings import Settings
from app.sources.choose import open_source
from app.types import Document

WARM: Final = 256
"""Documents that open the models of two hosts, two batches."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=1_000)
    parser.add_argument(
        "--rounds", type=int, default=3, help="each in a process of its own; 0: one, here, told as JSON"
    )
    args = parser.parse_args()
    if not args.rounds:
        print(json.dumps(once(args.folder, args.documents)))
        return
    took: dict[str, list[float]] = {}
    line = [sys.executable, __file__, str(args.folder), "--documents", str(args.documents), "--rounds", "0"]
    for _ in range(args.rounds):
        told = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout
        for name, seconds in json.loads(told.splitlines()[-1]).items():
            took.setdefault(name, []).append(seconds)
    for name, each in took.items():
        print(f"{name:20} {np.median(each):7.1f} s ({', '.join(f'{one:.1f}' for one in each)})")
    one, two, lost = (np.median(took[name]) for name in ("one host", "two hosts", "two, one lost"))
    print(f"one host / two: {one / two:.2f}; two of which one is lost / two: {lost / two:.2f}")


def once(folder: Path, count: int) -> dict[str, float]:
    """Seconds of each way to build. The host that is left of two is the one host of the last."""
    found = [one.found for one in open_source(str(folder)).entries() if isinstance(one.found, Document)]
    documents, warm = found[:count], found[-WARM:]
    own: dict[str, Any] = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    took = {}
    with tempfile.TemporaryDirectory() as indexes:
        settings = Settings(indexes=Path(indexes), threads=1)
        with Catalogue(settings.indexes, Encoders({}, settings.converted, 1), settings) as catalogue:
            built(catalogue, None, warm[:1])
            took["without a cluster"] = built(catalogue, None, documents)
            made: Any = Hosts(initialize_head=True, head_node_args={**own, "num_cpus": 0})
            hosts = [made.add_node(**own, num_cpus=1) for _ in range(2)]

            def lose(summary: Summary) -> None:
                if summary.written > count / 3 and len(hosts) == 2:
                    made.remove_node(hosts.pop(), allow_graceful=False)

            with Cluster(made.address) as cluster:
                built(catalogue, cluster, warm)
                took["two hosts"] = built(catalogue, cluster, documents)
                took["two, one lost"] = built(catalogue, cluster, documents, lose)
                took["one host"] = built(catalogue, cluster, documents)
            made.shutdown()
    return took


def built(
    catalogue: Catalogue,
    cluster: Cluster | None,
    documents: list[Document],
    watch: Callable[[Summary], None] = lambda summary: None,
) -> float:
    """Seconds of one build."""
    made = catalogue.create("built", model="builtin", kind="multi_vector")
    began = time.perf_counter()
    fill(made, Made(iter(documents), len(documents)), on_error="stop", bad_line=refuse, progress=watch, cluster=cluster)
    seconds = time.perf_counter() - began
    catalogue.delete("built")
    return seconds


def refuse(place: str, error: RequestError) -> None:
    raise SystemExit(f"{place}: {error.message}")


if __name__ == "__main__":
    main()
