"""What comes in and goes out of the routes of users' safety nets: snapshots, what is restored from them,
and aliases."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.documents import Strict
from app.store.layout import NAME


class RestoreSnapshot(Strict):
    """A collection to make, or to bring back, from a snapshot of this server."""

    collection: str | None = Field(default=None, pattern=f"^{NAME.pattern}$")
    """Whose snapshot; by default that of the collection of the path."""
    snapshot: str = Field(min_length=1, max_length=100)
    replace: bool = Field(default=False, deprecated=True)
    """The same as the query parameter `replace`."""


class SnapshotAnswer(BaseModel):
    """A snapshot that the server keeps. `documents` and `generation` are the collection's at that moment."""

    id: str
    collection: str
    created: str
    documents: int
    generation: int
    size: int
    """Bytes of the archive."""
    sha256: str
    """Of the archive."""
    error: str | None = None
    """What is wrong with it; nothing but its id, collection and size is known then. It can only be deleted."""


class SnapshotsAnswer(BaseModel):
    """The newest first."""

    snapshots: list[SnapshotAnswer]


class SetAlias(Strict):
    """What an alias stands for from now on."""

    collection: str = Field(pattern=f"^{NAME.pattern}$")


class AliasAnswer(BaseModel):
    """A further name of a collection, which works in every path of documents and searches."""

    alias: str
    collection: str


class AliasesAnswer(BaseModel):
    """By name."""

    aliases: list[AliasAnswer]
