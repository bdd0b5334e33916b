"""Tuning over HTTP: accepted, followed, and told of."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from app.api.schemas.tasks import TaskAnswer


def test_a_tuning_is_a_task_with_a_result(client: httpx.Client, collection: str) -> None:
    body = {"target_recall": 0.9, "k": 1, "queries": [{"query": "cat"}, {"query": "dog"}]}
    answer = client.post(f"{collection}/tune", json=body)
    assert answer.status_code == 202, answer.text
    task = TaskAnswer.model_validate_json(answer.content)
    assert answer.headers["location"] == f"/v1/tasks/{task.id}"
    end = time.monotonic() + 60
    while task.state in ("queued", "running") and time.monotonic() < end:
        time.sleep(0.02)
        task = TaskAnswer.model_validate_json(client.get(answer.headers["location"]).content)
    assert (task.kind, task.state, task.errors) == ("tune", "succeeded", [])
    assert task.result is not None
    assert task.result["goal"]["target_recall"] == 0.9
    assert task.result["measured"]["reached"] is True
    assert task.result["chosen"] in [one["name"] for one in task.result["tried"]]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/target_recall"),
        ({"target_recall": 0}, "/target_recall"),
        ({"target_recall": 1.01}, "/target_recall"),
        ({"target_recall": "0.9"}, "/target_recall"),
        ({"target_recall": 0.9, "k": 0}, "/k"),
        ({"target_recall": 0.9, "max_bytes_per_document": 0}, "/max_bytes_per_document"),
        ({"target_recall": 0.9, "queries": []}, "/queries"),
        ({"target_recall": 0.9, "queries": [{"vectors": [[1.0]]}]}, "/queries/0/vectors"),
        ({"target_recall": 0.9, "width": 3}, "/width"),
    ],
)
def test_what_cannot_be_is_pointed_at(
    client: httpx.Client, collection: str, body: dict[str, Any], pointer: str
) -> None:
    answer = client.post(f"{collection}/tune", json=body)
    assert answer.status_code == 422
    assert any(error["pointer"].startswith(pointer) for error in answer.json()["errors"])


def test_there_must_be_a_collection(client: httpx.Client) -> None:
    assert client.post("/v1/collections/absent/tune", json={"target_recall": 0.9}).status_code == 404
