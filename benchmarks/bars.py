"""What the gateway is held against: a bar and a goal beyond it for each kind of work, and whether a run's figure reaches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.results import DIRECT, HAPROXY, HARAKA, ONE, POSTFIX, TWO, Results, late, over

MILTERS = "Postfix + opendkim + opendmarc + policyd-spf"
RSPAMD = "Postfix + rspamd"
HARAKA_DKIM = "Haraka, DKIM only"
CHECKS = "gateway, 1 worker"
CHECKS_AND_RULES = "gateway, 1 worker, 20 rules"
LOOP = "loop"
"""In the place of a work: all of them."""
LOOKS = {"late": "late, ms: ", "held": "held, ms: "}
"""Measures of any work that begin so: how many looks found the loop of a gateway at most so late, and later than the edge before; the same of
what is left of it without waiting for a core."""

HAPROXY_KEPT, HAPROXY_NEW, HAPROXY_LARGE = 0.073, 0.177, 3.8
"""Milliseconds of CPU that haproxy took a message on the machine where the bars in milliseconds were set: over it they hold on any machine."""

Figure = Callable[[Results], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One figure, the bar for it and the goal beyond."""

    work: str
    says: str
    """What the figure is, with its unit."""
    figure: Figure
    bar: float
    goal: float | None = None
    is_least: bool = False
    """The figure has to be at least so much; otherwise at most."""
    form: str = ".2f"

    def reaches(self, figure: float, limit: float) -> bool:
        """Whether the figure is on the right side of a limit, as it is printed."""
        shown = float(format(figure, self.form).replace(",", ""))
        return shown >= limit if self.is_least else shown <= limit


@dataclass(frozen=True, slots=True)
class Judged:
    """A bar beside what was measured."""

    bar: Bar
    figure: float | None

    @property
    def verdict(self) -> str:
        """In a word: held, missed, or not measured."""
        if self.figure is None:
            return "not measured"
        return "held" if self.bar.reaches(self.figure, self.bar.bar) else "missed"

    @property
    def goal(self) -> str:
        """The same for the goal; nothing where there is none."""
        if self.figure is None or self.bar.goal is None:
            return ""
        return "reached" if self.bar.reaches(self.figure, self.bar.goal) else "not reached"


def _faster(work: str, peer: str, *, peers_work: str = "", measure: str = "rate") -> Figure:
    """The better of one worker and two over a peer."""

    def figure(results: Results) -> float | None:
        ours = [found for way in (ONE, TWO) if (found := results.median(work, way, measure)) is not None]
        return over(max(ours, default=None), results.median(peers_work or work, peer, measure))

    return figure


def _of(work: str, way: str, measure: str) -> Figure:
    return lambda results: results.median(work, way, measure)


def _ratio(work: str, way: str, peer: str, measure: str) -> Figure:
    return lambda results: results.ratio(work, way, peer, measure)


def _added(work: str, measure: str) -> Figure:
    def figure(results: Results) -> float | None:
        ours, bare = results.median(work, ONE, measure), results.median(work, DIRECT, measure)
        return None if ours is None or bare is None else ours - bare

    return figure


def _two_over_one(work: str) -> Figure:
    """How much more two workers carry: their CPU a message, twice over, beside one worker's."""

    def figure(results: Results) -> float | None:
        ratio = results.ratio(work, ONE, TWO, "cpu")
        return None if ratio is None else 2 * ratio

    return figure


def looks(results: Results, kind: str) -> dict[float, float]:
    """Of every gateway under every load, by the upper edge of their bucket in milliseconds."""
    found: dict[float, float] = {}
    for work in results.works.values():
        for figures in work.ways.values():
            for measure, numbers in figures.items():
                if measure.startswith(LOOKS[kind]):
                    edge = float(measure.removeprefix(LOOKS[kind]))
                    found[edge] = found.get(edge, 0.0) + sum(numbers)
    return found


def held(results: Results) -> float | None:
    """Milliseconds for which a loop was held, of all looks but a thousandth."""
    return lag(results, "held", 0.999)


def lag(results: Results, kind: str, of_all: float) -> float | None:
    """Milliseconds that this share of all looks did not exceed."""
    found = looks(results, kind)
    return late(found, of_all) if found else None


BARS = (
    Bar(work="kept", says="msg/s, x haproxy", figure=_faster("kept", HAPROXY), bar=0.6, goal=0.9, is_least=True),
    Bar(work="kept", says="msg/s, x Postfix", figure=_faster("kept", POSTFIX), bar=2.0, is_least=True),
    Bar(work="kept", says="ms CPU a message, one worker", figure=_of("kept", ONE, "cpu"), bar=0.16, form=".3f"),
    Bar(
        work="kept",
        says="CPU of one worker, x haproxy",
        figure=_ratio("kept", ONE, HAPROXY, "cpu"),
        bar=round(0.16 / HAPROXY_KEPT, 2),
    ),
    Bar(work="kept", says="CPU of one worker, x Haraka", figure=_ratio("kept", ONE, HARAKA, "cpu"), bar=1 / 7, form=".3f"),
    Bar(work="new", says="msg/s, x haproxy", figure=_faster("new", HAPROXY), bar=0.8, goal=1.2, is_least=True),
    Bar(work="new", says="msg/s, x Postfix", figure=_faster("new", POSTFIX), bar=1.5, is_least=True),
    Bar(work="new", says="msg/s, x Haraka at 100 sessions", figure=_faster("new100", HARAKA), bar=4.0, is_least=True),
    Bar(work="new", says="ms CPU a message, one worker", figure=_of("new", ONE, "cpu"), bar=0.28, form=".3f"),
    Bar(
        work="new",
        says="CPU of one worker, x haproxy",
        figure=_ratio("new", ONE, HAPROXY, "cpu"),
        bar=round(0.28 / HAPROXY_NEW, 2),
    ),
    Bar(work="large", says="MB/s, x haproxy", figure=_faster("large", HAPROXY), bar=0.9, goal=1.05, is_least=True),
    Bar(work="large", says="ms CPU a message, one worker", figure=_of("large", ONE, "cpu"), bar=12.0, form=".1f"),
    Bar(
        work="large",
        says="CPU of one worker, x haproxy",
        figure=_ratio("large", ONE, HAPROXY, "cpu"),
        bar=round(12.0 / HAPROXY_LARGE, 2),
    ),
    Bar(work="session", says="ms added to a message, median", figure=_added("session", "p50"), bar=0.45, goal=0.2),
    Bar(work="session", says="ms of a message, p99", figure=_of("session", ONE, "p99"), bar=2.0),
    Bar(
        work="checks",
        says="CPU with 20 rules, x Postfix with three filters",
        figure=_ratio("checks", CHECKS_AND_RULES, MILTERS, "cpu"),
        bar=0.25,
    ),
    Bar(
        work="checks",
        says="CPU with 20 rules, x Postfix + rspamd",
        figure=_ratio("checks", CHECKS_AND_RULES, RSPAMD, "cpu"),
        bar=0.5,
    ),
    Bar(
        work="checks",
        says="CPU with 20 rules, x Haraka with DKIM",
        figure=_ratio("checks", CHECKS_AND_RULES, HARAKA_DKIM, "cpu"),
        bar=0.5,
    ),
    Bar(work="checks", says="ms CPU with 20 rules", figure=_of("checks", CHECKS_AND_RULES, "cpu"), bar=1.5, goal=0.8),
    Bar(work="at-once", says="MB above rest, PSS", figure=_of("at-once", ONE, "over"), bar=40, goal=20, form=".0f"),
    Bar(work="beside", says="p99 ms of small mail", figure=_of("beside", TWO, "p99"), bar=50, goal=10, form=".1f"),
    Bar(work="idle", says="KB a connection", figure=_of("idle", ONE, "each"), bar=8, goal=4, form=".1f"),
    Bar(work="idle", says="small mail's rate, x without", figure=_of("idle", ONE, "share"), bar=0.9, is_least=True),
    Bar(work="tls", says="msg/s, x haproxy", figure=_faster("tls", HAPROXY), bar=0.5, goal=0.8, is_least=True),
    Bar(work="rest", says="MB of the tree at rest, PSS", figure=_of("rest", ONE, "pss"), bar=80, goal=50, form=".0f"),
    Bar(work="rest", says="s from start to ready", figure=_of("rest", ONE, "start"), bar=2.0),
    Bar(work="kept", says="two workers over one", figure=_two_over_one("kept"), bar=1.8, goal=1.95, is_least=True),
    Bar(work="new", says="two workers over one", figure=_two_over_one("new"), bar=1.8, goal=1.95, is_least=True),
    Bar(work=LOOP, says="p99.9 ms that the loop was held", figure=held, bar=10, goal=5, form=".0f"),
)


def judged(results: Results) -> Iterator[Judged]:
    """Every bar, in the order of the works."""
    for bar in BARS:
        yield Judged(bar, bar.figure(results))
