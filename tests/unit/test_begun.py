"""A coroutine that is begun outside of its task: gone on with there, or taken over by a task as if it had been its own all the time."""

import asyncio
from collections.abc import Generator

import pytest

from gateway.begun import Begun, in_task


class Brought:
    """Something that is brought: outside of a task it gives itself, in one it makes a future."""

    def __init__(self) -> None:
        self.value = ""
        self.waiter: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[object, None, str]:
        if not self.value and asyncio.current_task() is None:
            yield self
        if not self.value:
            self.waiter = asyncio.get_running_loop().create_future()
            yield from self.waiter
        return self.value

    def bring(self, value: str) -> None:
        self.value = value
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


async def outside(begun: Begun[str]) -> str | None:
    """`go_on`, as a callback of the loop does it."""
    done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def call() -> None:
        try:
            done.set_result(begun.go_on())
        except ValueError as error:
            done.set_exception(error)

    asyncio.get_running_loop().call_soon(call)
    return await done


async def test_it_is_gone_on_with_until_it_ends() -> None:
    brought = Brought()

    async def work() -> str:
        return "got " + await brought

    begun = Begun(work(), 1.0)
    assert await outside(begun) is None
    assert begun.waits_for is brought
    brought.bring("it")
    assert await outside(begun) == "got it"


async def test_what_it_raises_is_raised() -> None:
    async def work() -> str:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await outside(Begun(work(), 0.0))


@pytest.mark.parametrize("comes_first", [True, False])
async def test_a_task_takes_it_over_where_it_waits(comes_first: bool) -> None:
    brought = Brought()

    async def work() -> str:
        first = await brought
        async with asyncio.timeout(5):  # which only a task may have
            await asyncio.sleep(0.001)
        return first

    begun = Begun(work(), 0.0)
    assert await outside(begun) is None
    if comes_first:
        brought.bring("it")
    else:
        asyncio.get_running_loop().call_later(0.01, brought.bring, "it")
    assert await begun == "it"


@pytest.mark.parametrize("seconds", [0.0, 0.01])
async def test_a_task_takes_over_what_waits_for_anything(seconds: float) -> None:
    async def work() -> str:
        await asyncio.sleep(seconds)
        return "slept"

    begun = Begun(work(), 0.0)
    assert await outside(begun) is None
    assert await begun == "slept"


async def test_errors_and_cancellation_reach_it() -> None:
    seen: list[str] = []
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            await future
        except ValueError:
            seen.append("error")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return ""

    begun = Begun(work(), 0.0)
    assert await outside(begun) is None
    future.set_exception(ValueError("x"))

    async def take_over() -> str:
        return await begun

    task = asyncio.get_running_loop().create_task(take_over())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["error", "cancelled"]


async def test_given_up_it_tidies_up() -> None:
    brought, seen = Brought(), []

    async def work() -> str:
        try:
            return await brought
        finally:
            seen.append("tidied up")

    begun = Begun(work(), 0.0)
    assert await outside(begun) is None
    begun.give_up()
    assert seen == ["tidied up"]


async def test_whoever_needs_a_task_is_in_one() -> None:
    async def work() -> str:
        await in_task()
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return "in time"

    begun = Begun(work(), 0.0)
    assert await outside(begun) is None
    assert await begun == "in time"
    assert await work() == "in time"
