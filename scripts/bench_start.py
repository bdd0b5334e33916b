"""How long a server takes from its start to its ready line, and the processor time and memory that it has taken then.

    python scripts/bench_start.py [--beside CHECKOUT] [--collections 0 100] [--rounds 7]

Starts ``python -m app`` on a free port of 127.0.0.1 over folders of its own, made by the version that opens them: small
collections of callers' vectors, a document in each. The first start, which compiles, is not counted. ``--beside``
names another checkout, which runs in turn with this one, start for start, by the same Python: so what else the machine
does is shared, and the ratio of medians says which is faster.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import httpx

HERE: Final = Path(__file__).parents[1]
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds to the ready line, seconds of processor time by then, resident MB then."""

    ready_s: float
    processor_s: float
    resident_mb: float


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="another version, measured in turn")
    parser.add_argument("--collections", type=int, nargs="*", default=[0, 100], help="how many (default: 0 and 100)")
    parser.add_argument("--rounds", type=int, default=7, help="starts of each (default: 7)")
    return parser


@contextmanager
def server(checkout: Path, folder: Path) -> Iterator[tuple[str, Start]]:
    """A running server, with its URL and what its start took."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
    settings = {"SHEAF_PORT": "0", "SHEAF_INDEXES": str(folder), "SHEAF_LOG_LEVEL": "error"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=checkout,
        env={**kept, **settings, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - began
        if not line.startswith("Sheaf is ready at "):
            raise SystemExit(f"the server of {checkout} did not start")
        of_process = Path(f"/proc/{process.pid}")
        user, system = (of_process / "stat").read_text().rpartition(")")[2].split()[11:13]
        resident = re.search(r"VmRSS:\s+(\d+) kB", (of_process / "status").read_text())
        assert resident is not None
        yield line.split()[-1], Start(took, (int(user) + int(system)) / TICKS, int(resident[1]) / 1_000)
    finally:
        process.terminate()
        process.communicate()


def fill(url: str, count: int) -> None:
    """So many collections, each with a document of two vectors."""
    with httpx.Client(base_url=url, timeout=300, trust_env=False) as client:
        for number in range(count):
            encoder = {"model": None, "kind": "multi_vector", "dim": 4}
            document = {"id": "a", "text": "one", "vectors": [[1, 0, 0, 0], [0, 1, 0, 0]]}
            client.post("/v1/collections", json={"name": f"c{number}", "encoder": encoder}).raise_for_status()
            client.post(f"/v1/collections/c{number}/documents", json={"documents": [document]}).raise_for_status()


def main() -> int:
    args = parser().parse_args()
    checkouts = [HERE, *([args.beside.resolve()] if args.beside else [])]
    print(f"load {os.getloadavg()[0]:.1f}; medians of {args.rounds} starts")
    print(f"{'collections':>11} {'version':24} {'ready s':>8} {'processor s':>12} {'resident MB':>12}")
    for count in args.collections:
        with tempfile.TemporaryDirectory() as work:
            folders = [Path(work) / str(number) for number in range(len(checkouts))]
            for checkout, folder in zip(checkouts, folders, strict=True):
                with server(checkout, folder) as (url, _):
                    fill(url, count)
            found: list[list[Start]] = [[] for _ in checkouts]
            for _ in range(args.rounds):
                for number, checkout in enumerate(checkouts):
                    with server(checkout, folders[number]) as (_, start):
                        found[number].append(start)
        medians = [
            [median(getattr(one, name) for one in starts) for name in ("ready_s", "processor_s", "resident_mb")]
            for starts in found
        ]
        for checkout, (ready, processor, resident) in zip(checkouts, medians, strict=True):
            print(f"{count:11} {checkout.name:24} {ready:8.2f} {processor:12.2f} {resident:12.0f}")
        if args.beside:
            ratios = [mine / other for mine, other in zip(*medians, strict=True)]
            print(
                f"{count:11} {'this / the other':24} {ratios[0]:8.2f} {ratios[1]:12.2f} {ratios[2]:12.2f}", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
