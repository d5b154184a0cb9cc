"""Failures that are let through all the same: policy overrides of RFC 9990, each with what speaks for it.

A forwarder breaks SPF, a mailing list breaks DKIM, and nobody forged anything (RFC 7960). What the message says about itself can be
forged too; so a mark alone never overrides anything, it only has to be there where the configuration trusts somebody.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from gateway import AuthResult, Message, PluginOptions, Transaction
from gateway.mailauth.dmarc import is_within
from gateway.plugins.dmarc.authors import a_label
from gateway.plugins.dmarc.evaluate import Evaluation

Kind = Literal["local_policy", "mailing_list", "trusted_forwarder"]
"""Of the types of RFC 9990 those that are given here; `policy_test_mode` is what t=y says by itself."""
_FIELDS = (
    "List-Id",
    "List-Post",
    "Resent-From",
    "Resent-Sender",
    "X-Forwarded-To",
    "X-Forwarded-For",
    "Delivered-To",
    "ARC-Seal",
)
_SRS = re.compile(r"SRS[01][=+-]", re.IGNORECASE)
_LIST_ID = re.compile(r"<([^<>\s]{1,255})>\s*\Z")
_MAILTO = re.compile(r"<mailto:[^<>@\s?]{1,255}@([^<>@\s?]{1,255})[^<>]{0,500}>", re.IGNORECASE)
_MAX_SHOWN = 80


def _domains(values: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(a_label(value) for value in values)
    if "" in found:
        msg = f"{values[found.index('')]!r} is not a domain name"
        raise ValueError(msg)
    return found


class TrustedForwarder(PluginOptions):
    """One of `trusted_forwarders`. Who it is: `networks`, `domains` or both (one is enough); for whose mail: `authors`."""

    networks: tuple[str, ...] = ()
    """Client addresses: `192.0.2.0/24`."""
    domains: tuple[str, ...] = ()
    """Domains of the forwarder: those that SPF or DKIM passes for, or of the client's verified name."""
    authors: tuple[str, ...] = ()
    """Author domains that it may be believed for, those below them too; none: all."""

    @field_validator("domains", "authors")
    @classmethod
    def _are_domains(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return _domains(values)

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(value)) for value in values)

    @model_validator(mode="after")
    def _says_something(self) -> TrustedForwarder:
        if not (self.networks or self.domains or self.authors):
            raise ValueError("at least one of networks, domains and authors")
        return self


class MailingList(PluginOptions):
    """One of `mailing_lists`."""

    lists: tuple[str, ...] = Field(min_length=1)
    """Domains of List-Id or List-Post, those below them too."""
    signers: tuple[str, ...] = ()
    """Domains whose DKIM signature must pass, those below them too; none: the same as `lists`."""

    @field_validator("lists", "signers")
    @classmethod
    def _are_domains(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return _domains(values)


@dataclass(frozen=True, slots=True)
class Override:
    """Why the policy is not applied as published."""

    kind: Kind
    comment: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.comment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What looks like forwarding or a mailing list."""

    of_the_message: tuple[str, ...] = ()
    """What the message itself shows."""
    of_the_envelope: tuple[str, ...] = ()
    """The reverse-path is still the author's, and SPF does not pass: plain forwarding is like this, and forging too."""

    def __bool__(self) -> bool:
        return bool(self.of_the_message)


def marks_of(evaluation: Evaluation, transaction: Transaction, message: Message) -> Marks:
    """Look for them; bounded."""
    organization = evaluation.organizational_domain or evaluation.domain
    inside = [one.identifier for one in evaluation.alignments if is_within(one.identifier.domain, organization)]
    found = [
        f"{one} does not verify any more"
        for one in inside
        if one.method == "dkim" and one.result not in {"pass", "none", "temperror"}
    ]
    if _SRS.match(transaction.reverse_path.local_part):
        found.append("the reverse-path is rewritten (SRS)")
    for name in _FIELDS:
        field = message.field(name)
        if field is not None:
            found.append(f"{name}: {_shown(field.unfolded[:_MAX_SHOWN])}")
    envelope = [f"{one}" for one in inside if one.method == "spf" and one.result not in {"pass", "none", "temperror"}]
    return Marks(of_the_message=tuple(found[:10]), of_the_envelope=tuple(envelope[:1]))


def override_of(
    evaluation: Evaluation,
    marks: Marks,
    transaction: Transaction,
    message: Message,
    *,
    forwarders: Sequence[TrustedForwarder],
    lists: Sequence[MailingList],
    with_arc: bool,
) -> Override | None:
    """Who stands for this failure: a forwarder by its own word last, as that is the weakest."""
    results = transaction.findings.of(AuthResult)
    if with_arc and (who := _by_arc(results)):
        return Override("local_policy", who)
    for one in lists:
        if who := _list(one, message, results):
            return Override("mailing_list", who)
    for forwarder in forwarders:
        if who := _forwarder(forwarder, evaluation.domain, transaction, results, marks):
            return Override("trusted_forwarder", who)
    return None


def _by_arc(results: Iterable[AuthResult]) -> str:
    for one in results:
        sealer = one.property("policy.trusted-sealer") if one.method == "arc" and one.result == "pass" else None
        if sealer:
            return f"arc=pass, sealed by {_shown(sealer)}, which saw dmarc=pass"
    return ""


def awaited_sealer(results: Iterable[AuthResult]) -> str:
    """A trusted sealer whose chain could not be verified because DNS failed: later it may let the message through."""
    for one in results:
        if one.method == "arc" and (sealer := one.property("policy.unverified-sealer")):
            return _shown(sealer)
    return ""


def _forwarder(
    wanted: TrustedForwarder, author: str, transaction: Transaction, results: Iterable[AuthResult], marks: Marks
) -> str:
    """Who it is and what looks like forwarding; `` when it is not this one, or nothing does."""
    if wanted.authors and not any(is_within(author, one) for one in wanted.authors):
        return ""
    seen: tuple[str, ...] = marks.of_the_message
    who = ""
    if wanted.networks or wanted.domains:
        who = _in_network(wanted.networks, transaction.session.client_address) or _of_domain(wanted.domains, transaction, results)
        if not who:
            return ""
        seen = (*seen, *marks.of_the_envelope)
    if not seen:
        return ""
    return f"{who or 'any client, for this author domain'}; {seen[0]}"


def _in_network(networks: Iterable[str], address: str) -> str:
    try:
        client = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped is not None:
        client = client.ipv4_mapped
    for network in networks:
        if client in ipaddress.ip_network(network):
            return f"client {client} in {network}"
    return ""


def _of_domain(domains: Sequence[str], transaction: Transaction, results: Iterable[AuthResult]) -> str:
    """A domain that something vouches for: a name in HELO or in the message alone would be only a claim."""
    vouched = [(a_label(transaction.session.client_name), "the client's verified name is")]
    for one in results:
        if one.result == "pass" and one.method in {"spf", "dkim"}:
            values = (one.property(name) for name in ("smtp.mailfrom", "smtp.helo", "header.d"))
            vouched += [(a_label(value.rpartition("@")[2]), f"{one.method}=pass of") for value in values if value]
    for name, how in vouched:
        if name and any(is_within(name, domain) for domain in domains):
            return f"{how} {name}"
    return ""


def _list(wanted: MailingList, message: Message, results: Iterable[AuthResult]) -> str:
    """The list is one of these by List-Id (RFC 2919) or List-Post (RFC 2369), and a signature of its domain passes."""
    name = next((one for one in _list_names(message) if any(is_within(one, domain) for domain in wanted.lists)), "")
    if not name:
        return ""
    for one in results:
        signer = a_label(one.property("header.d") or "") if one.method == "dkim" and one.result == "pass" else ""
        if signer and any(is_within(signer, domain) for domain in wanted.signers or wanted.lists):
            return f"list {name}, dkim=pass of {signer}"
    return ""


def _list_names(message: Message) -> list[str]:
    found = []
    if (field := message.field("list-id")) is not None and (identifier := _LIST_ID.search(field.unfolded[-300:])) is not None:
        found.append(a_label(identifier[1]))
    if (field := message.field("list-post")) is not None and (address := _MAILTO.search(field.unfolded[:1000])) is not None:
        found.append(a_label(address[1]))
    return [one for one in found if one]


def _shown(text: str) -> str:
    """On one line, printable ASCII."""
    return " ".join("".join(c if " " <= c <= "~" else "?" for c in text[:_MAX_SHOWN]).split())
