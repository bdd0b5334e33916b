"""Which shards hold a segment, by rendezvous hashing: each is drawn by itself, and when one goes or comes, only what it
held or is to hold has another place.

Thaler and Ravishankar, Using Name-Based Mappings to Increase Hit Rates, 1998: of each segment every shard has a weight,
a hash of both names, and those of the largest hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

COPIES = 2


def placed(segment: str, shards: Mapping[str, str], copies: int = COPIES) -> list[str]:
    """The names of those that hold a segment, first the one that is asked first; on different machines as far as there
    are enough. shards: name -> machine.

    >>> placed("s1", {"a0": "a", "a1": "a", "b0": "b"})[0] in ("a0", "a1", "b0")
    True
    >>> sorted(placed("s1", {"a0": "a", "b0": "b"})), len(placed("s1", {"a0": "a", "a1": "a"}))
    (['a0', 'b0'], 2)
    """
    ranked = sorted(shards, key=lambda name: (_weight(segment, name), name), reverse=True)
    chosen: list[str] = []
    for apart in (True, False):
        for name in ranked:
            machines = {shards[one] for one in chosen}
            if len(chosen) < copies and name not in chosen and not (apart and shards[name] in machines):
                chosen.append(name)
    return chosen


def _weight(segment: str, shard: str) -> bytes:
    return blake2b(f"{segment}\0{shard}".encode(), digest_size=8).digest()
