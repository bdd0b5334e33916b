"""An answer about one collection says how far behind a reader's copy of it may be.

``Sheaf-Copy-Commits``: commits that it has seen in the store and not applied. ``Sheaf-Copy-Age``: seconds since it had
all that was in the store; none where it has not since its start. Only a reader of a store adds them.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.edge.routing import FOUND
from app.types import Standing


class Copies:
    """ASGI middleware, inside of what finds the route."""

    def __init__(self, app: ASGIApp, find: Callable[[str], Standing | None]) -> None:
        """find: the standing of the collection that a name means."""
        self.app, self._find = app, find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = scope.get(FOUND) if scope["type"] == "http" else None
        name = None if found is None else found[1]["path_params"].get("name")
        if name is None:
            await self.app(scope, receive, send)
            return
        meant = unquote_to_bytes(name.encode("latin-1")).decode(errors="replace")

        async def respond(message: Message) -> None:
            if message["type"] == "http.response.start" and (standing := self._find(meant)) is not None:
                added = [(b"sheaf-copy-commits", b"%d" % standing.commits)]
                if standing.age_s is not None:
                    added.append((b"sheaf-copy-age", f"{standing.age_s:.3f}".encode()))
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        await self.app(scope, receive, respond)
