"""Which name servers are asked: the configured ones, or those of resolv.conf as it is now."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.context import DnsAnswer
from gateway.dns.cache import AnswerCache
from gateway.dns.servers import MAX_SERVERS, Servers, parse_server, read_resolv_conf
from gateway.testing import Clock


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:5353", ("192.0.2.53", 5353)),
        ("[2001:db8::53]", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
        ("unbound:53", ("unbound", 53)),
    ],
)
def test_addresses_of_name_servers(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server


def test_resolv_conf_gives_addresses_only() -> None:
    text = "nameserver 192.0.2.1\n# nameserver 192.0.2.9\nnameserver\t2001:db8::1 # x\nnameserver\nnameserver name\nsearch a b\n"
    assert read_resolv_conf(text) == [("192.0.2.1", 53), ("2001:db8::1", 53)]
    assert len(read_resolv_conf("nameserver 192.0.2.1\n" * 50)) == MAX_SERVERS


def test_a_changed_resolv_conf_is_read_again(tmp_path: Path) -> None:
    clock = Clock()
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\n")
    servers = Servers((), clock=clock, resolv_conf=file)
    assert servers.in_order() == [("192.0.2.1", 53)]
    file.unlink()
    assert servers.in_order() == [("192.0.2.1", 53)]
    clock.move(11)
    assert servers.in_order() == []
    file.write_text("nameserver 192.0.2.2\nnameserver 192.0.2.3\n")
    clock.move(11)
    assert servers.in_order() == [("192.0.2.2", 53), ("192.0.2.3", 53)]
    servers.failed(("192.0.2.2", 53))
    servers.failed(("192.0.2.77", 53))
    clock.move(11)
    assert servers.in_order() == [("192.0.2.3", 53), ("192.0.2.2", 53)]


def test_the_cache_is_bounded_in_octets() -> None:
    cache = AnswerCache(100, clock=Clock(), max_octets=4_000)
    for number in range(10):
        answer = DnsAnswer(name=str(number), kind="TXT", records=((b"x" * 1_000,),))
        cache.put((str(number), "TXT"), answer, 60)
    assert len(cache) == 2
    cache.put(("9", "TXT"), DnsAnswer(name="9", kind="TXT", records=((b"x" * 10_000,),)), 60)
    assert cache.fresh(("9", "TXT")) is None
    assert cache.fresh(("8", "TXT")) is not None
