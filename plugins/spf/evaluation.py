"""One SPF evaluation: `check_host()` (RFC 7208 4) for one identity, with guards around it.

The whole evaluation has a deadline, and no exception gets out.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from gateway import Resolver
from gateway.plugins.spf.bridge import run
from gateway.plugins.spf.domains import clean, multi_label
from gateway.plugins.spf.memory import Memory
from gateway.plugins.spf.query import Query

MAX_LOCAL_PART = 256
RESULTS = frozenset(["pass", "fail", "softfail", "neutral", "none", "temperror", "permerror"])
_PREFIXES = ("SPF Temporary Error: ", "SPF Permanent Error: ")


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
    """The term of the domain's own record that matched."""
    path: tuple[tuple[str, str], ...] = ()
    """(domain, term) from the record that matched outwards to the domain's own: through includes and redirects."""
    look_ups: int = 0
    """Terms that asked DNS."""
    problem: str = ""
    """What went wrong, for people of ours."""

    def __repr__(self) -> str:
        """As a dataclass has it, at once: it is in the trace of every message."""
        return (
            f"SpfResult(result={self.result!r}, domain={self.domain!r}, explanation={self.explanation!r}, mechanism={self.mechanism!r}, "
            f"path={self.path!r}, look_ups={self.look_ups!r}, problem={self.problem!r})"
        )

    def evidence(self, address: str) -> str:
        """The result in words for a postmaster."""
        if self.problem:
            return self.problem
        if not self.path:
            return ""
        asked = f"; {self.look_ups} of 10 look-ups" if self.look_ups else ""
        (domain, term), *outer = self.path
        if not term:
            return f"nothing in the record of {domain} matches {address}{_through(outer)}{asked}"
        return f"{term} of {domain} matches {address}{_through(outer)}{asked}"


def _through(outer: list[tuple[str, str]]) -> str:
    return "".join([f" by {term} of {domain}" for domain, term in outer]) if outer else ""


@lru_cache(maxsize=1_000)
def plain_address(address: str) -> str | None:
    """The client's address without a scope (`fe80::1%eth0`), that of IPv4 which IPv6 maps (RFC 7208 5); None when it is none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


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
    memory: Memory[SpfResult] | None = None,
) -> SpfResult:
    """`check_host()` for `local_part@domain`. Raises nothing but cancellation.

    `address` is one of `plain_address`. `time_limit` is in seconds for all look-ups together (RFC 7208 4.6.4: at least 20).
    What can be used again goes into `memory`.
    """
    name = multi_label(domain)
    if name is None:
        return SpfResult(result="none", problem="not a domain name with several labels")
    if len(local_part) > MAX_LOCAL_PART:
        return SpfResult(result="permerror", domain=name, problem=f"local part of {len(local_part)} characters")
    try:
        query = Query(
            address,
            local_part,
            name,
            multi_label(helo) or helo[:255],
            receiver=receiver,
            resolver=resolver,
            void_limit=void_limit,
            ends=asyncio.get_running_loop().time() + time_limit,
        )
        answer = await run(_check, query)
    except Exception as error:  # noqa: BLE001 - the border to pyspf: a record that breaks it is the record's fault
        return SpfResult(result="permerror", domain=name, problem=clean(f"{type(error).__name__}: {error}"))
    result = _result(name, query, *answer)
    if memory is not None and query.is_complete:
        memory.keep(address, name, query.cache, result)
    return result


def _result(name: str, query: Query, result: str, text: str, explanation: str) -> SpfResult:
    if result not in RESULTS:
        return SpfResult(result="permerror", domain=name, problem=clean(f"pyspf says {result!r}"))
    if result in {"temperror", "permerror"}:
        return SpfResult(result=result, domain=name, look_ups=query.lookups, problem=_problem(text, query.trouble_at))
    if result == "none":
        return SpfResult(result=result, domain=name, problem=clean(f"{name} has no SPF record"))
    path = tuple((clean(where), clean(term)) for where, term in query.path)
    return SpfResult(
        result=result,
        domain=name,
        explanation=clean(explanation),
        mechanism=path[-1][1] if path else "",
        path=path,
        look_ups=query.lookups,
    )


def _check(query: Query) -> tuple[str, str, str]:
    """In a greenlet: result, pyspf's text, explanation (RFC 7208 6.2: only a failure has one)."""
    result, _, text = query.check()
    return result, text, query.explanation() if result == "fail" else ""


def _problem(text: str, domain: str) -> str:
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    return clean(f"{text} (record of {domain})" if domain else text)
