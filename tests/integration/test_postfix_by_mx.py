"""A real Postfix that is found by MX, over a name server that is asked in packets (RFC 5321 5.1)."""

from __future__ import annotations

import asyncio
import json
import smtplib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.testing import StubDnsServer
from tests.integration.postfix import RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]

ZONES = {
    "example.test": {"MX": [[10, "away.example.test"], [20, "alias.example.test"]]},
    "away.example.test": {"A": ["127.0.0.9"]},
    "alias.example.test": {"CNAME": ["mail.example.test"]},
    "mail.example.test": {"A": ["127.0.0.1"]},
    "null.test": {"MX": [[0, "."]]},
}


@contextmanager
def name_server(zones: dict[str, Any]) -> Iterator[StubDnsServer]:
    """In a thread of its own, with its own loop: what starts the gateway blocks."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait_for(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    server = wait_for(StubDnsServer(zones).__aenter__())
    try:
        yield server
    finally:
        wait_for(server.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_mail_goes_to_the_exchanger_that_answers(start: Callable[..., Any], postfix: RealPostfix) -> None:
    with (
        name_server(ZONES) as server,
        start(
            workers=1,
            domains=["example.test", "null.test", "nowhere.test"],
            servers=[f"mx::{postfix.port}"],
            more=f'[dns]\nnameservers = ["{server.address}"]',
        ) as gateway,
    ):
        with smtplib.SMTP("127.0.0.1", gateway.smtp, timeout=20) as client:
            client.ehlo("client.test")
            assert client.has_extn("dsn"), "offered is what the exchanger has, asked before mail came"
            client.mail("a@client.test")
            assert client.rcpt("bob@null.test")[0] == 556
            assert client.rcpt("bob@nowhere.test")[0] == 550
            assert client.rcpt("bob@example.test")[0] == 250
            code, text = client.data(b"Subject: by MX\r\n\r\nmarker-by-mx\r\n")
            assert (code, b"queued as" in text) == (250, True)
        assert b"Subject: by MX" in postfix.wait_for("bob", b"marker-by-mx")
        report = json.loads(gateway.get("/ready")[1])
        assert (report["routes"], report["resting"]) == ({"default": True}, {"default": 1})
        shown = gateway.until(lambda: [line for line in gateway.get("/metrics")[1].splitlines() if "next_hop_resting{" in line])
        assert shown == [f'mailgateway_next_hop_resting{{next_hop="away.example.test[127.0.0.9]:{postfix.port}"}} 1.0']
        assert ("example.test", "MX", "udp") in server.queries
        [record] = [one for one in gateway.events("transaction", at_least=1) if one["verdict"] == "delivered"]
        assert record["next_hop"] == f"alias.example.test[127.0.0.1]:{postfix.port}"
