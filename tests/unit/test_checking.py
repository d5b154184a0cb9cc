"""The order of checks, those that begin before the content among them: gateway.checking."""

from __future__ import annotations

import asyncio

import pytest

from gateway.checking import Order
from gateway.steps import Kind, Step


def step(name: str, *, takes: tuple[int, ...] | None = None, gives: tuple[str, ...] = (), needs: tuple[str, ...] = ()) -> Step:
    async def call() -> None: ...

    return Step(plugin=name, hook="check", call=call, kind=Kind.LOOP, pick=takes, gives=gives, needs=needs)


SPF = step("spf", takes=(0,), gives=("auth.spf",))
DKIM = step("dkim", takes=(1,), gives=("auth.dkim",))
DMARC = step("dmarc", needs=("auth.spf", "auth.dkim"))
AFTER_SPF = step("after", takes=(0,), needs=("auth.spf",))
AFTER_DKIM = step("after-dkim", takes=(0,), needs=("auth.dkim",))


class Journal:
    """Runs checks as long as it is told, and writes down what happened."""

    def __init__(self, *steps: Step, held: str = "") -> None:
        self.steps = steps
        self.events: list[str] = []
        self.gate = asyncio.Event()
        self.held = held

    async def ask(self, number: int) -> None:
        name = self.steps[number].plugin
        self.events.append(f"{name} begins")
        await (self.gate.wait() if name == self.held else asyncio.sleep(0))
        self.events.append(f"{name} ends")


@pytest.mark.parametrize(
    ("steps", "early"),
    [
        ((), ()),
        ((DKIM, DMARC), ()),
        ((DMARC, SPF, DKIM), (1,)),
        ((AFTER_SPF, DKIM, SPF), (0, 2)),
        ((DKIM, AFTER_DKIM, SPF), (2,)),
    ],
)
def test_early_are_those_that_need_no_content_and_nothing_of_it(steps: tuple[Step, ...], early: tuple[int, ...]) -> None:
    assert Order(steps).early == early


async def test_all_at_once_where_nothing_has_begun() -> None:
    journal = Journal(DMARC, SPF, DKIM)
    await Order(journal.steps).run(journal.ask)
    assert journal.events == ["spf begins", "dkim begins", "spf ends", "dkim ends", "dmarc begins", "dmarc ends"]


async def test_what_had_ended_with_the_content_is_not_run_again() -> None:
    journal = Journal(DMARC, SPF, DKIM)
    order = Order(journal.steps)
    begun = order.begin(journal.ask)
    await asyncio.sleep(0.01)
    assert journal.events == ["spf begins", "spf ends"]
    await order.run(journal.ask, begun)
    assert journal.events[2:] == ["dkim begins", "dkim ends", "dmarc begins", "dmarc ends"]


async def test_the_others_do_not_wait_for_a_slow_early_one_unless_they_need_it() -> None:
    journal = Journal(DMARC, SPF, DKIM, held="spf")
    order = Order(journal.steps)
    begun = order.begin(journal.ask)
    running = asyncio.get_running_loop().create_task(order.run(journal.ask, begun))
    await asyncio.sleep(0.01)
    assert journal.events == ["spf begins", "dkim begins", "dkim ends"]
    journal.gate.set()
    await running
    assert journal.events[3:] == ["spf ends", "dmarc begins", "dmarc ends"]


async def test_early_checks_alone_are_waited_for() -> None:
    journal = Journal(SPF, AFTER_SPF, held="after")
    order = Order(journal.steps)
    begun = order.begin(journal.ask)
    running = asyncio.get_running_loop().create_task(order.run(journal.ask, begun))
    await asyncio.sleep(0.01)
    assert journal.events == ["spf begins", "spf ends", "after begins"]
    assert not running.done()
    journal.gate.set()
    await running


async def test_what_another_chain_began_does_not_count() -> None:
    journal = Journal(SPF, DKIM)
    begun = Order(journal.steps).begin(journal.ask)
    await Order(journal.steps).run(journal.ask, begun)
    assert journal.events.count("spf begins") == 2
    await begun.task


async def test_cancelled_with_its_transaction() -> None:
    journal = Journal(SPF, held="spf")
    begun = Order(journal.steps).begin(journal.ask)
    await asyncio.sleep(0)
    begun.cancel()
    begun.cancel()
    await asyncio.wait([begun.task])
    assert begun.task.cancelled()
    assert journal.events == ["spf begins"]


async def test_when_the_transaction_is_cancelled_so_are_its_early_checks() -> None:
    journal = Journal(DMARC, SPF, DKIM, held="spf")
    order = Order(journal.steps)
    begun = order.begin(journal.ask)
    running = asyncio.get_running_loop().create_task(order.run(journal.ask, begun))
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running, begun.task])
    assert running.cancelled()
    assert begun.task.cancelled()


async def test_those_that_wait_for_each_other_need_no_task() -> None:
    journal = Journal(DKIM, DMARC)
    tasks = asyncio.all_tasks()
    work = asyncio.get_running_loop().create_task(Order(journal.steps).run(journal.ask))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - tasks == {work}
    await work
    assert journal.events == ["dkim begins", "dkim ends", "dmarc begins", "dmarc ends"]
