"""The network of a client's address."""

from __future__ import annotations

import pytest

from gateway import client_network


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.0/24"),
        ("", ""),
        ("unknown", ""),
    ],
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    assert client_network(address) == network


def test_other_sizes() -> None:
    assert client_network("192.0.2.77", ipv4=32) == "192.0.2.77/32"
    assert client_network("2001:db8:1:2:3::4", ipv6=48) == "2001:db8:1::/48"
