"""The findings of a scenario."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """trials: how often it was broken. failures: what must not have happened, in words; none is the only good result.
    counts: what happened how often. figures: measured."""

    scenario: str
    seed: int
    trials: int = 0
    failures: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    figures: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    took_s: float = 0.0

    def fail(self, what: str) -> None:
        self.failures.append(what)

    def done(self) -> Report:
        self.took_s = round(time.monotonic() - self.began, 1)
        return self

    def to_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            "trials": self.trials,
            "failures": self.failures,
            "counts": dict(sorted(self.counts.items())),
            "figures": self.figures,
            "took_s": self.took_s,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Report:
        found = cls(value["scenario"], value["seed"], value["trials"], value["failures"], Counter(value["counts"]))
        found.figures, found.took_s = value["figures"], value["took_s"]
        return found

    def row(self) -> str:
        """A line of the table."""
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        told += "".join(f", {name} {value}" for name, value in self.figures.items())
        return f"| {self.scenario} | {self.trials} | {len(self.failures)} | {self.took_s:g} | {told.lstrip(', ')} |"


HEAD = "| scenario | trials | failures | seconds | what happened |\n|---|---|---|---|---|"
