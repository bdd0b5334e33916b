"""What is encoded of a conversation, and what its token vectors weigh.

The text is as many of the latest turns as the encoder reads, the latest one always. Where the encoder tells the places
of its tokens, those of turns that weigh nothing are left out once they were encoded beside the others, and the pooled
vector is the weighted mean of the rest; else the turns that count are encoded alone, again as many as are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.encoders.prompts import Task
from app.encoders.protocol import Encoder, TokenPlaces
from app.encoders.turns import TurnsSpec
from app.types import F32, Encoded, TokenVectors, Turn, spoken


@dataclass(frozen=True, slots=True)
class Said:
    """text: that is encoded. starts: where each turn begins in it, in characters; weights: of each. Empty where all
    that is encoded counts the same. cut: whether turns that count are left out, for which there is no room."""

    text: str
    starts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    cut: bool = False

    def of(self, places: TokenPlaces) -> F32:
        """(tokens,): what each weighs; 1 for what stands for no text."""
        begins = places.spans[:, 0]
        turn = np.maximum(np.searchsorted(self.starts, begins, side="right") - 1, 0)
        return np.where(begins < 0, 1.0, np.array(self.weights)[turn]).astype(np.float32)


def said_of(
    conversations: Sequence[Sequence[Turn]],
    spec: TurnsSpec,
    encoder: Encoder,
    *,
    tokens: bool,
    task: Task = "document",
) -> list[Said]:
    """Of each conversation. tokens: whether its token vectors are of use. task: whose limit and prompt there are."""
    placed = tokens and encoder.token_places(["a"], task) is not None
    told = [list(turns) if placed else spec.counting(turns) for turns in conversations]
    found = []
    for turns, own, first in zip(conversations, told, _firsts(told, encoder, task), strict=True):
        weights = spec.weights(turns) if placed else [weight for weight in spec.weights(turns) if weight]
        said = _placed(own, weights, first) if placed else Said(spoken(own[first:]))
        found.append(replace(said, cut=any(weights[:first])))
    return found


def _firsts(told: Sequence[Sequence[Turn]], encoder: Encoder, task: Task) -> list[int]:
    """The turn of each conversation from which on everything is read; the latest, where not even that is."""
    begins = encoder.tokens([spoken(turns) for turns in told])
    room = _room(encoder, task, max(map(len, begins), default=0))
    if room is None:
        return [0] * len(told)
    found = []
    for turns, own in zip(told, begins, strict=True):
        first = 0
        if len(own) > room:
            first = min(int(np.searchsorted(_starts(turns), int(own[len(own) - room]))), len(turns) - 1)
        found.append(first)
    return found


def _room(encoder: Encoder, task: Task, longest: int) -> int | None:
    """Tokens of a text that are read for a task, as ``Encoder.room`` has it; None: as many as the longest text has."""
    if task == "document" or longest == 0:
        return encoder.room
    probe = " ".join(["a"] * longest)
    places = encoder.token_places([probe], task)
    if places is not None:
        read = int(np.count_nonzero(places[0].spans[:, 0] >= 0))
        return max(1, read) if read < len(encoder.tokens([probe])[0]) else None
    if encoder.room is None:
        return None
    prompts = encoder.fingerprint.details
    query, document = encoder.tokens([prompts.get(f"{one}_prompt", "") for one in ("query", "document")])
    return max(1, encoder.room - max(0, len(query) - len(document)))


def _placed(turns: Sequence[Turn], weights: Sequence[float], first: int) -> Said:
    kept, own = turns[first:], tuple(weights[first:])
    if len(set(own)) == 1:
        return Said(spoken(kept))
    return Said(spoken(kept), tuple(_starts(kept)), own)


def _starts(turns: Sequence[Turn]) -> list[int]:
    ends = np.cumsum([len(turn.role) + 2 + len(turn.text) + 1 for turn in turns])
    return [0, *ends[:-1].tolist()]


def by_turns(
    encoded: Encoded, said: Sequence[Said | None], encoder: Encoder, task: Task = "document"
) -> tuple[Encoded, list[F32 | None]]:
    """With the vectors of what counts alone, and a pooled vector of these; and what each of them weighs, (tokens,),
    None of a text without weights. Where no token of a turn that counts has a vector, a text keeps all of its own."""
    places = [i for i, one in enumerate(said) if one is not None and one.weights]
    if not places or encoded.tokens is None:
        return encoded, [None] * len(said)
    told = encoder.token_places([said[i].text for i in places], task)  # type: ignore[union-attr]
    assert told is not None, "it was asked before"
    matrices, pooled = list(encoded.tokens), encoded.pooled.copy()
    weights: list[F32 | None] = [None] * len(said)
    for i, own in zip(places, told, strict=True):
        one = said[i]
        assert one is not None, "it has weights"
        count = one.of(own)
        assert len(count) == len(matrices[i]), "an encoder tells the place of each token vector"
        kept = count > 0
        if not (kept & (own.spans[:, 0] >= 0)).any():
            # Of nothing that was said there is a vector.
            continue
        matrices[i], weights[i] = matrices[i][kept], count[kept]
        mean = count[kept].astype(np.float64) @ matrices[i] / float(count.sum())
        # As long as the encoder's own.
        size = float(np.linalg.norm(mean))
        pooled[i] = mean * (float(np.linalg.norm(pooled[i])) / size) if size else pooled[i]
    return replace(encoded, tokens=TokenVectors.join(matrices), pooled=pooled), weights
