"""Clients nobody here wrote × next hops nobody here wrote: what was sent arrives, octet for octet below the added fields.

The table in docs/protocol.md lists the cells that run here; a test keeps the two the same.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gateway.testing.wire import server_certificate
from tests.integration.dovecot import DOMAIN as DOVECOT_DOMAIN
from tests.integration.dovecot import RealDovecot
from tests.integration.exim import BINARY, RealExim
from tests.integration.exim_server import EximServer
from tests.integration.gateway_process import Gateway
from tests.integration.postfix import DOMAIN, RealPostfix
from tests.integration.senders import SENDERS

pytestmark = [pytest.mark.real, pytest.mark.slow]
PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
BODY = (
    b"".join(b"line %d of a body: \xc3\xa4\r\n" % n for n in range(3))
    + b"..two dots\r\n.one dot\r\n \r\n"
    + b"x" * 990
    + b"\r\n\r\nend\r\n"
)
NEXT_HOPS = ("Postfix", "Exim", "Dovecot LMTP")
MTAS = ("Postfix", "Exim")
"""As sending clients, each with a queue of its own."""


def message(marker: str) -> bytes:
    """With a long folded field, 8-bit octets and dots."""
    fields = f"Subject: {marker}\r\nFrom: <sender@client.test>\r\nX-Folded: a\r\n\tb  c \r\nMIME-Version: 1.0\r\n"
    return fields.encode() + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + BODY


@pytest.fixture(scope="module")
def exim(require: Callable[[str], str]) -> Iterator[EximServer]:
    require(str(BINARY))
    with EximServer() as running:
        yield running


Mailbox = Callable[[str], list[bytes]]


@pytest.fixture
def next_hops(real_postfix: RealPostfix, exim: EximServer, dovecot: RealDovecot) -> Mapping[str, tuple[str, str, Mailbox]]:
    """Address, recipient, and what lies in its mailbox."""
    return {
        "Postfix": (real_postfix.address, f"alice@{DOMAIN}", real_postfix.messages),
        "Exim": (exim.address, f"alice@{DOMAIN}", exim.messages),
        "Dovecot LMTP": (dovecot.address, f"alice@{DOVECOT_DOMAIN}", dovecot.messages),
    }


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
@pytest.mark.parametrize("next_hop", NEXT_HOPS)
def test_every_client_reaches(
    next_hop: str,
    next_hops: Mapping[str, tuple[str, str, Mailbox]],
    start: Callable[..., AbstractContextManager[Gateway]],
    tmp_path: Path,
    require: Callable[[str], str],
) -> None:
    for program in ("swaks", "smtp-source", "curl", "node", "openssl", "nc"):
        require(program)
    address, recipient, mailbox = next_hops[next_hop]
    certificate, key = server_certificate(tmp_path)
    listener = f'tls = {{ certificate = "{certificate}", key = "{key}" }}'
    with start(workers=1, domains=[recipient.partition("@")[2]], servers=[address], listener=listener) as gateway:
        for name, send in SENDERS.items():
            marker = f"{name.replace(' ', '-')}-to-{next_hop.replace(' ', '-')}"
            file = tmp_path / f"{marker}.eml"
            file.write_bytes(message(marker))
            send(gateway.smtp, recipient, file)
            got = arrived(mailbox, marker)
            if name == "swaks":  # which ends what it reads from a file with one more empty line
                got = got.removesuffix(b"\n") if not is_whole(got, message(marker)) else got
            if name == "smtp-source":  # which puts fields of its own above the file's
                assert message(marker).replace(b"\r\n", b"\n") in got
            else:
                assert is_whole(got, message(marker)), f"{name}: {got.decode('utf-8', 'replace')}"
            assert b"(mailgateway)" in got


@pytest.mark.timeout(120)
@pytest.mark.parametrize("next_hop", NEXT_HOPS)
def test_exim_sends_by_chunks(
    next_hop: str,
    next_hops: Mapping[str, tuple[str, str, Mailbox]],
    start: Callable[..., AbstractContextManager[Gateway]],
) -> None:
    address, recipient, mailbox = next_hops[next_hop]
    marker = f"Exim-to-{next_hop.replace(' ', '-')}"
    with start(workers=1, domains=[recipient.partition("@")[2]], servers=[address]) as gateway:
        with RealExim() as sender:
            log = sender.send(gateway.smtp, [recipient], message(marker).replace(b"\r\n", b"\n"))
        assert re.search(rf"=> {recipient} .* K ", log), log  # K: by CHUNKING
        got = arrived(mailbox, marker)
    assert BODY.replace(b"\r\n", b"\n") in got
    assert b"X-Folded: a\n\tb  c \n" in got


@pytest.mark.timeout(120)
@pytest.mark.parametrize("next_hop", NEXT_HOPS)
def test_postfix_sends_pipelined(
    next_hop: str,
    next_hops: Mapping[str, tuple[str, str, Mailbox]],
    start: Callable[..., AbstractContextManager[Gateway]],
) -> None:
    address, recipient, mailbox = next_hops[next_hop]
    marker = f"Postfix-to-{next_hop.replace(' ', '-')}"
    with start(workers=1, domains=[recipient.partition("@")[2]], servers=[address]) as gateway:
        onward = {
            "virtual_mailbox_domains": "",
            "default_transport": f"smtp:[127.0.0.1]:{gateway.smtp}",
            "relay_domains": recipient.partition("@")[2],
            "relay_transport": f"smtp:[127.0.0.1]:{gateway.smtp}",
        }
        with RealPostfix(settings=onward) as sender:
            python = SENDERS["Python smtplib"]
            file = Path(str(gateway.config)).with_name(f"{marker}.eml")
            file.write_bytes(message(marker))
            python(sender.port, recipient, file)
            got = arrived(mailbox, marker)
            deadline = time.monotonic() + 10
            while f"relay=127.0.0.1[127.0.0.1]:{gateway.smtp}" not in sender.log():
                assert time.monotonic() < deadline, sender.log()
                time.sleep(0.05)
    assert is_whole(got, message(marker))


def test_the_page_lists_the_cells() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| ") and "✓" in line]
    listed = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    clients = [*SENDERS, *(f"{mta} as client" for mta in MTAS)]
    assert listed == {client: ["✓"] * len(NEXT_HOPS) for client in clients}
