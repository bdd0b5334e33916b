"""`python -m app.mcp`: Sheaf's collections for an assistant.

    python -m app.mcp                                    # standard streams, as assistants start it
    python -m app.mcp --collection papers --write        # one collection, and documents may be added
    python -m app.mcp --http 127.0.0.1:8100              # streamable HTTP at /mcp

It asks the Sheaf server at --url, with the key in SHEAF_API_KEY.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import anyio
import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError

from app.settings import Settings, refusals

try:
    from mcp.server.stdio import stdio_server

    from app.mcp.server import Tools
except ImportError as error:
    sys.exit(f"the tools need the library mcp: pip install '.[mcp]' in Sheaf's folder ({error})")

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def parser(settings: Settings) -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m app.mcp", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--url", default=f"http://{settings.host}:{settings.port}", help="of the Sheaf server (default: %(default)s)"
    )
    made.add_argument("--collection", action="append", default=[], metavar="NAME", help="to show; by default all")
    made.add_argument("--write", action="store_true", help="offer add_documents; the key needs the scope write")
    made.add_argument("--http", metavar="HOST:PORT", help="serve over HTTP instead of standard streams")
    made.add_argument("--public-url", metavar="URL", help="that addresses of documents begin with (default: --url)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        settings = Settings()
    except (ValidationError, SettingsError) as error:
        print(*refusals(error), sep="\n", file=sys.stderr)  # noqa: T201
        return 2
    options = parser(settings)
    args = options.parse_args(arguments)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    public = (args.public_url or args.url).rstrip("/")
    server = Tools(args.url, key, args.collection, public, writes=args.write).server()
    if args.http is None:

        async def serve() -> None:
            async with stdio_server() as (read, write):
                await server.run(read, write, server.create_initialization_options())

        anyio.run(serve)
        return 0
    host, _, port = args.http.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        options.error(f"--http: expected HOST:PORT, got {args.http!r}")
    if key is not None and host not in LOOPBACK:
        options.error(
            "--http: with SHEAF_API_KEY set it listens on loopback alone, for whoever reaches it asks by that key; "
            "without it each request brings its own"
        )
    app = server.streamable_http_app(json_response=True, stateless_http=True, host=host)
    uvicorn.run(app, host=host, port=int(port), log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
