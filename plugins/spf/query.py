"""pyspf's `check_host()` (RFC 7208 4) on our resolver, our reading of records and our macros.

pyspf walks the terms; everything it would read, expand, ask or count itself is answered here, because the rules of RFC 7208 that
it leaves out or applies early are these: a term counts when it is evaluated and not when it is read (4.6.4), what is behind a match is not
asked (5.4), the explanation is fetched only for a failure (6.2).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import spf

from gateway import DnsError, Resolver
from gateway.plugins.spf.bridge import wait
from gateway.plugins.spf.domains import unquoted
from gateway.plugins.spf.macros import MacroError, as_name, check_explanation, expand
from gateway.plugins.spf.record import Directive, Record, RecordError, is_record, read_directive, read_record

MAX_LOOK_UPS = 10
"""Terms that ask DNS (RFC 7208 4.6.4)."""
MAX_NAMES = 10
"""Exchanges of one `mx`; names of one `ptr` or `%{p}` (RFC 7208 4.6.4)."""
MAX_EXPLANATION = 1_024
"""Octets of an explanation as published."""


_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class TimeOverError(spf.TempError):
    """The time for the whole evaluation is over: never a mere mismatch."""


class Query(spf.query):
    """The state of one evaluation."""

    def __init__(
        self,
        address: str,
        local_part: str,
        domain: str,
        helo: str,
        *,
        receiver: str,
        resolver: Resolver,
        void_limit: int,
        ends: float,
    ) -> None:
        super().__init__(address, f"postmaster@{domain}", helo, receiver=receiver)
        # pyspf splits a sender at its first @, which may stand in a quoted local part.
        self.l, self.o, self.d = unquoted(local_part) or "postmaster", domain, domain  # RFC 7208 4.3
        self.s = f"{self.l}@{domain}"
        self._resolver = resolver
        self._void_limit = void_limit
        self._ends = ends
        self._asked = self._began = False
        self._depth = 0
        self._redirected_to = ""
        self._validated: list[str] | None = None
        self._records: dict[str, Record] = {}
        self._explained_by = ("", "")
        self._term_is_void = False
        self.voids = 0
        self.path: list[tuple[str, str]] = []
        """(domain, matching term) from the innermost record outwards, once something has matched."""
        self.is_complete = True
        """Every look-up had an answer."""
        self.trouble_at = ""
        """The domain whose record was under evaluation when an error ended it."""

    def check1(self, spf: str | None, domain: str, recursion: int) -> tuple[str, int, str]:
        """One record. pyspf is told depth 0 always: then it keeps the term that matched, at every depth."""
        is_redirect = self._began and recursion == 0
        if recursion == 0 and self._depth == 0:
            self._explained_by = (domain, self._records[domain].exp if spf else "")  # RFC 7208 6.1: the target's own
        self._began = True
        self._depth += recursion
        length = len(self.path)
        try:
            answer = super().check1(spf, domain, 0)
        except Exception:
            self.trouble_at = self.trouble_at or domain
            raise
        finally:
            self._depth -= recursion
        if recursion and answer[0] != "pass":
            del self.path[length:]  # RFC 7208 5.2: whatever matched in it, it is no match outside
            self._redirected_to = ""
            return answer
        term = f"redirect={self._redirected_to}" if self._redirected_to else self.mechanism or ""
        self.path.append((domain, term))
        self._redirected_to = domain if is_redirect else ""
        return answer

    def validate_mechanism(self, mech: str) -> Iterator[str | int | _Network]:
        """A directive of a record that was read already.

        pyspf takes the five values out when it reaches the term, and so the domain is expanded then and not before (RFC 7208 4.6.4).
        """
        found = read_directive(mech)
        if found.network is not None:
            yield from (found.text, found.name, found.network, 0, found.result)
            return
        target = self._target(found) if found.domain_spec else self.d
        # RFC 8616 4: a term that a local part beyond ASCII went into matches nothing, an include no less than an exists
        name = found.name if target.isascii() else "no match"
        yield from (found.text, name, target, found.bits6 if self.v == "ip6" else found.bits4, found.result)

    def _target(self, directive: Directive) -> str:
        if "%{p" in directive.domain_spec.lower():
            self._count()  # RFC 7208 4.6.4: the PTR records of the macro are included
        return self.expand_domain(directive.domain_spec)

    def expand_domain(self, arg: str) -> str:
        """The name to ask for. One that is nothing is asked for as the root, which has no records of these kinds."""
        return as_name(expand(arg, self._value)) or "."

    def _value(self, letter: str) -> str:
        return self.getp() if letter == "p" else str(getattr(self, letter))

    def getp(self) -> str:
        """`%{p}`: the current domain, one below it, any, or `unknown` (RFC 7208 7.3)."""
        names = [name.lower() for name in self._names()]
        domain = self.d.lower()
        below = [name for name in names if name.endswith(f".{domain}")]
        return domain if domain in names else (below or names or ["unknown"])[0]

    def check_lookups(self) -> None:
        """For pyspf, which counts a `redirect` when it reads it: `_count` counts what is evaluated."""

    def _count(self) -> None:
        self._term_is_void = False
        self.lookups += 1
        if self.lookups > MAX_LOOK_UPS:
            raise spf.PermError(f"more than {MAX_LOOK_UPS} terms that ask DNS")

    def dns_spf(self, domain: str) -> str | None:
        """The record of a domain as pyspf may read it; None without one (RFC 7208 4.4, 4.5)."""
        if self._asked:
            self._count()
            wait(asyncio.sleep(0))  # answers may all be cached: between two records others get their turn
        self._asked = True
        found = [octets for octets in self._texts(domain) if is_record(octets)]
        if not found:
            return None
        if len(found) > 1:
            self.trouble_at = self.trouble_at or domain
            raise spf.PermError("more than one SPF record")
        try:
            record = self._records[domain] = read_record(found[0])
        except RecordError as error:
            self.trouble_at = self.trouble_at or domain
            raise spf.PermError(str(error)) from None
        return str(record)

    def _texts(self, domain: str, *, ignore_void: bool = False) -> list[bytes]:
        return [b"".join(strings) for strings in self.dns(domain, "TXT", ignore_void=ignore_void)]

    def dns_a(self, domainname: str, A: str = "A") -> list[str]:  # noqa: N803 - pyspf's own signature
        """For `a` and `exists` (RFC 7208 5.3, 5.7)."""
        self._count()
        return self.dns(domainname, A)

    def dns_mx(self, domainname: str) -> Iterator[str]:
        """For `mx` (RFC 7208 5.4): exchange after exchange, no further than a match."""
        self._count()
        for number, (_, host) in enumerate(sorted(self.dns(domainname, "MX"))):
            if number == MAX_NAMES:
                raise spf.PermError(f"more than {MAX_NAMES} exchanges of one mx")
            yield from self.dns(host, self.A)

    def validated_ptrs(self) -> list[str]:
        """For `ptr` (RFC 7208 5.5)."""
        self._count()
        return self._names(ignore_void=False)

    def _names(self, *, ignore_void: bool = True) -> list[str]:
        """Names of the client that lead back to it. A failure of DNS is no match, not an error (RFC 7208 5.5)."""
        if self._validated is None:
            self._validated = [name for name in self._claimed(ignore_void) if self._leads_back(name)]
        return self._validated

    def _claimed(self, ignore_void: bool) -> list[str]:
        try:
            return self.dns(ipaddress.ip_address(self.c).reverse_pointer, "PTR", ignore_void=ignore_void)[:MAX_NAMES]
        except TimeOverError:
            raise
        except spf.TempError:
            return []

    def _leads_back(self, name: str) -> bool:
        try:
            return self.cidrmatch(self.dns(name, self.A, ignore_void=True), self.cidrmax)
        except TimeOverError:
            raise
        except spf.TempError:
            return False

    def cidrmatch(self, ipaddrs: Iterable[str | _Network], n: int) -> bool:
        """Whether the client is in one of the networks, or shares `n` bits with one of the addresses; they are taken one by one."""
        return any(
            self.ipaddr in (ipaddress.ip_network((one, n), strict=False) if isinstance(one, str) else one) for one in ipaddrs
        )

    def dns(self, name: str, qtype: str, cnames: dict[str, str] | None = None, ignore_void: bool = False) -> list[Any]:  # noqa: ARG002 - pyspf's own signature; our resolver follows aliases
        """The records of one look-up. TempError when DNS fails, PermError when a limit is reached."""
        name = name.removesuffix(".").lower()
        # RFC 7208 4.8, RFC 8616 4: a name that cannot be has no records, and macros with a non-ASCII local part match nothing.
        if not name.isascii() or len(name) > 253 or not all(0 < len(label) < 64 for label in name.split(".")):
            return []
        records = self.cache.get((name, qtype))
        if records is None:
            records = self.cache[name, qtype] = wait(self._look_up(name, qtype))
        if not records and not ignore_void and not self._term_is_void:
            self._term_is_void = True  # RFC 7208 4.6.4 counts terms: an mx with three dead exchanges is one
            self.voids += 1
            if self.voids > self._void_limit:  # RFC 7208 4.6.4
                raise spf.PermError(f"more than {self._void_limit} void lookups")
        return records

    async def _look_up(self, name: str, kind: str) -> list[Any]:
        try:
            async with asyncio.timeout_at(self._ends):
                answer = await self._resolver.query(name, kind)
        except TimeoutError:
            self.is_complete = False
            raise TimeOverError("the time for the whole evaluation is over") from None
        except DnsError as error:
            self.is_complete = False
            raise spf.TempError(str(error)) from error
        return list(answer.records)

    def explanation(self) -> str:
        """The domain's own words for a failure, expanded (RFC 7208 6.2); `` where there are none or they cannot be used."""
        domain, spec = self._explained_by
        if not spec:
            return ""
        self.d = domain
        with contextlib.suppress(spf.TempError, spf.PermError, MacroError, UnicodeDecodeError):
            texts = self._texts(self.expand_domain(spec), ignore_void=True)
            if len(texts) == 1 and len(texts[0]) <= MAX_EXPLANATION:
                text = texts[0].decode("ascii")
                check_explanation(text)
                return expand(text, self._value)
        return ""
