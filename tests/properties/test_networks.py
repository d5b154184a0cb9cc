"""Networks as numbers hold what the networks of `ipaddress` hold."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.relaying import contains, networks

ADDRESSES = st.one_of(
    st.ip_addresses(),
    st.ip_addresses(network="192.0.2.0/24"),
    st.ip_addresses(network="::ffff:192.0.2.0/120"),
    st.ip_addresses(network="2001:db8::/112"),
    st.ip_addresses(network="::c000:200/120"),  # the numbers of 192.0.2.0/24, and another version
)
NETWORKS = st.tuples(ADDRESSES, st.integers(0, 128)).map(lambda one: f"{one[0]}/{min(one[1], one[0].max_prefixlen)}")


@given(listed=st.lists(NETWORKS, max_size=4), address=ADDRESSES)
def test_they_hold_the_same_addresses(listed: list[str], address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    meant = (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address
    assert contains(networks(listed), str(address)) == any(meant in ipaddress.ip_network(one, strict=False) for one in listed)
