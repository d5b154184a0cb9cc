"""The gateway beside other ways to the same sink, all in one run: `make bench`.

smtp-source → way → smtp-sink on loopback. Each round takes every work through every way in turn, so that what disturbs the machine disturbs
all; what is printed are medians of the rounds, ratios, and each bar of the project as held or missed. Nothing here asserts a time. As root the run
has a network, mounts and processes of its own, with a name server; without root what needs that is named and left out.

    make bench                                       # about a quarter of an hour on two quiet cores
    make bench ARGS='--quick --rounds 1'             # some minutes: does everything run?
    make bench ARGS='--only kept,new --rounds 5'
    make bench ARGS=--write                          # docs/performance.md, its plots and the figures they are made from
    make bench ARGS='--write --redraw'               # the same again from the figures kept, without measuring
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shlex
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report, spaces
from benchmarks.results import Results
from benchmarks.run import Run, Work, allow_descriptors
from benchmarks.works.checks import Body, Checks, Sender
from benchmarks.works.latency import Beside, Session
from benchmarks.works.memory import CONNECTIONS, AtOnce, Idle, Rest
from benchmarks.works.rates import RATES
from benchmarks.works.tls import Tls

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
PLOTS = PAGE.with_suffix("")
KEPT = PLOTS / "results.json"


def works() -> list[Work]:
    """All of them. What is measured apart comes before the others are started, or after they have ended."""
    sender = Sender()
    return [Rest(), *RATES, Session(), AtOnce(), Beside(), Tls(), Checks(sender), Body(sender), Idle()]


def measure(chosen: list[Work], options: argparse.Namespace) -> Results:
    """The run itself."""
    results = Results()
    load = os.getloadavg()[0]
    command = " ".join(["make bench", *([f"ARGS={shlex.quote(shlex.join(sys.argv[1:]))}"] if sys.argv[1:] else [])])
    made = (
        f"`{command}` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {options.rounds} rounds, {os.cpu_count()} cores, a load of {load:.1f} "
        f"before the run, Python {platform.python_version()}"
    )
    for work in chosen:
        results.begin(work.name, made)
    allow_descriptors()
    spaces.furnish()
    until = time.monotonic() + 60 * options.minutes
    together = [work for work in chosen if not work.apart]
    groups = [[work] for work in chosen if work.apart]
    groups.insert(1 if chosen[0].apart else 0, together)
    for group in groups:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.chmod(0o755)
            run = Run(stack, folder, results, options.rounds, quick=options.quick, until=until)
            run.open_sinks(2 * CONNECTIONS)
            _rounds(run, group)
    return results


def _rounds(run: Run, group: list[Work]) -> None:
    for turn in range(1 if any(work.apart for work in group) else run.rounds):
        for work in group:
            run.turn = turn
            if time.monotonic() > run.until:
                run.failed(work.name, f"round {turn + 1} was left out: the time is over")
                continue
            began = time.monotonic()
            with run.attempt(work.name, "all ways"):
                work.round(run)
            print(f"round {turn + 1}: {work.name}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def write(results: Results) -> None:
    """The page, the plots and the figures."""
    from benchmarks import plots

    PLOTS.mkdir(exist_ok=True)
    KEPT.write_text(results.to_json(), "utf-8")
    page = report.page(results, plots.draw(results, PLOTS))
    PAGE.write_text(report.written(PAGE.read_text("utf-8"), page, "make bench"), "utf-8")


def main() -> None:
    """Measure, print, and write where that is asked for."""
    known = works()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a fifth of the messages")
    parser.add_argument("--only", default="", metavar="WORK,…", help=f"of {', '.join(work.name for work in known)}")
    parser.add_argument("--minutes", type=float, default=20, help="no round of a work begins later than this")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}; works that were not measured keep their figures")
    parser.add_argument("--redraw", action="store_true", help="measure nothing: take the figures that were written last")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name]
    unknown = set(names) - {work.name for work in known}
    if unknown:
        parser.error(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(work.name for work in known)}")
    results, found = Results.kept(KEPT), Results()
    if not options.redraw:
        spaces.enter("benchmarks")
        found = measure([work for work in known if not names or work.name in names], options)
        print(report.page(found))
        results.update(found)
    if options.write:
        write(results)
    elif options.redraw:
        print(report.page(results))
    if not options.redraw and found.failures:
        sys.exit("some rounds failed, or were left out: they are named above")


if __name__ == "__main__":
    main()
