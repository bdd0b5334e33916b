"""From documents to rows: texts split as the collection has it, encoded by windows, coded as they are stored.

All encoding of a collection's texts is done here: a write, a rebuild, a measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, TypeAlias

import numpy as np

from app.collection.layers import SPANS, SPARSE, TOKENS, VALUES, scored
from app.collection.passages import NOTHING, Passages, from_encoder, without_direction
from app.collection.spec import CollectionSpec
from app.compute.workers import Workers
from app.encoders.protocol import Encoder
from app.encoders.turns import TurnsSpec
from app.encodings.protocol import Encoding
from app.errors import TextRefused
from app.passages.conversation import by_turns, said_of
from app.passages.sparse import EncodeSparse
from app.passages.windows import Window, Windowing
from app.types import Document, Encoded, Mask, Owners

Encode: TypeAlias = Callable[[Sequence[str]], Encoded]

ROWS: Final = 256
"""Windows whose vectors are held in float32 at one time."""


@dataclass(frozen=True, slots=True)
class Splitter:
    """How a collection's texts become windows. most: of one document; None: any number."""

    spec: CollectionSpec
    encoder: Encoder
    most: int | None

    def windows(self, documents: Sequence[Document]) -> list[list[Window]]:
        """Of each document, one or more. Raises TextRefused for texts of more than ``most``."""
        if self.spec.turns is not None:
            return self._conversations(documents, self.spec.turns)
        if not self.spec.splits:
            return [[Window(0, len(document.text), document.passage)] for document in documents]
        settings, read = self.spec.passages, self.encoder.room
        size = settings.size if read is None or settings.size is None else min(settings.size, read)
        found = Windowing(read if size is None else size, settings.overlap).of(documents, self.encoder.tokens)
        if self.most is not None:
            said = f"expected a text of at most {self.most:,} passages, the limit of this server; it has"
            many = {i: f"{said} {len(own):,}" for i, own in enumerate(found) if len(own) > self.most}
            if many:
                raise TextRefused(many)
        return found

    def _conversations(self, documents: Sequence[Document], spec: TurnsSpec) -> list[list[Window]]:
        talks = [one.turns for one in documents if one.turns]
        made = iter(said_of(talks, spec, self.encoder, tokens=scored(self.spec) == TOKENS))
        found = []
        for document in documents:
            window = Window(0, len(document.text), document.passage)
            if document.turns:
                said = next(made)
                # A title is no turn: words find it, vectors do not.
                window = replace(
                    window,
                    encoded=said.text,
                    cut=said.cut,
                    said=said,
                    heard=spec.heard(document.turns),
                    summary=document.summary if self.spec.summarised else "",
                )
            found.append([window])
        return found


def encoded_rows(
    windows: Sequence[Sequence[Window]],
    known: Mapping[str, Passages],
    encode: Encode,
    spec: CollectionSpec,
    encoding: Encoding | None,
    workers: Workers | None = None,
    sparse: EncodeSparse | None = None,
    encoder: Encoder | None = None,
) -> tuple[Passages, Mask]:
    """Rows of some documents, of the windows of each, and whether the encoder still cut one of them, (documents,).

    known: rows that there are already, by what was encoded. sparse: of a collection with a sparse encoder; callers'
    sparse vectors are not among the rows. encoder: that ``encode`` asks, where there are conversations. Raises
    TextRefused with places of documents: what the encoder refuses, and those of which it makes zeros alone.
    """
    every = list(chain.from_iterable(windows))
    owners = Owners.of_counts(np.array([len(own) for own in windows], np.int64))
    fresh = [place for place, window in enumerate(every) if window.encoded not in known]
    of = owners.of(np.arange(len(every)))
    held = [place for place, window in enumerate(every) if window.encoded in known]
    parts = [known[every[place].encoded] for place in held]
    if spec.given_sparse:
        parts = [part.with_layer(SPARSE, None) for part in parts]
    # Of documents, not of their texts.
    parts = [part.with_layer(VALUES, None) for part in parts]
    cut, nothing = np.array([window.cut for window in every], bool), np.zeros(len(every), bool)
    for start in range(0, len(fresh), ROWS):
        some = fresh[start : start + ROWS]
        texts = [every[place].encoded for place in some]
        try:
            made = encode(texts)
            if encoder is not None and spec.turns is not None:
                made = _as_conversations(made, [every[place] for place in some], encode, encoder)
            weighed = None if sparse is None else sparse([every[place].words for place in some])
        except TextRefused as error:
            raise TextRefused({int(of[some[i]]): why for i, why in error.texts.items()}) from error
        cut[some] |= made.truncated
        nothing[some] = without_direction(made, spec)
        rows = from_encoder(made, spec, encoding, workers)
        if weighed is not None:
            cut[some] |= weighed.truncated
            rows = rows.with_layer(SPARSE, weighed.rows)
        parts.append(rows)
    # A passage without direction is never found; a document needs one that is.
    if len(lost := np.setdiff1d(of[nothing], of[~nothing])):
        raise TextRefused(dict.fromkeys(lost.tolist(), NOTHING))
    rows = Passages.join(parts)
    if held:
        rows = rows.take(np.argsort([*held, *fresh]))
    found = Passages(owners, rows.arrays)
    if spec.splits:
        spans = np.array([(window.start, window.stop) for window in every], np.int32)
        found = found.with_layer(SPANS, spans)
    return found, np.logical_or.reduceat(cut, owners.firsts)


def _as_conversations(made: Encoded, windows: Sequence[Window], encode: Encode, encoder: Encoder) -> Encoded:
    """With what their turns weigh, and the vectors of their summaries. Raises TextRefused as ``encode``."""
    made, _ = by_turns(made, [window.said for window in windows], encoder)
    summed = [i for i, window in enumerate(windows) if window.summary.strip()]
    if not summed:
        return made
    pooled = made.pooled.copy()
    try:
        pooled[summed] = encode([windows[i].summary for i in summed]).pooled
    except TextRefused as error:
        raise TextRefused({summed[i]: f"its summary: {why}" for i, why in error.texts.items()}) from error
    return replace(made, pooled=pooled)


def lent(windows: Sequence[Window], stored: Passages) -> dict[str, Passages]:
    """The rows of one document as it is stored, by what was encoded for each. windows: of its text as it was split
    then; nothing where it would be split in another way now."""
    spans = np.array([(window.start, window.stop) for window in windows], np.int32)
    if SPANS not in stored or not np.array_equal(stored.flat(SPANS), spans):
        return {}
    single = Passages(Owners(len(windows)), stored.with_layer(SPANS, None).arrays)
    return {window.encoded: single.take([row]) for row, window in enumerate(windows)}
