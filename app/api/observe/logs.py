"""The form of a line of the log: readable, or one JSON object a line for machines.

A record may carry ``fields`` (by ``extra={"fields": {...}}``): the JSON form has them as keys, the readable one has
them in its message already. An exception is logged with the places in the code that it went through and its kind;
its own words, which may quote a document or a query, only at the level ``debug``.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, TypeAlias

LogFormat: TypeAlias = Literal["text", "json"]
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def log_to_stderr(level: str, form: LogFormat) -> None:
    """Sends the log of the whole process to standard error."""
    verbose = level == "debug"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(verbose) if form == "json" else Readable(verbose))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # It tells at length which of its builds it did not find.
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    # Tracebacks are logged once, with the request's id, by app.api.edge.problems and app.main.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: not str(record.msg).startswith(("Exception in ASGI", "Traceback"))
    )
    for name in ("uvicorn", "httpx", "httpcore", "asyncio", "opentelemetry"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


class Readable(logging.Formatter):
    """For people."""

    def __init__(self, verbose: bool = False) -> None:
        super().__init__(_TEXT)
        self._verbose = verbose

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802
        return super().formatException(ei) if self._verbose else places(ei[1])


class JsonLines(logging.Formatter):
    """For machines: `time` (UTC), `level`, `logger`, `message`, the record's fields, and an `exception`.

    >>> record = logging.LogRecord("app", logging.INFO, "", 1, "%d found", (3,), None)
    >>> sorted(json.loads(JsonLines().format(record)))
    ['level', 'logger', 'message', 'time']
    """

    def __init__(self, verbose: bool = False) -> None:
        super().__init__()
        self._verbose = verbose

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            error = record.exc_info[1]
            line["exception"] = self.formatException(record.exc_info) if self._verbose else places(error)
        return json.dumps(line)


def places(error: BaseException | None) -> str:
    """The kind of an exception and where it went through, and the same of those that it came from.

    >>> places(ValueError("a secret"))
    'ValueError'
    """
    told: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        told.append("".join(traceback.format_tb(error.__traceback__)) + name)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\nfrom\n\n".join(told)
