"""What a listener decides about a client: who may authenticate, and where an authenticated client's mail goes."""

from __future__ import annotations

import pathlib
from typing import Any, cast

import pytest
from typing_extensions import override

from gateway.chain import Chain
from gateway.config.models import Config, ListenerConfig, RouteConfig
from gateway.delivery import Delivery
from gateway.relay.pool import Relay
from gateway.relay.protocol import Capabilities
from gateway.runner import Runner
from gateway.session import ClientClass, Proxy, Session, Tls
from gateway.smtp.connections import Connections
from gateway.smtp.offering import offer
from gateway.smtp.paths import Path
from gateway.smtp.relaying import route_of
from gateway.smtp.site import Door, Site

TLS = Tls(version="TLSv1.3", cipher="x")
NEVER_ASKED: Any = None
ROUTES = [RouteConfig(name=name, domains=(f"{name}.test",), servers=("127.0.0.1:25",)) for name in ("first", "knows")]


class Learnt(Relay):
    """A relay that knows what its next hops offer."""

    @override
    def capabilities(self, route: str) -> Capabilities | None:
        return Capabilities({"AUTH": ("PLAIN", "GSSAPI"), "DSN": (), "8BITMIME": ()} if route == "knows" else {"8BITMIME": ()})

    @override
    async def learn(self, route: str) -> Capabilities:
        return cast("Capabilities", self.capabilities(route))


def a_door(listener: ListenerConfig, *, is_socket: bool = False) -> Door:
    """One that nobody has opened, of a site with two routes."""
    config = Config(route=ROUTES)
    site = Site(
        config=config,
        generation="",
        relay=Learnt(ROUTES, config.relay, server_name="mx.example"),
        delivery=Delivery(quarantine=NEVER_ASKED, journal=NEVER_ASKED, ledger=NEVER_ASKED),
        journal=NEVER_ASKED,
        spool=pathlib.Path(),
        connections=Connections(config.limits),
    )
    return Door(site=site, config=listener, chain=Chain((), Runner(NEVER_ASKED)), is_socket=is_socket)


@pytest.mark.parametrize(
    ("bind", "address", "tls", "is_private"),
    [
        ("0.0.0.0:587", "192.0.2.1", TLS, True),
        ("0.0.0.0:587", "192.0.2.1", None, False),
        ("0.0.0.0:587", "127.0.0.9", None, True),
        ("0.0.0.0:587", "::1", None, True),
        ("0.0.0.0:587", "::ffff:127.0.0.1", None, True),
        ("0.0.0.0:587", "", None, False),
    ],
)
def test_passwords_are_taken_where_nobody_reads_them(bind: str, address: str, tls: Tls | None, is_private: bool) -> None:
    door = a_door(ListenerConfig(bind=bind))
    assert door.is_private(Session(id="x", client_address=address, tls=tls)) is is_private


@pytest.mark.parametrize(
    ("proxy", "client", "is_private"),
    [
        (Proxy(address="127.0.0.1", tls=TLS), "192.0.2.1", True),
        (Proxy(address="127.0.0.1"), "192.0.2.1", False),
        (Proxy(address="127.0.0.1"), "127.0.0.1", True),
        (Proxy(address="127.0.0.1", tls=TLS), "", True),
        (Proxy(address="198.51.100.1", tls=TLS), "192.0.2.1", False),
        (Proxy(address="198.51.100.1"), "127.0.0.1", False),
        (Proxy(address="", tls=TLS), "192.0.2.1", False),
    ],
)
def test_behind_a_proxy_both_ways_count(proxy: Proxy, client: str, is_private: bool) -> None:
    door = a_door(ListenerConfig(bind="0.0.0.0:587"))
    session = Session(id="x", client_address=client, proxy=proxy)
    assert door.is_private(session) is is_private
    session.tls = TLS
    assert door.is_private(session)


async def test_a_known_client_is_offered_what_its_own_server_has() -> None:
    door = a_door(ListenerConfig(auth_route="knows"))
    session = Session(id="x", client_address="127.0.0.1")
    before = (await offer(door, session)).terms
    session.identity = "joe"
    after = (await offer(door, session)).terms
    assert before.next_hops is not None
    assert after.next_hops is not None
    assert not before.next_hops.offers("DSN")
    assert after.next_hops.offers("DSN")
    assert before.auth == after.auth == ("PLAIN",)
    session.client_address = "192.0.2.1"
    assert (await offer(door, session)).terms.auth == ()


def test_at_a_unix_socket() -> None:
    door = a_door(ListenerConfig(bind="unix:/run/mailgateway.sock"), is_socket=True)
    assert door.is_private(Session(id="x", is_local=True))
    assert door.is_private(Session(id="x", client_address="192.0.2.1", proxy=Proxy(address="", tls=TLS)))
    assert not door.is_private(Session(id="x", client_address="192.0.2.1", proxy=Proxy(address="")))


@pytest.mark.parametrize(
    ("client", "default_route", "domain", "wanted"),
    [
        (ClientClass.AUTHENTICATED, "", "elsewhere.test", "knows"),
        (ClientClass.AUTHENTICATED, "first", "elsewhere.test", "first"),
        (ClientClass.AUTHENTICATED, "", "first.test", "first"),
        (ClientClass.TRUSTED, "", "elsewhere.test", "first"),
    ],
)
def test_where_mail_of_a_known_client_goes(client: ClientClass, default_route: str, domain: str, wanted: str) -> None:
    listener = ListenerConfig(auth_route="knows", default_route=default_route)
    path = Path(f"<a@{domain}>".encode(), "a", domain)
    found = route_of(path, client, listener, ROUTES, lambda name: ROUTES[0] if name == "first.test" else None)
    assert isinstance(found, RouteConfig)
    assert found.name == wanted
