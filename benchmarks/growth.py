"""How the instructions of a message grow with its size, its recipients, header fields and MIME parts, and with the rules.

    make growth                         # tables, and plots in docs/performance/; fails where a curve is not linear
    make growth ARGS='--only rules'

Told for each point: instructions of a message, and what a further unit cost since the point before. On a line that price stays; where
the last step's is more than twice the dearest before it, the curve is not a line.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path

from benchmarks.counted import count
from benchmarks.curves import CURVES, Curve
from benchmarks.plot import plot

PLOTS = Path(__file__).parent.parent / "docs" / "performance"
STEEPER = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[one.name for one in CURVES], help="this curve; may be repeated")
    options = parser.parse_args()
    chosen = [curve for curve in CURVES if not options.only or curve.name in options.only]
    counted = dict(count(curve.point(size).name for curve in chosen for size in curve.sizes))
    PLOTS.mkdir(exist_ok=True)
    bent = []
    for curve in chosen:
        found = [(size, counted[curve.point(size).name]) for size in curve.sizes]
        prices = report(curve, found)
        (PLOTS / f"{curve.name.lower().replace(' ', '-')}.svg").write_text(plot(curve.name, curve.unit, found), "utf-8")
        if prices[-1] > STEEPER * max(prices[:-1]):
            bent.append(curve.name)
    if bent:
        sys.exit(f"not linear: {', '.join(bent)}")


def report(curve: Curve, found: list[tuple[int, float]]) -> list[float]:
    """The table; back come the prices of a unit from point to point."""
    per = f"{curve.per:,} {curve.unit}s" if curve.per > 1 else curve.unit
    prices = [(after - before) / (more - fewer) for (fewer, before), (more, after) in pairwise(found)]
    print(f"\n| {curve.name} | instructions a message | a further {per} |\n|---|---|---|")
    for (size, instructions), price in zip(found, ["", *(f"{price * curve.per:,.0f}" for price in prices)], strict=True):
        print(f"| {size:,} | {instructions:,.0f} | {price} |")
    return prices


if __name__ == "__main__":
    main()
