"""A server of S3 on this machine (moto's), with a network in front of it that fails as it is told.

moto keeps conditions of puts by looking first and putting afterwards, in threads of its own: two that meet may both
win. A store that says it is conditional is not, then; so puts pass one at a time here.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEYS = {"access_key": "test", "secret_key": "test", "region": "us-east-1"}


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        """Nothing."""


class S3Server:
    """``endpoint``; ``faults``: what happens to the next requests, first come first served, where the request fits."""

    def __init__(self, bucket: str = "sheaf") -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._puts = threading.Lock()
        self.faults: list[tuple[Callable[[dict[str, Any]], bool], str]] = []
        self.latency_s = 0.0
        self.seen: list[str] = []
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.bucket = bucket
        self._make_bucket()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fail(self, *kinds: str, method: str = "PUT", name: str = "") -> None:
        """The next requests of the method whose path has the name, one kind each: "500", "503", "403", "409" (before
        it is applied), "gateway" (a proxy's 503), "applied 500", "applied reset" (after), "reset", "slow" (its body,
        of a GET)."""
        for kind in kinds:
            self.faults.append(
                (lambda environ: environ["REQUEST_METHOD"] == method and name in environ["PATH_INFO"], kind)
            )

    def _make_bucket(self) -> None:
        assert httpx.put(f"{self.endpoint}/{self.bucket}").status_code == 200

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.seen.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        if self.latency_s:
            time.sleep(self.latency_s)
        kind = next((fault for fault in self.faults if fault[0](environ)), None)
        if kind is None:
            return self._real(environ, start)
        self.faults.remove(kind)
        match kind[1].split():
            case ["applied", after]:
                list(self._real(environ, lambda *_: lambda _: None))
                return self._failed(environ, start, after)
            case ["slow"]:
                return self._slowly(self._real(environ, start))
            case [before]:
                # Else what is left of it is taken for the next request.
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                return self._failed(environ, start, before)
        raise AssertionError(kind)

    def _real(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with self._puts if environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE") else _nothing():
            return self._moto(environ, start)

    def _failed(self, environ: dict[str, Any], start: Callable[..., Any], kind: str) -> Iterable[bytes]:
        if kind == "reset":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        codes = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied", "409": "ConditionalRequestConflict"}
        body = f"<Error><Code>{codes[kind]}</Code></Error>".encode() if kind in codes else b"upstream reset"
        start(
            f"{'503' if kind == 'gateway' else kind} Error",
            [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))],
        )
        return [body]

    def _slowly(self, body: Iterable[bytes]) -> Iterator[bytes]:
        for piece in body:
            yield piece[:1]
            time.sleep(1.5)
            yield piece[1:]


@contextmanager
def _nothing() -> Iterator[None]:
    yield
