"""The hosts that may be asked for: the Host header, against DNS rebinding.

A page of any origin may let its own name point at 127.0.0.1 and then read what a server there answers. Its requests
carry its own name as Host, so only names that are loopback's or configured are answered. And a browser says by
``Sec-Fetch-Site`` that a page of another site sends: that is refused for everything but reading, since a few writes
have no body whose content type would already stop it; pages of the origins that the operator has listed may.
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Scope

from app.api.edge.frame import Gate
from app.api.edge.problems import problem
from app.errors import HostRefused
from app.settings import Settings

_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^\[\]:]+))(?::[0-9]*)?")


def host_gate(settings: Settings) -> Gate:
    """A gate that lets only loopback's and configured hosts through."""
    known = frozenset(name.lower() for name in (settings.host, *settings.hosts))
    origins = frozenset(settings.cors_origins)

    def gate(scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        given = headers.getlist("host")
        if len(given) != 1 or not _allowed(given[0], known):
            message = (
                f"the Host header {', '.join(given)[:200]!r} is neither loopback nor configured; "
                "the operator may add it to SHEAF_HOSTS"
            )
        elif (
            headers.get("sec-fetch-site") == "cross-site"
            and scope["method"] not in ("GET", "HEAD")
            and headers.get("origin") not in origins
        ):
            message = "a page of another site may not write here"
        else:
            return None
        return problem(HostRefused(message), scope)

    return gate


def url_of(host: str, port: int) -> str:
    """Where a server that listens on ``host`` is asked from this machine: by a name that its gate lets through.

    >>> url_of("0.0.0.0", 8000), url_of("::1", 80)
    ('http://127.0.0.1:8000', 'http://[::1]:80')
    """
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _allowed(header: str, known: frozenset[str]) -> bool:
    found = _HOST.fullmatch(header.strip().lower())
    if not found:
        return False
    host = found["v6"] or found["name"].removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host in known
    # 0.0.0.0 is where to listen, not whom to ask for.
    return address.is_loopback or (host in known and not address.is_unspecified)
