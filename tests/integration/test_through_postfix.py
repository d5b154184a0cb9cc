"""Real clients through the gateway to a real Postfix: octets, replies, and what happens when Postfix is not well."""

from __future__ import annotations

import os
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import Gateway
from tests.integration.peers import Client
from tests.integration.postfix import RealPostfix

Start = Callable[..., Any]
pytestmark = [pytest.mark.real, pytest.mark.slow]

HARD = (
    (
        b"From: =?utf-8?q?J=C3=B6rg?= <a@client.test>\r\n"
        b"to:bob@example.test\r\n"
        b"Subject:   spaces  kept \r\n"
        b"X-Folded: one\r\n\ttwo\r\n   three\r\n"
        b"X-Empty:\r\n"
        b"Received: from elsewhere by nowhere; Tue, 24 Nov 2026 00:00:00 +0000\r\n"
        b"\r\n"
        b".leading dot\r\n..two dots\r\n.\r\r\n"
        + b"x" * 997
        + b"\r\n\xff\x00\xe9 8-bit and NUL\r\n \r\n\t\r\n\r\n\r\nend without more\r\n"
    )
    .replace(b"\r\r\n", b"\r\n")
    .replace(b"\x00", b"")
)


def envelope(dialogue: Client, recipient: bytes = b"<bob@example.test>") -> bytes:
    assert dialogue.say(b"EHLO client.test\r\n").startswith(b"250")
    reply = dialogue.say(b"MAIL FROM:<a@client.test>\r\n")
    if not reply.startswith(b"250"):
        return reply
    return dialogue.say(b"RCPT TO:" + recipient + b"\r\n")


def below_ours(delivered: bytes) -> bytes:
    """What Postfix delivered, without the fields that Postfix and the gateway put on top, with CRLF again."""
    octets = delivered.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    at = octets.index(b"(mailgateway)")
    end = octets.index(b"\r\n", octets.index(b"; ".replace(b" ", b""), at))
    while octets[end + 2 : end + 3] in {b" ", b"\t"}:
        end = octets.index(b"\r\n", end + 2)
    return octets[end + 2 :]


@pytest.fixture
def through(start: Start, postfix: RealPostfix) -> Iterator[Gateway]:
    """A gateway without plugins in front of the suite's Postfix."""
    with start(workers=1, domains=["example.test"], servers=[f"{postfix.host}:{postfix.port}"]) as gateway:
        yield gateway


def arrived(postfix: RealPostfix, user: str, marker: bytes, limit: float = 15) -> bytes:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        for octets in postfix.messages(user):
            if marker in octets:
                return bytes(octets)
        time.sleep(0.1)
    raise AssertionError(f"{marker!r} did not arrive\n{postfix.log()}")


def test_smtplib_octets_are_identical_below_the_added_fields(through: Gateway, postfix: RealPostfix) -> None:
    message = HARD.replace(b"end without more", b"marker-smtplib")
    with smtplib.SMTP("127.0.0.1", through.smtp, timeout=20) as client:
        client.ehlo("client.test")
        client.mail("a@client.test", ["BODY=8BITMIME"])
        client.rcpt("bob@example.test")
        code, text = client.data(message)
    assert code == 250
    assert b"queued as" in text  # Postfix's own words
    assert below_ours(arrived(postfix, "bob", b"marker-smtplib")) == message


def test_swaks(through: Gateway, postfix: RealPostfix, require: Callable[[str], str], tmp_path: Path) -> None:
    body = tmp_path / "message"
    body.write_bytes(b"From: a@client.test\nTo: bob@example.test\nSubject: swaks\n\nline one\n.dot\nmarker-swaks\n")
    done = subprocess.run(
        [
            require("swaks"),
            "--server",
            f"127.0.0.1:{through.smtp}",
            "--from",
            "a@client.test",
            "--to",
            "bob@example.test",
            "--data",
            f"@{body}",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = below_ours(arrived(postfix, "bob", b"marker-swaks"))
    assert found.rstrip(b"\r\n") == body.read_bytes().replace(b"\n", b"\r\n").rstrip(b"\r\n")


def test_smtp_source(through: Gateway, postfix: RealPostfix, require: Callable[[str], str]) -> None:
    done = subprocess.run(
        [
            require("smtp-source"),
            "-m",
            "20",
            "-s",
            "4",
            "-l",
            "3000",
            "-S",
            "marker-source",
            "-f",
            "a@client.test",
            "-t",
            "alice@example.test",
            f"127.0.0.1:{through.smtp}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    arrived(postfix, "alice", b"marker-source")
    through.until(lambda: sum(b"marker-source" in one for one in postfix.messages("alice")) == 20)


def test_an_unknown_recipient_is_refused_in_postfix_own_words(through: Gateway, postfix: RealPostfix) -> None:
    with Client(postfix.port) as direct:
        theirs = envelope(direct, b"<nobody@example.test>")
    with Client(through.smtp) as dialogue:
        assert envelope(dialogue, b"<nobody@example.test>") == theirs
    assert theirs.startswith(b"550 5.1.1 ")


def test_the_reply_to_the_dot_is_postfix_own(through: Gateway, postfix: RealPostfix) -> None:
    with Client(through.smtp) as dialogue:
        envelope(dialogue)
        assert dialogue.say(b"DATA\r\n").startswith(b"354")
        reply = dialogue.say(b"Subject: x\r\n\r\nhello\r\n.\r\n")
        assert reply.startswith(b"250 2.0.0 Ok: queued as ")
        assert reply.split()[-1].decode() in postfix.log()


def test_dsn_parameters_reach_postfix(through: Gateway, postfix: RealPostfix) -> None:
    with Client(through.smtp) as dialogue:
        assert b"DSN" in dialogue.say(b"EHLO client.test\r\n")
        assert dialogue.say(b"MAIL FROM:<a@client.test> RET=HDRS ENVID=QQ+2B314\r\n").startswith(b"250")
        assert dialogue.say(b"RCPT TO:<bob@example.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+40example.test\r\n").startswith(
            b"250"
        )
        assert dialogue.say(b"RCPT TO:<alice@example.test> NOTIFY=SOMETIMES\r\n").startswith(b"501 5.5.4")  # Postfix' refusal
        assert dialogue.say(b"RCPT TO:<alice@example.test> X-ODD=1\r\n").startswith(b"555 5.5.4")  # ours


def test_stopped_postfix_costs_4xx_and_nothing_is_accepted(
    start: Start, postfix: RealPostfix, free_port: Callable[[], int]
) -> None:
    with start(workers=1, domains=["example.test"], servers=[f"127.0.0.1:{free_port()}"], ready=False) as gateway:
        gateway.until(lambda: "listens on" in gateway.out.read_text())
        with Client(gateway.smtp) as dialogue:
            reply = envelope(dialogue)
            assert reply.startswith(b"451 4.4.1")
            assert dialogue.say(b"DATA\r\n").startswith(b"503")


def test_postfix_that_stops_after_the_rcpt(through: Gateway, postfix: RealPostfix) -> None:
    with Client(through.smtp) as dialogue:
        assert envelope(dialogue).startswith(b"250")
        assert dialogue.say(b"DATA\r\n").startswith(b"354")
        postfix.stop()
        try:
            reply = dialogue.say(b"Subject: marker-stopped\r\n\r\nhello\r\n.\r\n")
        finally:
            postfix.start()
        assert reply.startswith(b"451 4."), reply
    assert not any(b"marker-stopped" in one for one in postfix.messages("bob"))


def test_paused_postfix_costs_4xx_after_the_time_limit(start: Start, postfix: RealPostfix) -> None:
    with (
        start(
            workers=1,
            domains=["example.test"],
            servers=[f"127.0.0.1:{postfix.port}"],
            more='[relay]\ndata_timeout = "2s"\ngreeting_timeout = "2s"\nfinal_reply_timeout = "2s"',
        ) as gateway,
        Client(gateway.smtp) as dialogue,
    ):
        assert envelope(dialogue).startswith(b"250")
        assert dialogue.say(b"DATA\r\n").startswith(b"354")
        postfix.pause()
        try:
            reply = dialogue.say(b"Subject: marker-paused\r\n\r\nhello\r\n.\r\n")
        finally:
            postfix.resume()
        assert reply.startswith(b"451 4.4."), reply


def test_postfix_answering_4xx_is_passed_on(through: Gateway, postfix: RealPostfix) -> None:
    with Client(postfix.port) as direct:
        theirs = envelope(direct, b"<deferred@example.test>")
    with Client(through.smtp) as dialogue:
        assert envelope(dialogue, b"<deferred@example.test>") == theirs
        assert theirs.startswith(b"45")
        assert dialogue.say(b"DATA\r\n").startswith(b"554 5.5.1")


def test_a_relay_attempt_of_a_stranger_never_reaches_postfix(through: Gateway) -> None:
    with Client(through.smtp) as dialogue:
        for recipient in (
            b"<x@elsewhere.test>",
            b"<x%elsewhere.test@example.test>",
            b'<"x@elsewhere.test"@example.test>',
            b"<elsewhere.test!x@example.test>",
        ):
            assert envelope(dialogue, recipient).startswith(b"550 5.7.1"), recipient


def test_a_line_for_netcat_as_people_type_it(through: Gateway, postfix: RealPostfix, require: Callable[[str], str]) -> None:
    lines = "EHLO me\nMAIL FROM: <a@client.test>\nRCPT TO: <bob@example.test>\nDATA\nSubject: typed\n\nmarker-typed\n.\nQUIT\n"
    done = subprocess.run(
        [require("nc"), "-q", "5", "127.0.0.1", str(through.smtp)],
        input=lines,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "queued as" in done.stdout, done.stdout
    arrived(postfix, "bob", b"marker-typed")


def test_gateway_first_then_postfix_and_then_on_another_address(
    start: Start, free_port: Callable[[], int], tmp_path: Path, require: Callable[[str], str]
) -> None:
    """The next hop is a name; it appears later, and moves: mail flows within 10 s, without a restart."""
    wrapper = next(iter(Path("/usr/lib").rglob("libnss_wrapper.so")), None)
    if wrapper is None:
        require("libnss_wrapper.so")
        return
    hosts = tmp_path / "hosts"
    port = free_port()
    hosts.write_text("127.0.0.1 localhost\n127.0.0.31 nexthop.test\n")
    changed = time.time()
    environment = {"LD_PRELOAD": str(wrapper), "NSS_WRAPPER_HOSTS": str(hosts)}
    with start(
        workers=1, domains=["example.test"], servers=[f"nexthop.test:{port}"], environment=environment, ready=False
    ) as gateway:
        gateway.until(lambda: "listens on" in gateway.out.read_text())
        assert _attempt(gateway.smtp).startswith((b"451", b"421"))
        for address in ("127.0.0.31", "127.0.0.32"):
            hosts.write_text(f"127.0.0.1 localhost\n{address} nexthop.test\n")
            changed += 5  # the wrapper looks at whole seconds
            os.utime(hosts, (changed, changed))
            sink = subprocess.Popen([require("smtp-sink"), "-u", "nobody", f"{address}:{port}", "10"], stderr=subprocess.DEVNULL)
            try:
                began = time.monotonic()
                while not _attempt(gateway.smtp).startswith(b"250"):
                    assert time.monotonic() - began < 10
                    time.sleep(0.2)
            finally:
                sink.kill()
                sink.wait()


def _attempt(port: int) -> bytes:
    with Client(port) as dialogue:
        reply = envelope(dialogue)
        if not reply.startswith(b"250"):
            return reply
        dialogue.say(b"DATA\r\n")
        return dialogue.say(b"Subject: x\r\n\r\nhello\r\n.\r\n")
