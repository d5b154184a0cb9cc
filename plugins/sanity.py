"""HELO and reverse DNS of strangers: what no well-kept mail server says or lacks. RFC 5321 4.1.1.1, 4.1.3, 4.1.4, RFC 1912 2.1.

Each sign has a weight or a verdict of its own. By default nothing is refused (RFC 5321 4.1.4 forbids it for HELO names alone): scores only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from gateway import (
    AuthResult,
    ClientClass,
    DnsError,
    Duration,
    Fact,
    Finding,
    LookupFailedError,
    Plugin,
    Session,
    Transaction,
    Verdict,
    hook,
)
from gateway.reputation import (
    PRIVATE,
    Address,
    Cost,
    Sign,
    Signs,
    Thresholds,
    decide_signs,
    evidence_of,
    findings_of_signs,
    generic_name,
    parse_address,
    plain_domain,
    plain_domains,
    shown,
    verdict_of,
)

MAX_NAMES = 10
"""Reverse names of one address that are looked at."""
MAX_ADDRESSES = 100
"""Addresses of a name that are compared."""


class Options(Thresholds):
    """What each sign costs: a weight, 0 for not looked for, or `"defer"`, `"quarantine"`, `"reject"`."""

    helo_syntax: Cost = 1.0
    """HELO is neither a domain name nor an address literal."""
    helo_own_name: Cost = 3.0
    """HELO is the name of this server, or of `own_domains`."""
    helo_own_address: Cost = 3.0
    """HELO is the address that the client connected to."""
    helo_other_address: Cost = 2.0
    """HELO is an address that is not the client's."""
    helo_bare_address: Cost = 1.0
    """HELO is the client's address without brackets."""
    helo_single_label: Cost = 0.5
    """HELO is a name without a dot, such as `localhost`."""
    helo_unknown: Cost = 0.5
    """HELO is a name without address and MX records."""
    helo_generic: Cost = 0.5
    """HELO is a name as providers give it to each of their addresses."""
    reverse_none: Cost = 1.0
    """The address has no name."""
    reverse_mismatch: Cost = 0.5
    """It has names, and none leads back to it."""
    reverse_generic: Cost = 1.0
    """Its name is one as providers give it to each of their addresses."""
    own_domains: tuple[str, ...] = Field(default=(), max_length=1_000)
    """Domains whose hosts do not come as strangers; those below them too."""
    exempt: tuple[IPv4Network | IPv6Network, ...] = PRIVATE
    """Client networks that are not checked."""
    unanswered: Literal["ignore", "fault"] = "ignore"
    """Where DNS fails and nothing else decides: `fault` is one for `on_error` to decide."""
    time_limit: Duration = Field(default=5.0, gt=0)
    """For all look-ups; never more than nine tenths of the plugin's `timeout`."""
    all_clients: bool = False
    """Also check authenticated clients and trusted networks."""

    @field_validator("own_domains")
    @classmethod
    def _are_domains(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return plain_domains(values)


class Sanity(Plugin[Options]):
    """Gives scores."""

    needs: ClassVar[tuple[str, ...]] = ("auth.iprev",)

    @hook
    async def check(self, transaction: Transaction) -> list[Finding] | None:
        """A score for each sign."""
        session = transaction.session
        address = parse_address(session.client_address)
        if address is None or (session.client_class is not ClientClass.STRANGER and not self.options.all_clients):
            return None
        if any(address in network for network in self.options.exempt):
            return None
        signs = list(self._of_helo(session, address))
        failures: list[str] = []
        for found, failure in await asyncio.gather(
            self._in_time(self._resolves(session.helo)), self._in_time(self._of_reverse(transaction, address))
        ):
            signs += found
            failures += [failure] if failure else []
        findings = findings_of_signs(signs, is_unsure=bool(failures))
        return [*findings, *(Fact(name=f"{self.name}.unanswered", value=shown(one)) for one in failures)]

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Verdict | None:
        """By the signs' own verdicts and the thresholds."""
        for found in transaction.findings.by(self.name, Signs):
            return self._verdict(found, evidence_of(transaction.findings, self.name))
        return None

    def _verdict(self, found: Signs, evidence: str) -> Verdict | None:
        step = decide_signs(found, self.options)
        if not step and found.is_unsure and self.options.unanswered == "fault":
            raise LookupFailedError("DNS failed, and nothing else decides")
        return verdict_of(step, found.text, reason="sanity-signs", box=self.options.box, evidence=evidence)

    async def _in_time(self, work: Awaitable[list[Sign]]) -> tuple[list[Sign], str]:
        """Signs, and why there may be more."""
        limit = min(self.options.time_limit, 0.9 * self.hook_limit)
        try:
            async with asyncio.timeout(limit):
                return await work, ""
        except TimeoutError:
            return [], f"no answer of DNS within {limit:g} s"
        except DnsError as error:
            return [], str(error)

    def _sign(self, name: str, text: str, evidence: str) -> Iterator[Sign]:
        cost: Cost = getattr(self.options, name)
        if cost != 0:
            yield Sign(name.upper(), cost, text, evidence)

    def _of_helo(self, session: Session, address: Address) -> Iterator[Sign]:
        """What needs no look-up."""
        helo = session.helo
        if not helo:
            return
        said = parse_address(helo.removeprefix("[").removesuffix("]").removeprefix("IPv6:").removeprefix("ipv6:"))
        if said is not None:
            yield from self._of_literal(session, address, said)
        elif helo.startswith("["):
            yield from self._sign("helo_syntax", "your HELO is no address literal", f"HELO {helo} is no address literal")
        elif "." not in helo.rstrip("."):
            yield from self._sign("helo_single_label", "your HELO name has no domain", f"HELO {helo} has one label")
        elif not (domain := plain_domain(helo)):
            yield from self._sign("helo_syntax", "your HELO is no domain name", f"HELO {helo} is no domain name")
        elif self._is_own(domain):
            yield from self._sign("helo_own_name", "your HELO name is ours", f"HELO {helo} is a name of ours")
        elif why := generic_name(domain, address):
            text = "your HELO name is one of a provider's many"
            yield from self._sign("helo_generic", text, f"HELO {helo} looks generic: {why}")

    def _of_literal(self, session: Session, address: Address, said: Address) -> Iterator[Sign]:
        if said == parse_address(session.server_address):
            yield from self._sign("helo_own_address", "your HELO is our address", f"HELO {session.helo} is our address")
        elif said != address:
            evidence = f"HELO {session.helo} is not {address}"
            yield from self._sign("helo_other_address", "your HELO is not your address", evidence)
        elif not session.helo.startswith("["):  # RFC 5321 4.1.3
            text = "your HELO is an address without brackets"
            yield from self._sign("helo_bare_address", text, f"HELO {session.helo} has no brackets")

    def _is_own(self, domain: str) -> bool:
        own = plain_domain(self.context.server_name)
        return domain == own or any(domain == one or domain.endswith(f".{one}") for one in self.options.own_domains)

    async def _resolves(self, helo: str) -> list[Sign]:
        """RFC 5321 2.3.5: a name of HELO has address or MX records."""
        domain = plain_domain(helo)
        if not domain or self.options.helo_unknown == 0 or self._is_own(domain):
            return []
        resolver = self.context.resolver
        answers = await asyncio.gather(*(resolver.query(domain, kind) for kind in ("A", "AAAA")), return_exceptions=True)
        if any(not isinstance(one, BaseException) and one.records for one in answers):
            return []
        for one in answers:
            if isinstance(one, BaseException):
                raise one
        if (await resolver.query(domain, "MX")).records:
            return []
        text = "your HELO name does not resolve"
        return list(self._sign("helo_unknown", text, f"HELO {helo} has no address and no MX"))

    async def _of_reverse(self, transaction: Transaction, address: Address) -> list[Sign]:
        """By what `iprev` found, where it stands in the chain; its questions are in the resolver's cache."""
        result, names, verified = await self._reverse(transaction, address)
        if result == "none":
            return list(self._sign("reverse_none", "your address has no name", f"{address} has no name"))
        signs: list[Sign] = []
        if result == "mismatch":
            evidence = f"no name of {address} leads back to it: {', '.join(names)}"
            signs += self._sign("reverse_mismatch", "no name of your address leads back to it", evidence)
        name = verified or next(iter(names), "")
        if name and (why := generic_name(name, address)):
            text = "the name of your address is one of a provider's many"
            signs += self._sign("reverse_generic", text, f"{name} of {address} looks generic: {why}")
        return signs

    async def _reverse(self, transaction: Transaction, address: Address) -> tuple[str, list[str], str]:
        """`ok`, `none` or `mismatch`, the names, and the one that leads back. DnsError."""
        found = next(iter(transaction.findings.of(AuthResult, method="iprev")), None)
        if found is not None and found.property("policy.iprev") == str(address):
            if found.result == "permerror":
                return "none", [], ""
            if found.result == "temperror":
                raise DnsError(str(address), "PTR", "iprev could not find out")
            if found.result == "pass" and (name := getattr(found, "name", "")):
                return "ok", [], str(name)
        if transaction.session.client_name:
            return "ok", [], transaction.session.client_name
        answer = await self.context.resolver.query(address.reverse_pointer, "PTR")
        names = [str(one).rstrip(".").lower() for one in answer.records[:MAX_NAMES]]
        if not names:
            return "none", [], ""
        if found is not None and found.result == "fail":
            return "mismatch", names, ""
        for name in names:
            back = await self.context.resolver.query(name, "A" if address.version == 4 else "AAAA")
            if any(parse_address(str(one)) == address for one in back.records[:MAX_ADDRESSES]):
                return "ok", names, name
        return "mismatch", names, ""
