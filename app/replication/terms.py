"""How long things hold, agreed on by a log's writers and readers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """lease_s: a reader's lease, from each renewal on. grace_s: how long what nobody needs any more stays; more than
    twice what opening takes, clocks disagree and listings lag, for within half of it a new reader's lease must be seen.
    The writer's ones stand in the log's head and hold for readers."""

    lease_s: float = 60.0
    grace_s: float = 600.0
