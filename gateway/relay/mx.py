"""The mail exchangers of a domain and their addresses. RFC 5321 5.1, RFC 7505, RFC 3974. Asks the resolver, opens nothing.

What it finds is as old as the resolver's answers, which keeps them for their time to live. A look-up that failed is a failure (451) and
never the absence of a record: falling back to A then would bring mail to a web server.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from gateway.context import DnsAnswer, Resolver
from gateway.errors import DnsError, DomainError, DomainFault, LinkError

MAX_EXCHANGES = 16
"""Exchangers of a domain whose addresses are looked up, the best ones."""
MAX_ADDRESSES = 8
"""Addresses of one exchanger."""
_LITERAL = re.compile(r"\[(?:(?P<tag>[A-Za-z0-9-]+):)?(?P<rest>[^\[\]\\]*)\]")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One address of a mail exchanger."""

    name: str
    """The exchanger's name, or the address literal."""
    address: str
    preference: int = 0
    weight: float = 1.0
    """Exchangers of one preference share alike, whatever number of addresses each has."""


def literal_address(domain: str) -> str | None:
    """The address of an address literal (RFC 5321 4.1.3), `` for a literal that is no address, None for a name."""
    if not domain.startswith("["):
        return None
    found = _LITERAL.fullmatch(domain)
    if found is None:
        return ""
    try:
        if found["tag"] is None:
            return str(ipaddress.IPv4Address(found["rest"]))
        return str(ipaddress.IPv6Address(found["rest"])) if found["tag"].lower() == "ipv6" else ""
    except ValueError:
        return ""


async def find_exchanges(
    domain: str, resolver: Resolver, *, own_names: Collection[str] = (), is_own: Callable[[str], bool] = lambda _: False
) -> list[Exchange]:
    """Where mail for the domain goes, the best first; never empty.

    `own_names` in lower case and `is_own` for addresses say what is ourselves. DomainError when the domain takes no mail or nobody can
    bring it any; LinkError with 4.4.3 when that could not be found out.
    """
    address = literal_address(domain)
    if address is not None:
        if not address:
            raise DomainError(domain, "an address literal of no known kind", DomainFault.NO_SUCH_DOMAIN)
        if is_own(address):
            raise _loop(domain, address)
        return [Exchange(domain, address)]
    answer = await _ask(resolver, domain, "MX")
    if not answer.exists:
        raise DomainError(domain, "the domain does not exist", DomainFault.NO_SUCH_DOMAIN)
    hosts = _hosts(domain, answer.records) or [(0, domain)]  # RFC 5321 5.1: the implicit MX
    kept = _before(hosts, {name.lower().rstrip(".") for name in own_names})
    if not kept:
        raise _loop(domain, "our own name")
    found, failure = await _addresses(kept[:MAX_EXCHANGES], resolver)
    ours = min((one.preference for one in found if is_own(one.address)), default=None)
    usable = [one for one in found if ours is None or one.preference < ours]
    if usable:
        return usable
    if ours is not None:
        raise _loop(domain, "our own address")
    if failure is not None:
        raise LinkError(domain, f"the mail exchangers could not be looked up: {failure}", enhanced="4.4.3")
    fault = DomainFault.NO_USABLE_EXCHANGE if answer.records else DomainFault.NO_SUCH_DOMAIN
    raise DomainError(domain, "no mail exchanger has an address", fault)


async def has_null_mx(domain: str, resolver: Resolver) -> bool:
    """The domain says that it accepts no mail (RFC 7505 3). False also when that cannot be found out."""
    try:
        answer = await resolver.query(domain, "MX")
    except DnsError:
        return False
    return bool(answer.records) and not any(host.rstrip(".") for _, host in answer.records)


def _hosts(domain: str, records: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Preference and name of each exchanger in order. A null MX stands alone (RFC 7505 3); beside others it is no host."""
    if not records:
        return []
    named = sorted((preference, host.lower().rstrip(".")) for preference, host in records)
    hosts = [(preference, host) for preference, host in named if host]
    if not hosts:
        raise DomainError(domain, "null MX: the domain accepts no mail", DomainFault.NULL_MX)
    return hosts


def _before(hosts: Sequence[tuple[int, str]], own_names: Collection[str]) -> list[tuple[int, str]]:
    """Those better than ourselves: going to an equal or worse one would come back to us (RFC 5321 5.1)."""
    ours = min((preference for preference, host in hosts if host in own_names), default=None)
    return [one for one in hosts if ours is None or one[0] < ours]


async def _addresses(hosts: Sequence[tuple[int, str]], resolver: Resolver) -> tuple[list[Exchange], DnsError | LinkError | None]:
    """All addresses, IPv6 and IPv4 (RFC 3974 3), and a failure if there was one: the others may do."""
    asked = [(preference, host, kind) for preference, host in hosts if not _is_address(host) for kind in ("AAAA", "A")]
    answers = await asyncio.gather(*(_ask(resolver, host, kind) for _, host, kind in asked), return_exceptions=True)
    failure: LinkError | None = None
    by_host: dict[tuple[int, str], list[str]] = {}
    for (preference, host, _), answer in zip(asked, answers, strict=True):
        if isinstance(answer, LinkError):
            failure = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            by_host.setdefault((preference, host), []).extend(answer.records)
    found = [
        Exchange(host, address, preference, 1.0 / len(addresses))
        for (preference, host), several in by_host.items()
        for addresses in (several[:MAX_ADDRESSES],)
        for address in addresses
    ]
    return found, failure


def _is_address(host: str) -> bool:
    """An exchanger is a name (RFC 1035 3.3.9); an address in its place is a mistake of the zone, and leads nowhere."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _ask(resolver: Resolver, name: str, kind: str) -> DnsAnswer:
    """CNAMEs are followed by the resolver (RFC 5321 5.1 for the domain; RFC 2181 10.3 forbids them for exchangers, and they occur)."""
    try:
        return await resolver.query(name, kind)
    except DnsError as error:
        raise LinkError(name, f"could not be looked up: {error}", enhanced="4.4.3") from error


def _loop(domain: str, what: str) -> DomainError:
    return DomainError(domain, f"mail for the domain leads back to {what}", DomainFault.LOOP)
