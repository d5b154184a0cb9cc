"""DKIM as a scheme: RFC 6376 6.1. Pure: it asks for keys, then for body hashes, and comes to one finding for each signature."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gateway import AuthResult, HeaderField, Message
from gateway.mailauth import (
    Answers,
    BodyHash,
    BodyHashWanted,
    KeyAnswer,
    KeyRecord,
    KeyRefusedError,
    PrefixWanted,
    Questions,
    header_hash,
    read_key,
    select_fields,
    without_white,
)
from gateway.plugins.dkim.coverage import Coverage, covered, occurrences, shown
from gateway.plugins.dkim.diagnosis import explain
from gateway.plugins.dkim.signature import Refused, Signature, beginnings, parse_signature, read_tags, shown_properties

SHOWN_RECORDS, SHOWN_OCTETS = 3, 600
"""Of what is published for a key, as evidence."""
LARGE_HEADER = 64 * 1024
"""Octets of a header section; with more, other work on the loop goes first between two signatures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DkimFinding(AuthResult):
    """One signature's result, with what a judge may want to know of it."""

    domain: str = ""
    """d=, in lower case and as A-labels; `` when the field could not be read."""
    selector: str = ""
    bits: int = 0
    """Size of the key; 0 when it was not looked at."""
    is_testing: bool = False
    """t=y in the key record (RFC 6376 3.6.1)."""
    body_size: int = 0
    """Octets of the canonical body."""
    unsigned_octets: int = 0
    """Octets of it that l= leaves open to be replaced by anything."""
    coverage: Coverage | None = None
    """What else is left open; None when the signature was not verified."""
    details: tuple[str, ...] = ()
    """Evidence where it did not pass: what is published for its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What counts here."""

    signatures: int = 8
    minimum_bits: int = 1024
    maximum_bits: int = 4096
    skew: float = 300.0
    takes_unsigned_body: bool = True
    takes_added_fields: bool = True


Evaluation: TypeAlias = Generator[Questions, Answers, list[DkimFinding]]


class DkimScheme:
    """RFC 6376, with RFC 8301, 8463 and 8616."""

    name = "dkim"
    reads = frozenset({"dkim-signature"})

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def evaluate(self, message: Message, *, now: float) -> Evaluation:
        """A finding for each signature, in the order of the fields."""
        fields = message.fields_named("dkim-signature")
        if not fields:
            return [DkimFinding(method="dkim", result="none", reason="no signature")]
        checked = fields[: self.limits.signatures]
        attempts = [_Attempt(field, now=now, limits=self.limits) for field in checked]
        for attempt, beginning in zip(attempts, beginnings([one.b for one in attempts]), strict=True):
            if beginning:
                attempt.properties += (("header.b", beginning),)
        if message.header.is_cut:
            for attempt in attempts:
                attempt.refuse("permerror", "too many header fields")
        yield from self._find_keys(_open(attempts))
        yield from self._verify(message, _open(attempts))
        findings = [attempt.finding() for attempt in attempts]
        if len(fields) > len(checked):
            more = f"{len(fields) - len(checked)} more signatures are not verified, the limit is {len(checked)}"
            findings.append(DkimFinding(method="dkim", result="policy", reason=more))
        return findings

    def _find_keys(self, attempts: Sequence[_Attempt]) -> Generator[Questions, Answers, None]:
        """Before any computation, so that a failure of DNS is a temperror and no fail (RFC 6376 6.1.2)."""
        if not attempts:
            return
        answers = yield Questions(names=frozenset([attempt.signature.key_name for attempt in attempts]))
        known: dict[tuple[str, str], KeyRecord | KeyRefusedError] = {}
        for attempt in attempts:
            name, algorithm = attempt.signature.key_name, attempt.signature.algorithm
            if answers.names[name].failed:
                attempt.refuse("temperror", answers.names[name].failure)
                continue
            attempt.published = answers.names[name]
            if (name, algorithm) not in known:
                known[name, algorithm] = _read(answers.names[name], algorithm, self.limits)
            attempt.take_key(known[name, algorithm])

    def _verify(self, message: Message, attempts: Sequence[_Attempt]) -> Generator[Questions, Answers, None]:
        if not attempts:
            return
        wanted = [attempt.wanted for attempt in attempts]
        answers = yield Questions(bodies=frozenset(wanted))
        occurs = occurrences(message)
        for attempt, body in zip(attempts, wanted, strict=True):
            attempt.verify(message, answers.bodies[body], occurs)
            if message.header.end > LARGE_HEADER:
                yield Questions()
        changed = [attempt for attempt in attempts if attempt.prefix is not None]
        if changed:
            answers = yield Questions(prefixes=frozenset(attempt.prefix for attempt in changed if attempt.prefix is not None))
            for attempt in changed:
                attempt.tell_prefix(answers)


def _open(attempts: Sequence[_Attempt]) -> list[_Attempt]:
    return [attempt for attempt in attempts if attempt.is_open]


def _read(answer: KeyAnswer, algorithm: str, limits: Limits) -> KeyRecord | KeyRefusedError:
    try:
        return read_key(answer.records, algorithm=algorithm, minimum_bits=limits.minimum_bits, maximum_bits=limits.maximum_bits)
    except KeyRefusedError as refused:
        return refused


def _published(name: str, answer: KeyAnswer) -> Iterator[str]:
    if not answer.records:
        yield f"{name}: no TXT record"
    for record in answer.records[:SHOWN_RECORDS]:
        yield f"{name}: {record[:SHOWN_OCTETS].decode('ascii', 'replace')}{'…' if len(record) > SHOWN_OCTETS else ''}"


def _added(coverage: Coverage) -> list[str]:
    return [f"{shown(name)} occurs {occurs} times, signed {named}" for name, occurs, named in coverage.added]


class _Attempt:
    """One signature on its way to a result."""

    signature: Signature
    key: KeyRecord

    def __init__(self, field: HeaderField, *, now: float, limits: Limits) -> None:
        self.field = field
        self.limits = limits
        self.result = self.reason = self.domain = self.selector = ""
        self.properties: tuple[tuple[str, str], ...] = ()
        self.b = b""
        self.published: KeyAnswer | None = None
        """What there is for its key."""
        self.bits = self.body_size = self.unsigned_octets = 0
        self.is_testing = False
        self.coverage: Coverage | None = None
        self.prefix: PrefixWanted | None = None
        try:
            tags = read_tags(field.raw)
            self.properties = shown_properties(tags)
            self.b = without_white(tags.get(b"b", b""))
            self.signature = parse_signature(tags, now=now, skew=limits.skew)
            self.domain, self.selector = self.signature.domain, self.signature.selector
        except Refused as refused:
            self.refuse(refused.result, refused.reason)

    @property
    def is_open(self) -> bool:
        """Nothing speaks against it so far."""
        return not self.result

    @property
    def wanted(self) -> BodyHashWanted:
        """The body hash it is compared with."""
        return BodyHashWanted(self.signature.is_body_relaxed, self.signature.length)

    def refuse(self, result: str, reason: str) -> None:
        """It cannot pass any more."""
        self.result, self.reason = result, reason
        if self.is_testing and result != "pass":  # RFC 6376 3.6.1, t=y: no worse than an unsigned message
            self.reason += "; signer is testing"

    def take_key(self, key: KeyRecord | KeyRefusedError) -> None:
        """Its key, or why there is none."""
        if isinstance(key, KeyRefusedError):
            self.refuse(key.result, key.reason)
            return
        self.key, self.bits, self.is_testing = key, key.bits, key.is_testing
        if key.is_strict and self.signature.identity_domain != self.signature.domain:  # RFC 6376 3.6.1, t=s
            self.refuse("permerror", "key does not allow a subdomain in i=")

    def verify(self, message: Message, body: BodyHash, occurs: dict[str, int]) -> None:
        """RFC 6376 6.1.3."""
        signature = self.signature
        self.body_size = body.size
        self.coverage = covered(occurs, signature.headers)
        if signature.length is not None:
            self.unsigned_octets = max(body.size - signature.length, 0)
            if signature.length > body.size:  # RFC 6376 3.5
                self.refuse("permerror", f"l= is more than the {body.size} octets of the body")
                return
        header = self._check_header(message)
        if body.digest != signature.body_hash:
            where = header or "the header fields are as signed"
            self.refuse("fail", f"body hash does not match; {where}")
            if signature.length is None:
                self.prefix = PrefixWanted(signature.is_body_relaxed, signature.body_hash)
        elif header:
            self.refuse("fail", f"signature does not match; {header}")
        elif self.unsigned_octets and not self.limits.takes_unsigned_body:
            self.refuse("policy", f"l= leaves {self.unsigned_octets} of {body.size} octets of the body unsigned")
        elif self.coverage.added and not self.limits.takes_added_fields:
            self.refuse("policy", ", ".join(_added(self.coverage)))
        else:
            self.refuse("pass", ", ".join(self._notes()))

    def tell_prefix(self, answers: Answers) -> None:
        """Something was added below the body that was signed."""
        size = answers.prefixes.get(self.prefix) if self.prefix is not None else None
        if size is not None:
            added = f"the first {size} of {self.body_size} octets are as signed, the rest was added"
            self.reason = self.reason.replace("body hash does not match", f"body hash does not match: {added}", 1)

    def _check_header(self, message: Message) -> str:
        """Nothing, or why the signature over the header fields does not hold."""
        signature, own = self.signature, self.field.octets
        # One From more than named: an added From breaks the signature (RFC 6376 8.15), as dkimpy has it.
        fields = select_fields(message, (*signature.headers, b"from"), own=self.field)
        digest = header_hash(fields, own, is_relaxed=signature.is_header_relaxed)
        if self.key.verifies(signature.signature, digest):
            return ""
        named = select_fields(message, signature.headers, own=self.field)
        if len(named) < len(fields):
            digest = header_hash(named, own, is_relaxed=signature.is_header_relaxed)
            if self.key.verifies(signature.signature, digest):
                return f"From occurs {len(message.fields_named('from'))} times, signed {signature.headers.count(b'from')}"
        return explain(signature, self.key, named, own)

    def _notes(self) -> list[str]:
        """What there is to say about a signature that is valid."""
        notes = [f"{self.bits}-bit key"]
        if self.signature.length is not None:
            notes.append(f"l= leaves {self.unsigned_octets} of {self.body_size} octets of the body unsigned")
        if self.is_testing:
            notes.append("signer is testing")
        if self.coverage is not None:
            notes += _added(self.coverage)
        return notes

    def _details(self) -> tuple[str, ...]:
        """Evidence where it did not pass: what is published for its key, once that was looked up."""
        if self.result == "pass" or self.published is None:
            return ()
        return tuple(_published(self.signature.key_name, self.published))

    def finding(self) -> DkimFinding:
        """The result for Authentication-Results, dmarc and rules."""
        return DkimFinding(
            method="dkim",
            result=self.result,
            reason=self.reason,
            properties=self.properties,
            domain=self.domain,
            selector=self.selector,
            bits=self.bits,
            is_testing=self.is_testing,
            body_size=self.body_size,
            unsigned_octets=self.unsigned_octets,
            coverage=self.coverage,
            details=self._details(),
        )
