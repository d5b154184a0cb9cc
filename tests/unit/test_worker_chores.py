"""What a worker does beside mail goes on after a round that failed."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import StorageError
from gateway.server.worker import again_and_again


@pytest.mark.parametrize("error", [StorageError("the disk is gone"), RuntimeError("a defect")], ids=repr)
async def test_a_round_that_fails_is_not_the_last(error: Exception) -> None:
    rounds = 0
    enough = asyncio.Event()

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise error
        enough.set()

    chore = asyncio.get_running_loop().create_task(again_and_again("test", work, every=0.001, first=0))
    async with asyncio.timeout(5):
        await enough.wait()
    chore.cancel()
    with pytest.raises(asyncio.CancelledError):
        await chore
    assert rounds >= 2
