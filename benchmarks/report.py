"""Tables of the results in Markdown: one for each work, and the bars. Printed, and written between two marks of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks import bars
from benchmarks.results import DIRECT, HAPROXY, Results, spread

Cell = Callable[[Results, str, str], str]
"""Of results, work and way."""


@dataclass(frozen=True, slots=True)
class Table:
    """What is told of a work."""

    title: str
    columns: tuple[tuple[str, Cell], ...]


def _plain(measure: str, form: str) -> Cell:
    def cell(results: Results, work: str, way: str) -> str:
        found = results.median(work, way, measure)
        return "" if found is None else format(found, form)

    return cell


def _beside(peer: str, measure: str = "rate") -> Cell:
    def cell(results: Results, work: str, way: str) -> str:
        found = results.ratio(work, way, peer, measure)
        return "" if found is None else f"{found:.2f}"

    return cell


def _spread(results: Results, work: str, way: str) -> str:
    found = results.rounds(work, way, "rate")
    return f"{spread(found):.0%}" if len(found) > 1 else ""


def _added(results: Results, work: str, way: str) -> str:
    ours, bare = results.median(work, way, "p50"), results.median(work, DIRECT, "p50")
    return "" if ours is None or bare is None or way == DIRECT else f"{ours - bare:.2f}"


def _rates(unit: str, cpu: str = ".3f") -> tuple[tuple[str, Cell], ...]:
    return (
        (unit, _plain("rate", ",.0f")),
        ("apart", _spread),
        ("x direct", _beside(DIRECT)),
        ("x haproxy", _beside(HAPROXY)),
        ("ms CPU a message", _plain("cpu", cpu)),
        ("of it the busiest process", _plain("busiest", ".0%")),
    )


TABLES = {
    "kept": Table("4 KB, 20 sessions, kept connections", _rates("msg/s")),
    "new": Table("4 KB, 20 sessions, new connections", _rates("msg/s")),
    "new100": Table("4 KB, 100 sessions, new connections", _rates("msg/s")),
    "large": Table("5 MB, 4 sessions", _rates("MB/s", ".1f")),
    "tls": Table("4 KB, 20 sessions, kept connections, TLS on both sides", _rates("msg/s")),
    "session": Table(
        "One session, 4 KB, kept",
        (
            ("ms a message, p50", _plain("p50", ".2f")),
            ("over no proxy", _added),
            ("p99", _plain("p99", ".2f")),
            ("final dot, p50", _plain("dot_p50", ".2f")),
            ("p99", _plain("dot_p99", ".2f")),
        ),
    ),
    "beside": Table(
        "10 x 20 MB at once, small mail beside",
        (
            ("messages", _plain("messages", ",.0f")),
            ("p50 ms", _plain("p50", ".1f")),
            ("p99 ms", _plain("p99", ".1f")),
            ("max ms", _plain("most", ".1f")),
        ),
    ),
    "at-once": Table(
        "20 x 5 MB at once",
        (
            ("at rest, PSS MB", _plain("rest", ".1f")),
            ("above rest, PSS MB", _plain("over", ".1f")),
            ("of it heaps", _plain("over_heaps", ".1f")),
            ("MB/s", _plain("rate", ",.0f")),
        ),
    ),
    "checks": Table(
        "5 KB signed, 20 sessions, kept, SPF + DKIM + DMARC",
        (
            ("msg/s", _plain("rate", ",.0f")),
            ("ms CPU a message", _plain("cpu", ".2f")),
            ("x Postfix + rspamd", _beside(bars.RSPAMD, "cpu")),
            ("x Postfix + three filters", _beside(bars.MILTERS, "cpu")),
            ("final dot, p50 ms", _plain("dot_p50", ".1f")),
            ("p99 ms", _plain("dot_p99", ".1f")),
        ),
    ),
    "body": Table(
        "5 MB, DKIM relaxed/relaxed, one worker",
        (
            ("ms CPU, no plugins", _plain("bare", ".1f")),
            ("ms CPU, SPF DKIM DMARC", _plain("checked", ".1f")),
            ("the checks alone", _plain("added", ".1f")),
        ),
    ),
    "rest": Table(
        "At rest",
        (
            ("PSS MB", _plain("pss", ".1f")),
            ("of it files", _plain("files", ".1f")),
            ("RSS MB", _plain("rss", ".1f")),
            ("USS MB", _plain("uss", ".1f")),
            ("start to ready s", _plain("start", ".2f")),
            ("CPU s", _plain("start_cpu", ".2f")),
        ),
    ),
    "idle": Table(
        "Idle connections",
        (
            ("number", _plain("number", ",.0f")),
            ("KB each, PSS", _plain("each", ".1f")),
            ("of it heaps", _plain("each_heaps", ".1f")),
            ("small mail with them, x without", _plain("share", ".2f")),
        ),
    ),
}


def table(results: Results, work: str) -> Iterator[str]:
    """The lines of a work's table; columns that say nothing are left out."""
    told = TABLES[work]
    ways = results.works[work].ways
    cells = {way: [cell(results, work, way) for _, cell in told.columns] for way in ways}
    kept = [at for at in range(len(told.columns)) if any(row[at] for row in cells.values())]
    yield f"| {told.title} | " + " | ".join(told.columns[at][0] for at in kept) + " |"
    yield "|---" * (len(kept) + 1) + "|"
    for way, row in cells.items():
        yield f"| {way} | " + " | ".join(row[at] for at in kept) + " |"


def bar_table(results: Results) -> Iterator[str]:
    """The lines of the table of bars."""
    with_core = results.with_core()
    yield "| work | figure | measured | bar | | goal | | compiled core | |\n|---|---|---|---|---|---|---|---|---|"
    for one in bars.judged(results):
        bar = one.bar
        sign = "≥" if bar.is_least else "≤"
        figure = "" if one.figure is None else format(one.figure, bar.form)
        goal = "" if bar.goal is None else f"{sign} {bar.goal:g}"
        title = TABLES[bar.work].title if bar.work in TABLES else "The event loop, in any of these"
        limit = "1/7" if bar.bar == 1 / 7 else f"{bar.bar:g}"
        yield f"| {title} | {bar.says} | {figure} | {sign} {limit} | {one.verdict} | {goal} | {one.goal} | {_compiled(bar, with_core)} |"


def _compiled(bar: bars.Bar, with_core: Results) -> str:
    """Two cells: the figure with the compiled core and what it comes to, where that was measured."""
    if bar.work not in with_core.works:
        return " |"
    found = bars.Judged(bar, bar.figure(with_core))
    return " |" if found.figure is None else f"{format(found.figure, bar.form)} | {found.verdict}"


def lag_line(results: Results) -> str:
    """One sentence for all loads, or nothing."""
    said = []
    for kind, word in (("late", "late by"), ("held", "held for")):
        if looks := sum(bars.looks(results, kind).values()):
            parts = (
                f"{name} {bars.lag(results, kind, part):g} ms" for name, part in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
            )
            said.append(f"{word} at most {', '.join(parts)} ({looks:,.0f} looks)")
    return f"The loops of the gateways under load were {', and '.join(said)}." if said else ""


def page(results: Results, plots: Sequence[str] = ()) -> str:
    """Everything that is told of results. `plots`: names of the files."""
    lines: list[str] = []
    made = ""
    for work in (one for one in TABLES if one in results.works and results.works[one].ways):
        if results.works[work].made != made:
            made = results.works[work].made
            lines += [f"{made}:", ""]
        lines += [*table(results, work), ""]
    if line := lag_line(results):
        lines += [line, ""]
    lines += [*bar_table(results), ""]
    lines += [line for name in plots for line in (f"![{name}](performance/{name}.svg)", "")]
    if results.failures:
        lines += ["Rounds that failed or were left out:", "", *(f"- {one}" for one in results.failures), ""]
    return "\n".join(lines)


def written(document: str, text: str, command: str) -> str:
    """A document with this text between the two marks of the command. ValueError where it has none."""
    before, begin, rest = document.partition(f"<!-- {command}: begin -->")
    _, end, after = rest.partition(f"<!-- {command}: end -->")
    if not begin or not end:
        raise ValueError(f"the page has no place for {command}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"
