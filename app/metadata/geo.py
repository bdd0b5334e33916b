"""Points on the earth, as objects with ``lat`` and ``lon`` in degrees (WGS 84), and how far they are apart.

An object, and no list of two numbers: GeoJSON has longitude first and most people latitude, and a list says neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from app.errors import Invalid
from app.schema.faults import name_of
from app.types import F64

EARTH_M: Final = 6_371_008.8
"""The mean radius of the earth (IUGG)."""
_BOUNDS: Final = {"lat": 90.0, "lon": 180.0}
POINT_SCHEMA: Final[dict[str, Any]] = {
    name: {"type": "number", "minimum": -most, "maximum": most} for name, most in _BOUNDS.items()
}


@dataclass(frozen=True, slots=True)
class Point:
    """In degrees."""

    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class Circle:
    """What lies no further than this from a point."""

    center: Point
    distance_m: float


def distances(center: Point, lat: F64, lon: F64) -> F64:
    """(n,) metres from the center to each point along the sphere, by the haversine formula; NaN of what is NaN.

    >>> distances(Point(0, 179.5), np.array([0.0]), np.array([-179.5])).round().tolist()
    [111195.0]
    """
    here, there = np.radians(center.lat), np.radians(lat)
    between = np.radians(lon - center.lon)
    a = np.sin((there - here) / 2) ** 2 + np.cos(here) * np.cos(there) * np.sin(between / 2) ** 2
    found: F64 = 2 * EARTH_M * np.arcsin(np.sqrt(np.minimum(a, 1.0)))
    return found


def is_point(value: object) -> bool:
    """Whether it is an object with ``lat`` and ``lon`` where the earth is; it may have more."""
    return isinstance(value, Mapping) and all(_within(value.get(name), most) for name, most in _BOUNDS.items())


def _within(value: object, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -most <= value <= most


def read_point(value: object, at: str, more: tuple[str, ...] = ()) -> Point:
    """From parsed JSON that has no other keys than those and ``more``. Raises Invalid, pointing at the place."""
    if not isinstance(value, Mapping):
        raise Invalid.at(at, f"expected an object with lat and lon, got {name_of(value)}")
    for name in value:
        if name not in (*_BOUNDS, *more):
            raise Invalid.at(f"{at}/{name}", f"unknown field; expected {', '.join((*_BOUNDS, *more))}")
    for name, most in _BOUNDS.items():
        if not _within(value.get(name), most):
            raise Invalid.at(f"{at}/{name}", f"expected degrees from {-most:g} to {most:g}")
    return Point(float(value["lat"]), float(value["lon"]))


def read_circle(value: object, at: str) -> Circle:
    """The same with ``distance_m``."""
    center = read_point(value, at, ("distance_m",))
    assert isinstance(value, Mapping), "it is a point"
    far = value.get("distance_m")
    if isinstance(far, bool) or not isinstance(far, int | float) or far < 0 or not math.isfinite(far):
        raise Invalid.at(f"{at}/distance_m", "expected a distance in metres, 0 or more")
    return Circle(center, float(far))
