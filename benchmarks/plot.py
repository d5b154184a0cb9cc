"""A curve as SVG, both axes logarithmic, beside the straight line through its last point."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, EDGE = 580, 340, 80, 50, 40


def plot(name: str, unit: str, points: list[tuple[int, float]]) -> str:
    """The picture. Dashed: a cost that is proportional."""
    across = _axis([size for size, _ in points], LEFT, WIDTH - EDGE)
    up = _axis([cost for _, cost in points], HEIGHT - BOTTOM, EDGE)
    size, cost = points[-1]
    least = points[0][0]
    line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<clipPath id="frame"><rect x="{LEFT}" y="{EDGE}" width="{WIDTH - LEFT - EDGE}" height="{HEIGHT - BOTTOM - EDGE}"/></clipPath>',
        *(_tick(across(at), HEIGHT - BOTTOM + 16, f"{at:,}", "middle") for at in _powers(points[0][0], points[-1][0])),
        *(_tick(LEFT - 6, up(at) + 4, f"{at:,}", "end") for at in _powers(min(y for _, y in points), max(y for _, y in points))),
        (
            f'<line x1="{across(least):.1f}" y1="{up(cost * least / size):.1f}" x2="{across(size):.1f}" y2="{up(cost):.1f}" '
            'stroke="#999" stroke-dasharray="4" clip-path="url(#frame)"/>'
        ),
        f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>',
        *(f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="#06c"/>' for x, y in points),
        _tick(LEFT + (WIDTH - LEFT - EDGE) / 2, HEIGHT - 12, f"{name} ({unit}s)", "middle"),
        _tick(LEFT, EDGE - 7, "instructions a message", "start"),
        "</svg>",
    ]
    return "\n".join(drawn) + "\n"


def _axis(values: list[int] | list[float], begin: float, end: float) -> Callable[[float], float]:
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    return lambda value: begin + (end - begin) * (math.log10(value) - low) / (high - low)


def _powers(low: float, high: float) -> list[int]:
    return [10**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
