"""What a plugin costs: CPU a message on sample mail, against an empty chain, and time by hook. Measured, never judged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from gateway.content import Content
from gateway.message import Message
from gateway.offline import walk
from gateway.testing import FakeContext, a_session, a_transaction
from gateway.testing.run import FAULTS, build_chain
from gateway.threads import Threads

if TYPE_CHECKING:
    from gateway.chain import Chain
    from gateway.plugin import Plugin

TIME_LIMIT = 10.0
"""Seconds after which no more messages are begun."""
ROUNDS = 5
"""The messages are measured in so many turns, with and without the plugin in each; the median counts."""
_MAX_FAULTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCost:
    """One hook over all messages."""

    hook: str
    calls: int
    us_a_message: float
    """Time within the hook: the median for each sample, the mean of the samples."""
    outcomes: tuple[tuple[str, int], ...]
    """(`none`, 900), (`verdict`, 100): most frequent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What came of it."""

    messages: int
    cpu_us: float
    """CPU of the whole process a message, more than an empty chain takes."""
    empty_us: float
    """CPU of an empty chain a message."""
    hooks: tuple[HookCost, ...]
    faults: tuple[str, ...]
    """What hooks did wrong, each once."""


@dataclass(slots=True)
class _Measuring:
    """Runs messages, and keeps what the chain tells of each hook."""

    contents: Sequence[bytes]
    seconds: defaultdict[str, defaultdict[int, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """Hook → sample → seconds of each call."""
    outcomes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    faults: dict[str, None] = field(default_factory=dict)
    _sample: int = 0

    def observe(self, _: str, hook: str, outcome: str, seconds: float) -> None:
        """Told by the chain after each run of a hook."""
        self.seconds[hook][self._sample].append(seconds)
        self.outcomes[hook][outcome] += 1

    async def messages(self, chain: Chain, first: int, count: int) -> float:
        """Seconds of CPU for so many messages."""
        size = len(self.contents)
        made = [(a_transaction(session=a_session()), Content(self.contents[n % size])) for n in range(first, first + count)]
        steps = [step for stage in chain.steps.values() for step in stage]
        begun = time.process_time()
        for number, (transaction, content) in enumerate(made, first):
            self._sample = number % size
            await walk(chain, transaction, Message(content))
            for step in steps:
                calls, seconds = step.quiet.take()
                if calls:
                    self.seconds[step.hook][self._sample].append(seconds)
                    self.outcomes[step.hook]["none"] += calls
        spent = time.process_time() - begun
        for transaction, _ in made:
            for row in transaction.trace.steps if transaction.trace is not None else ():
                if row[3] in FAULTS and len(self.faults) < _MAX_FAULTS:
                    self.faults[f"{row[1]}: {row[9]}"] = None
        await asyncio.sleep(0)
        return spent

    async def alone(self, chain: Chain, hook: str, facts: tuple[Any, ...]) -> None:
        """`startup` or `shutdown`."""
        for step in chain.steps[hook]:
            run = await chain.run_alone(step, facts)
            if run.fault:
                self.faults[f"{hook}: {run.evidence}"] = None

    def of_hook(self, hook: str, messages: int) -> HookCost:
        """What came of one hook."""
        calls = sum(self.outcomes[hook].values())
        usual = fmean(median(one) for one in self.seconds[hook].values())
        return HookCost(
            hook=hook,
            calls=calls,
            us_a_message=usual * 1e6 * calls / messages,
            outcomes=tuple(self.outcomes[hook].most_common()),
        )


async def measure(plugin: Plugin[Any], contents: Sequence[bytes], count: int) -> Cost:
    """Run this plugin on `count` messages, taken from these in turn. Its `startup` and `shutdown` are run, and not measured."""
    measuring = _Measuring(contents)
    threads = Threads(16)
    chain, empty = build_chain([plugin], threads, observe=measuring.observe), build_chain([], threads)
    costly: list[float] = []
    bare: list[float] = []
    done = 0
    try:
        await measuring.alone(chain, "startup", (getattr(plugin, "context", FakeContext()),))
        for one in (empty, chain):  # warm: caches, imports, compiled patterns
            await measuring.messages(one, 0, len(contents))
        measuring.seconds.clear()
        measuring.outcomes.clear()
        end = time.monotonic() + TIME_LIMIT
        share = max(1, count // ROUNDS)
        while done < count and (not done or time.monotonic() < end):
            size = min(share, count - done)
            bare.append(await measuring.messages(empty, done, size) / size)
            costly.append(await measuring.messages(chain, done, size) / size)
            done += size
        await measuring.alone(chain, "shutdown", ())
    finally:
        threads.close()
    return Cost(
        messages=done,
        cpu_us=(median(costly) - median(bare)) * 1e6,
        empty_us=median(bare) * 1e6,
        hooks=tuple(measuring.of_hook(hook, done) for hook in chain.steps if hook in measuring.outcomes),
        faults=tuple(measuring.faults),
    )


def told(cost: Cost, say: Callable[[str], None]) -> None:
    """Print what each hook took."""
    for one in cost.hooks:
        answers = ", ".join(f"{word} {number}" for word, number in one.outcomes)
        say(f"  {one.hook:<14}{one.us_a_message:>8.1f} µs a message  {one.calls:>6} calls  {answers}")
