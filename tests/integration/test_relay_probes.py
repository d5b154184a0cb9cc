"""Never an open relay: the usual probes through the gateway to a real Postfix that trusts it, and follows every way of writing a route.

Postfix notes each recipient that is given to it (access(5): INFO), also one that it refuses or that nobody sends content to.
"""

from __future__ import annotations

import itertools
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.free_ports import free_port
from tests.integration.bridge import Bridge
from tests.integration.conftest import need_root
from tests.integration.gateway_process import Gateway, running
from tests.integration.peers import Client
from tests.integration.postfix import DOMAIN, RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]

LAX = {
    "mydestination": DOMAIN,
    "virtual_mailbox_domains": "",
    "local_transport": "virtual",
    "local_recipient_maps": "$virtual_mailbox_maps",
    "allow_percent_hack": "yes",
    "swap_bangpath": "yes",
    "resolve_dequoted_address": "yes",
    "allow_untrusted_routing": "yes",
    "smtputf8_enable": "yes",
    "smtpd_relay_restrictions": "check_recipient_access static:INFO, permit_mynetworks, reject_unauth_destination",
}
"""A next hop as careless as Postfix can be: it relays for the gateway, and sends on what has `%`, `!` or `@` in a local part of ours."""
HAPROXY = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 20s
  timeout server 20s
listen smtp
  bind 127.0.0.1:{front}
  server gateway 127.0.0.1:{smtp}
"""
NEVER_ENDING = "[limits]\nerrors = 1000\nunknown_recipients = 1000\n"
SENDERS = (b"<a@client.test>", b"<>", b"<bob@example.test>")
ARRIVALS = ("direct", "haproxy", "bridge")

Outcome = Literal["denied", "syntax", "refused", "ours"]
Control = Literal["elsewhere", "refused", "ours", "syntax"]


@dataclass(frozen=True)
class Probe:
    """What follows `RCPT TO:`, what a stranger hears, and what happens to the same of a trusted client.

    denied: our 550 5.7.1; syntax: 50x, ours or Postfix's; refused: Postfix's own answer, the domain being ours; ours: bob has the message;
    elsewhere: Postfix sent it on to another domain.
    """

    name: str
    octets: bytes
    stranger: Outcome
    trusted: Control
    utf8: bool = False


PROBES = (
    Probe("plain", b"<victim@elsewhere.test>", "denied", "elsewhere"),
    Probe("below-ours", b"<victim@sub.example.test>", "denied", "elsewhere"),
    Probe("ours-in-front", b"<victim@example.test.elsewhere.test>", "denied", "elsewhere"),
    Probe("ours-behind", b"<victim@notexample.test>", "denied", "elsewhere"),
    Probe("upper-case", b"<VICTIM@ELSEWHERE.TEST>", "denied", "elsewhere"),
    Probe("ours-in-upper-case", b"<BOB@EXAMPLE.TEST>", "ours", "ours"),
    Probe("percent", b"<victim%elsewhere.test@example.test>", "denied", "elsewhere"),
    Probe("percent-upper-case", b"<victim%ELSEWHERE.TEST@EXAMPLE.TEST>", "denied", "elsewhere"),
    Probe("percent-twice", b"<victim%elsewhere.test%example.test@example.test>", "denied", "elsewhere"),
    Probe("percent-literal", b"<victim%[192.0.2.1]@example.test>", "syntax", "syntax"),
    Probe("percent-no-domain", b"<victim%elsewhere.test>", "syntax", "syntax"),
    Probe("percent-quoted", b'<"victim%elsewhere.test"@example.test>', "denied", "elsewhere"),
    Probe("percent-escaped", b'<"victim\\%elsewhere.test"@example.test>', "denied", "elsewhere"),
    Probe("at-quoted", b'<"victim@elsewhere.test"@example.test>', "denied", "elsewhere"),
    Probe("at-escaped", b'<"victim\\@elsewhere.test"@example.test>', "denied", "elsewhere"),
    Probe("at-quoted-no-domain", b'<"victim@elsewhere.test">', "syntax", "syntax"),
    Probe("at-twice", b"<victim@elsewhere.test@example.test>", "syntax", "syntax"),
    Probe("quoted-user", b'<"victim"@elsewhere.test>', "denied", "elsewhere"),
    Probe("bang", b"<elsewhere.test!victim@example.test>", "denied", "elsewhere"),
    Probe("bang-twice", b"<example.test!elsewhere.test!victim@example.test>", "denied", "elsewhere"),
    Probe("bang-quoted", b'<"elsewhere.test!victim"@example.test>', "denied", "elsewhere"),
    Probe("bang-no-domain", b"<elsewhere.test!victim>", "syntax", "syntax"),
    Probe("bang-and-percent", b"<elsewhere.test!victim%example.test@example.test>", "denied", "elsewhere"),
    Probe("source-route", b"<@example.test:victim@elsewhere.test>", "denied", "elsewhere"),
    Probe("source-route-longer", b"<@example.test,@example.test:victim@elsewhere.test>", "denied", "elsewhere"),
    Probe("source-route-percent", b"<@example.test:victim%elsewhere.test@example.test>", "denied", "elsewhere"),
    Probe("source-route-to-ours", b"<@elsewhere.test:bob@example.test>", "ours", "ours"),
    Probe("source-route-no-mailbox", b"<@example.test:>", "syntax", "syntax"),
    Probe("literal-of-the-gateway", b"<victim@[127.0.0.1]>", "denied", "refused"),
    Probe("literal-foreign", b"<victim@[192.0.2.1]>", "denied", "elsewhere"),
    Probe("literal-ipv6", b"<victim@[IPv6:2001:db8::1]>", "denied", "elsewhere"),
    Probe("literal-ipv6-loopback", b"<victim@[IPv6:::1]>", "denied", "elsewhere"),
    Probe("literal-ipv4-in-ipv6", b"<victim@[IPv6:::ffff:192.0.2.1]>", "denied", "elsewhere"),
    Probe("literal-general", b"<victim@[x400:c=test]>", "denied", "syntax"),
    Probe("literal-without-brackets", b"<victim@192.0.2.1>", "denied", "syntax"),
    Probe("literal-as-number", b"<victim@3221225985>", "denied", "syntax"),
    Probe("literal-hash", b"<victim@#3221225985>", "syntax", "syntax"),
    Probe("literal-in-percent", b'<"victim@[192.0.2.1]"@example.test>', "denied", "elsewhere"),
    Probe("trailing-dot", b"<victim@elsewhere.test.>", "syntax", "syntax"),
    Probe("trailing-dot-ours", b"<bob@example.test.>", "syntax", "syntax"),
    Probe("trailing-dots", b"<victim@elsewhere.test..>", "syntax", "syntax"),
    Probe("localhost", b"<victim@localhost>", "denied", "elsewhere"),
    Probe("no-domain", b"<victim>", "syntax", "syntax"),
    Probe("empty", b"<>", "syntax", "syntax"),
    Probe("postmaster", b"<postmaster>", "ours", "ours"),
    Probe("postmaster-elsewhere", b"<postmaster@elsewhere.test>", "denied", "elsewhere"),
    Probe("postmaster-percent", b"<postmaster%elsewhere.test>", "syntax", "syntax"),
    Probe("no-brackets", b"victim@elsewhere.test", "syntax", "syntax"),
    Probe("two-paths", b"<bob@example.test> <victim@elsewhere.test>", "syntax", "syntax"),
    Probe("two-in-one-path", b"<bob@example.test,victim@elsewhere.test>", "syntax", "syntax"),
    Probe("brackets-twice", b"<<victim@elsewhere.test>@example.test>", "syntax", "syntax"),
    Probe("space", b"<victim@elsewhere.test @example.test>", "syntax", "syntax"),
    Probe("nul", b"<victim@elsewhere.test\0@example.test>", "syntax", "syntax"),
    Probe("nul-in-domain", b"<bob@example.test\0.elsewhere.test>", "syntax", "syntax"),
    Probe("nul-quoted", b'<"victim\0@elsewhere.test"@example.test>', "syntax", "syntax"),
    Probe("cr", b"<bob@example.test>\rRCPT TO:<victim@elsewhere.test>", "syntax", "syntax"),
    Probe("cr-quoted", b'<"x\rRCPT TO:<victim@elsewhere.test>\r"@example.test>', "syntax", "syntax"),
    Probe("tab", b"<victim@elsewhere.test\t@example.test>", "syntax", "syntax"),
    Probe("delete", b"<victim@elsewhere.test\x7f>", "syntax", "syntax"),
    Probe("orcpt", b"<bob@example.test> NOTIFY=NEVER ORCPT=rfc822;victim@elsewhere.test", "ours", "ours"),
    Probe("orcpt-and-percent", b"<v%elsewhere.test@example.test> ORCPT=rfc822;bob@example.test", "denied", "elsewhere"),
    Probe("utf8-unasked", "<bob@ex\u0430mple.test>".encode(), "syntax", "syntax"),
    Probe("utf8-cyrillic", "<bob@ex\u0430mple.test>".encode(), "denied", "elsewhere", utf8=True),
    Probe("utf8-full-width-dot", "<victim@elsewhere\uff0etest>".encode(), "denied", "elsewhere", utf8=True),
    Probe("utf8-full-width-dot-ours", "<bob@example\uff0etest>".encode(), "denied", "elsewhere", utf8=True),
    Probe("utf8-ideographic-dot", "<victim@elsewhere\u3002test>".encode(), "denied", "elsewhere", utf8=True),
    Probe("utf8-full-width-letters", "<victim@\uff45lsewhere.test>".encode(), "denied", "elsewhere", utf8=True),
    Probe("utf8-full-width-at", "<victim\uff20elsewhere.test@example.test>".encode(), "refused", "refused", utf8=True),
    Probe("utf8-full-width-percent", "<victim\uff05elsewhere.test@example.test>".encode(), "refused", "refused", utf8=True),
    Probe("utf8-full-width-bang", "<elsewhere.test\uff01victim@example.test>".encode(), "refused", "refused", utf8=True),
    Probe("utf8-percent", "<v\u00efctim%elsewhere.test@example.test>".encode(), "denied", "elsewhere", utf8=True),
    Probe("utf8-domain", "<victim@\u4f8b\u3048.test>".encode(), "denied", "elsewhere", utf8=True),
    Probe("utf8-punycode", b"<victim@xn--r8jz45g.test>", "denied", "elsewhere"),
    Probe("utf8-soft-hyphen", "<bob@exam\u00adple.test>".encode(), "denied", "elsewhere", utf8=True),
    Probe("utf8-broken", b"<victim@elsewhere\xc0\xae.test>", "syntax", "syntax", utf8=True),
    Probe("utf8-overlong-at", b"<victim\xc1\x80elsewhere.test@example.test>", "syntax", "syntax", utf8=True),
)


@dataclass
class Site:
    """The gateway, Postfix behind it, and the ways to come in."""

    gateway: Gateway
    postfix: RealPostfix
    bridge: Bridge
    ports: dict[str, int]
    number: Iterator[int]

    def client(self, arrival: str) -> Client:
        """A client that arrives so, after EHLO."""
        port = self.ports[arrival]
        client = Client(port, sock=self.bridge.connect(port) if arrival == "bridge" else None)
        assert b"SMTPUTF8" in client.say(b"EHLO client.test\r\n")
        return client

    @contextmanager
    def noted(self) -> Iterator[list[str]]:
        """The recipients that were given to Postfix within the block, in the order of its log."""
        before = len(self.postfix.log())
        found: list[str] = []
        yield found
        mark = f"fence{next(self.number)}.test"
        with Client(self.postfix.port) as client:  # what it logs comes behind all that it logged before
            for command in (f"HELO {mark}", "MAIL FROM:<>", "RCPT TO:<bob@example.test>"):
                client.say(command.encode() + b"\r\n")
        self.gateway.until(lambda: f"helo=<{mark}>" in self.postfix.log())
        lines = self.postfix.log()[before:].partition(f"helo=<{mark}>")[0].splitlines()[:-1]
        found += [one for line in lines for one in re.findall(r"NOQUEUE: \w+: RCPT from .* to=<(.*)> proto=", line)]

    def deliveries(self, queue_id: str, count: int = 1) -> set[tuple[str, str]]:
        """Recipient and end of each delivery of a message, once there are so many."""

        def ends() -> set[tuple[str, str]]:
            return set(re.findall(rf" {queue_id}: to=<(.*?)>, .* status=sent \((.*)\)", self.postfix.log()))

        self.gateway.until(lambda: len(ends()) >= count)
        self.gateway.until(lambda: f" {queue_id}: removed" in self.postfix.log())
        return ends()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], str]) -> Iterator[Site]:
    require("postfix")
    need_root("Postfix")
    folder = tmp_path_factory.mktemp("probes")
    with ExitStack() as stack:
        smtp, admin, front, trusted, inner = (free_port() for _ in range(5))
        postfix = stack.enter_context(RealPostfix(settings=LAX))
        bridge = stack.enter_context(Bridge())
        more = (
            f'[[listener]]\nname = "bridge"\nbind = "{bridge.host}:{inner}"\ntrusted_networks = ["192.0.2.0/28"]\n'
            f'[[listener]]\nname = "trusted"\nbind = "127.0.0.1:{trusted}"\ntrusted_networks = ["127.0.0.0/8"]\n{NEVER_ENDING}'
        )
        gateway = stack.enter_context(
            running(
                folder / "gateway",
                smtp=smtp,
                admin=admin,
                workers=1,
                domains=[DOMAIN],
                servers=[postfix.address],
                server='name = "mx.example.test"',
                listener='trusted_networks = ["192.0.2.0/28"]',
                more=more,
            )
        )
        stack.enter_context(haproxy(require("haproxy"), folder, front=front, smtp=smtp))
        gateway.until(lambda: greets(front))
        ports = {"direct": smtp, "haproxy": front, "bridge": inner, "trusted": trusted}
        yield Site(gateway, postfix, bridge, ports, itertools.count())


@contextmanager
def haproxy(program: str, folder: Path, **ports: int) -> Iterator[None]:
    """In TCP mode, and without PROXY: everybody comes from loopback."""
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(**ports))
    process = subprocess.Popen([program, "-db", "-f", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
            return sock.recv(200).startswith(b"220")
    except OSError:
        return False


def mail(client: Client, sender: bytes, probe: Probe) -> None:
    reply = client.say(b"MAIL FROM:" + sender + (b" SMTPUTF8" if probe.utf8 else b"") + b"\r\n")
    assert reply.startswith(b"250"), reply


def rcpt(client: Client, probe: Probe) -> bytes:
    return client.say(b"RCPT TO:" + probe.octets + b"\r\n")


def content(client: Client) -> str:
    """Send a message; the next hop's identifier of it."""
    assert client.say(b"DATA\r\n").startswith(b"354")
    reply = client.say(b"Subject: probe\r\n\r\nhello\r\n.\r\n").decode()
    found = re.match(r"250 2\.0\.0 Ok: queued as (\w+)", reply)
    assert found, reply
    return found[1]


def kind_of(reply: bytes) -> str:
    """The outcome that a reply to RCPT tells."""
    if reply.startswith(b"250"):
        return "accepted"
    if reply.startswith(b"550 5.7.1 Relaying denied"):
        return "denied"
    if b"User unknown" in reply:
        return "refused"
    return "syntax" if reply[:3] in {b"500", b"501", b"553", b"555"} else reply.decode("utf-8", "replace")


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_stranger_reaches_nobody_elsewhere(arrival: str, probe: Probe, site: Site) -> None:
    with site.noted() as noted, site.client(arrival) as client:
        heard = []
        for sender in SENDERS:
            mail(client, sender, probe)
            heard.append(kind_of(rcpt(client, probe)))
            if heard[-1] == "accepted":
                ((recipient, _),) = site.deliveries(content(client))
                assert recipient.lower() in {"bob@example.test", "postmaster@example.test"}
            else:
                assert client.say(b"DATA\r\n").startswith(b"554 5.5.1" if heard[-1] != "syntax" else (b"554", b"503"))
                client.say(b"RSET\r\n")
    assert heard == ["accepted" if probe.stranger == "ours" else probe.stranger] * len(SENDERS)
    assert {one.rpartition("@")[2].lower() for one in noted} <= ({DOMAIN} if probe.stranger in {"refused", "ours"} else set())


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_the_same_of_a_trusted_client_goes_where_postfix_sends_it(probe: Probe, site: Site) -> None:
    """What would have happened: without this the test above might prove nothing."""
    with site.noted() as noted, site.client("trusted") as client:
        mail(client, SENDERS[0], probe)
        kind = kind_of(rcpt(client, probe))
        if kind == "accepted":
            ((recipient, how),) = site.deliveries(content(client))
            kind = "elsewhere" if how == "nothing leaves the tests" else "ours"
            assert (recipient.rpartition("@")[2].lower() == DOMAIN) == (kind == "ours"), (recipient, how)
    assert kind == probe.trusted
    assert bool(noted) == (kind != "syntax" and probe.name != "postmaster")  # which no restriction of Postfix is asked about


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_all_in_one_transaction_and_only_ours_has_it(arrival: str, site: Site) -> None:
    """Pipelined, in a group, with one recipient of ours in the middle."""
    denied = [probe for probe in PROBES if probe.stranger == "denied" and not probe.utf8]
    bob = Probe("bob", b"<bob@example.test>", "ours", "ours")
    group = [*denied[::2], bob, *denied[1::2]]
    with site.noted() as noted, site.client(arrival) as client:
        client.sock.sendall(b"MAIL FROM:<>\r\n" + b"".join(b"RCPT TO:" + probe.octets + b"\r\n" for probe in group))
        assert client.read().startswith(b"250")
        assert [kind_of(client.read()) for _ in group] == ["accepted" if probe is bob else "denied" for probe in group]
        ends = site.deliveries(content(client))
    assert {recipient for recipient, _ in ends} == {"bob@example.test"}
    assert noted == ["bob@example.test"]


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize(
    "claim",
    [
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 25\r\n",
        b"XCLIENT ADDR=192.0.2.1 NAME=printer.example.test\r\n",
        b"XFORWARD ADDR=192.0.2.1 NAME=printer.example.test\r\n",
        b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n",
        b"EHLO [192.0.2.1]\r\n",
    ],
    ids=lambda claim: claim.split()[0].decode(),
)
def test_who_claims_to_be_trusted_is_not_believed(arrival: str, claim: bytes, site: Site) -> None:
    """192.0.2.1 is a trusted client's address on these listeners."""
    probe = PROBES[0]
    with site.noted() as noted, site.client(arrival) as client:
        assert client.say(claim)[:3] in ({b"250"} if claim.startswith(b"EHLO") else {b"500", b"502", b"503", b"550"})
        mail(client, b"<bob@example.test>", probe)
        assert kind_of(rcpt(client, probe)) == "denied"
    assert noted == []
