"""The real command with a milter listener: pages, metrics, and SIGTERM in the middle of a message."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest

from gateway.milter import codec
from tests.milter_mta import Mta

pytestmark = pytest.mark.slow


async def test_metrics_and_drain(start: Callable[..., Any]) -> None:
    with start(workers=1, listener='protocol = "milter"') as gateway:
        async with Mta(gateway.smtp) as idle, Mta(gateway.smtp) as busy:
            for mta in (idle, busy):
                await mta.client()
            assert await idle.message() == [codec.Accept()]
            page = await asyncio.to_thread(
                gateway.until, lambda: _metrics(gateway, 'mailgateway_transactions_total{verdict="delivered"} 1.0')
            )
            assert 'mailgateway_replies_total{code="250",command="RCPT"} 1.0' in page
            assert "mailgateway_sessions_open 2.0" in page
            await busy.envelope(["b@inbox.test"])
            gateway.process.send_signal(signal.SIGTERM)
            with pytest.raises(EOFError):
                await idle.answer()
            assert await busy.content() == [codec.Accept()], "it has until drain_limit"
            with pytest.raises(EOFError):
                await busy.answer()
            assert await asyncio.to_thread(gateway.process.wait, 10) == 0
        assert len(gateway.events("transaction")) == 2


def _metrics(gateway: Any, wanted: str) -> str:
    page = str(gateway.get("/metrics")[1])
    return page if wanted in page else ""
