"""Which characters of a document each of its stored token vectors stands for.

Nothing of that is stored, and nothing is encoded to find it: the text that was encoded for a passage is put together
again, and the encoder's tokenizer says where its tokens stand. All passages of an answer go through it in one call. How
many of the headings over a passage were said before it hung on the room that there was: it is what makes as many tokens
as there are vectors. Where no number of them does, no vector has a place: token vectors that were pooled stand for
several tokens each, and callers' own for what they alone know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from app.collection.layers import SPANS, TOKENS
from app.collection.part import Part
from app.encoders.protocol import TokenPlaces
from app.highlights.fragments import Field, binds
from app.passages.structure import Heading, headings_of, path
from app.passages.windows import JOINED
from app.types import Document

Tokenise: TypeAlias = Callable[[Sequence[str]], "list[TokenPlaces] | None"]
"""``Encoder.token_places`` of documents."""
Key: TypeAlias = tuple[int, int]
"""Of a row, among those of all parts."""


# Not frozen: an answer has hundreds, and one that is frozen takes three times as long to make.
@dataclass(slots=True)
class Token:
    """The token that a vector stands for. text: its characters, or the name of a special token. field, start, stop:
    where in the document they are, field[start:stop]; None where they are not of it."""

    text: str
    field: Field | None = None
    start: int | None = None
    stop: int | None = None


@dataclass(frozen=True)
class Row:
    """A passage: a row of a part, and the place in the part of the document that has it."""

    part: Part
    row: int
    place: int
    document: Document

    @cached_property
    def span(self) -> tuple[int, int]:
        """Where it is in the document's text."""
        if not self.part.has(SPANS):
            return 0, len(self.document.text)
        ((start, stop),) = self.part.flat(SPANS).range(self.row, self.row + 1).tolist()
        return start, stop

    @property
    def key(self) -> Key:
        return id(self.part), self.row

    @property
    def number(self) -> int:
        """Which of its document's passages it is, from 0."""
        return self.row - self.part.owners.span(self.place, self.place + 1)[0]

    @property
    def siblings(self) -> int:
        """Passages of its document, itself among them."""
        first, end = self.part.owners.span(self.place, self.place + 1)
        return end - first

    @property
    def vectors(self) -> int:
        """Token vectors."""
        offsets = self.part.ragged(TOKENS).offsets
        return int(offsets[self.row + 1] - offsets[self.row])


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of a text that was encoded, from ``begin`` on, which is field[start:start + length] of the document."""

    begin: int
    length: int
    field: Field
    start: int


@dataclass(frozen=True, slots=True)
class RowTokens:
    """The tokens that the vectors of a row stand for. spans: (n, 2), of what was encoded; starts, stops: (n,) of the
    document's text, in characters, -1 where it is not of that."""

    encoded: str
    places: TokenPlaces
    pieces: Sequence[_Piece]
    document: Document

    @property
    def text(self) -> tuple[int, int] | None:
        """Where in what was encoded the document's text begins, and where in the text that is; None without one."""
        piece = self.pieces[-1]
        return (piece.begin, piece.start) if piece.field == "text" else None

    def tokens(self, vectors: Sequence[int]) -> list[Token]:
        """Of each of these vectors."""
        distinct = list(dict.fromkeys(vectors))
        spans = self.places.spans[distinct].tolist()
        names, text, last = self.places.names, self.document.text, self.pieces[-1]
        begin, end, moved = last.begin, last.begin + last.length, last.start - last.begin
        found: dict[int, Token] = {}
        for place, (start, stop) in zip(distinct, spans, strict=True):
            if place in names:
                found[place] = Token(names[place])
            elif begin < stop <= end and last.field == "text":
                # As ``_token`` has it: nearly all are.
                start, stop = trimmed(text, max(start + moved, last.start), stop + moved)
                found[place] = Token(text[start:stop], "text", start, stop)
            else:
                found[place] = self._token(start, stop)
        return [found[place] for place in vectors]

    def _token(self, start: int, stop: int) -> Token:
        for piece in reversed(self.pieces):
            if piece.begin < stop:
                break
        else:
            return Token(self.encoded[start:stop].strip())
        if stop > piece.begin + piece.length:
            return Token(self.encoded[start:stop].strip())
        whole = self.document.title if piece.field == "title" else self.document.text
        moved = piece.start - piece.begin
        start, stop = trimmed(whole, max(start + moved, piece.start), stop + moved)
        return Token(whole[start:stop], piece.field, start, stop)


def trimmed(text: str, start: int, stop: int) -> tuple[int, int]:
    """A token without the white space before it that some tokenizers count to it, and with the marks on its last
    character, which some leave out."""
    while start < stop - 1 and text[start].isspace():
        start += 1
    while stop < len(text) and binds(text[stop]):
        stop += 1
    return start, stop


def tokens_of(rows: Sequence[Row], tokenise: Tokenise) -> list[RowTokens | None]:
    """Of each row; None where that is not known."""
    found: list[RowTokens | None] = [None] * len(rows)
    texts = [_encoded(row) for row in rows]
    waiting = [i for i, row in enumerate(rows) if texts[i]]
    left = 0
    while waiting:
        made = tokenise([texts[i][left][0] for i in waiting])
        if made is None:
            break
        for i, places in zip(waiting, made, strict=True):
            if len(places.spans) == rows[i].vectors:
                encoded, pieces = texts[i][left]
                found[i] = RowTokens(encoded, places, pieces, rows[i].document)
        left += 1
        waiting = [i for i in waiting if found[i] is None and left < len(texts[i])]
    return found


def _encoded(row: Row) -> list[tuple[str, list[_Piece]]]:
    """The texts that may have been encoded for a row, with all headings over it, and with fewer of them."""
    document, (start, stop) = row.document, row.span
    title: list[tuple[str, Field, int]] = [(document.title, "title", 0)] if document.title.strip() else []
    if row.siblings == 1:
        return [_joined([*title, (document.text, "text", 0)] if document.text.strip() else title)]
    text = document.text
    over = path(headings_of(text), start) if "#" in text else []
    # As app.passages.windows says them.
    said = [one for one in over if one.text.casefold() != document.title.strip().casefold()]
    headings: list[tuple[str, Field, int]] = [(one.text, "text", _place(text, one)) for one in said]
    window: tuple[str, Field, int] = (text[start:stop], "text", start)
    return [_joined([*title, *headings[left:], window]) for left in range(len(headings) + 1)]


def _place(text: str, heading: Heading) -> int:
    return text.index(heading.text, heading.start + heading.depth)


def _joined(parts: Sequence[tuple[str, Field, int]]) -> tuple[str, list[_Piece]]:
    pieces: list[_Piece] = []
    begin = 0
    for part, field, start in parts:
        pieces.append(_Piece(begin, len(part), field, start))
        begin += len(part) + len(JOINED)
    return JOINED.join(part for part, _, _ in parts), pieces
