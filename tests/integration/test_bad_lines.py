"""Slow and breaking lines on both sides of the gateway, a real Postfix behind it: octets stay, and nothing is lost or made up."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import pytest

from tests.integration.bad_line import BadLine
from tests.integration.gateway_process import Gateway
from tests.integration.postfix import DOMAIN, RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]
Start = Callable[..., AbstractContextManager[Gateway]]
BODY = b"".join(b"%05d a line of the body, .not at its front\r\n.dot\r\n" % number for number in range(400))


def send(port: int, marker: str) -> bool:
    """One try; whether it was acknowledged. A connection that breaks is no acknowledgement."""
    with suppress(smtplib.SMTPException, OSError), smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo("client.test")
        if client.mail("a@client.test")[0] != 250 or client.rcpt(f"bob@{DOMAIN}")[0] != 250:
            return False
        head = f"Subject: {marker}\r\nDate: Wed, 25 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{marker}@client.test>\r\n\r\n"
        return client.data(head.encode() + BODY)[0] == 250
    return False


def listens(gateway: Gateway) -> bool:
    with suppress(OSError):
        return gateway.greeting().startswith(b"220")
    return False


def found(postfix: RealPostfix, marker: str) -> list[bytes]:
    return [octets for octets in postfix.messages("bob") if f"Subject: {marker}\n".encode() in octets]


def test_slow_lines_on_both_sides(postfix: RealPostfix, start: Start) -> None:
    with BadLine(postfix.port) as behind:
        servers = [f"127.0.0.1:{behind.port}"]
        with start(workers=1, domains=[DOMAIN], servers=servers) as gateway, BadLine(gateway.smtp) as before:
            assert send(before.port, "slow")
            octets = postfix.wait_for("bob", b"Subject: slow\n")
    assert octets.endswith(b"\n\n" + BODY.replace(b"\r\n", b"\n"))


def test_lines_that_break_anywhere(postfix: RealPostfix, start: Start) -> None:
    """The client sends until it is acknowledged. A line that breaks behind the final dot may cost a duplicate, never a message."""
    size = len(BODY)
    places = [1, 20, 40, 60, 80, 100, 300, size // 2, size, size + 200, size + 400]
    with BadLine(postfix.port, piece=4096, pause=0, breaks=dict(enumerate(places))) as behind:
        servers, relay = [f"127.0.0.1:{behind.port}"], '[relay]\nrest = "10ms"\nrest_limit = "10ms"'
        with start(workers=1, domains=[DOMAIN], servers=servers, more=relay, ready=False) as gateway:
            gateway.until(lambda: listens(gateway))
            sent = 0
            while behind.connections <= len(places) and sent < 40:
                tries = next((number for number in range(1, 30) if send(gateway.smtp, f"broken-{sent}")), 0)
                assert tries, gateway.log.read_text()
                sent += 1
            assert behind.connections > len(places)
    for number in range(sent):
        postfix.wait_for("bob", f"Subject: broken-{number}\n".encode())
        for octets in found(postfix, f"broken-{number}"):  # each whole
            assert octets.endswith(b"\n\n" + BODY.replace(b"\r\n", b"\n"))


def test_a_client_whose_line_breaks_has_sent_nothing(postfix: RealPostfix, start: Start) -> None:
    with start(workers=1, domains=[DOMAIN], servers=[postfix.address]) as gateway:
        places = [30, 60, 90, 200, len(BODY) // 2, len(BODY)]
        with BadLine(gateway.smtp, piece=4096, pause=0, breaks=dict(enumerate(places))) as before:
            assert [send(before.port, f"gone-{number}") for number in range(len(places))] == [False] * len(places)
            assert send(before.port, "after")
            postfix.wait_for("bob", b"Subject: after\n")
    assert [len(found(postfix, f"gone-{number}")) for number in range(len(places))] == [0] * len(places)
