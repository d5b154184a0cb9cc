"""BIMI: where is the indicator that the author's domain wants shown? draft-brand-indicators-for-message-identification.

The Assertion Record is looked up and read. No image and no certificate is fetched, so nothing here says that the indicator is
right, or whose it is: `policy.authority=none`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from gateway import AuthResult, DnsError, Edit, Message, Plugin, PluginOptions, Transaction, hook, remove_header
from gateway.mailauth.results import id_key
from gateway.plugins.bimi.enforcement import objection
from gateway.plugins.bimi.record import Assertion, RecordError, is_assertion, parse_assertion, selector_of_local_part
from gateway.plugins.bimi.signed import Signers, named_selector, signed_selector

RECEIVERS_FIELDS = ("BIMI-Location", "BIMI-Indicator", "BIMI-Logo-Preference")
"""What only the recipient's own site writes (5.6, 7.8)."""
MAX_SHOWN = 200
"""Characters of a location that is written into Authentication-Results."""
Outcome = Literal["pass", "none", "fail", "temperror", "declined", "skipped"]


class Options(PluginOptions):
    """`[plugin.bimi]`."""

    unsigned_selector: bool = False
    """Follow a BIMI-Selector field that no aligned DKIM signature covers; by default it is ignored."""
    keep_from: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = Field(default=())
    """Hosts of this site whose BIMI-Location, BIMI-Indicator and BIMI-Logo-Preference fields stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BimiFinding(AuthResult):
    """The result, with what was asked for."""

    indicator: str = ""
    """Where the indicator is: an https URI of a stranger; nothing was fetched from there."""
    evidence: str = ""
    """Where the evidence document is, or ``."""
    preference: str = ""
    """`brand` or `personal`."""


class _End(Exception):  # noqa: N818 - an ending, not an error
    """The evaluation has come to a result."""

    def __init__(self, result: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.finding = BimiFinding(method="bimi", result=result, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Author:
    domain: str
    organization: str
    local_part: str
    signers: Signers
    """Whose signatures are aligned."""


class Bimi(Plugin[Options]):
    """The plugin."""

    gives: ClassVar[tuple[str, ...]] = ("auth.bimi",)
    needs: ClassVar[tuple[str, ...]] = ("auth.dmarc", "auth.dkim")

    @hook
    async def check(self, transaction: Transaction, message: Message) -> BimiFinding:
        """One result, of the author's domain."""
        results = transaction.findings.of(AuthResult)
        try:
            author = _author(message, results)
            await self._require_enforcement(author)
            selector = self._selector(message, results, author)
            return await self._discover(author, selector or "default")
        except _End as end:
            return end.finding

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction, message: Message) -> Sequence[Edit]:
        """Cut what only the recipient's site may write (5.6, 7.8)."""
        if self._is_kept(transaction.session.client_address):
            return ()
        is_whole = message.header.has_blank_line and not message.header.is_cut
        return [remove_header(name) for name in RECEIVERS_FIELDS if not is_whole or message.field(name) is not None]

    def _selector(self, message: Message, results: Sequence[AuthResult], author: _Author) -> str | None:
        if self.options.unsigned_selector:
            return named_selector(message)
        return signed_selector(message, results, author.signers)

    def _is_kept(self, client_address: str) -> bool:
        if not self.options.keep_from:
            return False
        try:
            address = ipaddress.ip_address(client_address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.options.keep_from)

    async def _require_enforcement(self, author: _Author) -> None:
        """7.1, steps 7 to 9."""
        for domain in dict.fromkeys((author.domain, author.organization)):
            found = objection(await self._texts(f"_dmarc.{domain}"))  # `dmarc` has asked the same
            if found:
                raise _End("skipped", f"DMARC is not enforced: {domain} has {found}")

    async def _discover(self, author: _Author, selector: str) -> BimiFinding:
        """7.2, steps 3 to 10; 7.3, step 1; 7.5."""
        for domain in dict.fromkeys((author.domain, author.organization)):
            records = await self._assertions(selector, domain)
            if not records:
                continue
            if len(records) > 1:
                raise _End("fail", f"{len(records)} records at {selector}._bimi.{domain}")
            return await self._of_record(author, domain, selector, records[0])
        raise _End("none", f"no record at {selector}._bimi.{author.domain}{_or(author)}")

    async def _of_record(self, author: _Author, domain: str, selector: str, record: bytes) -> BimiFinding:
        where = f"{selector}._bimi.{domain}"
        try:
            assertion = parse_assertion(record)
        except RecordError as error:
            raise _End("fail", f"the record at {where} is wrong: {error}") from error
        if assertion.by_local_part:
            other = await self._by_local_part(author, domain, selector)
            if other is not None:
                selector, assertion = other
                where = f"{selector}._bimi.{domain}"
        if assertion.is_declined:
            raise _End("declined", f"the record at {where} declines")
        return _finding(domain, selector, assertion)

    async def _by_local_part(self, author: _Author, domain: str, selector: str) -> tuple[str, Assertion] | None:
        """4.5, steps 3 to 6: the record at the selector made from the local-part, where it is a right one."""
        other = selector_of_local_part(author.local_part)
        if other is None or other == selector:
            return None
        records = await self._assertions(other, domain)
        if len(records) != 1:
            return None
        try:
            return other, parse_assertion(records[0])
        except RecordError:
            return None

    async def _assertions(self, selector: str, domain: str) -> list[bytes]:
        return [record for record in await self._texts(f"{selector}._bimi.{domain}") if is_assertion(record)]

    async def _texts(self, name: str) -> list[bytes]:
        """TXT records, the strings of each joined (RFC 7208 3.3)."""
        if len(name) > 253:
            return []
        try:
            answer = await self.context.resolver.query(name, "TXT")
        except DnsError as error:
            raise _End("temperror", f"{name} could not be looked up") from error
        return [b"".join(strings) for strings in answer.records[:20]]


def _author(message: Message, results: Sequence[AuthResult]) -> _Author:
    """7.1, steps 1 to 6: one author, whose domain passed DMARC."""
    addresses = message.author_addresses
    if len(message.fields_named("from")) != 1 or len(addresses) != 1:
        raise _End("skipped", "From has not one address")
    local_part, _, written = addresses[0].rpartition("@")
    domain = id_key(written)
    dmarc = [one for one in results if one.method == "dmarc" and id_key(one.property("header.from") or "") == domain]
    passed = [one for one in dmarc if one.result == "pass"]
    if not passed:
        raise _End("skipped", f"DMARC did not pass: {dmarc[0].result}" if dmarc else "DMARC was not evaluated")
    if any(one.property("polrec.p") == "none" or getattr(one, "policy", "") == "none" for one in passed):
        raise _End("skipped", "DMARC is not enforced: the policy is none")
    # The finding of `dmarc` has it; what a gateway in front told may name the domain of the record.
    organization = getattr(passed[0], "organizational_domain", "") or passed[0].property("polrec.domain") or domain
    if domain != organization and not domain.endswith(f".{organization}"):
        organization = domain
    is_strict = ("adkim", "s") in getattr(passed[0], "published", ())
    signers = Signers(domain=domain if is_strict else organization, is_strict=is_strict)
    return _Author(domain=domain, organization=organization, local_part=local_part, signers=signers)


def _finding(domain: str, selector: str, assertion: Assertion) -> BimiFinding:
    """7.7. A location is written whole or not at all."""
    written = (("policy.authority-uri", assertion.evidence), ("policy.indicator-uri", assertion.location))
    return BimiFinding(
        method="bimi",
        result="pass",
        reason="neither indicator nor evidence was fetched",
        properties=(
            ("header.d", domain),
            ("header.selector", selector),
            ("policy.authority", "none"),
            *((name, value) for name, value in written if 0 < len(value) <= MAX_SHOWN),
            *((("policy.logo-preference", assertion.preference),) if assertion.preference else ()),
        ),
        indicator=assertion.location,
        evidence=assertion.evidence,
        preference=assertion.preference,
    )


def _or(author: _Author) -> str:
    return f" or {author.organization}" if author.organization != author.domain else ""
