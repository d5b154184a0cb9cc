"""VRFY, EXPN and ETRN passed on to a real Postfix: the same words as without the gateway. RFC 5321 3.5, RFC 1985 5."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.integration.peers import Client
from tests.integration.postfix import RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]

LISTENER = 'vrfy = "next_hop"\nexpn = "next_hop"\netrn = "next_hop"'


def test_the_same_words_as_without_the_gateway(start: Callable[..., Any], postfix: RealPostfix) -> None:
    with start(workers=1, domains=["example.test"], servers=[postfix.address], listener=LISTENER) as gateway, ExitStack() as undo:
        said: list[list[bytes]] = []
        for port in (postfix.port, gateway.smtp):
            client = undo.enter_context(Client(port))
            offered = client.say(b"EHLO client.test\r\n")
            assert b"VRFY\r\n" in offered
            assert b"ETRN\r\n" in offered
            commands = (
                b"VRFY alice@example.test",
                b"VRFY <nobody@example.test>",
                b"EXPN staff",
                b"ETRN elsewhere.test",
                b"VRFY alice",
            )
            said.append([client.say(command + b"\r\n") for command in commands])
        bare, through = said
        assert [reply.replace(b"459 4.0.0 ", b"459 ") for reply in through] == bare  # Postfix itself has no code there
        assert through[0].startswith(b"252 2.0.0 alice")
        assert through[1].startswith(b"550 5.1.1 ")
