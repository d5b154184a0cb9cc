"""Clients nobody here wrote × next hops nobody here wrote: what was sent arrives, octet for octet below the added fields.

The table in docs/protocol.md lists the cells that run here; a test keeps the two the same.
"""

from __future__ import annotations

import re
import smtplib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.testing.wire import server_certificate
from tests.integration.conftest import need_root
from tests.integration.dovecot import DOMAIN as DOVECOT_DOMAIN
from tests.integration.dovecot import RealDovecot
from tests.integration.exim import BINARY, RealExim
from tests.integration.exim_server import EximServer
from tests.integration.gateway_process import Gateway, running
from tests.integration.opensmtpd import RealOpenSMTPD
from tests.integration.postfix import DOMAIN, RealPostfix
from tests.integration.senders import SENDERS
from tests.integration.sendmail import RealSendmail

pytestmark = [pytest.mark.real, pytest.mark.slow]
PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
BODY = (
    b"".join(b"line %d of a body: \xc3\xa4\r\n" % n for n in range(3))
    + b"..two dots\r\n.one dot\r\n \r\n"
    + b"x" * 990
    + b"\r\n\r\nend\r\n"
)
NEXT_HOPS = {
    "Postfix": "real_postfix",
    "Exim": "exim",
    "OpenSMTPD": "opensmtpd",
    "Sendmail": "sendmail",
    "Dovecot LMTP": "dovecot",
}
"""By the fixture that runs each."""
MTAS = ("Postfix", "Exim", "OpenSMTPD", "Sendmail")
"""As sending clients, each with a queue of its own."""


def message(marker: str) -> bytes:
    """With a long folded field, 8-bit octets and dots; with the fields that servers add where they are missing."""
    fields = "Date: Wed, 4 Mar 2026 10:00:00 +0000\r\nMessage-Id: <1@client.test>\r\n"
    fields += f"Subject: {marker}\r\nFrom: <sender@client.test>\r\nX-Folded: a\r\n\tb  c \r\nMIME-Version: 1.0\r\n"
    return fields.encode() + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + BODY


@pytest.fixture(scope="module")
def exim(require: Callable[[str], str]) -> Iterator[EximServer]:
    require(str(BINARY))
    need_root("Exim")
    with EximServer() as server:
        yield server


Mailbox = Callable[[str], list[bytes]]


@dataclass(frozen=True, slots=True)
class Hop:
    """A next hop with a gateway in front of it, and a recipient that it knows."""

    name: str
    address: str
    recipient: str
    mailbox: Mailbox
    gateway: Gateway

    @property
    def marker(self) -> str:
        return self.name.replace(" ", "-")


@pytest.fixture(scope="module", params=NEXT_HOPS)
def hop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Hop]:
    """One gateway for all tests of a next hop, which offers TLS; only this next hop is started."""
    folder = tmp_path_factory.mktemp("matrix")
    server = request.getfixturevalue(NEXT_HOPS[request.param])
    domain = DOVECOT_DOMAIN if isinstance(server, RealDovecot) else DOMAIN
    certificate, key = server_certificate(folder)
    listener = f'tls = {{ certificate = "{certificate}", key = "{key}" }}'
    settings: Mapping[str, Any] = {"domains": [domain], "servers": [server.address], "listener": listener}
    with running(folder / "gateway", smtp=free_port(), admin=free_port(), workers=1, **settings) as gateway:
        yield Hop(request.param, server.address, f"alice@{domain}", server.messages, gateway)


def arrived(mailbox: Mailbox, marker: str) -> bytes:
    """The one message with this subject."""
    deadline = time.monotonic() + 30
    wanted = f"Subject: {marker}\n".encode()
    while True:
        found = [octets for octets in mailbox("alice") if wanted in octets.replace(b"\r\n", b"\n")]
        if found or time.monotonic() > deadline:
            assert len(found) == 1, f"{marker}: {len(found)} times"
            return found[0].replace(b"\r\n", b"\n")
        time.sleep(0.05)


def is_whole(octets: bytes, sent: bytes) -> bool:
    """All of it, and only whole header fields above it."""
    return octets.endswith(sent.replace(b"\r\n", b"\n")) and octets.removesuffix(sent.replace(b"\r\n", b"\n")).endswith(b"\n")


@pytest.mark.timeout(180)
def test_every_client_reaches(hop: Hop, tmp_path: Path, require: Callable[[str], str]) -> None:
    for program in ("swaks", "smtp-source", "curl", "node", "openssl", "nc"):
        require(program)
    for name, send in SENDERS.items():
        marker = f"{name.replace(' ', '-')}-to-{hop.marker}"
        file = tmp_path / f"{marker}.eml"
        file.write_bytes(message(marker))
        send(hop.gateway.smtp, hop.recipient, file)
        got = arrived(hop.mailbox, marker)
        if name == "swaks":  # which ends what it reads from a file with one more empty line
            got = got.removesuffix(b"\n") if not is_whole(got, message(marker)) else got
        if name == "smtp-source":  # which puts fields of its own above the file's
            assert message(marker).replace(b"\r\n", b"\n") in got
        else:
            assert is_whole(got, message(marker)), f"{name}: {got.decode('utf-8', 'replace')}"
        assert b"(mailgateway)" in got


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("exim")  # which asks for what it needs as client too
def test_exim_sends_by_chunks(hop: Hop) -> None:
    marker = f"Exim-to-{hop.marker}"
    with RealExim() as sender:
        log = sender.send(hop.gateway.smtp, [hop.recipient], message(marker).replace(b"\r\n", b"\n"))
    assert re.search(rf"=> {hop.recipient} .* K ", log), log  # K: by CHUNKING
    got = arrived(hop.mailbox, marker)
    assert BODY.replace(b"\r\n", b"\n") in got
    assert b"X-Folded: a\n\tb  c \n" in got


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("real_postfix")
def test_postfix_sends_pipelined(hop: Hop, tmp_path: Path) -> None:
    marker = f"Postfix-to-{hop.marker}"
    onward = {
        "virtual_mailbox_domains": "",
        "default_transport": f"smtp:[127.0.0.1]:{hop.gateway.smtp}",
        "relay_domains": hop.recipient.partition("@")[2],
        "relay_transport": f"smtp:[127.0.0.1]:{hop.gateway.smtp}",
    }
    with RealPostfix(settings=onward) as sender:
        file = tmp_path / f"{marker}.eml"
        file.write_bytes(message(marker))
        SENDERS["Python smtplib"](sender.port, hop.recipient, file)
        got = arrived(hop.mailbox, marker)
        deadline = time.monotonic() + 10
        while f"relay=127.0.0.1[127.0.0.1]:{hop.gateway.smtp}" not in sender.log():
            assert time.monotonic() < deadline, sender.log()
            time.sleep(0.05)
    assert is_whole(got, message(marker))


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("opensmtpd", "sendmail")
@pytest.mark.parametrize("mta", [RealOpenSMTPD, RealSendmail], ids=lambda mta: mta.name)
def test_opensmtpd_and_sendmail_send_with_tls(mta: type[RealOpenSMTPD | RealSendmail], hop: Hop, tmp_path: Path) -> None:
    marker = f"{mta.name}-to-{hop.marker}"
    file = tmp_path / f"{marker}.eml"
    file.write_bytes(message(marker))
    with mta(onward=hop.gateway.smtp) as sender:
        SENDERS["Python smtplib"](sender.port, hop.recipient, file)
        got = arrived(hop.mailbox, marker)
    assert is_whole(got, message(marker)), got.decode("utf-8", "replace")
    assert re.search(rb"\tby %s " % sender.host.encode(), got), got
    assert re.search(rb"\tby [^\n]*\(mailgateway\) with ESMTPS ", got), got


def test_a_refused_recipient_is_told_in_the_next_hops_words(hop: Hop) -> None:
    unknown = hop.recipient.replace("alice", "nobody-here")
    direct = smtplib.LMTP if hop.address.startswith("lmtp") else smtplib.SMTP
    with direct("127.0.0.1", int(hop.address.rpartition(":")[2]), timeout=30) as session:
        session.ehlo_or_helo_if_needed()
        session.mail("sender@client.test")
        code, words = session.rcpt(unknown)
    with smtplib.SMTP("127.0.0.1", hop.gateway.smtp, timeout=30) as session:
        session.ehlo()
        session.mail("sender@client.test")
        told = session.rcpt(unknown)
        assert session.rcpt(hop.recipient)[0] == 250
    assert code == 550
    assert told == (550, words if words.startswith(b"5.") else b"5.0.0 " + words)  # Exim and OpenSMTPD give no enhanced code


def test_the_page_lists_the_cells() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| ") and "✓" in line]
    listed = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    clients = [*SENDERS, *(f"{mta} as client" for mta in MTAS)]
    assert listed == {client: ["✓"] * len(NEXT_HOPS) for client in clients}
