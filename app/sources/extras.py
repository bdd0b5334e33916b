"""Libraries that come with an extra, imported where they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Literal, TypeAlias

from app.errors import Invalid, RequestError
from app.sources.protocol import Unit, Unreadable

Extra: TypeAlias = Literal["cluster", "documents", "tables"]


def library(module: str, extra: Extra, form: str, done: Literal["asked", "read", "written"] = "read") -> Any:
    """The module. Raises Invalid that names the extra where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise Invalid(
            f"{form} is {done} by {module.partition('.')[0]}, which is not installed: install sheaf[{extra}] "
            f"(pip install '.[{extra}]' in Sheaf's folder)"
        ) from error


@contextmanager
def foreign(form: str, number: int = 0, unit: Unit = "row") -> Iterator[None]:
    """Around what a library does with bytes of strangers: of damaged ones each raises whatever it comes upon, parsers
    of dates and of names among them, so all of it is Unreadable. form: for messages. number: of what is being read."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:
        raise Unreadable(f"not {form}, or not whole: {said(error)}", number, unit) from error


def said(error: Exception) -> str:
    """Of a library's error, on one line, without a full stop, for sentences go on after it.

    >>> said(ValueError("one\\n  two.")), said(KeyError())
    ('one two', 'KeyError')
    """
    return " ".join(str(error).split())[:400].rstrip(".") or type(error).__name__
