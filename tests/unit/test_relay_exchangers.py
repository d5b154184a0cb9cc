"""Routes by MX against scripted next hops: order, fail-over, replay, what is offered, what is remembered. RFC 5321 5.1."""

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.config.models import RelayConfig, RouteConfig
from gateway.errors import DomainError, LinkError
from gateway.relay import exchangers
from gateway.relay.exchangers import ByDomain
from gateway.relay.identity import ClientFacts
from gateway.relay.pool import Relay
from gateway.testing.dns import FakeResolver
from gateway.testing.next_hop import Answer, ScriptedNextHop

CLIENT = ClientFacts(address="192.0.2.1")


@contextlib.asynccontextmanager
async def two_hops() -> AsyncIterator[tuple[ScriptedNextHop, ScriptedNextHop]]:
    """On one port of two addresses, as exchangers of one domain are."""
    async with ScriptedNextHop(keywords=("PIPELINING", "DSN", "SIZE 1000")) as one:
        two = ScriptedNextHop(keywords=("PIPELINING", "SIZE 500"))
        two.host, two.port = "127.0.0.2", one.port
        async with two:
            yield one, two


def zones(**domains: Any) -> FakeResolver:
    hosts = {"one.test": {"A": ["127.0.0.1"]}, "two.test": {"A": ["127.0.0.2"]}}
    return FakeResolver({**hosts, **{name.replace("_", "."): records for name, records in domains.items()}})


@contextlib.asynccontextmanager
async def relaying(server: str, resolver: FakeResolver, *domains: str, **settings: float) -> AsyncIterator[Relay]:
    route = RouteConfig(name="r", domains=domains or ("example.org",), servers=(server,))
    limits = {"connect_timeout": 0.5, "reply_timeout": 5.0, "wait_limit": 0.2, "rest": 60.0, "max_messages": 1000, **settings}
    relay = Relay(
        [route],
        RelayConfig.model_validate(limits),
        server_name="gw.test",
        draw=random.Random(3).random,
        resolver=resolver,
        listens=[("127.0.0.3", 2525)],
    )
    try:
        yield relay
    finally:
        await relay.close()


async def deliver(relay: Relay, domain: str = "example.org") -> int:
    handover = relay.handover(relay.way("r", domain), CLIENT)
    try:
        await handover.mail(b"<a@b>", [])
        await handover.rcpt(b"<c@d>", [])
        return (await handover.send([b"x\r\n"], size=3))[0].code
    finally:
        handover.abandon()


async def test_the_best_exchanger_and_the_next_when_it_is_away() -> None:
    async with two_hops() as (one, two):
        resolver = zones(example_org={"MX": [[20, "two.test"], [10, "one.test"]]})
        async with relaying(f"mx::{one.port}", resolver) as relay:
            assert [await deliver(relay) for _ in range(3)] == [250, 250, 250]
            assert (len(one.transactions), one.connections, two.connections) == (3, 1, 0)
            assert str(relay._find("r/example.org")) == f"one.test[127.0.0.1]:{one.port}"
            await one.stop()
            assert [await deliver(relay) for _ in range(3)] == [250, 250, 250]
            assert (len(one.transactions), len(two.transactions)) == (3, 3)
            assert relay.resting("r") == 1


async def test_the_envelope_goes_to_another_exchanger_until_the_content_has_begun() -> None:
    async with two_hops() as (one, two):
        resolver = zones(example_org={"MX": [[10, "one.test"], [20, "two.test"]]})
        async with relaying(f"mx::{one.port}", resolver) as relay:
            one.script("RCPT", Answer("421 4.3.2 Leaving", drop=True))
            assert await deliver(relay) == 250
            assert [taken.paths for taken in two.transactions] == [[b"<c@d>"]]
            assert one.transactions == []
            two.script("CONTENT", Answer(drop=True))
            with pytest.raises(LinkError) as lost:
                await deliver(relay)
            assert lost.value.unknown
            assert len(two.transactions) == 2, "what was begun is not said again"


async def test_equal_exchangers_share_the_messages() -> None:
    async with two_hops() as (one, two):
        resolver = zones(example_org={"MX": [[10, "one.test"], [10, "two.test"]]})
        async with relaying(f"mx::{one.port}", resolver) as relay:
            for _ in range(100):
                assert await deliver(relay) == 250
            assert len(one.transactions) == pytest.approx(50, abs=20)
            assert len(one.transactions) + len(two.transactions) == 100
            assert (one.connections, two.connections) == (1, 1), "links are kept"


async def test_each_domain_goes_its_own_way_and_they_share_links() -> None:
    async with two_hops() as (one, two):
        both = {"MX": [[10, "one.test"]]}
        resolver = zones(example_org=both, example_net=both, elsewhere_test={"MX": [[10, "two.test"]]})
        async with relaying(f"mx::{one.port}", resolver, "*") as relay:
            for domain in ("example.org", "example.net", "elsewhere.test"):
                assert await deliver(relay, domain) == 250
            assert relay.way("r", "example.org") != relay.way("r", "example.net")
            assert (one.connections, len(one.transactions), len(two.transactions)) == (1, 2, 1)
            with pytest.raises(DomainError):
                await deliver(relay, "nowhere.test")
            handover = relay.handover("r", CLIENT)
            with pytest.raises(LinkError, match="which domain"):
                await handover.mail(b"<a@b>", [])
            handover.abandon()


async def test_exchangers_of_a_fixed_name() -> None:
    async with two_hops() as (one, two):
        resolver = zones(hub_test={"MX": [[10, "two.test"]]}, null_test={"MX": [[0, "."]]})
        async with relaying(f"mx:hub.test:{one.port}", resolver, "*") as relay:
            assert relay.way("r", "example.org") == "r"
            assert (await relay.learn("r")).size == 500
            assert await deliver(relay) == 250
            assert len(two.transactions) == 1
        async with relaying("mx:null.test", resolver, "*") as relay:
            with pytest.raises(LinkError) as error:
                await deliver(relay)
            assert not isinstance(error.value, DomainError), "the configuration's fault, not the recipient's"
            assert error.value.enhanced == "4.3.5"


async def test_dns_that_changes_is_seen_at_the_next_message() -> None:
    async with two_hops() as (one, two):
        resolver = zones(example_org={"MX": [[10, "one.test"]]})
        async with relaying(f"mx::{one.port}", resolver) as relay:
            assert await deliver(relay) == 250
            resolver.zones["example.org"] = {"MX": [[10, "two.test"]]}
            assert await deliver(relay) == 250
            assert (len(one.transactions), len(two.transactions)) == (1, 1)


async def test_a_loop_to_ourselves_is_not_entered() -> None:
    resolver = zones(example_org={"MX": [[10, "us.test"]]}, us_test={"A": ["127.0.0.3"]}, other_test={"MX": [[1, "gw.test"]]})
    async with relaying("mx::2525", resolver, "*") as relay:
        for domain in ("example.org", "other.test", "[127.0.0.3]"):
            with pytest.raises(DomainError, match="leads back"):
                await deliver(relay, domain)


async def test_what_is_offered_is_what_the_known_exchangers_have_in_common() -> None:
    async with two_hops() as (one, two):
        resolver = zones(example_org={"MX": [[10, "one.test"]]}, elsewhere_test={"MX": [[10, "two.test"]]})
        async with relaying(f"mx::{one.port}", resolver, "example.org", "*.test") as relay:
            assert relay.capabilities("r") is None
            assert set((await relay.learn("r")).keywords) == {"PIPELINING", "DSN", "SIZE"}
            before = relay.capabilities("r/elsewhere.test")
            assert before is not None
            assert before.offers("DSN"), "until it was met, what the client was told"
            assert await deliver(relay, "elsewhere.test") == 250
            after = relay.capabilities("r")
            assert after is not None
            assert after.keywords == {"PIPELINING": (), "SIZE": ("500",)}
            assert relay.healthy("r")
            assert two.connections == 1
    async with relaying("mx:", zones(), "example.org") as relay:
        with pytest.raises(LinkError):
            await relay.learn("r")
        await relay.probe()
        assert not relay.healthy("r")
    async with relaying("mx:", zones(), "*") as relay:
        assert relay.capabilities("r") is not None, "no domain to begin with: nothing is offered, nothing is wrong"
        assert relay.healthy("r")


async def test_a_probe_learns_before_mail_comes() -> None:
    resolver = zones(example_org={"MX": [[10, "one.test"]]})
    async with two_hops() as (one, _), relaying(f"mx::{one.port}", resolver) as relay:
        await relay.probe()
        assert relay.healthy("r")
        await relay.probe()
        assert one.connections == 1


async def test_domains_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchangers, "MAX_DOMAINS", 3)
    async with two_hops() as (one, _):
        names = [f"d{n}.test" for n in range(6)]
        resolver = FakeResolver({name: {"A": [f"127.0.1.{n}"]} for n, name in enumerate(names)})
        async with relaying(f"mx::{one.port}", resolver, "*") as relay:
            for name in names:
                with pytest.raises(LinkError):
                    await deliver(relay, name)
            parent = relay._routes["r"]
            assert isinstance(parent, ByDomain)
            assert list(parent._children) == names[3:]
            gc.collect()
            await asyncio.sleep(0)
            assert len(relay._pools) <= 4, "the others went with their domains"


async def test_postmaster_goes_to_the_first_domain() -> None:
    async with two_hops() as (one, _):
        resolver = zones(example_org={"MX": [[10, "one.test"]]})
        async with relaying(f"mx::{one.port}", resolver, "*", "example.org") as relay:
            assert await deliver(relay, "") == 250
