"""The form of a line of the log, and what must not be in one."""

from __future__ import annotations

import json
import logging
import sys

from app.api.observe.logs import JsonLines, Readable

WORD = "zanzibar"


def record(message: str, error: BaseException | None = None, **fields: object) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("app.here", logging.WARNING, __file__, 1, message, (), info)
    if fields:
        made.fields = fields
    return made


def chained() -> BaseException:
    try:
        try:
            raise KeyError(f"{WORD} id")
        except KeyError as error:
            raise ValueError(f"{WORD} text") from error
    except ValueError:
        found = sys.exc_info()[1]
        assert found is not None
        return found


def test_one_json_object_a_line_whatever_the_message_holds() -> None:
    line = JsonLines().format(record('two\nlines and a "quote" \ud800', status=200, stages={"encode_ms": 1.5}))
    assert "\n" not in line
    told = json.loads(line)
    assert told["message"].startswith("two\nlines")
    assert (told["level"], told["logger"], told["status"]) == ("warning", "app.here", 200)
    assert told["stages"] == {"encode_ms": 1.5}
    assert told["time"].endswith("+00:00")


def test_an_exception_is_told_by_kind_and_place_without_its_words() -> None:
    for text in (Readable().format(record("failed", chained())), JsonLines().format(record("failed", chained()))):
        assert WORD not in text
        assert "ValueError" in text
        assert "KeyError" in text
        assert "in chained" in text
        assert "test_logs.py" in text


def test_at_debug_its_words_are_told_too() -> None:
    for form in (Readable(verbose=True), JsonLines(verbose=True)):
        assert f"{WORD} text" in form.format(record("failed", chained()))
