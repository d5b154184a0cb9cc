"""TLS towards a next hop: how far it goes with whom, what a link then promises, and what is refused."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from gateway.config.models import RelayConfig, RouteConfig
from gateway.errors import ConfigError, LinkError
from gateway.relay.connect import Opening, open_link
from gateway.relay.identity import ClientFacts
from gateway.relay.link import Link
from gateway.relay.pool import Relay
from gateway.relay.routes import parse_server
from gateway.relay.setup import LinkSetup, Mode
from gateway.testing.next_hop import KEYWORDS, Answer, ScriptedNextHop
from gateway.testing.wire import server_certificate, server_tls


async def linked(hop: ScriptedNextHop, **settings: Any) -> Link:
    server = parse_server(hop.address)
    return await open_link(
        Opening.to(server, name="gw.test", settings=RelayConfig(), setup=LinkSetup(**settings)), on_lost=lambda _: None
    )


async def closed(link: Link) -> None:
    link.fail(LinkError(link.next_hop, "test over"))
    await link.closed


@pytest.mark.parametrize(
    ("tls", "server", "mode"),
    [
        ("auto", "127.0.0.1", "off"),
        ("auto", "[::1]:2525", "off"),
        ("auto", "localhost", "off"),
        ("auto", "unix:/run/x", "off"),
        ("auto", "192.0.2.1", "opportunistic"),
        ("auto", "mail.example.org", "opportunistic"),
        ("off", "mail.example.org", "off"),
        ("opportunistic", "127.0.0.1", "opportunistic"),
        ("auto", "smtps://127.0.0.1", "required"),
        ("opportunistic", "smtps://mail.example.org", "required"),
        ("verified", "smtps://mail.example.org", "verified"),
    ],
)
def test_how_far_tls_goes(tls: Any, server: str, mode: Mode) -> None:
    assert LinkSetup(tls=tls).mode(parse_server(server)) == mode


async def test_a_certificate_that_was_checked_is_a_fact_of_the_link(tmp_path: Path) -> None:
    async with ScriptedNextHop(keywords=(*KEYWORDS, "REQUIRETLS"), tls=server_tls(tmp_path)) as hop:
        certificate, _ = server_certificate(tmp_path)
        link = await linked(hop, tls="verified", tls_ca=str(certificate), tls_name="localhost.")
        assert link.tls is not None
        assert link.tls.is_verified
        assert link.tls.version in {"TLSv1.2", "TLSv1.3"}
        assert link.note == f"{link.tls.version} {link.tls.cipher}, verified"
        assert link.capabilities.offers("REQUIRETLS")
        assert hop.commands == [b"EHLO gw.test", b"STARTTLS", b"EHLO gw.test"]
        await closed(link)


async def test_requiretls_counts_over_verified_tls_only(tmp_path: Path) -> None:
    """RFC 8689 4.2.1."""
    async with ScriptedNextHop(keywords=(*KEYWORDS, "REQUIRETLS"), tls=server_tls(tmp_path)) as hop:
        for mode in ("required", "off"):
            link = await linked(hop, tls=mode)
            assert (link.tls is not None) == (mode == "required")
            assert not link.capabilities.offers("REQUIRETLS")
            assert link.capabilities.offers("DSN")
            await closed(link)


async def test_a_transaction_that_needs_it_goes_on_no_lesser_link(tmp_path: Path) -> None:
    async with ScriptedNextHop(keywords=(*KEYWORDS, "REQUIRETLS"), tls=server_tls(tmp_path)) as hop:
        route = RouteConfig(name="r", domains=("x.test",), servers=(hop.address,), tls="required")
        relay = Relay([route], RelayConfig(), server_name="gw.test")
        handover = relay.handover("r", ClientFacts(address="192.0.2.1"))
        with pytest.raises(LinkError, match="does not offer REQUIRETLS") as caught:
            await handover.mail(b"<a@b>", [b"REQUIRETLS"], needs={"REQUIRETLS"})
        assert caught.value.enhanced == "4.7.30"
        assert not [line for line in hop.commands if line.startswith(b"MAIL")]
        handover.abandon()
        await relay.close()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"tls_name": "other.test"}, "certificate refused: .*other.test"),
        ({"tls_name": "localhost", "tls_ca": ""}, "certificate refused: self.signed"),
    ],
)
async def test_a_certificate_that_is_not_the_servers(tmp_path: Path, settings: dict[str, str], what: str) -> None:
    async with ScriptedNextHop(tls=server_tls(tmp_path)) as hop:
        certificate, _ = server_certificate(tmp_path)
        with pytest.raises(LinkError, match=what) as caught:
            await linked(hop, **{"tls": "verified", "tls_ca": str(certificate), **settings})
        assert caught.value.enhanced == "4.7.5"
        assert hop.commands == [b"EHLO gw.test", b"STARTTLS"]


async def test_an_older_version_than_wanted(tmp_path: Path) -> None:
    context = server_tls(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with ScriptedNextHop(tls=context) as hop:
        link = await linked(hop, tls="required")
        assert link.tls is not None
        assert link.tls.version == "TLSv1.2"
        await closed(link)
        with pytest.raises(LinkError, match="TLS handshake"):
            await linked(hop, tls="required", tls_minimum="TLSv1.3")


async def test_our_certificate_is_shown_to_who_asks(tmp_path: Path) -> None:
    certificate, key = server_certificate(tmp_path)
    context = server_tls(tmp_path)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    async with ScriptedNextHop(tls=context) as hop:
        await closed(await linked(hop, tls="required"))
        await closed(await linked(hop, tls="required", tls_certificate=str(certificate), tls_key=str(key)))
        await closed(await linked(hop, tls="required", tls_certificate=str(both)))
        ours = ssl.PEM_cert_to_DER_cert(certificate.read_text())
        assert hop.peer_certificates == [b"", ours, ours]


async def test_what_was_offered_in_the_clear_is_forgotten(tmp_path: Path) -> None:
    async with ScriptedNextHop(tls=server_tls(tmp_path)) as hop:
        hop.script("EHLO", "250-x\n250-DSN\n250 STARTTLS", "250-x\n250 8BITMIME")
        link = await linked(hop, tls="required")
        assert set(link.capabilities.keywords) == {"8BITMIME"}
        await closed(link)


async def test_a_refusal_of_tls_is_no_refusal_of_mail_where_it_is_opportunistic(tmp_path: Path) -> None:
    async with ScriptedNextHop(tls=server_tls(tmp_path)) as hop:
        hop.script("STARTTLS", "454 4.7.0 Not now")
        link = await linked(hop, tls="opportunistic")
        assert link.note == "in the clear: STARTTLS answered with 454 4.7.0 Not now"
        assert hop.connections == 2
        await closed(link)
    async with ScriptedNextHop() as hop:
        link = await linked(hop, tls="opportunistic")
        assert link.note == "in the clear: STARTTLS is not offered"
        assert hop.connections == 1
        await closed(link)


def test_routes_that_are_set_up_differently_share_no_link() -> None:
    routes = [
        RouteConfig(name=name, domains=(f"{name}.test",), servers=("127.0.0.1:2526",), tls=tls)
        for name, tls in (("a", "off"), ("b", "off"), ("c", "required"))
    ]
    relay = Relay(routes, RelayConfig(), server_name="gw.test")
    a, b, c = (relay._routes[name].pools[0] for name in "abc")
    assert a is b
    assert a is not c


def test_servers_that_are_alike_share_what_tls_needs() -> None:
    """The authorities are read once, not for each mail exchanger."""
    setup = LinkSetup(tls="verified")
    contexts = {setup.context(parse_server(f"mx{number}.test")) for number in range(3)}
    assert len(contexts) == 1
    assert setup.context(parse_server("smtps://mx.test")) in contexts
    assert setup == LinkSetup(tls="verified")
    assert hash(setup) == hash(LinkSetup(tls="verified"))


def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    route = RouteConfig(name="r", domains=("x.test",), servers=("a.test",), tls="verified", tls_ca="none.pem")
    with pytest.raises(ConfigError, match=r"none\.pem|No such file"):
        Relay([route], RelayConfig(), server_name="gw.test", directory=tmp_path)


def test_on_uvloop_too(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def scene() -> None:
        async with ScriptedNextHop(tls=server_tls(tmp_path)) as hop:
            certificate, _ = server_certificate(tmp_path)
            link = await linked(hop, tls="verified", tls_ca=str(certificate), tls_name="localhost")
            assert link.verified_tls
            assert (await link.ask(b"NOOP", 5, last=True)).code == 250
            await closed(link)
            hop.script("STARTTLS", Answer(raw=b"220 2.0.0 Ready\r\n250 inj"))
            with pytest.raises(LinkError, match="octets in the clear in front of the TLS handshake"):
                await linked(hop, tls="opportunistic")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())
