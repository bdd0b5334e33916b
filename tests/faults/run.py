"""Breaks Sheaf on purpose, and says what was lost.

    python tests/faults/run.py                        the list of scenarios
    python tests/faults/run.py steps --trials 30      one of them; --seed and --trials repeat and bound it
    python tests/faults/run.py all                    each, with its long default: `make faults`

Prints a table, and with --json FILE writes the same as JSON. Exit status 1 where anything failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# Scenario -> (long, short): trials, or seconds for `load`. 0 is all there are.
SCENARIOS: dict[str, tuple[int, int]] = {
    "steps": (0, 16),
    "home": (0, 3),
    "power": (400, 16),
    "errors": (600, 4),
    "damage": (0, 44),
    "kill": (200, 2),
    "stops": (5, 1),
    "quality": (100, 6),
    "load": (300, 6),
    "schema_requests": (100, 5),
}


# Must fail: with it a test sees that the rig notices what it is there to notice.
CONTROLS = {"power-without-fsync"}


def _run(name: str, folder: Path, seed: int, trials: int) -> Any:
    if name == "power-without-fsync":
        return importlib.import_module("power").run(folder, seed, trials, heed=False)
    return importlib.import_module(name).run(folder, seed, trials)


def main() -> int:
    for place in ("", "tests", "tests/collection", "tests/encoders", "tests/vector_index", "tests/faults"):
        sys.path.insert(0, str(ROOT / place))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", help=f"all, or some of {', '.join(SCENARIOS)}")
    parser.add_argument("--trials", type=int, help="instead of the scenario's own number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="the numbers of make test")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--folder", type=Path, help="where to work, instead of a temporary folder; is kept")
    args = parser.parse_args()
    chosen = list(SCENARIOS) if args.scenario == ["all"] else args.scenario
    if not chosen or set(chosen) - set(SCENARIOS) - CONTROLS:
        parser.print_help()
        return 2
    from report import HEAD

    print(HEAD, flush=True)
    found = []
    for name in chosen:
        long, short = SCENARIOS.get(name, (8, 8))
        trials = args.trials if args.trials is not None else short if args.short else long
        with tempfile.TemporaryDirectory(prefix="sheaf-faults-") as temporary:
            folder = args.folder / name if args.folder else Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            report = _run(name, folder, args.seed, trials)
        print(report.row(), flush=True)
        for failure in report.failures[:20]:
            print(f"FAILED {failure}", file=sys.stderr, flush=True)
        found.append(report.to_json())
        if args.json:
            args.json.write_text(json.dumps(found, indent=1))
    return int(any(one["failures"] for one in found))


if __name__ == "__main__":
    sys.exit(main())
