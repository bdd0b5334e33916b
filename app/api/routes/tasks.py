"""Tasks: work that goes on after its request was answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from app.api.answers import encoded, reply
from app.api.edge.access import Caller, reached
from app.api.edge.bodies import Route
from app.api.edge.openapi import gives
from app.api.schemas.documents import MAX_PAGE
from app.api.schemas.tasks import TaskAnswer, TasksAnswer
from app.api.service import Service, Serving, run
from app.keys import ApiKey
from app.tasks.listing import PAGE, unknown_task
from app.tasks.records import Task

router = APIRouter(tags=["tasks"], route_class=Route)


@router.get("/v1/tasks", responses=gives(TasksAnswer))
async def list_tasks(
    service: Serving,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Tasks of the page.")] = PAGE,
    cursor: Annotated[str | None, Query(max_length=200, description="The `next` of the page before.")] = None,
) -> Response:
    """The tasks of the collections that the key reaches, the newest first, each with the first of its errors."""

    def work() -> bytes:
        mine = reached(caller, service.catalogue.aliases.known)
        found, following = service.catalogue.list_tasks(mine, limit, cursor)
        tasks = [TaskAnswer.model_validate(_told(task, mine)) for task in found]
        return encoded(TasksAnswer(tasks=tasks, next=following))

    return reply(await run(service.lanes.read, work))


@router.get("/v1/tasks/{id}", responses=gives(TaskAnswer))
async def get_task(
    service: Serving,
    caller: Caller,
    id: Annotated[str, Path()],
    errors_after: Annotated[int, Query(ge=-1, le=2**62, description="List errors of later lines only.")] = -1,
) -> Response:
    """One task: state, progress, errors by line."""

    def work() -> bytes:
        return encoded(TaskAnswer.model_validate(_reached(service, caller, id, errors_after)))

    return reply(await run(service.lanes.read, work))


@router.post("/v1/tasks/{id}/cancel", responses=gives(TaskAnswer))
async def cancel_task(service: Serving, caller: Caller, id: Annotated[str, Path()]) -> Response:
    """Ask a task to stop. Applied lines stay."""

    def work() -> bytes:
        _reached(service, caller, id)
        return encoded(TaskAnswer.model_validate(service.catalogue.cancel_task(id)))

    return reply(await run(service.lanes.write, work))


def _reached(service: Service, caller: ApiKey, id: str, errors_after: int = -1) -> Task:
    """Raises NotFound, also for a task of a collection that the key does not reach."""
    task = service.catalogue.task(id, errors_after)
    mine = reached(caller, service.catalogue.aliases.known)
    if not mine(task.collection):
        raise unknown_task(id)
    return _told(task, mine)


def _told(task: Task, mine: Callable[[str], bool]) -> Task:
    """Without the report of an evaluation that searched a collection which the key does not reach."""
    if task.kind != "evaluate" or task.result is None or task.params is None:
        return task
    others = [one["collection"] for one in task.params.get("settings", ()) if "collection" in one]
    return task if all(map(mine, others)) else replace(task, result=None)
