"""Histories by their seeds: ``python tests/replication/simulate.py --seeds 10000``; one again: ``--seed 17``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from lives import play


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="this one alone, with the trace of what it breaks")
    asked = parser.parse_args()
    if asked.seed is not None:
        world = play(asked.seed)
        print(f"seed {asked.seed}: {len(world.witness.seen)} commits, {world.requests} requests, nothing broken")
        return 0
    began, broken, commits, requests, opened, followed = time.monotonic(), [], 0, 0, 0, 0
    for seed in range(asked.first, asked.first + asked.seeds):
        try:
            world = play(seed)
        except Exception as error:  # noqa: BLE001, a history that broke breaks anything
            broken.append(seed)
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
            continue
        commits += len(world.witness.seen)
        requests += world.requests
        opened += world.witness.opened
        followed += world.witness.followed
    print(
        f"{asked.seeds} seeds in {time.monotonic() - began:.0f} s: {commits} commits, {opened} openings, "
        f"{followed} commits followed, {requests} requests; {len(broken)} broken {broken[:20]}"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
