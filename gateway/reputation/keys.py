"""What lists in DNS are asked about: addresses turned round and domains, as names below a zone. RFC 5782 2.1, 2.2, 2.4. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.idn import a_labels

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip
"""Networks that no list outside and no name server outside knows anything of."""
Kind = Literal["ipv4", "ipv6", "domain", "hash"]

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_NAME = 253
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Key:
    """One question, before the zone's name is put behind it."""

    value: str
    """For people."""
    labels: str
    """`1.2.0.192`, `spam.example`."""
    kind: Kind


def parse_address(text: str) -> Address | None:
    """Without a scope; an IPv4 address that IPv6 maps is that address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def address_key(address: Address) -> Key:
    """Octets or nibbles, the last one first (RFC 5782 2.1, 2.4)."""
    labels = address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
    return Key(str(address), labels, "ipv4" if address.version == 4 else "ipv6")


def plain_domain(text: str) -> str:
    """A domain of two labels or more in lower case, with A-labels; `` for what is none, such as an address literal."""
    name = (a_labels(text.strip()) or "").removesuffix(".")
    labels = name.split(".")
    is_one = len(labels) > 1 and len(name) <= _MAX_NAME and all(_LABEL.fullmatch(one) for one in labels)
    return name if is_one and parse_address(name) is None and not labels[-1].isdigit() else ""


def plain_domains(values: Iterable[str]) -> tuple[str, ...]:
    """Domains that an option names, as `plain_domain` has them. ValueError for what is none."""
    found = []
    for value in values:
        if not (domain := plain_domain(value)):
            raise ValueError(f"found {value[:100]!r}; allowed: a domain name")
        found.append(domain)
    return tuple(found)


def domain_key(domain: str) -> Key:
    """Of a `plain_domain` (RFC 5782 2.2)."""
    return Key(domain if len(domain) <= _SHOWN else f"…{domain[-_SHOWN:]}", domain, "domain")


NOT_LISTED: dict[Kind, str] = {
    # RFC 5782 5: no list has these; one that says so lists everything
    "ipv4": "1.0.0.127",
    "ipv6": address_key(ipaddress.IPv6Address("::ffff:7f00:1")).labels,
    "domain": "invalid",
    "hash": "invalid",
}
LISTED: dict[Kind, str] = {
    # RFC 5782 5: every list has these
    "ipv4": "2.0.0.127",
    "ipv6": address_key(ipaddress.IPv6Address("::ffff:7f00:2")).labels,
    "domain": "test",
}
