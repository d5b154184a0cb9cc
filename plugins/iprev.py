"""Reverse DNS of the client: has its address a name that leads back to it? RFC 8601 2.7.3, 3. Nothing is refused unless `require` says so."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from pydantic import Field

from gateway import (
    AuthResult,
    ClientClass,
    DnsError,
    Duration,
    Plugin,
    PluginOptions,
    Transaction,
    Verdict,
    defer,
    hook,
    quarantine,
    reject,
)

MAX_ADDRESSES = 100
"""Addresses of one name that are compared."""
_SHOWN = 200

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class Options(PluginOptions):
    """`[plugin.iprev]`."""

    require: Literal["off", "quarantine", "defer", "reject"] = "off"
    """What a stranger without a name that leads back costs; where DNS failed, never more than `defer`."""
    box: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    """Quarantine box for what `quarantine` holds."""
    max_names: int = Field(default=10, ge=1, le=50)
    """Names of one address that are looked up."""
    time_limit: Duration = Field(default=8.0, gt=0)
    """For all look-ups together; never more than nine tenths of the plugin's `timeout`."""
    all_clients: bool = False
    """Also check authenticated clients and trusted networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IprevFinding(AuthResult):
    """The result, with the name."""

    name: str = ""
    """The name that leads back to the address, lower case; `` unless the result is `pass`."""


class Iprev(Plugin[Options]):
    """Gives `auth.iprev`."""

    gives: ClassVar[tuple[str, ...]] = ("auth.iprev",)

    @hook
    async def check(self, transaction: Transaction) -> IprevFinding | None:
        """No finding for a client without an address, or one that is not a stranger."""
        session = transaction.session
        address = _address(session.client_address)
        if address is None or (session.client_class is not ClientClass.STRANGER and not self.options.all_clients):
            return None
        try:
            async with asyncio.timeout(min(self.options.time_limit, 0.9 * self.hook_limit)):
                result, reason, name = await self._evaluate(address)
        except TimeoutError:
            result, reason, name = "temperror", "the time for the look-ups is over", ""
        # RFC 8601 2.7.3: the address is the property policy.iprev
        properties = (("policy.iprev", str(address)),)
        return IprevFinding(method="iprev", result=result, reason=_plain(reason), properties=properties, name=name)

    @hook
    async def judge(self, transaction: Transaction) -> Verdict | None:
        """By `require`."""
        for finding in transaction.findings.by(self.name, IprevFinding):
            if finding.result != "pass":
                return self._verdict(finding)
        return None

    async def _evaluate(self, address: Address) -> tuple[str, str, str]:
        """Result, reason, name (RFC 8601 3)."""
        try:
            answer = await self.context.resolver.query(address.reverse_pointer, "PTR")
        except DnsError as error:
            return "temperror", str(error), ""
        if not answer.records:
            return "permerror", f"{address} has no name", ""
        failures, others = [], []
        for claimed in answer.records[: self.options.max_names]:
            name = str(claimed).rstrip(".").lower()
            try:
                if await self._leads_back(name, address):
                    return "pass", f"{name} leads back to {address}", name
            except DnsError as error:
                failures.append(str(error))
            else:
                others.append(name)
        if failures:  # one of them might have led back
            return "temperror", "; ".join(failures), ""
        more = f" (the first {self.options.max_names} of {len(answer.records)})" if len(answer.records) > len(others) else ""
        return "fail", f"names of {address}{more}, none of which leads back: {', '.join(others)}", ""

    async def _leads_back(self, name: str, address: Address) -> bool:
        answer = await self.context.resolver.query(name, "A" if address.version == 4 else "AAAA")
        return any(_address(str(record)) == address for record in answer.records[:MAX_ADDRESSES])

    def _verdict(self, finding: IprevFinding) -> Verdict | None:
        address = finding.property("policy.iprev") or ""
        reason = f"iprev-{finding.result}"
        match self.options.require:
            case "off":
                return None
            case "quarantine":
                return quarantine(reason, box=self.options.box, evidence=finding.reason)
            case "reject" if finding.result != "temperror":
                # RFC 7372 3.3
                return reject(
                    "No name of your address leads back to it: " + address,
                    code=550,
                    enhanced="5.7.25",
                    reason=reason,
                    evidence=finding.reason,
                )
            case _:
                return defer(
                    "No name of your address leads back to it now: " + address,
                    code=451,
                    enhanced="4.7.25",
                    reason=reason,
                    evidence=finding.reason,
                )


def _address(text: str) -> Address | None:
    """Without a scope; an IPv4 address that IPv6 maps is that address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _plain(reason: str) -> str:
    text = "".join(c if " " <= c <= "~" else "?" for c in reason)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
