"""Boosts as they are asked for: a closed form, of which nothing is evaluated that a caller wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, get_args

from app.errors import Invalid
from app.filters import FILTER_SCHEMA, Filter, is_number
from app.filters import parse as parse_filter
from app.metadata.names import FIELD
from app.results.values import require_field
from app.settings import DEFAULT, Limits

MOST_BOOSTS: Final = 16
MOST_WEIGHT: Final = 1_000.0

Shape: TypeAlias = Literal["gauss", "exp", "linear"]
Function: TypeAlias = Literal["value", "log1p", "sqrt", "saturation"]
_DAY: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Decay:
    """1 as far from ``origin`` as ``offset``, a half ``scale`` further. dates: whether values are dates, which are days
    since 1970, as origin, scale and offset are then."""

    origin: float
    scale: float
    kind: Shape = "gauss"
    offset: float = 0.0
    dates: bool = False


@dataclass(frozen=True, slots=True)
class Boost:
    """weight * value, where value is 1 of a document that passes the filter, or what decay or function make of a field.
    pivot: of a saturation. A document without such a value has 0."""

    weight: float
    filter: Filter | None = None
    field: str | None = None
    decay: Decay | None = None
    function: Function | None = None
    pivot: float = 0.0


_FINITE: Final[dict[str, Any]] = {"type": "number"}
_ABOVE: Final[dict[str, Any]] = {"type": "number", "exclusiveMinimum": 0}
_WEIGHT: Final[dict[str, Any]] = {"type": "number", "minimum": -MOST_WEIGHT, "maximum": MOST_WEIGHT}
_FIELD: Final[dict[str, Any]] = {"type": "string", "pattern": f"^{FIELD.pattern}$"}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


BOOSTS_SCHEMA: Final[dict[str, Any]] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MOST_BOOSTS,
    "items": {
        "anyOf": [
            _object(["filter", "weight"], filter=FILTER_SCHEMA, weight=_WEIGHT),
            _object(
                ["field", "decay", "weight"],
                field=_FIELD,
                decay=_object(
                    ["origin", "scale"],
                    origin={"anyOf": [_FINITE, {"type": "string"}]},
                    scale=_ABOVE,
                    offset={"type": "number", "minimum": 0},
                    kind={"enum": list(get_args(Shape))},
                ),
                weight=_WEIGHT,
            ),
            _object(
                ["field", "function", "weight"],
                field=_FIELD,
                function={"enum": list(get_args(Function))},
                pivot=_ABOVE,
                weight=_WEIGHT,
            ),
        ]
    },
    "description": "Additions to a score, each `weight` times a value: 1 of a document that passes a filter; a decay, "
    "1 where a number or a date is `origin`, a half `scale` from it (of dates in days; ISO 8601, UTC where no zone is "
    "said; `offset`: as far as that it is 1): `gauss` .5^((d/scale)^2), `exp` .5^(d/scale), `linear` 1 - d/(2 scale), "
    "not below 0; or a function of a number above 0: `value`, `log1p` ln(1 + x), `sqrt`, `saturation` x / (x + pivot). "
    "A document without such a value has 0. The unit is one standard deviation of the scores that a hybrid search "
    "fuses, in `semantic` the mean product of a query vector (so 1 is the largest cosine), else the score as it is. "
    "An exact search boosts all documents, any other its candidates, those of 100 documents at least.",
    "examples": [
        [
            {"filter": {"kind": {"eq": "class"}}, "weight": 0.3},
            {"field": "published", "decay": {"origin": "2026-05-01", "scale": 365}, "weight": 0.5},
            {"field": "likes", "function": "saturation", "pivot": 10, "weight": 0.2},
        ]
    ],
}


def parse(value: object, limits: Limits = DEFAULT) -> tuple[Boost, ...]:
    """Boosts from parsed JSON. Raises Invalid, pointing at the place in it.

    >>> parse([{"field": "likes", "function": "sqrt", "weight": 0.5}])[0].function
    'sqrt'
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_BOOSTS:
        raise Invalid.at("", f"expected a list of 1 to {MOST_BOOSTS} boosts")
    return tuple(_boost(one, f"/{i}", limits) for i, one in enumerate(value))


def _boost(value: object, at: str, limits: Limits) -> Boost:
    if not isinstance(value, dict) or sum(key in value for key in ("filter", "decay", "function")) != 1:
        raise Invalid.at(at, "expected an object with a weight and exactly one of filter, decay and function")
    if "filter" in value:
        _known(value, {"filter", "weight"}, at)
        return Boost(_weight(value, at), filter=parse_filter(value["filter"], f"{at}/filter", limits))
    field = value.get("field")
    if not isinstance(field, str):
        raise Invalid.at(f"{at}/field", "expected the name of a metadata field")
    require_field(field, f"{at}/field")
    if "decay" in value:
        _known(value, {"field", "decay", "weight"}, at)
        return Boost(_weight(value, at), field=field, decay=_decay(value["decay"], f"{at}/decay"))
    _known(value, {"field", "function", "weight", "pivot"}, at)
    function = value["function"]
    if function not in get_args(Function):
        raise Invalid.at(f"{at}/function", f"expected one of {', '.join(get_args(Function))}")
    if ("pivot" in value) != (function == "saturation"):
        raise Invalid.at(f"{at}/pivot", "a saturation has a pivot, the number that counts a half; nothing else has one")
    pivot = _number(value["pivot"], f"{at}/pivot", above=0.0) if "pivot" in value else 0.0
    return Boost(_weight(value, at), field=field, function=function, pivot=pivot)


def _decay(value: object, at: str) -> Decay:
    if not isinstance(value, dict):
        raise Invalid.at(at, "expected an object with an origin and a scale")
    _known(value, {"origin", "scale", "kind", "offset"}, at)
    kind = value.get("kind", "gauss")
    if kind not in get_args(Shape):
        raise Invalid.at(f"{at}/kind", f"expected one of {', '.join(get_args(Shape))}")
    origin, dates = value.get("origin"), isinstance(value.get("origin"), str)
    days = days_of(origin) if isinstance(origin, str) else None
    if dates and days is None:
        raise Invalid.at(f"{at}/origin", "expected a number, or a date as ISO 8601 has it, such as 2026-05-01")
    offset = _number(value["offset"], f"{at}/offset", least=0.0) if "offset" in value else 0.0
    return Decay(
        _number(origin, f"{at}/origin") if days is None else days,
        _number(value.get("scale"), f"{at}/scale", above=0.0),
        kind,
        offset,
        dates,
    )


def _known(value: Mapping[str, object], names: set[str], at: str) -> None:
    for name in value:
        if name not in names:
            raise Invalid.at(f"{at}/{name[:200]}", f"unknown field; there are {', '.join(sorted(names))}")


def _weight(value: Mapping[str, object], at: str) -> float:
    weight = _number(value.get("weight"), f"{at}/weight")
    if abs(weight) > MOST_WEIGHT:
        raise Invalid.at(f"{at}/weight", f"expected a weight from {-MOST_WEIGHT:g} to {MOST_WEIGHT:g}")
    return weight


def _number(value: object, at: str, *, above: float = -math.inf, least: float = -math.inf) -> float:
    if not isinstance(value, int | float) or not is_number(value) or not abs(value) <= 2**63:
        raise Invalid.at(at, "expected a number, of the size of a 64-bit integer at most")
    if not value > above or value < least:
        bound = f"above {above:g}" if above > least else f"of {least:g} at least"
        raise Invalid.at(at, f"expected a number {bound}")
    return float(value)


def days_of(value: str) -> float | None:
    """Of a date since 1970, with its time as a fraction; UTC where it names no zone. None where it is no date.

    >>> days_of("1970-01-02"), days_of("1970-01-01T12:00:00Z"), days_of("1970-01-01T01:00:00+01:00"), days_of("soon")
    (1.0, 0.5, 0.0, None)
    """
    # Without week dates and without a date written in one number, which are no dates of a facet either.
    if len(value) < len("1970-01-01") or value[4] != "-" or value[7] != "-":
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    moment = read if read.tzinfo is not None else read.replace(tzinfo=UTC)
    return (moment - _EPOCH).total_seconds() / _DAY
