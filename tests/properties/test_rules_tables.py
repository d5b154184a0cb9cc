"""Tables of named lists: in them is what was put there, and nothing else."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from gateway.plugins.rules.entries import KINDS, add_entry
from gateway.plugins.rules.similar import _distance
from gateway.plugins.rules.table import Building, table_of

networks = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(lambda one: ipaddress.ip_network(one, strict=False)),
    st.tuples(st.integers(0xFFFF_0000_0000 - 5, 0xFFFF_0000_0000 + 5), st.integers(0, 32)).map(
        lambda one: ipaddress.ip_network((one[0] % 2**32, one[1]), strict=False)
    ),
    st.tuples(st.integers(0, 2**128 - 1) | st.integers(2**64 - 3, 2**64 + 3) | st.integers(0, 9), st.integers(0, 128)).map(
        lambda one: ipaddress.IPv6Network(one, strict=False)
    ),
)


@given(st.sets(st.binary(min_size=1, max_size=12), max_size=300), st.sets(st.binary(min_size=1, max_size=12), max_size=50))
def test_digests(inside: set[bytes], others: set[bytes]) -> None:
    building = Building()
    for key in inside:
        building.add(key)
        building.add(key)
    table = table_of(b"".join(building.octets(ranges=False)))
    assert table.header.count == len(inside)
    assert all(key in table for key in inside)
    assert not any(key in table for key in others - inside)


def _is_in(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    mapped = address if isinstance(address, ipaddress.IPv6Address) else ipaddress.IPv6Address(f"::ffff:{address}")
    first, last = network.network_address, network.broadcast_address
    if isinstance(first, ipaddress.IPv4Address):
        first, last = ipaddress.IPv6Address(f"::ffff:{first}"), ipaddress.IPv6Address(f"::ffff:{last}")
    return int(first) <= int(mapped) <= int(last)


@given(st.lists(networks, max_size=30), st.lists(networks, min_size=1, max_size=10))
def test_networks(inside: list[ipaddress.IPv4Network | ipaddress.IPv6Network], others: list[ipaddress.IPv4Network]) -> None:
    kind, building = KINDS["networks"], Building()
    for network in inside:
        add_entry(kind, building, str(network))
    table = table_of(b"".join(building.octets(ranges=True)))
    for network in [*inside, *others]:
        for address in (network.network_address, network.broadcast_address):
            for near in (-1, 0, 1):
                if 0 <= int(address) + near < 2**address.max_prefixlen:
                    one = type(address)(int(address) + near)
                    assert kind.found(table, str(one)) is any(_is_in(one, network) for network in inside), one


def _plain_distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        before, row[0] = row[0], at
        for to, wanted in enumerate(other, 1):
            before, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, before + (letter != wanted))
    return row[-1]


@given(st.text("abcde", min_size=1, max_size=40), st.text("abcde", min_size=1, max_size=70))
def test_distance(one: str, other: str) -> None:
    assert _distance(one, other) == _plain_distance(one, other) == _distance(other, one)
