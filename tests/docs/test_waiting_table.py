"""docs/promises.md: how long a message's later transactions wait, computed from the retry parameters of the sending servers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.docs.own_replies import TOP

MINUTE = 60
TRIES = 5
POSTFIX = {"minimal_backoff_time": 300, "maximal_backoff_time": 4000, "queue_run_delay": 300}
"""postconf(5); a test below asks an installed one."""
EXIM = ((120, 15), (960, 60))
"""Minutes: the first two rules of its default configuration, `F,2h,15m; G,16h,1h,1.5`; the second is not reached here."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def postfix(age: int, *, least: int = 300, most: int = 4000) -> int:
    """When a message of this age is due again: as long from now as it is old, within the bounds (qmgr(8))."""
    return age + min(max(age, least), most)


def exim(age: int) -> int:
    """By the first rule whose time is not over."""
    return age + MINUTE * next(interval for until, interval in EXIM if age < until * MINUTE)


def each_run(age: int) -> int:
    """At every run of the queue."""
    return age + 1


def ages(due: Callable[[int], int], run: int, phase: int) -> list[int]:
    """At which ages a message is tried, if runs of the queue come at `phase` and every `run` seconds from there."""
    tries = [0]
    while len(tries) < TRIES:
        at = due(tries[-1])
        tries.append(phase + -(-(at - phase) // run) * run)
    return tries


def row(name: str, due: Callable[[int], int], run: int) -> str:
    """Shortest and longest wait of the second and later transactions, in minutes."""
    found = [ages(due, run, phase) for phase in range(1, run + 1)]
    cells = [f"{min(one) // MINUTE} to {-(-max(one) // MINUTE)}" for one in list(zip(*found, strict=True))[1:]]
    return f"| {name} | " + " | ".join(cells) + " |"


ROWS = (
    row("Postfix, as it comes", postfix, 300),
    row("Postfix, `queue_run_delay` and `minimal_backoff_time` 1 minute", lambda age: postfix(age, least=60), 60),
    row("Exim, its default retry rule, a queue run every 30 minutes", exim, 30 * MINUTE),
    row("Sendmail, a queue run every 15 minutes", each_run, 15 * MINUTE),
)


def test_the_table_is_what_the_parameters_give() -> None:
    page = (TOP / "docs" / "promises.md").read_text(encoding="utf-8")
    table = page.partition("<!-- table: tests/docs/test_waiting_table.py -->\n")[2].partition("<!-- end of table -->")[0]
    assert tuple(table.splitlines()[2:]) == ROWS


def test_each_wait_is_longer_than_the_one_before() -> None:
    for phase in (1, 150, 300):
        tried = ages(postfix, 300, phase)
        assert all(later - earlier >= 300 for earlier, later in pairwise(tried))


@pytest.mark.real
def test_the_parameters_are_those_of_an_installed_postfix(require: Callable[[str], str]) -> None:
    done = subprocess.run([require("postconf"), "-d", *POSTFIX], capture_output=True, text=True, check=True, timeout=20)
    told = re.findall(r"^(\w+) = (\d+)([smhd])$", done.stdout, re.MULTILINE)
    assert {name: int(number) * UNITS[unit] for name, number, unit in told} == POSTFIX


if __name__ == "__main__":
    print("\n".join(ROWS))  # noqa: T201 - the rows for the page
