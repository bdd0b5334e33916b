"""Dates of ISO 8601 as moments: whole nanoseconds since 1970-01-01T00:00:00Z, so that they compare exactly.

A date alone is its midnight in UTC. A date-time says its zone, since without one it is no moment.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

EXPECTED: Final = "expected a date such as 2024-05-01, or a date-time with its zone such as 2024-05-01T10:30:00Z"
_SECOND: Final = 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DATE: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)?([Zz]|[+-]\d\d(?::?\d\d)?))?", re.ASCII
)


@lru_cache(maxsize=4_096)
def moment(text: str) -> int | None:
    """None of what is no date. Digits after the ninth of a second are left out.

    >>> moment("1970-01-02"), moment("1970-01-01T01:00:00.5+01:00"), moment("2024-02-30"), moment("2024-05-01T10:00:00")
    (86400000000000, 500000000, None, None)
    """
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        at = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC)
    except ValueError:
        return None
    seconds = (at - _EPOCH) // timedelta(seconds=1)
    if zone and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
        if hours > 23 or minutes > 59:
            return None
        seconds -= (1 if zone[0] == "+" else -1) * (hours * 3_600 + minutes * 60)
    return seconds * _SECOND + int((fraction or "").ljust(9, "0"))


def written(moment: int) -> str:
    """In UTC; with as many digits of a second as it has.

    >>> written(500_000_000), written(86_400_000_000_000)
    ('1970-01-01T00:00:00.5Z', '1970-01-02T00:00:00Z')
    """
    seconds, rest = divmod(moment, _SECOND)
    try:
        at = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        # A zone may move the first and the last day out of the years that are written with four digits.
        at = datetime.min if seconds < 0 else datetime.max
        rest = 0
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction + "Z"
