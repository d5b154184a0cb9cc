"""Everything too long, on both sides, and TLS where there is none and the reverse: a clear reply, and the session right afterwards.

RFC 5321 4.5.3.1, 4.2. Floods, broken records and full disks: test_bad_input.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.testing.next_hop import Answer
from tests.integration.gateway_process import Gateway, running
from tests.integration.peers import Client, NextHopInThread
from tests.integration.test_bad_input import MB, _highest, certificate, flood

pytestmark = pytest.mark.slow

MORE = """
[limits]
errors = 1000
idle = "20s"
tls_handshake = "1s"
[relay]
rest = "0.1s"
"""


@pytest.fixture(scope="module")
def hop() -> Iterator[NextHopInThread]:
    with NextHopInThread() as hop:
        yield hop


@pytest.fixture(scope="module")
def ports() -> tuple[int, int, int]:
    """SMTP, SMTP over TLS, admin."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        smtp, tls, admin = (int(one.getsockname()[1]) for one in sockets)
        return smtp, tls, admin


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, hop: NextHopInThread, ports: tuple[int, int, int]) -> Iterator[Gateway]:
    """One worker: a stranger's listener in the clear, and one where TLS begins at once."""
    folder = tmp_path_factory.mktemp("overlong")
    implicit = certificate(folder).replace(" }", ", implicit = true }")
    smtp, tls, admin = ports
    listener = f'lenient_networks = []\n[[listener]]\nname = "smtps"\nbind = "127.0.0.1:{tls}"\nlenient_networks = []\n{implicit}'
    with running(
        folder / "gateway", smtp=smtp, admin=admin, workers=1, servers=[hop.scripted.address], listener=listener, more=MORE
    ) as started:
        yield started


@pytest.fixture(autouse=True)
def flat(gateway: Gateway, hop: NextHopInThread) -> Iterator[None]:
    """The same worker serves afterwards, and its memory did not grow by more than 40 MB at its highest."""
    (pid,) = gateway.until(gateway.worker_pids)
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = _highest(pid)
    yield
    hop.scripted._script.clear()
    assert _highest(pid) - before < 40 * MB
    assert gateway.until(gateway.worker_pids) == [pid]
    with Client(gateway.smtp) as client:
        deliver(client, hop, b"afterwards")


def deliver(client: Client, hop: NextHopInThread, marker: bytes) -> None:
    """A transaction in this session is taken, once, as it was said."""
    hop.scripted.transactions.clear()
    assert client.begin().startswith(b"354")
    assert client.say(b"Subject: " + marker + b"\r\n\r\nbody\r\n.\r\n").startswith(b"250 2.0.0 Ok: queued as SCRIPTED")
    (taken,) = hop.scripted.transactions
    assert (taken.reverse_path, taken.paths) == (b"<a@client.test>", [b"<alice@inbox.test>"])
    assert taken.content.endswith(b"Subject: " + marker + b"\r\n\r\nbody\r\n")


# ---- commands -----------------------------------------------------------------------------------------------------------

_ROOM = 4096 - len(b"NOOP \r\n")
COMMANDS = [
    (b"EHLO " + b"x" * 255, b"250"),
    (b"EHLO " + b"x" * 256, b"501 5.5.4 Syntax"),
    (b"HELO " + b"x" * 3000, b"501 5.5.4 Syntax"),
    (b"NOOP " + b"x" * (_ROOM - 1), b"250 2.0.0"),
    (b"NOOP " + b"x" * (_ROOM + 1), b"500 5.5.2 Line too long"),
    (b"NOOP " + b"x" * 100_000, b"500 5.5.2 Line too long"),
    (b"HELP " + b"x" * 4000, b"214"),
    (b"VRFY " + b"x" * 4000, b"252"),
    (b"RSET " + b"x" * 4000, b"501 5.5.4"),
    (b"X" * 4000, b"500 5.5.2 Command not recognized"),
    (b"X" * 17 + b" y", b"500 5.5.2 Command not recognized"),
    (b"DATA " + b"x" * 4000, b"50"),
    (b"STARTTLS " + b"x" * 4000, b"50"),
    (b" " * 4000, b"500 5.5.2"),
]
MAIL = [
    (b"<" + b"a" * (512 - len(b"<@client.test>")) + b"@client.test>", b"250"),
    (b"<" + b"a" * (513 - len(b"<@client.test>")) + b"@client.test>", b"501 5.1.7 Path too long"),
    (b"<a@" + b"d" * 255 + b">", b"250"),
    (b"<a@" + b"d" * 256 + b">", b"501 5.1.7 Domain too long"),
    (b'<"' + b"\\" * 5000, b"50"),
    (b"<" + b"@a.test," * 100 + b"@b.test:a@client.test>", b"501 5.1.7 Path too long"),
    (b"<a@client.test> ENVID=" + b"e" * 3000, b"250"),
    (b"<a@client.test> SIZE=" + b"9" * 21, b"501 5.5.4"),
    (b"<a@client.test> SIZE=" + b"9" * 3000, b"501 5.5.4"),
    (b"<a@client.test>" + b"".join(b" X%d=1" % number for number in range(21)), b"501 5.5.4 Too many parameters"),
    (b"<a@client.test> " + b"X" * 3000 + b"=1", b"555 5.5.4"),
    (b"<a@client.test>" + b" " * 3000, b"250"),
]
RCPT = [
    (b"<" + b"b" * (512 - len(b"<@inbox.test>")) + b"@inbox.test>", b"250"),
    (b"<" + b"b" * (513 - len(b"<@inbox.test>")) + b"@inbox.test>", b"501 5.1.3 Path too long"),
    (b"<b@" + b"d" * 256 + b">", b"501 5.1.3 Domain too long"),
    (b"<b@inbox.test> ORCPT=rfc822;" + b"o" * 3000, b"250"),
    (b"<b@inbox.test> NOTIFY=" + b"NEVER," * 600, b"250"),
    (b"<b@inbox.test> " + b"Y" * 5000, b"500 5.5.2 Line too long"),
]


def test_overlong_commands(gateway: Gateway, hop: NextHopInThread) -> None:
    with Client(gateway.smtp) as client:
        client.say(b"EHLO client.test\r\n")
        for command, said in COMMANDS:
            assert client.say(command + b"\r\n").startswith(said), (command[:60], len(command))
        deliver(client, hop, b"commands")


@pytest.mark.parametrize(("front", "commands"), [(b"MAIL FROM:", MAIL), (b"RCPT TO:", RCPT)], ids=["MAIL", "RCPT"])
def test_overlong_paths_and_parameters(
    gateway: Gateway, hop: NextHopInThread, front: bytes, commands: list[tuple[bytes, bytes]]
) -> None:
    """At the limit they go on whole, past it they are refused, and neither leaves anything behind."""
    with Client(gateway.smtp) as client:
        client.say(b"EHLO client.test\r\n")
        for argument, said in commands:
            if front == b"RCPT TO:":
                assert client.say(b"MAIL FROM:<a@client.test>\r\n").startswith(b"250")
            del hop.scripted.commands[:]
            reply = client.say(front + argument + b"\r\n")
            assert reply.startswith(said), (argument[:60], len(argument), reply)
            if said == b"250":
                assert front + argument.rstrip(b" ") in hop.scripted.commands
            else:
                assert not any(line.startswith(front) for line in hop.scripted.commands)
            assert client.say(b"RSET\r\n").startswith(b"250")
        deliver(client, hop, b"paths")


def test_garbage_before_the_greeting_is_answered_line_by_line(gateway: Gateway, hop: NextHopInThread) -> None:
    dice = random.Random(5321)
    with Client(gateway.smtp) as client:
        for _ in range(200):
            line = bytes(dice.randrange(256) for _ in range(dice.randrange(300))).replace(b"\n", b"").rstrip(b"\r")
            assert client.say(line + b"\r\n").startswith((b"500 5.5.2", b"501 5.5.2")), line
        deliver(client, hop, b"garbage")


# ---- TLS where there is none, and the reverse ---------------------------------------------------------------------------


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def client_hello() -> bytes:
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        _any_certificate().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def test_tls_at_a_port_in_the_clear(gateway: Gateway, hop: NextHopInThread) -> None:
    """A TLS client is told at once; its octets are a broken line at most, and the session goes on after them."""
    with socket.create_connection(("127.0.0.1", gateway.smtp), 10) as sock, pytest.raises(ssl.SSLError):
        _any_certificate().wrap_socket(sock, server_hostname="localhost")
    for octets in (client_hello(), client_hello()[:20], b"\x80\x2e\x01\x03\x01" + b"\0" * 41, b"\x15\x03\x03\x00\x02\x02\x28"):
        with Client(gateway.smtp) as client:
            lines = octets.count(b"\n") + 1
            client.sock.sendall(octets + b"\r\n")
            assert all(client.read().startswith(b"500 5.5.2") for _ in range(lines)), octets
            deliver(client, hop, b"in the clear")


def test_plain_text_at_a_tls_port(gateway: Gateway, hop: NextHopInThread, ports: tuple[int, int, int]) -> None:
    """No reply in the clear, and the connection ends; a handshake that stops half-way too."""
    hello = client_hello()
    for octets in (
        b"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\n",
        b"x" * MB,
        b"\x16\x03\x01\xff\xff" + b"\0" * 70_000,
        hello[:100],
        b"",
    ):
        with socket.create_connection(("127.0.0.1", ports[1]), 10) as sock:
            said = b""
            with contextlib.suppress(ConnectionError):
                sock.sendall(octets)
                while found := sock.recv(4096):
                    said += found
            assert re.search(rb"[245]\d\d[ -]", said) is None, said
    with (
        socket.create_connection(("127.0.0.1", ports[1]), 10) as plain,
        _any_certificate().wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        assert sock.recv(100).startswith(b"220 ")


# ---- replies of the next hop --------------------------------------------------------------------------------------------

OVERLONG: dict[str, Callable[[int], Answer]] = {
    "a line of 100 KB": lambda code: Answer(f"{code} 2.0.0 " + "x" * 100_000),
    "a line without end": lambda code: Answer(raw=b"%d 2.0.0 " % code + b"x" * 4 * MB, drop=True),
    "99 lines": lambda code: Answer("\n".join([f"{code}-2.0.0 {'y' * 60}"] * 98 + [f"{code} 2.0.0 last"])),
    "10,000 lines": lambda code: Answer("\n".join([f"{code}-2.0.0 y"] * 10_000 + [f"{code} 2.0.0 last"])),
    "lines without end": lambda code: Answer(raw=(b"%d-2.0.0 y\r\n" % code) * (4 * MB // 12), drop=True),
    "NUL and more": lambda code: Answer(f"{code} 2.0.0 \0\x07\x1b[2J\xff\u2028"),
}
WHEN = {"MAIL": 250, "RCPT": 250, "RCPT ": 550, "DATA": 354, "CONTENT": 250, "CONTENT ": 550, "GREETING": 220, "EHLO": 250}


@pytest.mark.parametrize("kind", OVERLONG)
def test_overlong_replies_of_the_next_hop(gateway: Gateway, hop: NextHopInThread, kind: str) -> None:
    """Cut to what a client can take, or 451; never more than it asked for, and the next transaction goes as ever."""
    for when, code in WHEN.items():
        hop.scripted._script.clear()
        drop_links(hop)
        hop.scripted.script(when.strip(), OVERLONG[kind](code))
        with Client(gateway.smtp) as client:
            replies = [client.say(b"EHLO client.test\r\n"), client.say(b"MAIL FROM:<a@client.test>\r\n")]
            replies.append(client.say(b"RCPT TO:<alice@inbox.test>\r\n"))
            replies.append(client.say(b"DATA\r\n"))
            if replies[-1].startswith(b"354"):
                replies.append(client.say(b"Subject: x\r\n\r\nbody\r\n.\r\n"))
            for reply in replies:
                lines = reply.splitlines(keepends=True)
                assert len(lines) <= 100
                assert all(re.fullmatch(rb"[245]\d\d[ -][ -~]{0,506}\r\n|354 [ -~]+\r\n", line) for line in lines), (
                    when,
                    reply[:300],
                )
            assert {reply[:3] for reply in replies} <= {b"250", b"354", b"451", b"503", b"554", b"550"}, (when, replies)
            assert b"503" not in [reply[:3] for reply in replies] or b"451" in [reply[:3] for reply in replies]
            hop.scripted._script.clear()
            deliver(client, hop, when.strip().encode())


def drop_links(hop: NextHopInThread) -> None:
    """Every link of the gateway, so that the next one is greeted anew."""
    asyncio.run_coroutine_threadsafe(hop.scripted.drop_all(), hop._loop).result(5)


def test_a_next_hop_that_talks_without_being_asked(gateway: Gateway, hop: NextHopInThread) -> None:
    """Its 100 MB are not kept, and no client hears any of it."""
    with Client(gateway.smtp) as client:
        assert client.begin().startswith(b"354")
        for _ in range(25):
            asyncio.run_coroutine_threadsafe(hop.scripted.say_all(b"250 2.0.0 unasked\r\n" * (MB // 5)), hop._loop).result(10)
        assert client.say(b"Subject: x\r\n\r\nbody\r\n.\r\n").startswith((b"250 2.0.0 Ok: queued as SCRIPTED", b"451 4."))
        deliver(client, hop, b"asked")


def test_commands_without_end_from_many(gateway: Gateway, hop: NextHopInThread) -> None:
    """20 clients that each send a line without end, at once."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(gateway.smtp, limit=10)) for _ in range(20)]
        for client in clients:
            sent, said = flood(client, b"MAIL FROM:<" + b"a" * 65_536, 20)
            assert sent <= 20 * 65_547
            assert not said or said.startswith(b"500 5.5.2 Line too long")
