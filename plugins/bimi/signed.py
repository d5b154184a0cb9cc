"""The BIMI-Selector field, if the signature that made DMARC pass covers it: draft-brand-indicators… 5.1, 5.5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway import AuthResult, Message
from gateway.mailauth import TagListError, parse_tags, parts, without_white
from gateway.mailauth.results import id_key
from gateway.plugins.bimi.record import selector_of_field

MAX_SIGNATURES = 20
"""DKIM-Signature fields that are compared with the results of `dkim`; of a message with more none counts."""
MAX_SIGNATURE = 16_384
"""Octets of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """Domains whose signatures are aligned with the author's."""

    domain: str
    is_strict: bool = False
    """This one alone; else those below it too."""

    def __contains__(self, domain: object) -> bool:
        """Whether it is one of them."""
        name = str(domain)
        return bool(name) and (name == self.domain or (not self.is_strict and name.endswith(f".{self.domain}")))


def named_selector(message: Message) -> str | None:
    """The selector that the message names; None: there is no such field, it is wrong, or it is there twice."""
    fields = message.fields_named("bimi-selector")
    return selector_of_field(fields[0].raw) if len(fields) == 1 else None


def signed_selector(message: Message, results: Sequence[AuthResult], signers: Signers) -> str | None:
    """The same, if a signature of these signers that passed covers the field."""
    selector = named_selector(message)
    if selector is None or not any(b"bimi-selector" in names for names in _covered(message, results, signers)):
        return None
    return selector


def _covered(message: Message, results: Sequence[AuthResult], signers: Signers) -> Iterator[set[bytes]]:
    """Names of the fields that each of these signatures covers, in lower case.

    A result is matched with its signature by domain, selector and the beginning of b=. Where that fits two fields, one may be made to
    look like the other, and none counts.
    """
    signatures = list(_signatures(message))
    for result in results:
        if result.method != "dkim" or result.result != "pass" or id_key(result.property("header.d") or "") not in signers:
            continue
        fitting = [tags for tags in signatures if _fits(result, tags)]
        if len(fitting) == 1:
            yield {name.lower() for name in parts(fitting[0].get(b"h", b""))}


def _signatures(message: Message) -> Iterator[dict[bytes, bytes]]:
    fields = message.fields_named("dkim-signature")
    if len(fields) > MAX_SIGNATURES:
        return
    for field in fields:
        try:
            yield parse_tags(field.raw[:MAX_SIGNATURE])
        except TagListError:
            continue


def _fits(result: AuthResult, tags: dict[bytes, bytes]) -> bool:
    beginning = result.property("header.b") or ""
    signature = without_white(tags.get(b"b", b"")).decode("ascii", "replace")
    selector = tags.get(b"s", b"").decode("utf-8", "replace").lower()
    domain = tags.get(b"d", b"").decode("utf-8", "replace").lower()
    return (
        domain == (result.property("header.d") or "").lower()  # both as the signature spells it
        and (result.property("header.s") or "").lower() in {"", selector}
        and bool(beginning)
        and signature.startswith(beginning)
    )
