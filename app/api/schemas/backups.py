"""Snapshots, what is restored from them, and aliases."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.backup.saved import Saved
from app.documents import Strict
from app.store.layout import NAME


class RestoreSnapshot(Strict):
    """A collection to make, or to bring back, from a snapshot of this server."""

    collection: str | None = Field(default=None, pattern=f"^{NAME.pattern}$")
    """Whose snapshot; by default that of the collection of the path."""
    snapshot: str = Field(min_length=1, max_length=100)
    replace: bool = Field(default=False, json_schema_extra={"deprecated": True})
    """The same as the query parameter `replace`."""


class SnapshotsAnswer(BaseModel):
    """The newest first."""

    snapshots: list[Saved]


class SetAlias(Strict):
    """The collection that an alias stands for from now on."""

    collection: str = Field(pattern=f"^{NAME.pattern}$")


class AliasAnswer(BaseModel):
    """A further name of a collection, which works in every path of documents and searches."""

    alias: str
    collection: str


class AliasesAnswer(BaseModel):
    """By name."""

    aliases: list[AliasAnswer]
