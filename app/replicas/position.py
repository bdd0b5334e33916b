"""Where a local copy stands in its history, as its own database says it.

The record is written in the transaction of each commit, so it is there if the commit is. It names how many commits the
database has: a commit that was made without the store leaves it behind, and is found by that.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from app.store.database import Database, find_record, put_meta, read_state

HOME: Final = "home"


@dataclass(frozen=True, slots=True)
class Position:
    """history: of the collection in its store. number, chain: of the last commit in the log. commits: of the
    database."""

    history: str
    number: int
    chain: str
    commits: int

    @classmethod
    def from_json(cls, value: Any) -> Position:
        return cls(value["history"], value["number"], value["chain"], value["commits"])


def read_position(connection: sqlite3.Connection, name: str) -> Position | None:
    """None of a collection that never was in a store. Raises Damaged, FormatTooNew."""
    return find_record(connection, HOME, name, Position.from_json)


def put_position(connection: sqlite3.Connection, history: str, number: int, chain: str, commits: int) -> None:
    put_meta(connection, {HOME: {"history": history, "number": number, "chain": chain, "commits": commits}})


def position_of(database: Database) -> tuple[Position | None, int]:
    """And how many commits the database has. Raises Damaged."""
    with database.read() as connection:
        return read_position(connection, database.name), read_state(connection).commits
