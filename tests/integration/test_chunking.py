"""Content in chunks through the real process to a real Postfix and a real Dovecot: both take CHUNKING and no BINARYMIME. RFC 3030 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.dovecot import DOMAIN, RealDovecot
from tests.integration.gateway_process import Gateway
from tests.integration.peers import Client
from tests.integration.postfix import RealPostfix
from tests.integration.test_through_postfix import arrived, below_ours, envelope

Start = Callable[..., Any]
pytestmark = [pytest.mark.real, pytest.mark.slow]


def told(gateway: Gateway, chunks: list[bytes], *recipients: bytes) -> list[bytes]:
    """Replies to the chunks, all sent at once."""
    first, *others = recipients or (b"<bob@example.test>",)
    with Client(gateway.smtp) as client:
        assert envelope(client, first).startswith(b"250")
        for other in others:
            assert client.say(b"RCPT TO:" + other + b"\r\n").startswith(b"250")
        last = len(chunks) - 1
        client.sock.sendall(
            b"".join(b"BDAT %d%s\r\n%s" % (len(one), b" LAST" * (n == last), one) for n, one in enumerate(chunks))
        )
        replies = [client.read() for _ in chunks]
        assert client.say(b"QUIT\r\n").startswith(b"221")
    return replies


def test_chunks_arrive_at_postfix_as_they_are(start: Start, postfix: RealPostfix) -> None:
    """Lines go by DATA, a last line without its end by BDAT, which Postfix's own count of commands shows."""
    lines = b"Subject: lines\r\n\r\n.\r\n..two\r\n\r\n\xff marker-lines\r\n" + b"x" * 998 + b"\r\n"
    unended = b"Subject: unended\r\n\r\n.\r\nmarker-unended" + b" y" * 400_000 + b"\r\n.\r\nno end"
    with start(workers=1, domains=["example.test"], servers=[f"{postfix.host}:{postfix.port}"]) as gateway:
        replies = told(gateway, [lines[:20], b"", lines[20:40], lines[40:], b""])
        assert [reply[:3] for reply in replies] == [b"250"] * 5
        assert b"queued as" in replies[-1]
        assert below_ours(arrived(postfix, "bob", b"marker-lines")) == lines
        replies = told(gateway, [unended[:100_000], unended[100_000:]])
        assert b"queued as" in replies[-1]
        assert below_ours(arrived(postfix, "bob", b"marker-unended")) == unended + b"\r\n", "Postfix ends the line"
    assert " data=1 bdat=1 " in postfix.log()


def test_a_message_too_large_for_postfix_is_refused_by_it(start: Start, postfix: RealPostfix) -> None:
    """Postfix's reply to our chunk, in its own words; the link is as good as before."""
    del postfix
    with RealPostfix(message_size_limit=200_000) as small:
        servers = [f"{small.host}:{small.port}"]
        with start(workers=1, domains=["example.test"], servers=servers) as gateway:
            for _ in range(2):
                (reply,) = told(gateway, [b"Subject: x\r\n\r\n" + b"y" * 300_000])
                assert reply.startswith(b"552 5.3.4"), reply
                assert b"(" not in reply, "not one of ours"
            (reply,) = told(gateway, [b"Subject: x\r\n\r\nsmall"])
            assert b"queued as" in reply


def test_dovecot_gets_the_last_line_as_it_is(start: Start, dovecot: RealDovecot) -> None:
    """By LMTP, to two recipients: Dovecot adds nothing to what comes by BDAT, so a CRLF of ours would be seen."""
    content = b"Subject: x\r\n\r\n.\r\nmarker-dovecot no end"
    with start(workers=1, domains=[DOMAIN], servers=[dovecot.address]) as gateway:
        (reply,) = told(gateway, [content], f"<alice@{DOMAIN}>".encode(), f"<bob@{DOMAIN}>".encode())
        assert reply.startswith(b"250"), reply
    for user in ("alice", "bob"):
        (saved,) = [one for one in dovecot.messages(user) if b"marker-dovecot" in one]
        assert saved.endswith(content.replace(b"\r\n", b"\n"))
