"""Lists of who is left alone: networks, names, mailboxes."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gateway import MailboxKey
from gateway.exemptions import Mailboxes, MailboxPattern, NamePattern, Names, Networks, NetworkText


@given(st.lists(st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), max_size=8), st.ip_addresses())
def test_networks_are_those_of_ipaddress(pairs: list[tuple[IPv4Address, int]], address: IPv4Address) -> None:
    networks = [ip_network((one, prefix), strict=False) for one, prefix in pairs]
    found = Networks.of(str(one) for one in networks)
    assert (str(address) in found) is any(ip_address(str(address)) in one for one in networks)


def test_networks_of_ipv6_and_what_is_no_address() -> None:
    networks = Networks.of(["2001:db8::/32", "192.0.2.0/24", "::/128"])
    assert "2001:db8:ffff::1%eth0" in networks
    assert "::ffff:192.0.2.9" in networks
    for other in ("2001:db9::1", "192.0.3.1", "", "client.example"):
        assert other not in networks
    assert "192.0.2.1" not in Networks.of([])


def test_names() -> None:
    names = Names.of(["mx.example.net", "*.example.com"])
    for name in ("MX.example.net.", "a.example.com", "a.b.example.com"):
        assert name in names
    for name in ("", "example.net", "a.mx.example.net", "example.com", "badexample.com"):
        assert name not in names


def test_mailboxes() -> None:
    mailboxes = Mailboxes.of(["alice@example.org", "postmaster@", "example.net", "*.example.com"])
    for local_part, domain in [
        ("Alice", "example.org"),
        ("POSTMASTER", "x.example"),
        ("a", "example.net"),
        ("a", "b.example.com"),
    ]:
        assert MailboxKey(local_part, domain) in mailboxes
    for local_part, domain in [("bob", "example.org"), ("a", "example.com"), ("a", "b.example.net"), ("a", "")]:
        assert MailboxKey(local_part, domain) not in mailboxes
    assert MailboxKey("alice", "example.org") not in Mailboxes.of([])


def test_patterns_are_made_comparable() -> None:
    assert TypeAdapter(NetworkText).validate_python("192.0.2.1") == "192.0.2.1/32"
    assert TypeAdapter(NamePattern).validate_python("*.B\u00fccher.example.") == "*.xn--bcher-kva.example"
    assert TypeAdapter(MailboxPattern).validate_python("Alice@B\u00fccher.example") == "alice@xn--bcher-kva.example"
    assert TypeAdapter(MailboxPattern).validate_python("Postmaster@") == "postmaster@"
    assert TypeAdapter(MailboxPattern).validate_python("@Example.org") == "example.org"


@pytest.mark.parametrize("text", ["", "*", "*.", "a b.example", "a..b", "a@*.example", "*@", "@", "x" * 70 + ".example"])
def test_patterns_that_are_none(text: str) -> None:
    with pytest.raises(ValidationError, match="allowed:"):
        TypeAdapter(MailboxPattern).validate_python(text)
    with pytest.raises(ValidationError, match="allowed:"):
        TypeAdapter(NamePattern).validate_python(text)
