"""Logging in at a next hop: the exchanges of the RFCs' own examples, and what a link does with them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gateway.config.models import RelayConfig, RouteAuth, RouteConfig
from gateway.errors import ConfigError, LinkError
from gateway.relay.connect import Opening, open_link
from gateway.relay.link import Link
from gateway.relay.login import Credentials, LoginError, begin, choose, prove
from gateway.relay.routes import Server, parse_server
from gateway.relay.setup import LinkSetup
from gateway.testing.next_hop import KEYWORDS, ScriptedNextHop

PENCIL = Credentials(user="user", password="pencil")
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
CHALLENGE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
PROOF = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNATURE = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def encoded(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def test_scram() -> None:
    """RFC 7677 3."""
    exchange = begin("SCRAM-SHA-256", PENCIL, nonce=lambda: "rOprNGfwEbeRWgbNEkqO")
    assert next(exchange) == encoded(FIRST)
    assert exchange.send(encoded(CHALLENGE)) == encoded(PROOF)
    assert exchange.send(encoded(SIGNATURE)) == b""
    prove("SCRAM-SHA-256", exchange)


@pytest.mark.parametrize(
    "challenge",
    [
        CHALLENGE.replace(b"r=rOpr", b"r=other"),
        CHALLENGE.replace(b"i=4096", b"i=0"),
        CHALLENGE.replace(b"i=4096", b"i=100001"),
        CHALLENGE.replace(b"i=4096", b"i=many"),
        CHALLENGE.replace(b"s=W22", b"s=!"),
        b"",
    ],
)
def test_a_scram_challenge_that_makes_no_sense(challenge: bytes) -> None:
    exchange = begin("SCRAM-SHA-256", PENCIL, nonce=lambda: "rOprNGfwEbeRWgbNEkqO")
    next(exchange)
    with pytest.raises(LoginError):
        exchange.send(encoded(challenge))


def test_a_server_that_does_not_know_the_password() -> None:
    exchange = begin("SCRAM-SHA-256", PENCIL, nonce=lambda: "rOprNGfwEbeRWgbNEkqO")
    next(exchange)
    exchange.send(encoded(CHALLENGE))
    with pytest.raises(LoginError, match="does not know"):
        prove("SCRAM-SHA-256", exchange)  # 235 without a signature
    exchange = begin("SCRAM-SHA-256", PENCIL, nonce=lambda: "rOprNGfwEbeRWgbNEkqO")
    next(exchange)
    exchange.send(encoded(CHALLENGE))
    with pytest.raises(LoginError, match="does not know"):
        exchange.send(encoded(SIGNATURE.replace(b"6rri", b"7rri")))


def test_cram_md5() -> None:
    """RFC 2195 2."""
    exchange = begin("CRAM-MD5", Credentials(user="tim", password="tanstaaftanstaaf"))
    assert next(exchange) == b""
    answer = exchange.send(encoded(b"<1896.697170952@postoffice.reston.mci.net>"))
    assert base64.b64decode(answer) == b"tim b913a602c7eda7a495b4e6e7334d3890"


def test_a_challenge_that_is_no_base64() -> None:
    exchange = begin("CRAM-MD5", PENCIL)
    next(exchange)
    with pytest.raises(LoginError, match="no base64"):
        exchange.send(b"hello!")


def test_the_best_that_is_offered() -> None:
    assert choose(PENCIL, ("plain", "scram-sha-256", "LOGIN")) == "SCRAM-SHA-256"
    assert choose(PENCIL, ("XOAUTH2",)) is None
    assert choose(Credentials(user="u", password="p", mechanisms=("LOGIN",)), ("PLAIN", "LOGIN")) == "LOGIN"


async def linked(hop: ScriptedNextHop, credentials: Credentials = PENCIL) -> Link:
    opening = Opening.to(
        parse_server(hop.address), name="gw.test", settings=RelayConfig(), setup=LinkSetup(credentials=credentials)
    )
    return await open_link(opening, on_lost=lambda _: None)


async def closed(link: Link) -> None:
    link.fail(LinkError(link.next_hop, "test over"))
    await link.closed


async def test_we_log_in_once_and_a_client_cannot() -> None:
    async with ScriptedNextHop(keywords=(*KEYWORDS, "AUTH PLAIN LOGIN")) as hop:
        hop.script("AUTH", "235 2.7.0 Welcome")
        link = await linked(hop)
        assert hop.commands[1:] == [b"AUTH PLAIN " + encoded(b"\0user\0pencil")]
        assert not link.capabilities.offers("AUTH")
        assert link.capabilities.offers("DSN")
        await closed(link)


async def test_the_server_speaks_first() -> None:
    async with ScriptedNextHop(keywords=("AUTH LOGIN",)) as hop:
        hop.script("AUTH", "334 VXNlcm5hbWU6")
        hop.script(encoded(b"user").decode(), "334 UGFzc3dvcmQ6")
        hop.script(encoded(b"pencil").decode(), "235 2.7.0 Welcome")
        await closed(await linked(hop))
        assert hop.commands[1:] == [b"AUTH LOGIN", encoded(b"user"), encoded(b"pencil")]


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("535 5.7.8 Wrong password", "AUTH PLAIN answered with 535 5.7.8 Wrong password"),
        ("334 ", "AUTH PLAIN: one challenge too many"),
        ("250 2.0.0 What?", "AUTH PLAIN answered with 250 2.0.0 What"),
    ],
)
async def test_a_refused_login_is_about_our_link_and_shows_no_secret(answer: str, what: str) -> None:
    async with ScriptedNextHop(keywords=("AUTH PLAIN",)) as hop:
        hop.script("AUTH", answer)
        with pytest.raises(LinkError, match=what) as caught:
            await linked(hop)
        assert caught.value.enhanced == "4.3.5"
        assert "pencil" not in str(caught.value)
        assert "pencil" not in repr(PENCIL)


async def test_no_mechanism_of_ours_is_offered() -> None:
    async with ScriptedNextHop(keywords=("AUTH GSSAPI",)) as hop:
        with pytest.raises(LinkError, match="AUTH with none of SCRAM-SHA-256, CRAM-MD5, PLAIN, LOGIN is offered"):
            await linked(hop)


async def test_no_password_in_the_clear_to_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where TLS is opportunistic, which then is required."""
    setup = LinkSetup(tls="opportunistic", credentials=PENCIL)
    assert setup.mode(Server("192.0.2.1", 25)) == "required"
    assert LinkSetup(tls="opportunistic", credentials=PENCIL).mode(Server("127.0.0.1", 25)) == "opportunistic"
    async with ScriptedNextHop(keywords=("AUTH PLAIN",)) as hop:
        monkeypatch.setattr(Server, "is_local", property(lambda _: False))
        opening = Opening.to(
            parse_server(hop.address), name="gw.test", settings=RelayConfig(), setup=LinkSetup(tls="off", credentials=PENCIL)
        )
        with pytest.raises(LinkError, match="STARTTLS is not offered"):
            await open_link(opening, on_lost=lambda _: None)
        assert not [line for line in hop.commands if line.startswith(b"AUTH")]


def test_the_password_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pencil\n")

    def setup(file: str) -> LinkSetup:
        auth = RouteAuth(user="user", password_file=file)
        return LinkSetup.of(RouteConfig(name="r", domains=("x.test",), servers=("a.test",), auth=auth), tmp_path)

    assert setup("secret").credentials == PENCIL
    with pytest.raises(ConfigError, match="password_file"):
        setup("none")
