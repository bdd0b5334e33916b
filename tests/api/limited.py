"""Shared parts of the tests of limits: a server with little of everything, and how it is asked."""

from __future__ import annotations

import json
from typing import Any

import httpx

TIGHT: dict[str, Any] = {
    "max_body_bytes": 20_000,
    "max_import_bytes": 20_000,
    "max_documents": 3,
    "max_batch": 2,
    "max_k": 10,
    "max_candidates": 50,
    "max_vectors": 4,
    "max_query_vectors": 2,
    "max_values": 20,
    "max_filter_depth": 3,
    "max_filter_conditions": 5,
    "head_timeout_s": 1.0,
    "body_timeout_s": 1.0,
}


def post(server: Any, path: str, body: Any, status: int = 200, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        answer = client.post(f"/v1/collections{path}", content=content, headers=given)
    assert answer.status_code == status, answer.text
    return answer.json()


def head(path: str, media: str = "application/json", length: str = "Content-Length: 9000") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\n{length}\r\n\r\n".encode()
