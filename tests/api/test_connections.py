"""Clients that only wait are given up."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from app.api.edge.bodies import pieces
from app.api.edge.connections import MAX_HEAD_BYTES, UNREAD_S, give_up_unread, patient
from app.api.edge.problems import Other, ProblemAnswer
from app.errors import TooLarge
from app.settings import Settings
from app.store.system import NEEDED


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    config = uvicorn.Config(
        hello, port=0, http=patient(Settings(head_timeout_s=0.2)), ws="none", lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET"]
)
def test_a_head_that_does_not_end_is_given_up(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(sent)
        received = b""
        # Ends only when the server closes; a server without a bound would run into the socket's own.
        while piece := connection.recv(1_000):
            received += piece
    assert received.count(b"HTTP/1.1 200") == sent.count(b"\r\n\r\n")


def test_clients_leave_open_files_to_what_reads_and_writes(port: int) -> None:
    """A client that would take one of the last is told to come again; those that are connected are answered."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + NEEDED + 50
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False))
        assert client.get("/").text == "hi"
        with ExitStack() as taken:
            while (number := os.dup(0)) < most - NEEDED // 2:
                taken.callback(os.close, number)
            taken.callback(os.close, number)
            with socket.create_connection(("127.0.0.1", port), 60) as connection:
                assert connection.recv(1_000).startswith(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n")
            assert client.get("/").text == "hi"
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as other:
            assert other.get("/").text == "hi"


def test_a_head_that_is_too_large_is_answered_by_a_problem(port: int) -> None:
    start = b"GET /?" + b"x" * 60_000 + b" HTTP/1.1\r\nX-More: "
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        # All of it is read before it is too much, so that the answer is not lost with what is not.
        connection.sendall(start + b"y" * (MAX_HEAD_BYTES + 1 - len(start)))
        received = b""
        while piece := connection.recv(10_000):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(
        b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
    )
    told = ProblemAnswer.model_validate_json(body)
    assert (told.status, told.code) == (431, "head_too_large")
    assert "65,536 bytes" in told.detail


def test_a_connection_is_kept_between_requests(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert [client.get("/").text for _ in range(3)] == ["hi"] * 3


def test_an_answer_that_is_not_taken_is_given_up_by_the_kernel() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        give_up_unread(listener)
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNREAD_S * 1_000


def read(messages: list[Message | None], limit: int = 100, length: str | None = None) -> list[bytes]:
    """The pieces that ``pieces`` gives of a body that comes as ``messages``; None is a pause without end."""
    headers = [] if length is None else [(b"content-length", length.encode())]

    async def receive() -> Message:
        message = messages.pop(0)
        if message is None:
            await anyio.sleep_forever()
        assert message is not None
        return message

    async def run() -> list[bytes]:
        request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
        return [piece async for piece in pieces(request, limit, 0.05)]

    return anyio.run(run)


def body(content: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": content, "more_body": more}


def test_a_body_comes_in_pieces() -> None:
    assert b"".join(read([body(b"a" * 60), body(b"b" * 40, more=False)])) == b"a" * 60 + b"b" * 40


@pytest.mark.parametrize(
    ("messages", "length", "error"),
    [
        ([body(b"a"), None], None, Other),
        ([body(b"a" * 60), body(b"b" * 41)], None, TooLarge),
        ([], "101", TooLarge),
        ([], "9" * 5_000, TooLarge),
        ([body(b"a" * 101)], "x", TooLarge),
        ([body(b"a"), {"type": "http.disconnect"}], "50", ClientDisconnect),
    ],
)
def test_a_body_that_cannot_be_read(messages: list[Any], length: str | None, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        read(messages, length=length)
    if isinstance(raised.value, Other):
        assert (raised.value.status, raised.value.code) == (408, "request_timeout")
