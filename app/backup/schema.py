"""A database that others may have made is looked at before it is used: an archive's, a base's of an object store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from app.errors import Damaged
from app.store.database import SCHEMA
from app.store.layout import DATABASE
from app.store.requests import SCHEMA as ADDED
from app.store.system import of_the_disk


def check_schema(path: Path) -> None:
    """The tables are exactly ours: nothing else is there to run, or to be read in another way. Raises Damaged."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        required = set(_tables(connection))
        connection.executescript(";".join(ADDED))
        ours = _tables(connection)
    try:
        with closing(sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            found = _tables(connection)
            for name, row in found.items():
                if ours.get(name) != row:
                    raise Damaged(f"{DATABASE} has a {row[0]} {str(name)[:100]!r}, which no collection has")
            if lacking := sorted(required - found.keys()):
                raise Damaged(f"{DATABASE} lacks {lacking[0]!r}, which every collection has")
            if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise Damaged(f"{DATABASE} is damaged")
    except sqlite3.Error as error:
        if of_the_disk(error):
            raise
        raise Damaged(f"{DATABASE} is damaged: {error}") from error


def _tables(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Of each table, index, view and trigger its kind, its table and its statement."""
    rows = connection.execute("SELECT name, type, tbl_name, sql FROM sqlite_schema").fetchall()
    return {name: row for name, *row in rows}
