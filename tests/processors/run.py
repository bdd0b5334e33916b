"""The tests of what is computed, once on each processor that this one can imitate; `make processors`.

A result of one processor must hold on another, whose BLAS splits and rounds otherwise, whose loops are compiled for
other registers, and whose encoder computes in float32. Each is a process of its own: libraries decide at their start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from kinds import IMITATED, KINDS

ROOT = Path(__file__).parents[2]
TESTS = [
    # To the bit, or within their bounds: codes, scores, encodings in batches, and searches against brute force.
    "tests/codes/test_code_contract.py::test_a_row_is_its_own_vectors_alone",
    "tests/codes/test_rotation.py",
    "tests/scoring/test_inner_product.py",
    "tests/scoring/test_maxsim.py",
    "tests/scoring/test_scorers.py",
    "tests/encodings/test_muvera.py::test_equals_the_definition",
    "tests/encodings/test_muvera.py::test_the_same_vectors_meet_the_same_bits_at_every_place_of_a_batch",
    "tests/encodings/test_muvera.py::test_stored_encodings_stay_what_they_are",
    "tests/encodings/test_encoding_contract.py::test_the_same_vectors_give_the_same_bits_in_any_batch",
    "tests/encodings/test_ridge_features.py",
    "tests/encodings/test_sketch.py",
    "tests/encodings/test_solving.py",
    "tests/measure/test_truth.py",
    "tests/test_precisions.py::test_the_first_are_the_first_of_all",
    "tests/test_reference.py::test_candidates_are_those_of_the_one_page",
    "tests/test_reference.py::test_rotations",
    "tests/test_reference.py::test_codes",
    "tests/test_reference.py::test_scores",
    "tests/test_reference.py::test_encodings",
    "tests/test_reference.py::test_maps_of_queries",
    "tests/test_search.py::test_exact_search_is_brute_force",
    "tests/test_search.py::test_vectors_of_any_length",
    # Fitted stages, and how much they find: with room, on any processor.
    "tests/encodings/test_ridge.py",
    "tests/vector_index/test_refined.py::test_a_wider_list_finds_more",
    "tests/vector_index/test_refined.py::test_the_list_of_the_codes_is_ordered_by_the_vectors",
    "tests/indexing/test_drift.py::test_another_kind_is_learned_and_then_found",
    "tests/indexing/test_drift.py::test_the_same_kind_is_left_alone",
    "tests/indexing/test_fitting.py::test_learned_it_finds_more_with_fewer_candidates_and_says_what_it_is",
    "tests/indexing/test_fitting.py::test_vectors_that_share_a_large_mean",
    "tests/indexing/test_width.py::test_a_first_stage_gets_the_width_that_its_collection_needs",
    "tests/measure/test_recall.py",
]
"""Those whose outcome hangs on how a sum is rounded; what is refused, stored or counted is the same everywhere."""
BLAS_OF_FAISS = (
    "tests/measure/",
    "tests/vector_index/",
    "tests/indexing/",
    "tests/test_precisions.py",
    "tests/test_reference.py::test_candidates_are_those_of_the_one_page",
    "tests/test_search.py",
)
"""Of these, the tests in which FAISS multiplies matrices."""
CONVERTED = "tests/encoders/test_converted_encoder.py::test_vectors_are_those_of_torch[tiny]"
"""Where OpenVINO runs a transformer, which it does not with SSE4 alone: there torch encodes."""


def tests_of(name: str, names: Sequence[str]) -> list[str]:
    """Those that are run on one of these processors. On one that differs from another among them in FAISS's BLAS alone
    all else would compute the same bits again."""
    own = KINDS[name]
    others = [KINDS[other] for other in names[: names.index(name)]]
    if any(replace(own, openblas=other.openblas) == other for other in others):
        return [one for one in TESTS if one.startswith(BLAS_OF_FAISS)]
    return TESTS if own.onednn == "SSE41" else [*TESTS, CONVERTED]


def run(name: str, tests: Sequence[str]) -> tuple[int, str]:
    """These tests on one processor: pytest's exit status, and what it said."""
    kept = {variable: value for variable, value in os.environ.items() if variable != "PYTEST_ADDOPTS"}
    environment = {
        **kept,
        **KINDS[name].environment(),
        IMITATED: name,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT)]),
    }
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        line = [sys.executable, "-m", "pytest", "-q", "-p", "kinds", "-p", "no:cacheprovider", "--durations=5", *tests]
        status = subprocess.run(line, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
        output.seek(0)
        return status.returncode, f"{output.read()}{name}: {time.monotonic() - started:.0f} s\n"


def main() -> int:
    names = sys.argv[1:] or list(KINDS)
    failed = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, (status, output) in zip(
            names, pool.map(run, names, [tests_of(name, names) for name in names]), strict=True
        ):
            sys.stdout.write(output)
            sys.stdout.flush()
            if status:
                failed.append(name)
    if failed:
        print(f"failed on: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
