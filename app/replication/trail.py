"""The log, read from a position on: records at a time, over seals into later epochs, each held to the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from app.errors import Damaged, ObjectMissing
from app.objects.protocol import Listed, Objects
from app.replication.head import Position
from app.replication.protocol import Commit
from app.replication.records import decode, place_of, record_name

_WIDEST: Final = 64
"""Records that are asked for at a time, where a listing does not tell how many there are."""


class Trail:
    """Where a reading is: after ``position``. places: of all commits that were passed, by number."""

    def __init__(self, objects: Objects, position: Position) -> None:
        self._objects = objects
        self.position = position
        # Kept where a request fails before the end is reached: they are passed by then, and given out the next time.
        self._found: list[Commit] = []
        self.places: dict[int, Position] = {}

    @property
    def next(self) -> tuple[int, int]:
        """(epoch, number) of the record that comes next."""
        return self.position.epoch, self.position.number + 1

    def read(self, listed: Iterable[Listed] = ()) -> list[Commit]:
        """Commits up to the first record that is not there. listed: some that may be, and are asked for at once."""
        places = {place for one in listed if (place := place_of(one.name)) is not None and place >= self.next}
        if places:
            epoch, number = max(places)
            # What would come next, whether the last is a commit or a seal: so that one more request is none in a row.
            places |= {(epoch, number + 1), (epoch + 1, number)}
        width = 1
        while True:
            epoch, number = self.next
            places |= {(epoch, number + i) for i in range(width)}
            records = self._get(sorted(places))
            while (place := self.next) in records and (content := records[place]) is not None:
                commit = self.take(content)
                self._found += [] if commit is None else [commit]
            if self.next in records:
                found, self._found = self._found, []
                return found
            places, width = set(), min(2 * width, _WIDEST)

    def take(self, content: bytes) -> Commit | None:
        """The next record: its commit, None of a seal. Raises Damaged where it is not the one that follows."""
        epoch, number = self.next
        name = f"{record_name(epoch, number)} in {self._objects.place}"
        record, chain = decode(content, name)
        if (record.epoch, record.number, record.before) != (epoch, number, self.position.chain):
            raise Damaged(
                f"{name}: expected the record {number} of epoch {epoch} after {self.position.chain[:12]}, got "
                f"{record.number} of {record.epoch} after {record.before[:12]}"
            )
        if record.kind == "seal":
            self.position = Position(epoch + 1, self.position.number, chain)
            return None
        commit = Commit(number, record.content, record.files, chain)
        self.position = self.places[number] = Position(epoch, number, chain)
        return commit

    def _get(self, places: list[tuple[int, int]]) -> dict[tuple[int, int], bytes | None]:
        def one(place: tuple[int, int]) -> Callable[[], bytes | None]:
            return lambda: self._content(record_name(*place))

        return dict(zip(places, self._objects.together([one(place) for place in places]), strict=True))

    def _content(self, name: str) -> bytes | None:
        try:
            return self._objects.get(name)[0]
        except ObjectMissing:
            return None
