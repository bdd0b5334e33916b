"""The protocol: tools listed and called, by standard streams or over HTTP.

Over HTTP each request's own key (`Authorization: Bearer`) goes to Sheaf, so that nobody asks by another's. A key of the
server's own is for standard streams, and for loopback.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import httpx
from mcp.server import Server, ServerRequestContext
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp.types import Tool as Listed

from app import __version__
from app.client import AsyncSheaf
from app.errors import SheafError
from app.mcp.tools import TOOLS, Shelf

INSTRUCTIONS: Final = (
    "Documents of the operator's own. search finds them by words and by meaning, fetch gives the whole text of one. "
    "Ask again in other words before saying that there is nothing."
)


class Tools:
    """The tools over one Sheaf server."""

    def __init__(self, url: str, key: str | None, names: Sequence[str], public: str, *, writes: bool) -> None:
        """key: for requests that bring none. names: of the collections that are shown; none: all. writes: whether
        documents may be added."""
        self._url, self._key = url, key
        self._shelf = Shelf(names, public)
        self._tools = {tool.name: tool for tool in TOOLS if writes or not tool.writes}

    def server(self) -> Server[Any]:
        """To be run by standard streams, or over HTTP."""
        return Server(
            "sheaf",
            version=__version__,
            title="Sheaf",
            instructions=INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )

    async def _list(self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        listed = [
            Listed(
                name=tool.name,
                title=tool.title,
                description=tool.description,
                input_schema=tool.arguments.model_json_schema(),
                output_schema=tool.structured,
                annotations=ToolAnnotations(
                    read_only_hint=not tool.writes, destructive_hint=tool.writes, open_world_hint=False
                ),
            )
            for tool in self._tools.values()
        ]
        return ListToolsResult(tools=listed)

    async def _call(self, context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        tool = self._tools.get(params.name)
        if tool is None:
            return _refused(f"there is no tool {params.name[:100]!r}; there are {', '.join(self._tools)}")
        # A client a call: keys differ, and a connection to a neighbour costs less than the search behind it.
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            sheaf = AsyncSheaf(self._url, _presented(context) or self._key, http=http)
            try:
                answer = await tool.call(sheaf, self._shelf, params.arguments or {})
            except SheafError as error:
                return _refused(error.message)
        text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
        structured = None if tool.structured is None else answer
        return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=structured)


def _refused(message: str) -> CallToolResult:
    """For the assistant to read, and to mend its call."""
    return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True)


def _presented(context: ServerRequestContext[Any]) -> str | None:
    """The key that came with an HTTP request."""
    if context.request is None:
        return None
    scheme, _, key = context.request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None
