"""One answered request, as the log, the metrics and the traces see it: no content, no key, no id of a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Served:
    """route: the template, `-` where no route took it. started_ns: since the epoch. stages: of a search, milliseconds
    by name, in their order. traceparent: the caller's header (W3C Trace Context), or empty."""

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


Observer: TypeAlias = Callable[[Served], None]
"""Told of every request once it was answered, on the event loop: so it must not block."""


def note_stages(request: Request, stages: Sequence[Mapping[str, float]]) -> None:
    """Remembers the stages of a request's searches: sums, and of `encode_ms`, which a batch shares, the largest."""
    summed: dict[str, float] = {}
    for one in stages:
        for name, ms in one.items():
            summed[name] = max(summed.get(name, 0.0), ms) if name == "encode_ms" else summed.get(name, 0.0) + ms
    request.state.stages = summed
