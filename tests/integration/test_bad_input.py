"""What comes from outside and should not: each gets a precise reply or error, in bounded memory, from the real process.

Beside this: a configuration with five mistakes (tests/unit/test_config_load.py), a port in use (test_run.py), broken records of
every kind (tests/plugins/), commands and content of every shape (tests/dialogues/, tests/properties/).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.testing.next_hop import Answer
from tests.integration.gateway_process import Gateway, running
from tests.integration.peers import Client, NextHopInThread

pytestmark = pytest.mark.slow

Start = Callable[..., Any]

PLUGIN = '''
"""Looks at everything that is parsed, and holds what says so."""

from gateway import Message, Plugin, Verdict, hook, quarantine


class Looks(Plugin):
    @hook
    async def judge(self, message: Message) -> Verdict | None:
        seen = [part.filename for part in message.attachments], message.text, message.urls, message.author_domains
        return quarantine("asked-for") if message.subject == "hold" and seen else None
'''
BROKEN = """
[limits]
message_size = "25MB"
[dns]
zones = { "client.test" = { TXT = ["v=spf1 include:client.test frob:%{z} ip4:999.1.2.3 -all"] }, "_dmarc.client.test" = { TXT = ["v=DMARC1; p=oops; pct=many; sp"] }, "s._domainkey.client.test" = { TXT = ["v=DKIM1; k=rsa; p=!!!not base64!!!"] } }
"""
MB = 1 << 20


def certificate(folder: Path) -> str:
    """A listener's line with a self-signed certificate."""
    names = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-out", str(names[0]), "-keyout", str(names[1])]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return f'tls = {{ certificate = "{names[0]}", key = "{names[1]}" }}'


def site_plugin(folder: Path, *others: str) -> str:
    """The lines of a chain with `looks` at its end."""
    (folder / "site").mkdir()
    (folder / "site" / "looks.py").write_text(PLUGIN)
    names = ", ".join(f'"{name}"' for name in (*others, "looks"))
    return f'plugin_path = ["{folder}/site"]\nplugins = [{names}]'


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One worker, a stranger's listener with TLS, all that authenticates, broken DNS records, the development next hop."""
    folder = tmp_path_factory.mktemp("bad_input")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        smtp, admin = one.getsockname()[1], two.getsockname()[1]
    with running(
        folder / "gateway",
        smtp=smtp,
        admin=admin,
        workers=1,
        chain=site_plugin(folder, "spf", "dkim", "dmarc", "authres"),
        listener=f"lenient_networks = []\n{certificate(folder)}",
        more=BROKEN,
    ) as started:
        yield started


@pytest.fixture
def flat(gateway: Gateway) -> Iterator[None]:
    """The worker's memory does not grow by more than 40 MB at its highest, it is the same worker afterwards, and it serves."""
    (pid,) = gateway.until(gateway.worker_pids)  # one that closes a socket just now is not seen
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM begins again at what is in use now
    before = _highest(pid)
    yield
    assert _highest(pid) - before < 40 * MB
    assert gateway.until(gateway.worker_pids) == [pid]
    with Client(gateway.smtp) as client:
        assert client.say(b"NOOP\r\n") == b"250 2.0.0 Ok\r\n"


def _highest(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def delivered(gateway: Gateway) -> list[bytes]:
    folder = gateway.state / "inbox" / "alice" / "new"
    return [file.read_bytes() for file in folder.iterdir()] if folder.is_dir() else []


# ---- octets -----------------------------------------------------------------------------------------------------------


def flood(client: Client, octets: bytes, times: int) -> tuple[int, bytes]:
    """Send until the other side has enough: how many went out, and what it said."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        for _ in range(times):
            client.sock.sendall(octets)
            sent += len(octets)
    said = b""
    with contextlib.suppress(ConnectionError):
        said = client.read()
    return sent, said


@pytest.mark.usefixtures("flat")
def test_a_line_of_1_gb_in_the_content_ends_the_connection(gateway: Gateway) -> None:
    with Client(gateway.smtp) as client:
        assert client.begin().startswith(b"354")
        sent, said = flood(client, b"x" * MB, 1024)
        assert sent < 64 * MB
        assert not said or said.startswith(b"500 5.5.2 Line too long")


def begin_chunks(client: Client) -> None:
    """A transaction that may have content."""
    for command in (b"EHLO client.test", b"MAIL FROM:<a@client.test>", b"RCPT TO:<alice@inbox.test>"):
        assert client.say(command + b"\r\n").startswith(b"250")


@pytest.mark.usefixtures("flat")
def test_a_chunk_over_the_limit_is_dropped_and_the_session_goes_on(gateway: Gateway) -> None:
    with Client(gateway.smtp) as client:
        begin_chunks(client)
        client.sock.sendall(b"BDAT %d\r\n" % (100 * MB))
        for _ in range(100):
            client.sock.sendall(b"x" * MB)
        assert client.read().startswith(b"552 5.3.4")
        assert client.say(b"BDAT 6 LAST\r\nRSET\r\n").startswith(b"503 5.5.1")
        assert client.begin().startswith(b"354")


@pytest.mark.usefixtures("flat")
def test_a_chunk_without_end_is_dropped_as_it_comes(gateway: Gateway) -> None:
    with Client(gateway.smtp) as client:
        begin_chunks(client)
        client.sock.sendall(b"BDAT 99999999999999999999 LAST\r\n")
        for _ in range(100):
            client.sock.sendall(b"RSET\r\n" * (MB // 6))


@pytest.mark.usefixtures("flat")
def test_thousands_of_chunks_of_one_octet_are_one_message(gateway: Gateway) -> None:
    content = b"Subject: crumbs\r\n\r\n" + b"crumb\r\n" * 700
    with Client(gateway.smtp) as client:
        begin_chunks(client)
        client.sock.sendall(b"".join(b"BDAT 1\r\n%c" % octet for octet in content) + b"BDAT 0 LAST\r\n")
        for _ in content:
            assert client.read() == b"250 2.0.0 Ok: 1 octets\r\n"
        assert client.read().startswith(b"250")
    assert any(octets.endswith(content) for octets in gateway.until(lambda: delivered(gateway)))


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("argument", [b"", b" -1 LAST", b" 1e9", b" 0x10 LAST", b" 5 FIRST", b" " + b"9" * 21, b" LAST 5"])
def test_a_chunk_that_says_no_size_ends_the_connection(gateway: Gateway, argument: bytes) -> None:
    with Client(gateway.smtp) as client:
        begin_chunks(client)
        reply = client.say(b"BDAT" + argument + b"\r\nMAIL FROM:<hidden@client.test>\r\n")
        assert reply.startswith(b"501 5.5.4 Syntax: BDAT octets [LAST]")
        assert client.read() == b""


@pytest.mark.usefixtures("flat")
def test_a_line_of_1_gb_for_a_command_ends_the_connection(gateway: Gateway) -> None:
    with Client(gateway.smtp) as client:
        sent, said = flood(client, b"x" * MB, 1024)
        assert sent < 64 * MB
        assert not said or said.startswith(b"500 5.5.2 Line too long")


@pytest.mark.usefixtures("flat")
def test_300_mb_against_a_limit_of_25(gateway: Gateway) -> None:
    with Client(gateway.smtp) as client:
        assert client.begin().startswith(b"354")
        block = (b"y" * 62 + b"\r\n") * (MB // 64)
        for _ in range(300):
            client.sock.sendall(block)
        assert client.say(b".\r\n").startswith(b"552 5.3.4 Message is larger than 25000000 octets")
        assert client.say(b"NOOP\r\n") == b"250 2.0.0 Ok\r\n"


@pytest.mark.usefixtures("flat")
def test_a_header_section_of_10_mb(gateway: Gateway) -> None:
    with Client(gateway.smtp) as client:
        assert client.begin().startswith(b"354")
        for _ in range(10):
            client.sock.sendall(b"X-Long: " + b" folded\r\n" * (MB // 9))
        assert client.say(b"\r\nbody\r\n.\r\n").startswith(b"552 5.3.4 Header section is larger than 1000000 octets")
        assert client.begin().startswith(b"354")
        client.sock.sendall(b"A: b\r\n" * (8 * MB // 6))
        assert client.say(b"\r\nbody\r\n.\r\n").startswith(b"552 5.3.4 ")


@pytest.mark.usefixtures("flat")
def test_mime_nested_10000_deep(gateway: Gateway) -> None:
    depth = 10_000
    openings = [f'Content-Type: multipart/mixed; boundary="b{n}"\r\n\r\n--b{n}\r\n' for n in range(depth)]
    content = (
        "From: a@client.test\r\nSubject: deep\r\nMIME-Version: 1.0\r\n"
        + "".join(openings)
        + "Content-Type: text/plain\r\n\r\nhi\r\n"
    )
    began = time.monotonic()
    with Client(gateway.smtp) as client:
        assert client.begin().startswith(b"354")
        assert client.say(content.encode() + b".\r\n").startswith(b"250 2.0.0 Ok")
    assert time.monotonic() - began < 10
    assert any(octets.replace(b"\r\n", b"\n").endswith(content.encode().replace(b"\r\n", b"\n")) for octets in delivered(gateway))


@pytest.mark.usefixtures("flat")
def test_10000_recipients(gateway: Gateway) -> None:
    with Client(gateway.smtp) as client:
        client.say(b"EHLO client.test\r\n")
        assert client.say(b"MAIL FROM:<a@client.test>\r\n").startswith(b"250")
        replies: list[bytes] = []
        for _ in range(100):
            client.sock.sendall(b"RCPT TO:<alice@inbox.test>\r\n" * 100)
            replies += [client.read() for _ in range(100)]
        assert [reply[:9] for reply in replies[:1000]] == [b"250 2.1.5"] * 1000
        assert {reply[:28] for reply in replies[1000:]} == {b"452 4.5.3 Too many recipient"}
        assert client.say(b"DATA\r\n").startswith(b"354")
        assert client.say(b"Subject: many\r\n\r\n.\r\n").startswith(b"250")


@pytest.mark.usefixtures("flat")
def test_octets_that_are_no_commands(gateway: Gateway) -> None:
    with Client(gateway.smtp) as client:
        for octets in (b"\x00\r\n", b"\xff\xfe\xfd\r\n", b"EH\x00LO x\r\n", b"\r\n", b" \r\n", b"\x80" * 2000 + b"\r\n"):
            assert client.say(octets).startswith(b"500 5.5.2 Command not recognized"), octets
        for octets in (b"EHLO \xff\r\n", b"EHLO a\x00b\r\n"):
            assert client.say(octets).startswith(b"501 5.5."), octets
        client.say(b"EHLO client.test\r\n")
        for octets in (
            b"MAIL FROM:<\x00@client.test>\r\n",
            b"MAIL FROM:<a@\xff.test> SMTPUTF8\r\n",
            b"MAIL FROM:<a@client.test>\x00\r\n",
        ):
            assert client.say(octets)[:4] in {b"501 ", b"553 "}, octets
        assert client.say(b"MAIL FROM:<a@client.test>\r\n").startswith(b"250")
        assert client.say(b"RCPT TO:<alice\x00@inbox.test>\r\n").startswith(b"501 5.1.3")


def test_http_is_not_smtp(gateway: Gateway) -> None:
    with Client(gateway.smtp) as client:
        client.sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 40 + b"\r\n")
        said = client.stream.read()
        assert said.count(b"500 5.5.2") == 20
        assert said.splitlines()[-1].startswith(b"421 4.7.0 Too many errors")


def test_broken_spf_dkim_and_dmarc_records(gateway: Gateway) -> None:
    signature = b"DKIM-Signature: v=1; a=rsa-sha256; d=client.test; s=s; h=from; bh=AAAA; b=////\r\nDKIM-Signature: =;;;\x80\r\n"
    with Client(gateway.smtp) as client:
        assert client.begin().startswith(b"354")
        said = client.say(signature + b"From: a@client.test\r\nSubject: broken\r\n\r\nhi\r\n.\r\n")
        assert said.startswith(b"250 2.0.0 Ok")
    (found,) = [octets for octets in delivered(gateway) if b"Subject: broken" in octets]
    results = found[found.index(b"Authentication-Results:") : found.index(b"DKIM-Signature")]
    assert b"spf=permerror" in results
    assert b"dkim=pass" not in results
    assert b"dmarc=pass" not in results


# ---- connections --------------------------------------------------------------------------------------------------------


def test_starttls_and_mail_under_it(gateway: Gateway, require: Callable[[str], str]) -> None:
    with Client(gateway.smtp) as client:
        assert b"STARTTLS" in client.say(b"EHLO client.test\r\n")
        assert client.say(b"STARTTLS\r\n") == b"220 2.0.0 Ready to start TLS\r\n"
        client.start_tls()
        assert client.say(b"MAIL FROM:<a@client.test>\r\n").startswith(b"503 5.5.1")
        assert client.begin().startswith(b"354")
        assert client.say(b"From: a@client.test\r\nSubject: secret\r\n\r\n" + b"z" * 70 + b"\r\n.\r\n").startswith(
            b"250 2.0.0 Ok"
        )
    (found,) = [octets for octets in delivered(gateway) if b"Subject: secret" in octets]
    assert re.search(
        rb"\(using TLSv1\.3 with cipher \S+ \(256/256 bits\)\)\r?\n\tby localhost \(mailgateway\) with ESMTPS id", found
    )
    command = [
        require("swaks"),
        "--server",
        f"127.0.0.1:{gateway.smtp}",
        "--tls",
        "--from",
        "a@client.test",
        "--to",
        "alice@inbox.test",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout
    assert "TLS started" in done.stdout


def test_input_behind_starttls_is_refused(gateway: Gateway) -> None:
    with Client(gateway.smtp) as client:
        client.say(b"EHLO client.test\r\n")
        assert client.say(b"STARTTLS\r\nMAIL FROM:<evil@client.test>\r\n").startswith(b"554 5.5.0 Input behind STARTTLS")
        assert client.read() == b""


def test_no_tls_where_tls_is_awaited(gateway: Gateway) -> None:
    with Client(gateway.smtp, limit=10) as client:
        client.say(b"EHLO client.test\r\n")
        client.say(b"STARTTLS\r\n")
        client.sock.sendall(b"MAIL FROM:<a@client.test>\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"250" not in client.stream.read()
    with Client(gateway.smtp) as client:
        assert client.say(b"NOOP\r\n").startswith(b"250")


def test_a_half_closed_connection_still_gets_its_reply(gateway: Gateway) -> None:
    with Client(gateway.smtp) as client:
        assert client.begin().startswith(b"354")
        client.sock.sendall(b"Subject: half\r\n\r\n.\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.read().startswith(b"250 2.0.0 Ok")
        assert client.read() == b""


@pytest.fixture
def hop() -> Iterator[NextHopInThread]:
    with NextHopInThread() as hop:
        yield hop


def test_a_client_that_vanishes_after_the_dot(start: Start, hop: NextHopInThread) -> None:
    hop.scripted.script("CONTENT", Answer("250 2.0.0 Ok: queued as ABCDEF", delay=0.5))
    with start(workers=1, servers=[hop.scripted.address]) as gateway:
        with Client(gateway.smtp) as client:
            assert client.begin().startswith(b"354")
            client.sock.sendall(b"Subject: once\r\n\r\n.\r\n")
            gateway.until(lambda: hop.scripted.transactions)
        (event,) = gateway.until(lambda: gateway.events("transaction"))
        assert (event["verdict"], event["queue_id"]) == ("delivered", "ABCDEF")
        for _ in range(5):  # it leaves at the dot itself: taken once, or not at all
            with Client(gateway.smtp) as client:
                client.begin()
                client.sock.sendall(b"Subject: gone\r\n\r\n.\r\n")
        gateway.until(lambda: len(gateway.events("transaction")) == 6)
        verdicts = [event["verdict"] for event in gateway.events("transaction")]
        assert set(verdicts) <= {"delivered", "vanished"}
        assert verdicts.count("delivered") == len(hop.scripted.transactions)


def test_more_connections_than_there_may_be(start: Start, hop: NextHopInThread) -> None:
    with start(workers=1, servers=[hop.scripted.address], more="[limits]\nconnections = 3\nidle = '1s'\n") as gateway:
        with contextlib.ExitStack() as stack:
            greeted = [stack.enter_context(Client(gateway.smtp)) for _ in range(3)]
            assert all(client.greeting.startswith(b"220 ") for client in greeted)
            with Client(gateway.smtp) as client:
                assert client.greeting.startswith(b"421 4.3.2 Too busy")
                assert client.read() == b""
            assert greeted[0].read().startswith(b"421 4.4.2 Idle for too long")
        gateway.until(lambda: gateway.greeting().startswith(b"220 "))


def test_a_client_that_does_not_read_its_replies(start: Start, hop: NextHopInThread) -> None:
    with start(workers=1, servers=[hop.scripted.address], more="[limits]\nidle = '1s'\n") as gateway:
        (pid,) = gateway.until(gateway.worker_pids)
        with Client(gateway.smtp, limit=10) as client:
            before = _highest(pid)
            sent, _ = flood(client, b"HELP\r\n" * 50_000, 100)
            assert sent < 20 * MB
            assert _highest(pid) - before < 40 * MB
        assert gateway.greeting().startswith(b"220 ")


# ---- what is not there --------------------------------------------------------------------------------------------------


def test_a_next_hop_that_does_not_resolve(start: Start) -> None:
    more = '[relay]\nconnect_timeout = "2s"\n'
    with start(workers=1, servers=["no-such-host.invalid:25"], more=more, ready=False) as gateway:
        gateway.until(lambda: gateway.events("gateway.listening"))
        with Client(gateway.smtp) as client:
            client.say(b"EHLO client.test\r\n")
            assert client.say(b"MAIL FROM:<a@client.test>\r\n").startswith(b"451 4.4.3 The next hop cannot be reached now")
            assert client.say(b"RCPT TO:<bob@inbox.test>\r\n").startswith(b"503 5.5.1")
        status, body = gateway.get("/ready")
        assert status == 503
        assert "default" in body
        assert gateway.get("/live")[0] == 200
        assert gateway.process.poll() is None


def test_an_unreadable_certificate(start: Start, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("-----BEGIN CERTIFICATE-----\nnot one\n")
    for line, named in (
        (
            f'tls = {{ certificate = "{tmp_path}/none.pem", key = "{tmp_path}/none.key" }}',
            ["/none.", "No such file"],
        ),
        (f'tls = {{ certificate = "{bad}", key = "{bad}" }}', ["bad.pem", "PEM"]),
    ):
        with start(listener=line, ready=False) as gateway:
            assert gateway.process.wait(20) == 2
            said = gateway.log.read_text()
            assert all(word in said for word in [*named, str(gateway.config), "tls"]), said
            assert "Traceback" not in said


# ---- full disks ---------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size. Where it cannot be mounted the test is skipped, and fails where CI=true."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up(f"a small file system cannot be mounted: {done.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """A file that leaves only so many octets."""
    found = os.statvfs(disk)
    filler = disk / "filler"
    with suppress(OSError):  # where the gateway writes its journal meanwhile, the disk is full a little earlier
        filler.write_bytes(b"\0" * (found.f_bavail * found.f_frsize - leave))
    return filler


@pytest.fixture
def cramped(start: Start, hop: NextHopInThread, tmp_path: Path) -> Iterator[tuple[Gateway, Path]]:
    """A gateway whose state lies on a disk of 24 MB; what it takes goes to `hop`."""
    with (
        small_disk(tmp_path / "disk", "24m") as disk,
        start(
            workers=1,
            servers=[hop.scripted.address],
            chain=site_plugin(tmp_path),
            server='state = "ephemeral"',
            state=disk / "var",
        ) as gateway,
    ):
        yield gateway, disk


LINES = (b"w" * 62 + b"\r\n") * (MB // 64)


def test_a_full_disk_under_the_spool(cramped: tuple[Gateway, Path], hop: NextHopInThread) -> None:
    gateway, disk = cramped
    with Client(gateway.smtp) as client:
        filler = fill(disk, leave=MB)
        assert client.begin().startswith(b"354")
        assert client.say(b"Subject: big\r\n\r\n" + LINES * 4 + b".\r\n").startswith(b"452 4.3.1 Insufficient system storage")
        filler.unlink()
        assert client.begin().startswith(b"354")
        client.sock.sendall(b"Subject: big\r\n\r\n" + LINES * 2)  # on the disk already
        gateway.until(lambda: os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize < 22 * MB)
        filler = fill(disk, leave=0)
        assert client.say(LINES * 2 + b".\r\n").startswith(b"452 4.3.1 Insufficient system storage")
        assert hop.scripted.transactions == []
        assert client.begin().startswith(b"354")
        assert client.say(b"Subject: small\r\n\r\n.\r\n").startswith(b"250")  # needs no disk
        filler.unlink()
        assert client.begin().startswith(b"354")
        assert client.say(b"Subject: big\r\n\r\n" + LINES * 4 + b".\r\n").startswith(b"250")
    assert [len(taken.content) > 4 * MB for taken in hop.scripted.transactions] == [False, True]


def test_a_full_disk_under_the_quarantine(cramped: tuple[Gateway, Path], hop: NextHopInThread) -> None:
    gateway, disk = cramped
    held = b"Subject: hold\r\n\r\n" + LINES[: MB // 2] + b".\r\n"
    blobs = disk / "var" / "quarantine"

    def sizes() -> list[int]:
        return [file.stat().st_size for file in blobs.rglob("*") if file.is_file() and "sqlite" not in file.name]

    with Client(gateway.smtp) as client:
        filler = fill(disk, leave=128 * 1024)
        assert client.begin().startswith(b"354")
        assert client.say(held).startswith(b"452 4.3.1 ")
        assert [size for size in sizes() if size > 1000] == []
        assert client.begin().startswith(b"354")
        filler.unlink()
        filler = fill(disk, leave=0)  # a transaction under way
        assert client.say(held).startswith(b"452 4.3.1 ")
        filler.unlink()
        assert client.begin().startswith(b"354")
        assert client.say(held).startswith(b"250 2.0.0 Ok")
        assert [size for size in sizes() if size > 1000] == [pytest.approx(MB // 2, abs=1000)]
    assert hop.scripted.transactions == []
    verdicts = [event["verdict"] for event in gateway.events("transaction", at_least=3)]
    assert verdicts == ["deferred", "deferred", "held"]


def test_where_nothing_can_be_held(start: Start, hop: NextHopInThread, tmp_path: Path) -> None:
    """A state directory that does not survive, and nobody said that this is accepted."""
    with (
        small_disk(tmp_path / "disk", "24m") as disk,
        start(workers=1, servers=[hop.scripted.address], chain=site_plugin(tmp_path), state=disk / "var") as gateway,
        Client(gateway.smtp) as client,
    ):
        assert client.begin().startswith(b"354")
        assert client.say(b"Subject: hold\r\n\r\n.\r\n").startswith(b"451 4.3.5 Nothing can be held here now")
        assert client.begin().startswith(b"354")
        assert client.say(b"Subject: fine\r\n\r\n.\r\n").startswith(b"250")
    assert len(hop.scripted.transactions) == 1
