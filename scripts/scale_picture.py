"""The picture of scripts/scale.py: cost against size, as SVG, with nothing but text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM = 380, 250, 58, 42
COLOURS = ("#1f5a8c", "#c2571a", "#3f7d3f", "#8a3f8a", "#6b6b6b")
Line = tuple[str, list[tuple[float, float]]]
"""A name, and (size, value) points."""


def draw(results: Sequence[dict[str, Any]], target: float) -> str:
    """results: as scripts/scale.py has them, one a size. Gives a whole SVG document."""
    at = {result["size"]: _at_target(result, target) for result in results}
    shares = [row["kept"] for row in next(iter(at.values()))]

    def asked(name: str, share: float) -> list[tuple[float, float]]:
        return [(size, row[name]) for size, rows in at.items() for row in rows if row["kept"] == share]

    def built(of: Any, scale: float) -> list[tuple[float, float]]:
        return [(result["size"], of(result) / scale) for result in results]

    panels: list[tuple[str, bool, list[Line]]] = [
        ("build, seconds", True, [("", built(lambda r: r["build"]["seconds"], 1))]),
        ("on disk, GB", True, [("", built(lambda r: r["build"]["bytes"], 1e9))]),
        (
            "peak memory, GB",
            True,
            [
                (f"{step}, {part}", built(lambda r, s=step, p=part: max(r[s]["memory"][p], 1), 1e9))
                for step in ("build", "ask")
                for part in ("anonymous", "shared")
            ],
        ),
        ("recall@10 against exact float32", False, [(_share(s), asked("recall", s)) for s in shares]),
        ("search, median ms", True, [(_share(s), asked("median_ms", s)) for s in shares]),
        ("search, 95th percentile ms", True, [(_share(s), asked("p95_ms", s)) for s in shares]),
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {3 * WIDTH} {2 * HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="#ffffff"/>'
    ]
    for i, (title, logarithmic, lines) in enumerate(panels):
        parts.append(f'<g transform="translate({i % 3 * WIDTH},{i // 3 * HEIGHT})">')
        parts.extend(_panel(title, logarithmic, lines))
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _at_target(result: dict[str, Any], target: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = result["ask"]["rows"]
    plain = [row for row in rows if row["kept"] == 1]
    width = next((row["width"] for row in plain if row["recall"] >= target), plain[-1]["width"])
    return [row for row in rows if row["width"] == width]


def _share(kept: float) -> str:
    return "no filter" if kept == 1 else f"keeps {100 * kept:g} %"


def _panel(title: str, logarithmic: bool, lines: Sequence[Line]) -> list[str]:
    """Sizes to the right, on a logarithmic scale; values up."""
    points = [point for _, line in lines for point in line]
    sizes, values = sorted({x for x, _ in points}), [y for _, y in points]
    if logarithmic:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
        marks = [10.0**e for e in range(low, max(high, low + 1) + 1)]
    else:
        low_value = math.floor(10 * min(values)) / 10
        marks = [low_value + (1 - low_value) * i / 4 for i in range(5)] if low_value < 1 else [0.0, 1.0]

    def x(size: float) -> float:
        span = math.log10(sizes[-1] / sizes[0]) or 1
        return LEFT + 20 + (WIDTH - LEFT - 50) * math.log10(size / sizes[0]) / span

    def y(value: float) -> float:
        first, last = (math.log10(marks[0]), math.log10(marks[-1])) if logarithmic else (marks[0], marks[-1])
        place = math.log10(value) if logarithmic else value
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 34) * (place - first) / (last - first)

    out = [f'<text x="{LEFT}" y="20" font-size="13" font-weight="bold">{title}</text>']
    for mark in marks:
        out.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" stroke="#dddddd"/>'
            f'<text x="{LEFT - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:g}</text>'
        )
    for size in sizes:
        out.append(f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{size:,.0f}</text>')
    for i, (name, line) in enumerate(lines):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.extend(f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{colour}"/>' for a, b in line)
        if name:
            out.append(f'<text x="{LEFT + 8}" y="{46 + 14 * i}" fill="{colour}">{name}</text>')
    return out
