"""A server's refusal as the error that the server raised: one tree for both sides (``app.errors``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from app.errors import (
    BadArchive,
    Conflict,
    EncoderUnavailable,
    Invalid,
    KeyRefused,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    Problem,
    RequestError,
    SheafError,
    StorageFull,
    TextRefused,
    TooLarge,
    TooOften,
    TooSlow,
    Unavailable,
    UnsupportedMediaType,
)


class TaskFailed(Invalid):
    """A task that was followed has failed or was cancelled. task: as the server describes it."""

    code = "task_failed"

    def __init__(self, message: str, task: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.task = task


def _tree(root: type[SheafError]) -> Iterator[type[SheafError]]:
    yield root
    for kind in root.__subclasses__():
        # Others of this process, such as the HTTP layer's own, have codes that their status tells as well.
        if kind.__module__ == SheafError.__module__:
            yield from _tree(kind)


_BY_CODE: Final = {kind.code: kind for kind in _tree(SheafError)} | {
    "archive_too_new": BadArchive,
    "encoder_loading": EncoderUnavailable,
    # Its texts are told by the pointers of its problems.
    TextRefused.code: Invalid,
}
_BY_STATUS: Final[Mapping[int, type[SheafError]]] = {
    401: KeyRefused,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: TooLarge,
    415: UnsupportedMediaType,
    422: Invalid,
    429: TooOften,
    502: Unavailable,
    503: Unavailable,
    504: TooSlow,
    507: StorageFull,
}
"""For codes that belong to a kind of error, such as `collection_not_found`, and for proxies, which have none."""


def refusal(url: str, status: int, headers: Mapping[str, str], body: Mapping[str, Any], text: str) -> SheafError:
    """The error of an answer. body: problem details, empty where there are none; text: as it came."""
    code: str | None = body.get("code")
    kind = _BY_CODE.get(code or "") or _BY_STATUS.get(status) or (RequestError if status < 500 else SheafError)
    message = f"the server at {url} says {status}: {body.get('detail', text[:1_000])}"
    if status == 401:
        message += ". SHEAF_API_KEY holds the key that commands send"
    error: SheafError
    if issubclass(kind, TooOften):
        error = TooOften(message, 1.0)
    elif issubclass(kind, Invalid):
        problems = [Problem(one["pointer"], one["message"], one.get("line")) for one in body.get("errors", ())]
        error = Invalid(message, problems, code=code)
    else:
        error = kind(message, code=code)
    error.status = status
    error.request_id = body.get("request_id", "")
    error.headers = {"Retry-After": headers["retry-after"]} if "retry-after" in headers else {}
    return error


def no_answer(url: str, reason: Exception) -> Unavailable:
    """The error of a server that cannot be reached, or that ends a connection."""
    said = str(reason) or type(reason).__name__
    return Unavailable(f"the server at {url} does not answer: {said}", code="no_answer")
