"""Requests made from the published schema, valid and not, in masses, against a real server (schemathesis).

``python tests/faults/schema_requests.py [--examples 300] [--seconds 600] [--seed 1]`` is the long run;
``make test`` has a short one. Held: no 5xx, each answer is of a status, a content type and a schema that the document
promises, a method that a path does not have is 405, and at the end the server lives, is ready, and has logged nothing
unexpected. The same seed makes the same requests.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx
from prestarted import Popen
from report import Report

ROOT: Final = Path(__file__).parents[2]
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
# The service as it is, but for the model: the built-in one would take most of the time.
SERVER: Final = """
import sys
from app.__main__ import main
from app.encoders import registry
from app.encoders.deterministic import DeterministicEncoder
real = registry.Encoders._maker
def maker(self, name):
    return (lambda kind: DeterministicEncoder(4, kind)) if name == "builtin" else real(self, name)
registry.Encoders._maker = maker
sys.exit(main())
"""
NAMES: Final = ("papers", "images")
"""Collections that requests find: of texts, and of callers' vectors."""


def hold(
    folder: Path, examples: int, seed: int, phases: Sequence[str], seconds: int = 0, *more: str, server: str = SERVER
) -> tuple[int, str]:
    """One run on a server of its own: (0 where all held, what was said). seconds: go on for so long; 0 is once."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")} | {
        "PYTHONPATH": str(ROOT),
        "SHEAF_PORT": "0",
        "SHEAF_INDEXES": str(folder / "indexes"),
        "SHEAF_MODELS": '{"words": {"type": "deterministic", "dim": 4}}',
        "SHEAF_MAX_BODY_BYTES": "1000000",
        # A line for each request is not looked at.
        "SHEAF_LOG_LEVEL": "warning",
        "SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("schema_bodies.py")),
    }
    log, program = folder / "server.log", folder / "server.py"
    program.write_text(server)
    with log.open("w") as errors:
        process = Popen(
            [sys.executable, program], env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT
        )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[-1]
        _fill(url)
        # It is made at its first reading, for which schemathesis waits ten seconds, however busy the machine is.
        httpx.get(f"{url}/openapi.json", trust_env=False, timeout=120).raise_for_status()
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
        command += ["--checks", ",".join(CHECKS), "--phases", ",".join(phases), "--seed", str(seed)]
        command += ["--max-examples", str(examples), "--continue-on-failure", "--no-color", "--request-timeout", "60"]
        command += ["--max-time", str(seconds)] if seconds else []
        command += ["--suppress-health-check", "all", "--generation-database", "none", "--warnings", "off", *more]
        # It writes its reports beside where it runs.
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said = done.stdout
        alive = httpx.get(f"{url}/health/ready", trust_env=False, timeout=60)
        if alive.status_code != 200 or process.poll() is not None:
            return 1, f"{said}\nthe server is not ready any more: {alive.text}"
    finally:
        process.terminate()
        process.communicate(timeout=60)
    # Warnings may be; errors and tracebacks may not.
    logged = log.read_text().splitlines()
    if any("Traceback" in line or "unexpected" in line for line in logged):
        return 1, "\n".join([said, "the server's log:", *logged[-200:]])
    return done.returncode, said


def run(folder: Path, seed: int, trials: int) -> Report:
    """As a scenario of ``run.py``: trials are examples for each operation."""
    report = Report("schema requests", seed)
    phases = ("examples", "coverage", "fuzzing", "stateful") if trials > 10 else ("examples", "coverage", "fuzzing")
    status, said = hold(folder, trials, seed, phases)
    report.trials = sum(int(count) for count in re.findall(r"(\d+) generated", said))
    if status:
        report.fail(said)
    return report.done()


def _fill(url: str) -> None:
    with httpx.Client(base_url=f"{url}/v1", trust_env=False, timeout=60) as client:
        for name, encoder in zip(NAMES, ({"model": "words"}, {"model": None, "kind": "dense", "dim": 2}), strict=True):
            client.post("/collections", json={"name": name, "encoder": encoder}).raise_for_status()
        documents = [{"id": str(i), "text": f"text {i}", "metadata": {"year": 2000 + i}} for i in range(20)]
        client.post("/collections/papers/documents", json={"documents": documents}).raise_for_status()
        vectors = [{"id": str(i), "vector": [1, i]} for i in range(20)]
        client.post("/collections/images/documents", json={"documents": vectors}).raise_for_status()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Requests made from the published schema, against a real server.")
    parser.add_argument("--examples", type=int, default=300, help="for each operation [300]")
    parser.add_argument("--seconds", type=int, default=600, help="at most [600]")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        phases = ("examples", "coverage", "fuzzing", "stateful")
        status, said = hold(Path(folder), args.examples, args.seed, phases, args.seconds)
    sys.stdout.write(said)
    sys.stdout.write(json.dumps({"scenario": "schema requests", "ok": status == 0, "seed": args.seed}) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
