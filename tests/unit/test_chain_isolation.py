"""Hooks that raise, hang, ignore their cancellation, block a thread: mail goes on, and the trace says who it was."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from gateway import Defer, Finding, Plugin, Score, Verdict, accept, hook, reject
from gateway.chain import Chain
from gateway.runner import Runner
from gateway.session import ClientClass
from gateway.testing import a_message, a_session, a_transaction
from gateway.testing.run import build_chain
from gateway.threads import Circuit, Threads
from gateway.transaction import Transaction

LIMIT = 0.05
SOON = 1.0
"""Seconds within which the transaction must have gone on; far below what the hooks below would take."""


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(2)
    yield made
    made.close()


async def judge(chain: Chain, transaction: Transaction | None = None) -> Any:
    """The verdict on the first recipient."""
    transaction = a_transaction() if transaction is None else transaction
    await chain.decide(transaction, a_message())
    decision = transaction.recipients[0].decision
    return None if decision is None else decision.verdict


def reason_of(verdict: Any) -> str:
    assert isinstance(verdict, Defer)
    assert (verdict.code, verdict.enhanced) == (451, "4.3.0")
    assert "Temporary failure" in verdict.text
    return verdict.reason


class Accepts(Plugin):
    @hook
    async def judge(self) -> Verdict:
        return accept("the-next-one")


class Raises(Plugin):
    error: BaseException = LookupError("what the operator reads")

    @hook
    async def judge(self) -> None:
        raise self.error


class RaisesInThread(Raises):
    @hook
    def judge(self) -> None:  # type: ignore[override]
        raise self.error


class RaisesCheap(Raises):
    @hook(cheap=True)
    def judge(self) -> None:  # type: ignore[override]
        raise self.error


class OddError(Exception):
    def __str__(self) -> str:
        raise ValueError("even this fails")


@pytest.mark.parametrize("kind", [Raises, RaisesInThread, RaisesCheap])
@pytest.mark.parametrize(
    "error",
    [
        LookupError("x"),
        SystemExit(1),
        RecursionError(),
        asyncio.CancelledError(),
        TimeoutError("its own"),
        StopAsyncIteration(),
        GeneratorExit(),
        OddError(),
        BaseExceptionGroup("g", [SystemExit(2)]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_it_raises(kind: type[Raises], error: BaseException, threads: Threads) -> None:
    plugin = kind(name="raises")
    plugin.error = error
    transaction = a_transaction()
    assert reason_of(await judge(build_chain([plugin], threads), transaction)) == "plugin-error"
    assert transaction.trace is not None
    (step,) = transaction.trace.step_records()
    assert (step["plugin"], step["outcome"]) == ("raises", "error")
    assert type(error).__name__ in step["evidence"] or "RuntimeError" in step["evidence"]


async def test_the_evidence_names_file_and_line(threads: Threads) -> None:
    verdict = await judge(build_chain([Raises(name="raises")], threads))
    assert "LookupError: what the operator reads at test_chain_isolation.py:" in verdict.evidence
    assert "operator" not in verdict.text


async def test_ignored_fault_lets_the_next_plugin_decide(threads: Threads) -> None:
    chain = build_chain([Raises(name="raises"), Accepts(name="accepts")], threads, on_error="ignore")
    assert await judge(chain) == accept("the-next-one")


class Sleeps(Plugin):
    ended = False

    @hook
    async def judge(self) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            self.ended = True


async def test_sleeping_for_ever(threads: Threads) -> None:
    plugin = Sleeps()
    began = time.monotonic()
    assert reason_of(await judge(build_chain([plugin], threads, timeout=LIMIT))) == "plugin-timeout"
    assert LIMIT <= time.monotonic() - began < SOON
    assert plugin.ended


class Stubborn(Plugin):
    """Ignores the first cancellation and waits on; ends by itself later."""

    ended = False
    release: asyncio.Event

    @hook
    async def judge(self) -> Verdict:
        self.release = asyncio.Event()
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                continue
        self.ended = True
        return reject("too late")


async def test_a_coroutine_that_swallows_its_cancellation(threads: Threads) -> None:
    plugin = Stubborn()
    chain = build_chain([plugin], threads, timeout=LIMIT)
    runner: Runner = chain._runner
    transaction = a_transaction()
    began = time.monotonic()
    assert reason_of(await judge(chain, transaction)) == "plugin-timeout"
    assert time.monotonic() - began < SOON
    assert len(runner.abandoned) == 1  # counted, and referenced
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    plugin.release.set()
    await asyncio.wait(runner.abandoned, timeout=SOON)
    assert plugin.ended
    assert reason_of(transaction.recipients[0].decision.verdict) == "plugin-timeout"  # type: ignore[union-attr]


async def test_the_grace_of_a_cancelled_hook_ends(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.runner.GRACE", 0.05)
    chain = build_chain([Stubborn()], threads, timeout=LIMIT)
    await judge(chain)
    await asyncio.wait(chain._runner.abandoned, timeout=SOON)
    assert chain._runner.closed_late == 1
    assert not chain._runner.abandoned


async def test_the_number_of_abandoned_hooks_is_bounded(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.runner.MAX_ABANDONED", 0)
    chain = build_chain([Stubborn()], threads, timeout=LIMIT)
    await judge(chain)
    assert not chain._runner.abandoned
    assert chain._runner.closed_late == 1


class AwaitsStubbornTask(Plugin):
    task: asyncio.Task[None]

    @hook
    async def judge(self) -> None:
        async def ignore_everything() -> None:
            for _ in range(2):
                try:
                    await asyncio.sleep(0.3)
                except asyncio.CancelledError:
                    continue

        self.task = asyncio.get_running_loop().create_task(ignore_everything())
        await self.task


async def test_a_hook_that_awaits_a_task_that_ignores_its_cancellation(threads: Threads) -> None:
    plugin = AwaitsStubbornTask()
    assert reason_of(await judge(build_chain([plugin], threads, timeout=LIMIT))) == "plugin-timeout"
    assert not plugin.task.done(), "nobody waits for it"
    await asyncio.wait([plugin.task])


class CleansUp(Plugin):
    steps: list[str]

    @hook
    async def judge(self) -> None:
        self.steps = []
        try:
            await asyncio.sleep(3600)
        finally:
            self.steps.append("begins")
            await asyncio.sleep(0.01)
            self.steps.append("ends")


async def test_a_cancelled_hook_may_clean_up_behind_our_back(threads: Threads) -> None:
    plugin = CleansUp()
    chain = build_chain([plugin], threads, timeout=LIMIT)
    assert reason_of(await judge(chain)) == "plugin-timeout"
    assert plugin.steps == ["begins"]
    await asyncio.wait(chain._runner.abandoned, timeout=SOON)
    assert plugin.steps == ["begins", "ends"]


class OwnTimeouts(Plugin):
    """What a well-written plugin does inside: its own time-out, a TaskGroup, sleep(0), gather."""

    @hook
    async def judge(self) -> Verdict | None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(3600)
        except TimeoutError:
            pass
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0.001, n)) for n in range(3)]
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.sleep(0.001), 1)
        found = await asyncio.gather(asyncio.sleep(0, 7), asyncio.to_thread(int, "8"))
        return accept(f"got-{sum(task.result() for task in tasks)}-{found[0] + found[1]}")


async def test_asyncio_works_inside_a_hook(threads: Threads) -> None:
    assert await judge(build_chain([OwnTimeouts()], threads, timeout=5)) == accept("got-3-15")


class AwaitsNonsense(Plugin):
    @hook
    async def judge(self) -> None:
        class Foreign:
            def __await__(self) -> Generator[Any, Any, Any]:
                yield "something of another event loop"

        await Foreign()


async def test_a_hook_of_another_event_loop_library(threads: Threads) -> None:
    verdict = await judge(build_chain([AwaitsNonsense()], threads))
    assert reason_of(verdict) == "plugin-error"
    assert "asyncio does not know" in verdict.evidence


class BlocksTheLoop(Plugin):
    @hook
    async def judge(self) -> Verdict:
        time.sleep(LIMIT * 2)  # noqa: ASYNC251 - the point of the test
        return reject("late")


async def test_a_late_answer_is_dropped_although_it_came_without_waiting(threads: Threads) -> None:
    assert reason_of(await judge(build_chain([BlocksTheLoop()], threads, timeout=LIMIT))) == "plugin-timeout"


@pytest.mark.parametrize("kind", [Sleeps, CleansUp, AwaitsStubbornTask])
async def test_a_cancellation_from_outside_goes_through(kind: type[Plugin[Any]], threads: Threads) -> None:
    plugin = kind()
    chain = build_chain([plugin], threads, timeout=60)
    task = asyncio.get_running_loop().create_task(judge(chain))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if isinstance(plugin, AwaitsStubbornTask):
        await asyncio.wait([plugin.task])


class SwallowsAndAnswers(Plugin):
    @hook
    async def judge(self) -> Verdict | None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return reject("swallowed")
        return None


async def test_a_swallowed_cancellation_from_outside_is_not_lost(threads: Threads) -> None:
    task = asyncio.get_running_loop().create_task(judge(build_chain([SwallowsAndAnswers()], threads, timeout=60)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_swallowing_its_own_deadline_is_a_timeout(threads: Threads) -> None:
    assert reason_of(await judge(build_chain([SwallowsAndAnswers()], threads, timeout=LIMIT))) == "plugin-timeout"


class Hangs(Plugin):
    """A `def` hook that hangs in its thread until it is let go."""

    def __init__(self, name: str = "hangs") -> None:
        super().__init__(name=name)
        self.release = threading.Event()
        self.runs = 0

    @hook
    def judge(self) -> Verdict:
        self.runs += 1
        self.release.wait(20)
        return reject("late")


class InThread(Plugin):
    @hook
    def judge(self) -> Verdict:
        return accept(threading.current_thread().name)


async def test_a_def_hook_runs_in_a_thread_of_ours(threads: Threads) -> None:
    assert await judge(build_chain([InThread()], threads)) == accept("mailgateway-hook")


async def test_hung_threads_are_counted_and_open_the_circuit_of_their_plugin_only(threads: Threads) -> None:
    hangs, other = Hangs(), InThread(name="other")
    chain = build_chain([hangs], threads, timeout=LIMIT)
    circuit = chain.steps["judge"][0].circuit
    for lost in (1, 2):
        assert reason_of(await judge(chain)) == "plugin-timeout"
        assert (threads.lost, circuit.lost) == (lost, lost)
    transaction = a_transaction()
    began = time.monotonic()
    assert reason_of(await judge(chain, transaction)) == "plugin-error"
    assert time.monotonic() - began < LIMIT
    assert hangs.runs == 2  # not run again
    assert transaction.trace is not None
    assert transaction.trace.step_records()[0]["outcome"] == "circuit"
    assert await judge(build_chain([other], threads)) == accept("mailgateway-hook")  # its threads are its own
    hangs.release.set()
    while threads.lost:  # noqa: ASYNC110 - a thread tells nobody when it comes back
        await asyncio.sleep(0.005)
    assert not circuit.is_open
    assert await judge(chain) == reject("late")


async def test_an_open_circuit_that_is_ignored(threads: Threads) -> None:
    hangs = Hangs()
    chain = build_chain([hangs, Accepts()], threads, timeout=LIMIT, on_error="ignore")
    for _ in range(3):
        assert await judge(chain) == accept("the-next-one")
    assert hangs.runs == 2
    hangs.release.set()


async def test_a_call_that_never_got_a_thread_is_taken_back() -> None:
    threads = Threads(1)
    first, second = Hangs("first"), Hangs("second")
    slow = build_chain([first], threads, timeout=SOON)
    waiting = asyncio.get_running_loop().create_task(judge(slow))
    await asyncio.sleep(0.02)
    assert reason_of(await judge(build_chain([second], threads, timeout=LIMIT))) == "plugin-timeout"
    assert threads.lost == 0
    first.release.set()
    second.release.set()
    assert await waiting == reject("late")
    assert second.runs == 0
    threads.close()


async def test_a_closed_pool_lets_its_threads_end() -> None:
    threads = Threads(1)
    await judge(build_chain([InThread()], threads))
    threads.close()
    for _ in range(200):
        if not threads._alive:
            break
        await asyncio.sleep(0.005)
    assert threads._alive == 0


async def test_a_circuit_is_open_at_its_bound() -> None:
    circuit = Circuit(2)
    circuit.lost = 1
    assert not circuit.is_open
    circuit.lost = 2
    assert circuit.is_open


class Counts(Plugin):
    """A generator as the answer of a `def` hook: its code runs in the thread as well."""

    @hook
    def check(self) -> Iterator[Finding]:
        yield Score(symbol=threading.current_thread().name, weight=1.0)


async def test_findings_of_a_generator(threads: Threads) -> None:
    transaction = a_transaction()
    await build_chain([Counts()], threads).decide(transaction, a_message())
    assert list(transaction.findings) == [Score(symbol="mailgateway-hook", weight=1.0)]


class ReturnsCoroutine(Plugin):
    @hook(cheap=True)
    def judge(self) -> Any:
        return asyncio.sleep(0)


async def test_a_def_hook_that_answers_a_coroutine(threads: Threads) -> None:
    verdict = await judge(build_chain([ReturnsCoroutine()], threads))
    assert reason_of(verdict) == "plugin-error"
    assert "coroutine" in verdict.evidence


async def test_on_error_differs_by_client_class(threads: Threads) -> None:
    chain = build_chain([Raises()], threads)
    chain.steps["judge"][0].on_error = {"authenticated": "ignore"}
    known = a_transaction(session=a_session(identity="alice"))
    assert known.session.client_class is ClientClass.AUTHENTICATED
    assert await judge(chain, known) is None
    assert reason_of(await judge(chain)) == "plugin-error"


async def test_a_skipped_class_is_not_asked(threads: Threads) -> None:
    chain = build_chain([Raises()], threads, skip=["authenticated"])
    transaction = a_transaction(session=a_session(identity="alice"))
    assert await judge(chain, transaction) is None
    assert transaction.trace is not None
    assert transaction.trace.step_records()[0]["outcome"] == "skipped"


async def test_the_budget_of_a_stage_bounds_its_hooks(threads: Threads) -> None:
    chain = build_chain([Sleeps(name="one"), Sleeps(name="two")], threads, timeout=60, on_error="ignore", check_budget=LIMIT)
    transaction = a_transaction()
    began = time.monotonic()
    assert await judge(chain, transaction) is None
    assert time.monotonic() - began < SOON
    assert transaction.trace is not None
    assert [step["outcome"] for step in transaction.trace.step_records()] == ["timeout", "timeout"]


async def test_the_budget_of_the_envelope_bounds_its_hooks(threads: Threads) -> None:
    class SleepsAtData(Plugin):
        @hook
        async def data(self) -> None:
            await asyncio.sleep(3600)

    slow = [SleepsAtData(name="one"), SleepsAtData(name="two")]
    chain = build_chain(slow, threads, timeout=60, on_error="ignore", envelope_budget=LIMIT)
    transaction = a_transaction()
    began = time.monotonic()
    assert await chain.data(transaction) is None
    assert time.monotonic() - began < SOON
    assert transaction.trace is not None
    assert [step["outcome"] for step in transaction.trace.step_records()] == ["timeout", "timeout"]


async def test_the_transactions_own_deadline_bounds_hooks(threads: Threads) -> None:
    transaction = a_transaction(deadline=asyncio.get_running_loop().time() + LIMIT)
    began = time.monotonic()
    assert reason_of(await judge(build_chain([Sleeps()], threads, timeout=60), transaction)) == "plugin-timeout"
    assert time.monotonic() - began < SOON
