"""Hooks that have no opinion are run in a row; the first that answers, fails or waits is handed on, and nothing of the rest is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway import Defer, Fact, Label, Plugin, Reject, Transaction, defer, hook, reject
from gateway.quiet import LONGEST, Begun, run_quiet
from gateway.registration import new_manager, steps_of
from gateway.steps import Step
from gateway.testing import a_transaction, run_chain

FAR = time.perf_counter() + 1e6


class Silent(Plugin):
    @hook
    async def data(self, transaction: Transaction) -> None: ...


class SilentCheap(Plugin):
    @hook(cheap=True)
    def data(self) -> None: ...


class SilentInThread(Plugin):
    @hook
    def data(self) -> None: ...


class Answers(Plugin):
    @hook
    async def data(self, transaction: Transaction) -> Defer:
        return defer("Later", reason=self.name)


class Fails(Plugin):
    @hook
    async def data(self) -> None:
        raise LookupError("no table")


class Waits(Plugin):
    @hook
    async def data(self) -> None:
        await asyncio.sleep(0.001)


class Blocks(Plugin):
    @hook
    async def data(self) -> None:
        time.sleep(2 * LONGEST)  # noqa: ASYNC251 - that is the point


def steps(*plugins: Plugin[Any], **settings: Any) -> list[Step]:
    manager = new_manager()
    return [step for plugin in plugins for step in steps_of(manager, plugin, **settings)]


def run(*plugins: Plugin[Any], at: int = 0, stop: float = FAR, **settings: Any) -> tuple[int, Begun | None]:
    made = steps(*plugins, **settings)
    return run_quiet(made, at, len(made), (a_transaction(),), stop)


def test_all_in_a_row() -> None:
    assert run(Silent(name="one"), SilentCheap(name="two"), Silent(name="three")) == (3, None)
    assert run(Silent(name="one"), SilentCheap(name="two"), at=2) == (2, None)


def test_each_is_counted_for_the_metrics() -> None:
    made = steps(Silent(name="one"), SilentCheap(name="two"), Answers(name="three"))
    for _ in range(3):
        run_quiet(made, 0, 3, (a_transaction(),), FAR)
    assert [step.quiet.calls for step in made] == [3, 3, 0]
    calls, seconds = made[0].quiet.take()
    assert calls == 3
    assert 0 < seconds < 3 * LONGEST
    assert made[0].quiet.take() == (0, 0.0)


def test_the_first_that_answers_is_handed_on() -> None:
    at, begun = run(Silent(name="one"), Answers(name="two"), Fails(name="three"))
    assert (at, begun and begun.answer) == (1, defer("Later", reason="two"))


def test_the_first_that_fails_is_handed_on() -> None:
    at, begun = run(Silent(name="one"), Fails(name="two"))
    assert at == 1
    assert begun is not None
    assert isinstance(begun.error, LookupError)


async def test_the_first_that_waits_is_handed_on_and_the_row_ends_with_it() -> None:
    last = Silent(name="last")
    made = steps(Silent(name="one"), Waits(name="two"), last)
    at, begun = run_quiet(made, 0, 3, (a_transaction(),), FAR)
    assert at == 1
    assert begun is not None
    assert begun.coroutine is not None
    begun.coroutine.close()
    assert made[2].quiet.calls == 0


@pytest.mark.parametrize(
    ("plugin", "settings"),
    [
        (SilentInThread(name="thread"), {}),
        (Silent(name="skips"), {"skip": frozenset(["trusted"])}),
        (Silent(name="watches"), {"is_monitor": True}),
        (Silent(name="hurries"), {"timeout": LONGEST / 2}),
    ],
    ids=lambda value: value.name if isinstance(value, Plugin) else "",
)
def test_what_needs_a_row_of_its_own_is_not_begun(plugin: Plugin[Any], settings: dict[str, Any]) -> None:
    assert run(plugin, **settings) == (0, None)


def test_none_is_begun_past_the_end() -> None:
    assert run(Silent(name="one"), stop=time.perf_counter()) == (0, None)


def test_one_that_took_long_is_told_of_alone() -> None:
    at, begun = run(Blocks(name="slow"), Silent(name="other"))
    assert at == 0
    assert begun is not None
    assert begun.answer is None
    assert begun.seconds > LONGEST


def rows(result: Any) -> list[tuple[str, str, str]]:
    return [(step["stage"], step["plugin"], step["outcome"]) for step in result.trace]


async def test_the_trace_names_them_in_one_row() -> None:
    result = await run_chain([Silent(name="a"), Silent(name="b"), Waits(name="c"), Silent(name="d"), Answers(name="e")])
    assert rows(result) == [("data", "a, b", "none"), ("data", "c", "none"), ("data", "d", "none"), ("data", "e", "verdict")]


async def test_a_fault_in_a_row_does_what_on_error_says() -> None:
    plugins = [Silent(name="a"), Fails(name="b"), Answers(name="c")]
    result = await run_chain(plugins, on_error="ignore")
    assert rows(result) == [("data", "a", "none"), ("data", "b", "error"), ("data", "c", "verdict")]
    assert "LookupError: no table" in result.trace[1]["evidence"]
    assert "test_quiet.py:" in result.trace[1]["evidence"]
    deferred = await run_chain([Silent(name="a"), Fails(name="b"), Answers(name="c")], on_error="defer")
    assert deferred.decision is not None
    assert (deferred.decision.plugin, deferred.decision.verdict.reason) == ("b", "plugin-error")


async def test_one_that_waits_too_long_ends_at_its_deadline() -> None:
    class Hangs(Plugin):
        @hook
        async def data(self) -> None:
            await asyncio.Event().wait()

    result = await run_chain([Silent(name="a"), Hangs(name="b"), Answers(name="c")], on_error="ignore", timeout=0.05)
    assert rows(result) == [("data", "a", "none"), ("data", "b", "timeout"), ("data", "c", "verdict")]


def check_of(give: Callable[[], Any], *, wait: bool, **declared: Any) -> type[Plugin]:
    """A plugin with a check."""

    class Check(Plugin):
        gives = declared.get("gives", ())
        needs = declared.get("needs", ())

        @hook
        async def check(self, transaction: Transaction) -> Any:
            if wait:
                async with asyncio.timeout(5):  # belongs to the task it was begun in
                    await asyncio.sleep(0)
            seen = [one.name for one in transaction.findings.of(Label)]
            return give() or Fact(name=self.name, value=",".join(sorted(seen)))

    return Check


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("third", [False, True])
async def test_checks_see_what_they_need_whichever_of_them_waits(*, first: bool, second: bool, third: bool) -> None:
    """The one that needs stands before those that give."""
    needy = check_of(lambda: None, wait=first, needs=("label.one", "label.two"))
    one = check_of(lambda: Label(name="one"), wait=second, gives=("label.one",))
    two = check_of(lambda: Label(name="two"), wait=third, gives=("label.two",))
    result = await run_chain([needy(name="needy"), one(name="one"), two(name="two"), Silent(name="x")])
    assert Fact(name="needy", value="one,two") in result.findings
    assert len(result.findings) == 3


async def test_a_judge_that_is_passed_over_is_not_run_in_a_row() -> None:
    from gateway import Skip, skip

    class Spares(Plugin):
        @hook
        async def judge(self) -> Skip:
            return skip("strict", reason="friend")

    class Strict(Plugin):
        @hook
        async def judge(self) -> Reject:
            return reject("No")

    class Quiet(Plugin):
        @hook
        async def judge(self) -> None: ...

    result = await run_chain([Spares(name="spares"), Quiet(name="quiet"), Strict(name="strict"), Quiet(name="last")])
    assert result.verdict is None
    assert rows(result) == [
        ("judge", "spares", "skip"),
        ("judge", "quiet", "none"),
        ("judge", "strict", "skipped"),
        ("judge", "last", "none"),
    ]
