"""Tasks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class LineFault(BaseModel):
    """A line of an import that was not applied."""

    model_config = ConfigDict(from_attributes=True)

    line: int
    code: str
    message: str


class TaskAnswer(BaseModel):
    """Work that goes on after its request was answered; it survives a restart."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    collection: str
    kind: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    phase: str
    done: int
    total: int | None
    rate: float
    """Of `done`, a second."""
    eta_s: float | None
    errors: list[LineFault]
    """The first 1,000, by line."""
    errors_total: int
    warnings: list[str]
    """Problems that ended no task and refused no line, such as texts that the encoder's limit cut."""
    file: str | None
    """The name of an import's file, where whoever sent it told."""
    created: str
    finished: str | None
    result: dict[str, Any] | None
    """The result, where there is more to tell: of a tuning, what was tried, measured and chosen; of an import, how
    many texts the encoder's limit cut, and the first ids."""


class TasksAnswer(BaseModel):
    """A page of tasks, the newest first, each with the first of its errors. `next` is the cursor of the next page, null
    at the end."""

    tasks: list[TaskAnswer]
    next: str | None
