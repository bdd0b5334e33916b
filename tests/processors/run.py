"""The tests of what is computed, once on each processor that this one can imitate; `make processors`.

What holds on one processor must hold on another, whose BLAS splits and rounds otherwise, whose loops are compiled for
other registers, and whose encoder computes in float32. Each is a process of its own: libraries decide at their start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kinds import IMITATED, KINDS

ROOT = Path(__file__).parents[2]
TESTS = [
    "tests/codes/test_code_contract.py",
    "tests/codes/test_rotation.py",
    "tests/scoring/test_inner_product.py",
    "tests/scoring/test_maxsim.py",
    "tests/scoring/test_scorers.py",
    "tests/encodings",
    "tests/vector_index/test_contract.py",
    "tests/vector_index/test_refined.py",
    "tests/indexing/test_drift.py",
    "tests/indexing/test_fitting.py",
    "tests/indexing/test_width.py",
    "tests/measure",
    "tests/test_reference.py",
    "tests/test_precisions.py",
    "tests/test_search.py",
    "tests/encoders/test_converted_encoder.py::test_vectors_are_those_of_torch[tiny]",
    "tests/encoders/test_converted_encoder.py::test_vectors_are_those_of_torch[unnormalised]",
]


def run(name: str) -> tuple[int, str]:
    """The tests on one processor: pytest's exit status, and what it said."""
    kept = {variable: value for variable, value in os.environ.items() if variable != "PYTEST_ADDOPTS"}
    environment = {
        **kept,
        **KINDS[name].environment(),
        IMITATED: name,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT)]),
    }
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        line = [sys.executable, "-m", "pytest", "-q", "-p", "kinds", "-p", "no:cacheprovider", "--durations=5", *TESTS]
        status = subprocess.run(line, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
        output.seek(0)
        return status.returncode, f"{output.read()}{name}: {time.monotonic() - started:.0f} s\n"


def main() -> int:
    names = sys.argv[1:] or list(KINDS)
    failed = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, (status, output) in zip(names, pool.map(run, names), strict=True):
            sys.stdout.write(output)
            sys.stdout.flush()
            if status:
                failed.append(name)
    if failed:
        print(f"failed on: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
