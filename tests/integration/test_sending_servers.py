"""Postfix as sending server: what it asks of an extension reaches the next hop through the gateway, octet for octet.

The next hop is the suite's own, so that its command lines can be looked at.
"""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from tests.integration.gateway_process import Gateway
from tests.integration.peers import NextHopInThread
from tests.integration.postfix import RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]
Start = Callable[..., AbstractContextManager[Gateway]]
MESSAGE = b"Subject: asked for\r\nFrom: a@client.test\r\n\r\nhello\r\n"


def commands(hop: NextHopInThread, verb: bytes) -> list[bytes]:
    """The lines of one verb that a message brought, once there is one."""
    deadline = time.monotonic() + 30
    while True:
        found = [line for line in hop.scripted.commands if line.startswith(verb)]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def onward(port: int) -> dict[str, str]:
    """main.cf of a Postfix that sends everything to the gateway."""
    return {
        "virtual_mailbox_domains": "",
        "default_transport": f"smtp:[127.0.0.1]:{port}",
        "smtputf8_autodetect_classes": "all",
    }


@contextmanager
def sending_postfix(hop: NextHopInThread, start: Start) -> Iterator[smtplib.SMTP]:
    """A session with a Postfix that sends what it is given through a gateway to the next hop."""
    with ExitStack() as stack:
        gateway = stack.enter_context(start(workers=1, domains=["far.test"], servers=[hop.scripted.address]))
        sender = stack.enter_context(RealPostfix(settings=onward(gateway.smtp)))
        yield stack.enter_context(smtplib.SMTP("127.0.0.1", sender.port, timeout=30))


@pytest.fixture
def hop() -> NextHopInThread:
    return NextHopInThread()


def test_postfix_with_dsn_parameters(hop: NextHopInThread, start: Start, require: Callable[[str], str]) -> None:
    require("postfix")
    with hop, sending_postfix(hop, start) as client:
        client.ehlo("client.test")
        client.mail("a@client.test", ["RET=HDRS", "ENVID=QQ+2B314159"])
        client.rcpt("bob@far.test", ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob+2Bx@Far.Test"])
        assert client.data(MESSAGE)[0] == 250
        mail, rcpt = commands(hop, b"MAIL"), commands(hop, b"RCPT")
    assert b"RET=HDRS" in mail[-1]
    assert b"ENVID=QQ+2B314159" in mail[-1]
    assert b"NOTIFY=SUCCESS,FAILURE" in rcpt[-1]
    assert b"ORCPT=rfc822;Bob+2Bx@Far.Test" in rcpt[-1]


def test_postfix_with_an_address_in_utf8(hop: NextHopInThread, start: Start, require: Callable[[str], str]) -> None:
    require("postfix")
    path = "bjørn@far.test"
    with hop, sending_postfix(hop, start) as client:
        client.ehlo("client.test")
        client.command_encoding = "utf-8"
        client.mail("a@client.test", ["SMTPUTF8", "BODY=8BITMIME"])
        assert client.rcpt(path)[0] == 250
        assert client.data(MESSAGE)[0] == 250
        mail, rcpt = commands(hop, b"MAIL"), commands(hop, b"RCPT")
    assert b"SMTPUTF8" in mail[-1].split()
    assert rcpt[-1].startswith(f"RCPT TO:<{path}>".encode())


def test_a_client_that_is_not_offered_dsn_sends_none(hop: NextHopInThread, start: Start, require: Callable[[str], str]) -> None:
    require("postfix")
    hop.scripted.keywords = ("PIPELINING", "8BITMIME")
    with hop, sending_postfix(hop, start) as client:
        client.ehlo("client.test")
        client.mail("a@client.test", ["RET=HDRS"])
        client.rcpt("bob@far.test", ["NOTIFY=NEVER"])
        client.data(MESSAGE)
        mail, rcpt = commands(hop, b"MAIL"), commands(hop, b"RCPT")
    assert b"RET" not in mail[-1]
    assert rcpt[-1] == b"RCPT TO:<bob@far.test>"
