"""Queries that are asked of several collections in one request, and encoded once for each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

_Key = tuple[str, str, tuple[str, ...]]

_encoded: ContextVar[dict[_Key, Any] | None] = ContextVar("encoded", default=None)


@contextmanager
def encoded_once() -> Iterator[None]:
    """Within it, in this thread, equal texts are encoded once for each model and kind; nothing is kept afterwards."""
    token = _encoded.set({})
    try:
        yield
    finally:
        _encoded.reset(token)


def once(model: str, kind: str, texts: Sequence[str], encode: Callable[[Sequence[str]], T]) -> T:
    """``encode(texts)``, or what it gave before, within ``encoded_once``. Raises what it raises, each time anew."""
    known, key = _encoded.get(), (model, kind, tuple(texts))
    if known is None:
        return encode(texts)
    if key not in known:
        known[key] = encode(texts)
    found: T = known[key]
    return found
