"""How instructions grow with the size of a message, its recipients, header fields and MIME parts, with the rules, and with connections.

    make growth                         # tables; fails where a curve is not a line. Five to ten minutes
    make growth ARGS='--only rules'
    make growth ARGS=--write            # docs/performance.md, the plots and the figures they are made from

Told for each point: instructions of a message, and what a further unit cost since the point before. On a line that price stays; where
the last step's is more than twice the dearest before it, the curve is not a line.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report
from benchmarks.counted import count
from benchmarks.curves import CURVES, Curve, is_line, prices

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
PLOTS = PAGE.with_suffix("")
KEPT = PLOTS / "growth.json"

Counted = Mapping[str, Sequence[tuple[int, float]]]
"""Curve → size and instructions of each point."""


def main() -> None:
    """Count, print, and write where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[one.name for one in CURVES], help="this curve; may be repeated")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}; curves that were not counted keep their points")
    options = parser.parse_args()
    chosen = [curve for curve in CURVES if not options.only or curve.name in options.only]
    counted = {}
    for name, instructions in count([curve.point(size).name for curve in chosen for size in curve.sizes]):
        print(f"{name}: {instructions:,.0f}", file=sys.stderr, flush=True)
        counted[name] = instructions
    found = {curve.name: [(size, round(counted[curve.point(size).name])) for size in curve.sizes] for curve in chosen}
    for curve in chosen:
        print("\n".join(table(curve, found[curve.name])), "\n")
    if options.write:
        write(found)
    if bent := [name for name, points in found.items() if not is_line(points)]:
        sys.exit(f"not linear: {', '.join(bent)}")


def table(curve: Curve, points: Sequence[tuple[int, float]]) -> list[str]:
    """The lines of a curve's table."""
    per = f"{curve.per:,} {curve.unit}s" if curve.per > 1 else curve.unit
    shown = ["", *(f"{price * curve.per:,.0f}" for price in prices(points))]
    rows = [f"| {size:,} | {cost:,.0f} | {price} |" for (size, cost), price in zip(points, shown, strict=True)]
    return [f"| {curve.name} | instructions {curve.of} | a further {per} |", "|---|---|---|", *rows]


def write(found: Counted) -> None:
    """The page, the plots and the figures."""
    from benchmarks import plots

    PLOTS.mkdir(exist_ok=True)
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    made = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}"
    kept.update({name: {"made": made, "points": points} for name, points in found.items()})
    KEPT.write_text(json.dumps(kept) + "\n", "utf-8")
    lines = []
    for curve in (one for one in CURVES if one.name in kept):
        points = [(size, cost) for size, cost in kept[curve.name]["points"]]
        file = f"{curve.name.lower().replace(' ', '-')}.svg"
        plots.save(plots.curve(curve.name, curve.unit, points, measure=f"instructions {curve.of}"), PLOTS / file)
        lines += [f"`make growth` on {kept[curve.name]['made']}:", "", *table(curve, points), ""]
        lines += [f"![{curve.name}](performance/{file})", ""]
    PAGE.write_text(report.written(PAGE.read_text("utf-8"), "\n".join(lines), "make growth"), "utf-8")


if __name__ == "__main__":
    main()
