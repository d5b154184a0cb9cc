"""Lists in the options of plugins that say who is left alone: networks, names of clients, mailboxes and domains. Pure; no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AfterValidator

from gateway.idn import a_labels
from gateway.mailbox_key import MailboxKey

__all__ = [
    "MailboxPattern",
    "Mailboxes",
    "NamePattern",
    "Names",
    "NetworkText",
    "Networks",
]


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        msg = f'found {text!r}; allowed: a network or address such as "192.0.2.0/24" or "2001:db8::/32" ({error})'
        raise ValueError(msg) from None


def _name(text: str) -> str:
    domain = _domain(text.removeprefix("*."))
    if domain is None:
        msg = f'found {text!r}; allowed: a name such as "mx.example.net", or "*.example.net" for all below it'
        raise ValueError(msg)
    return f"*.{domain}" if text.startswith("*.") else domain


def _mailbox(text: str) -> str:
    local_part, at, domain = text.rpartition("@")
    if at and local_part not in {"", "*"} and not domain and not any(c.isspace() for c in local_part):
        return f"{local_part.casefold()}@"
    found = _domain(domain.removeprefix("*.")) if domain else None
    if found is None or (at and domain.startswith("*.")) or any(c.isspace() for c in text):
        msg = f'found {text!r}; allowed: "alice@example.org", "postmaster@" (everywhere), "example.org", "*.example.org" (all below it)'
        raise ValueError(msg)
    if domain.startswith("*."):
        return f"*.{found}"
    return f"{local_part.casefold()}@{found}" if local_part else found


def _domain(text: str) -> str | None:
    found = (a_labels(text) or "").removesuffix(".")
    return found if found and all(0 < len(label) < 64 and not set(label) & set(" *@/") for label in found.split(".")) else None


NetworkText = Annotated[str, AfterValidator(_network)]
"""An option: `192.0.2.0/24`."""
NamePattern = Annotated[str, AfterValidator(_name)]
"""An option: `mx.example.net`, `*.example.net`."""
MailboxPattern = Annotated[str, AfterValidator(_mailbox)]
"""An option: `alice@example.org`, `postmaster@`, `example.org`, `*.example.org`."""


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks, looked up by the lengths of prefix that occur."""

    by_prefix: tuple[tuple[int, int, frozenset[int]], ...]
    """IP version, length of prefix, networks as numbers shifted right."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Of what NetworkText has checked."""
        found: dict[tuple[int, int], set[int]] = {}
        for text in texts:
            network = ipaddress.ip_network(text)
            bits = network.max_prefixlen - network.prefixlen
            found.setdefault((network.version, network.prefixlen), set()).add(int(network.network_address) >> bits)
        return cls(tuple((*key, frozenset(numbers)) for key, numbers in found.items()))

    def __contains__(self, address: str) -> bool:
        """Whether an address is in one of them. What is no address is in none; an IPv4 address that IPv6 maps is that address."""
        if not self.by_prefix:
            return False
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        number = int(found)
        return any(
            version == found.version and number >> (found.max_prefixlen - prefix) in networks
            for version, prefix, networks in self.by_prefix
        )


@dataclass(frozen=True, slots=True)
class Names:
    """Names and domains, each alone or with all below it."""

    entries: frozenset[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Of what NamePattern has checked."""
        return cls(frozenset(texts))

    def __contains__(self, name: str) -> bool:
        """Whether a name is listed, or lies below one of `*.example.net`."""
        if not self.entries or not name:
            return False
        name = name.lower().rstrip(".")
        labels = name.split(".")
        return name in self.entries or any(f"*.{'.'.join(labels[n:])}" in self.entries for n in range(1, len(labels)))


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """Mailboxes, local parts everywhere, domains."""

    entries: frozenset[str]
    domains: Names

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Of what MailboxPattern has checked."""
        entries = frozenset(texts)
        return cls(entries, Names.of(one for one in entries if "@" not in one))

    def __contains__(self, key: MailboxKey) -> bool:
        """Whether a mailbox, its local part or its domain is listed."""
        if not self.entries:
            return False
        local = key.local_part.casefold()
        return f"{local}@{key.domain}" in self.entries or f"{local}@" in self.entries or key.domain in self.domains
