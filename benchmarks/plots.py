"""Plots as SVG: of a run's medians, and of curves beside the straight line. matplotlib, of the group `bench`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report import TABLES
from benchmarks.results import DIRECT, HAPROXY, HARAKA, ONE, POSTFIX, TWO, Results

mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "mailgateway", "font.size": 9, "axes.spines.top": False})
mpl.rcParams.update({"axes.spines.right": False, "axes.axisbelow": True})

COLOURS = {DIRECT: "#bbbbbb", HAPROXY: "#4477aa", POSTFIX: "#ccbb44", HARAKA: "#ee6677", ONE: "#228833", TWO: "#66ccaa"}
_RATES = ("kept", "new", "new100", "large", "tls")


def save(figure: Figure, file: Path) -> None:
    """The same octets for the same figures."""
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")


def draw(results: Results, folder: Path) -> list[str]:
    """Every plot of which there are figures; their names."""
    drawn = []
    groups: dict[str, tuple[str, str, Iterable[str], bool]] = {
        "rates": ("rate", "messages or octets a second, x haproxy", _RATES, False),
        "cpu": ("cpu", "ms CPU a message", _RATES, True),
        "latency": ("p99", "ms, p99 of a message", ("session", "beside"), True),
    }
    for name, (measure, title, works, is_log) in groups.items():
        told = [work for work in works if work in results.works]
        if told:
            save(_bars(results, told, measure, title, is_log=is_log), folder / f"{name}.svg")
            drawn.append(name)
    if "checks" in results.works:
        save(_checks(results), folder / "checks.svg")
        drawn.append("checks")
    return drawn


def _short(figure: float) -> str:
    """Two digits at least, and no exponent."""
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.2g}"


def _bars(results: Results, works: list[str], measure: str, title: str, *, is_log: bool) -> Figure:
    figure = Figure(figsize=(9, 3.4))
    axes: Any = figure.add_subplot()
    ways = [way for way in COLOURS if any(results.rounds(work, way, measure) for work in works)]
    width = 0.8 / max(1, len(ways))
    for at, way in enumerate(ways):
        places, heights = [], []
        for place, work in enumerate(works):
            found = results.median(work, way, measure) if measure != "rate" else results.ratio(work, way, HAPROXY, measure)
            if found is not None:
                places.append(place + (at - (len(ways) - 1) / 2) * width)
                heights.append(found)
        drawn = axes.bar(places, heights, width * 0.92, label=way, color=COLOURS[way])
        axes.bar_label(drawn, fmt=_short, fontsize=6.5)
    if is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.set_ylim(bottom=axes.get_ylim()[0] / 2)
    axes.set_xticks(range(len(works)), [TABLES[work].title.replace(", ", ",\n") for work in works], fontsize=7.5)
    axes.set_ylabel(title)
    axes.grid(axis="y", color="#eeeeee")
    figure.legend(loc="outside upper center", ncols=len(ways), frameon=False, fontsize=7.5)
    return figure


def _checks(results: Results) -> Figure:
    """CPU of what checks the sender, one line each."""
    figure = Figure(figsize=(9, 2.6))
    axes: Any = figure.add_subplot()
    ways = [way for way in results.works["checks"].ways if results.rounds("checks", way, "cpu")][::-1]
    heights = [results.median("checks", way, "cpu") for way in ways]
    colours = [COLOURS[ONE] if way.startswith("gateway") else COLOURS[HAPROXY] for way in ways]
    axes.bar_label(axes.barh(ways, heights, color=colours), fmt="%.2f", fontsize=7.5, padding=2)
    axes.set_xlabel("ms CPU a message: SPF + DKIM + DMARC of a signed message of 5 KB")
    axes.grid(axis="x", color="#eeeeee")
    return figure


def curve(name: str, unit: str, points: Sequence[tuple[int, float]], *, measure: str) -> Figure:
    """Both axes logarithmic; dashed: a cost that is proportional, through the last point."""
    figure = Figure(figsize=(5.6, 3.2))
    axes: Any = figure.add_subplot()
    sizes, costs = [size for size, _ in points], [cost for _, cost in points]
    least, most = max(sizes[0], 1), sizes[-1]
    axes.loglog(sizes, costs, marker="o", markersize=4, color=COLOURS[ONE])
    axes.loglog([least, most], [costs[-1] * least / most, costs[-1]], linestyle="--", linewidth=1, color="#999999")
    axes.set_ylim(min(costs) / 2, max(costs) * 2)
    axes.set_xlabel(f"{name} ({unit}s)")
    axes.set_ylabel(measure)
    axes.grid(color="#eeeeee")
    return figure
