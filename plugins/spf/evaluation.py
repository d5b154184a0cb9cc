"""One SPF evaluation: pyspf's `check_host()` (RFC 7208 4) with the gateway's resolver under it and guards around it.

What pyspf leaves open is closed here: records that cost it seconds of CPU are a permanent error before it sees them, the limit
of void lookups is an argument, the whole evaluation has a deadline, and no exception gets out.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
from dataclasses import dataclass
from typing import Any

import spf

from gateway import DnsError, Resolver
from gateway.plugins.spf.bridge import run, wait
from gateway.plugins.spf.domains import a_labels, clean, unquoted

MAX_RECORD = 4_096
"""Octets of an SPF record (RFC 7208 3.4 asks for 450)."""
MAX_TERM = 512
"""Octets of one term of it: pyspf's expression for top labels is quadratic."""
MAX_TXT = 1_024
"""Octets of an explanation string."""
MAX_LOCAL_PART = 256
RESULTS = frozenset(["pass", "fail", "softfail", "neutral", "none", "temperror", "permerror"])
_MODIFIER = re.compile(rb"([a-z][a-z0-9_.-]*)=", re.IGNORECASE)  # RFC 7208 4.6.1
_SPF = re.compile(rb"v=spf1(?: |$)", re.IGNORECASE)  # RFC 7208 4.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SpfResult:
    """What `check_host()` says of one identity."""

    result: str
    """`pass`, `fail`, `softfail`, `neutral`, `none`, `temperror` or `permerror` (RFC 7208 2.6)."""
    domain: str = ""
    """The domain checked, A-labels; `` when there is none to check."""
    explanation: str = ""
    """The domain owner's own words for `fail`, cleaned; `` when there are none."""
    mechanism: str = ""
    """The term that matched."""
    problem: str = ""
    """What went wrong, for people of ours."""


class _Query(spf.query):
    """pyspf's state of one evaluation, asking our resolver."""

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
        self.set_default_explanation("")
        self._resolver = resolver
        self._void_limit = void_limit
        self._void = 0
        self._ends = ends

    def dns(self, name: str, qtype: str, cnames: dict[str, str] | None = None, ignore_void: bool = False) -> list[Any]:  # noqa: ARG002 - pyspf's own signature; our resolver follows aliases
        """The records of one look-up. TempError when DNS fails, PermError when a limit is reached."""
        name = name.removesuffix(".").lower()
        # RFC 7208 4.8, RFC 8616 4: a name that cannot be has no records, and macros with a non-ASCII local part match nothing.
        if not name.isascii() or len(name) > 253 or not all(0 < len(label) < 64 for label in name.split(".")):
            return []
        kept = self.cache.get((name, qtype))
        if kept is not None:
            return kept
        records = wait(self._look_up(name, qtype))
        if records:
            self.cache[name, qtype] = records
        elif not ignore_void:
            self._void += 1
            if self._void > self._void_limit:  # RFC 7208 4.6.4
                raise spf.PermError(f"more than {self._void_limit} void lookups")
        return records

    def validated_ptrs(self) -> list[str]:
        """RFC 7208 5.5: ten names at most; a failure of DNS is no match, not an error."""
        try:
            names = self.dns_ptr(self.i)[:10]
        except spf.TempError:
            return []
        found = []
        for name in names:
            with contextlib.suppress(spf.TempError):
                if self.cidrmatch(self.dns_a(name, self.A), self.cidrmax):
                    found.append(name)
        return found

    async def _look_up(self, name: str, kind: str) -> list[Any]:
        try:
            async with asyncio.timeout_at(self._ends):
                answer = await self._resolver.query(name, kind)
        except TimeoutError:
            raise spf.TempError("the time for the whole evaluation is over") from None
        except DnsError as error:
            raise spf.TempError(str(error)) from error
        if kind == "TXT":
            return _guarded(answer.records)
        return list(answer.records)


def _guarded(records: tuple[tuple[bytes, ...], ...]) -> list[tuple[bytes, ...]]:
    """TXT records that pyspf can bear. PermError for an SPF record that is too much; other long ones are left out."""
    kept: list[tuple[bytes, ...]] = []
    for record in records:
        octets = b"".join(record)
        if not _SPF.match(octets):
            if len(octets) <= MAX_TXT:
                kept.append((octets,))
            continue
        if len(octets) > MAX_RECORD:
            raise spf.PermError(f"SPF record of {len(octets)} octets")
        longest = max(map(len, octets.split(b" ")))
        if longest > MAX_TERM:
            raise spf.PermError(f"SPF term of {longest} octets")
        kept.append((_plain(octets),))
    return kept


def _plain(record: bytes) -> bytes:
    """The same record where pyspf is stricter than RFC 7208: modifier names are in any case, unknown ones may be repeated (6)."""
    terms: list[bytes] = []
    seen: set[bytes] = set()
    for term in record.split(b" "):
        found = _MODIFIER.match(term)
        if found is None:
            terms.append(term)
            continue
        name = found[1].lower()
        if name in {b"redirect", b"exp"} or name not in seen:
            terms.append(name + term[found.end(1) :])
        seen.add(name)
    return b" ".join(terms)


def plain_address(address: str) -> str | None:
    """The client's address without a scope (`fe80::1%eth0`); None when it is none."""
    try:
        return str(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return None


async def evaluate(
    resolver: Resolver,
    *,
    address: str,
    local_part: str,
    domain: str,
    helo: str,
    receiver: str = "unknown",
    void_limit: int = 2,
    time_limit: float = 20.0,
) -> SpfResult:
    """`check_host()` for `local_part@domain`. Raises nothing but cancellation.

    `address` is one of `plain_address`. `time_limit` is in seconds for all look-ups together (RFC 7208 4.6.4: at least 20).
    """
    name = a_labels(domain)
    if name is None:
        return SpfResult(result="none", problem="not a domain name with several labels")
    if len(local_part) > MAX_LOCAL_PART:
        return SpfResult(result="permerror", domain=name, problem=f"local part of {len(local_part)} characters")
    ends = asyncio.get_running_loop().time() + time_limit
    try:
        query = _Query(
            address,
            local_part,
            name,
            a_labels(helo) or helo[:255],
            receiver=receiver,
            resolver=resolver,
            void_limit=void_limit,
            ends=ends,
        )
        result, _, text = await run(query.check)
    except Exception as error:  # noqa: BLE001 - the border to pyspf: a record that breaks it is the record's fault
        return SpfResult(result="permerror", domain=name, problem=f"{type(error).__name__}: {error}"[:500])
    if result not in RESULTS:
        return SpfResult(result="permerror", domain=name, problem=f"pyspf says {result[:50]!r}")
    failed = result in {"temperror", "permerror"}
    return SpfResult(
        result=result,
        domain=name,
        explanation=clean(text) if result == "fail" else "",
        mechanism="" if failed else clean(query.mechanism or ""),
        problem=clean(text) if failed else "",
    )
