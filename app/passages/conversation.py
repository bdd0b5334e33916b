"""What is encoded of a conversation, and what its token vectors weigh.

The text is as many of the latest turns as the encoder reads, the latest one always. Where the encoder tells the places
of its tokens, those of turns that weigh nothing are left out once they were encoded beside the others, and the pooled
vector is the weighted mean of the rest; else the turns that count are encoded alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.encoders.protocol import Encoder, TokenPlaces
from app.encoders.turns import TurnsSpec
from app.types import F32, Encoded, TokenVectors, Turn, spoken


@dataclass(frozen=True, slots=True)
class Said:
    """text: that is encoded. starts: where each turn begins in it, in characters; weights: of each. Empty where all
    that is encoded counts the same."""

    text: str
    starts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def of(self, places: TokenPlaces) -> F32:
        """(tokens,): what each weighs; 1 for what stands for no text."""
        begins = places.spans[:, 0]
        turn = np.maximum(np.searchsorted(self.starts, begins, side="right") - 1, 0)
        return np.where(begins < 0, 1.0, np.array(self.weights)[turn]).astype(np.float32)


def said_of(conversations: Sequence[Sequence[Turn]], spec: TurnsSpec, encoder: Encoder, *, tokens: bool) -> list[Said]:
    """Of each conversation. tokens: whether its token vectors are of use."""
    if not tokens or encoder.token_places(["a"], "document") is None:
        return [Said(spoken(spec.counting(turns))) for turns in conversations]
    whole = [spoken(turns) for turns in conversations]
    if encoder.room is None:
        return [_placed(turns, spec.weights(turns), 0) for turns in conversations]
    found = []
    for turns, begins in zip(conversations, encoder.tokens(whole), strict=True):
        first = 0
        if len(begins) > encoder.room:
            starts = _starts(turns)
            # From the first turn on of which everything fits.
            place = np.searchsorted(starts, int(begins[len(begins) - encoder.room]))
            first = min(int(place), len(turns) - 1)
        found.append(_placed(turns, spec.weights(turns), first))
    return found


def _placed(turns: Sequence[Turn], weights: Sequence[float], first: int) -> Said:
    kept, own = turns[first:], tuple(weights[first:])
    if len(set(own)) == 1:
        return Said(spoken(kept))
    return Said(spoken(kept), tuple(_starts(kept)), own)


def _starts(turns: Sequence[Turn]) -> list[int]:
    ends = np.cumsum([len(turn.role) + 2 + len(turn.text) + 1 for turn in turns])
    return [0, *ends[:-1].tolist()]


def by_turns(
    encoded: Encoded, said: Sequence[Said | None], encoder: Encoder, task: str = "document"
) -> tuple[Encoded, list[F32 | None]]:
    """With the vectors of what counts alone, and a pooled vector of these; and what each of them weighs, (tokens,),
    None of a text without weights."""
    places = [i for i, one in enumerate(said) if one is not None and one.weights]
    if not places or encoded.tokens is None:
        return encoded, [None] * len(said)
    told = encoder.token_places([said[i].text for i in places], "query" if task == "query" else "document")  # type: ignore[union-attr]
    assert told is not None, "it was asked before"
    matrices, pooled = list(encoded.tokens), encoded.pooled.copy()
    weights: list[F32 | None] = [None] * len(said)
    for i, own in zip(places, told, strict=True):
        one = said[i]
        assert one is not None, "it has weights"
        count = one.of(own)
        assert len(count) == len(matrices[i]), "an encoder tells the place of each token vector"
        kept = count > 0
        matrices[i], weights[i] = matrices[i][kept], count[kept]
        mean = count[kept].astype(np.float64) @ matrices[i] / float(count.sum())
        # As long as the encoder's own.
        size = float(np.linalg.norm(mean))
        pooled[i] = mean * (float(np.linalg.norm(pooled[i])) / size) if size else pooled[i]
    return replace(encoded, tokens=TokenVectors.join(matrices), pooled=pooled), weights
