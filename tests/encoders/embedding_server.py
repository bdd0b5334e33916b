"""A real HTTP server on a free port that answers like OpenAI's `/v1/embeddings`, or as a test's script says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.encoders.deterministic import DeterministicEncoder

Answer = tuple[int, dict[str, str], bytes]


class EmbeddingServer:
    """A server on a free port. Each request takes the next of `script`, or the right answer when it is empty."""

    dim = 12

    def __init__(self) -> None:
        self.script: list[Callable[[dict[str, Any]], Answer]] = []
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.release = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, headers, content = (server.script.pop(0) if server.script else server.right)(body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = False
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def vectors(self, texts: list[str]) -> list[list[float]]:
        pooled = DeterministicEncoder(self.dim, "dense").encode_documents(texts).pooled
        return [[float(x) for x in row] for row in pooled]

    def right(self, body: dict[str, Any]) -> Answer:
        """In the reverse order, so that only `index` tells which is whose."""
        data = [{"index": i, "embedding": row} for i, row in enumerate(self.vectors(body["input"]))]
        return 200, {"Content-Type": "application/json"}, json.dumps({"data": data[::-1]}).encode()

    def hanging(self, body: dict[str, Any]) -> Answer:
        self.release.wait(600)
        return self.right(body)

    def close(self) -> None:
        self.release.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
