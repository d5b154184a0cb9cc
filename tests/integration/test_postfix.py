"""The next hop of the integration tests itself: a real Postfix, spoken to without a gateway."""

from __future__ import annotations

import smtplib
import socket
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.postfix import RealPostfix

pytestmark = pytest.mark.real


def test_delivers_octets_and_answers_for_itself(postfix: RealPostfix) -> None:
    octets = b"Subject: eight\r\nX-Odd:  kept \r\n\r\n.dot\r\n\xff\xfe\r\n"
    with smtplib.SMTP(postfix.host, postfix.port, timeout=10) as client:
        client.ehlo("client.test")
        client.mail("a@client.test", ["BODY=8BITMIME"])
        assert client.rcpt("bob@example.test")[0] == 250
        assert client.rcpt("<postmaster>")[0] == 250
        code, text = client.rcpt("nobody@example.test")
        assert (code, text[:5]) == (550, b"5.1.1")
        assert client.rcpt("deferred@example.test")[0] == 450
        assert client.data(octets)[1].startswith(b"2.0.0 Ok: queued as ")
    for user in ("bob", "postmaster"):
        assert postfix.wait_for(user, b"X-Odd").endswith(octets.replace(b"\r\n", b"\n"))
    assert postfix.messages("alice") == []
    assert "status=sent (delivered to maildir)" in postfix.log()


def test_stopped_it_refuses_connections_and_paused_it_is_silent(postfix: RealPostfix) -> None:
    postfix.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((postfix.host, postfix.port), 2)
    began = time.monotonic()
    postfix.start()
    assert time.monotonic() - began < 3
    postfix.pause()
    with socket.create_connection((postfix.host, postfix.port), 2) as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        postfix.resume()
        sock.settimeout(5)
        assert sock.recv(100).startswith(b"220 postfix.test ESMTP")


def test_other_settings_for_a_while(postfix: RealPostfix) -> None:
    def answer(size: int) -> int:
        with smtplib.SMTP(postfix.host, postfix.port, timeout=10) as client:
            client.ehlo("client.test")
            if (code := client.mail("a@client.test", [f"SIZE={size}"])[0]) != 250:
                return code
            return client.rcpt("bob@example.test")[0]

    with postfix.with_settings(smtpd_recipient_restrictions="defer", message_size_limit="1000"):
        assert answer(10) == 450
        assert answer(1_001) == 552
    assert answer(1_001) == 250
