"""One answered request, as the log, the metrics and the traces see it: no content, no key, no id of a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from starlette.requests import Request

from app.search import SearchResult


@dataclass(frozen=True, slots=True)
class Served:
    """route: the template, `-` where no route took it. started_ns: since the epoch. stages: of a search, milliseconds
    by name, in their order. partial: searches that ended before all was scored. traceparent: the caller's header (W3C
    Trace Context), or empty."""

    id: str
    method: str
    route: str
    status: int
    started_ns: int
    took_ms: float
    bytes_in: int
    bytes_out: int
    stages: Mapping[str, float] = field(default_factory=dict)
    traceparent: str = ""
    partial: int = 0


Observer: TypeAlias = Callable[[Served], None]
"""Told of every request once it was answered, on the event loop: so it must not block."""


def note_searches(request: Request, results: Sequence[SearchResult]) -> None:
    """Remembers the stages of a request's searches: sums, and of `encode_ms`, which a batch shares, the largest."""
    summed: dict[str, float] = {}
    for result in results:
        for name, ms in result.stages.items():
            summed[name] = max(summed.get(name, 0.0), ms) if name == "encode_ms" else summed.get(name, 0.0) + ms
    request.state.stages = summed
    request.state.partial = sum(result.coverage is not None and result.coverage.partial for result in results)
