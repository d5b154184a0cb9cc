"""Validate a chain: RFC 8617 5.2, steps 4 to 7. Pure: keys and body hashes are asked for (`gateway.mailauth.scheme`).

The newest sets are asked about first, and the others only when those are good, so that a forged chain costs few look-ups.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal, TypeVar

from gateway.mailauth.arc.chain import Chain, Set, collect
from gateway.mailauth.arc.fields import (
    MAX_INSTANCE,
    RESULTS,
    SEAL,
    SIGNATURE,
    MessageSignature,
    Seal,
    UnusableError,
    Way,
    read_seal,
    read_signature,
)
from gateway.mailauth.canonical import BodyHash, BodyHashWanted
from gateway.mailauth.fields import canonical_field, header_hash, own_field, select_fields
from gateway.mailauth.key import KeyRecord, KeyRefusedError, read_key
from gateway.mailauth.scheme import Answers, KeyAnswer, Questions
from gateway.message import Message

AT_ONCE = 5
"""Sets that are asked about at the same time; further ones only when these are good."""
LARGE = 64 * 1024
"""Octets of header fields above which other work on the loop goes first between two signatures."""
NOT_CHECKED = "not checked"
VALID = "valid"
S = TypeVar("S", Seal, MessageSignature)
_Work = Generator[Questions, Answers, "ChainResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetReport:
    """What came of one set."""

    instance: int
    sealer: str
    """d= of the seal; `` when it has no usable one."""
    signer: str
    """d= of the message signature."""
    cv: str
    seal: str
    """`valid`, `not checked`, or why it is not valid."""
    message_signature: str
    """The same of the message signature."""
    claims: str
    """The payload of ARC-Authentication-Results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainResult:
    """What came of the chain."""

    status: Literal["none", "pass", "fail"]
    reason: str
    sets: tuple[SetReport, ...] = ()
    """The oldest first; empty when the structure is broken."""
    oldest_pass: int = 0
    """The oldest of the message signatures that are valid from the newest on; 0: all of them."""
    is_temporary: bool = False
    """It fails for no other reason than that DNS could not tell keys."""
    chain: Chain = field(default_factory=Chain)
    newest: MessageSignature | None = None
    """The newest message signature, where it is usable."""


class ArcScheme:
    """The scheme."""

    name: ClassVar[str] = "arc"
    reads: ClassVar[frozenset[str]] = frozenset({RESULTS.lower(), SIGNATURE.lower(), SEAL.lower()})

    def __init__(self, *, max_sets: int = MAX_INSTANCE, minimum_bits: int = 1024, maximum_bits: int = 4096) -> None:
        self.max_sets = max_sets
        self.minimum_bits = minimum_bits
        self.maximum_bits = maximum_bits

    def evaluate(self, message: Message, *, now: float) -> _Work:
        """Verify the message, `now` in seconds since the epoch."""
        chain = collect(message, max_sets=self.max_sets)
        if not chain.is_there:
            return ChainResult(status="none", reason="no chain")
        if chain.fault:
            return ChainResult(status="fail", reason=chain.fault, chain=chain)
        return (yield from _Validation(self, message, chain, now).run())


@dataclass(slots=True)
class _Verdict:
    """Of one signature."""

    text: str = NOT_CHECKED
    is_temporary: bool = False


class _Validation:
    """One chain on its way to a result."""

    def __init__(self, scheme: ArcScheme, message: Message, chain: Chain, now: float) -> None:
        self.scheme = scheme
        self.message = message
        self.chain = chain
        self.now = now
        self.read_seals: dict[int, Seal | str] = {}
        """Read, or why they cannot count."""
        self.read_signatures: dict[int, MessageSignature | str] = {}
        self.keys: dict[str, KeyAnswer] = {}
        self.bodies: dict[BodyHashWanted, BodyHash] = {}
        self.seals = {one.instance: _Verdict() for one in chain.sets}
        self.signatures = {one.instance: _Verdict() for one in chain.sets}
        self.is_large = message.body_offset > LARGE

    def run(self) -> _Work:
        newest_first = self.chain.sets[::-1]
        near, far = newest_first[:AT_ONCE], newest_first[AT_ONCE:]
        yield from self._ask(near)
        self._check_signature(near[0])  # step 4
        digests = seal_digests(self.chain.sets)
        if self._stands():
            self._check_seals(near, digests)  # step 6
        if far and self._stands():
            yield from self._ask(far)
            self._check_seals(far, digests)
        failed = self._first_failure()
        if failed:
            return failed
        oldest_pass = yield from self._oldest_pass(newest_first)  # step 5
        return self._result("pass", self._summary(oldest_pass), oldest_pass=oldest_pass)

    def _ask(self, sets: Iterable[Set]) -> Generator[Questions, Answers, None]:
        """Read them, the newest first, and ask. What comes after an unusable one is not read: nothing hangs on it any more."""
        names: set[str] = set()
        bodies: set[BodyHashWanted] = set()
        for place, one in enumerate(sets, 1):
            if place % AT_ONCE == 0:
                yield Questions()  # hostile names take time
            self.read_seals[one.instance] = seal = _read(partial(read_seal, one.seal, one.seal_tags))
            if all(isinstance(signature, MessageSignature) for signature in self.read_signatures.values()):
                signature = _read(partial(read_signature, one.signature, one.signature_tags, now=self.now))
                self.read_signatures[one.instance] = signature
                if isinstance(signature, MessageSignature):
                    names.add(signature.key_name)
                    bodies.update(way.body for way in signature.ways)
            if isinstance(seal, str):
                break
            names.add(seal.key_name)
        answers = yield Questions(frozenset(names - self.keys.keys()), frozenset(bodies - self.bodies.keys()))
        self.keys.update(answers.names)
        self.bodies.update(answers.bodies)

    def _stands(self) -> bool:
        """Nothing is known that makes the chain fail for good."""
        newest = self.signatures[self.chain.highest]
        checked = [newest, *self.seals.values()]
        return all(one.is_temporary or one.text in {VALID, NOT_CHECKED} for one in checked)

    def _check_seals(self, sets: Iterable[Set], digests: Mapping[int, bytes]) -> None:
        for one in sets:
            self.seals[one.instance] = verdict = self._verdict(self.read_seals[one.instance], digests[one.instance])
            if verdict.text != VALID and not verdict.is_temporary:
                return

    def _check_signature(self, one: Set) -> None:
        self.signatures[one.instance] = self._signature_verdict(self.read_signatures[one.instance])

    def _signature_verdict(self, signature: MessageSignature | str) -> _Verdict:
        if isinstance(signature, str):
            return _Verdict(signature)
        verdicts = []
        for way in signature.ways:
            verdicts.append(self._verdict_by(way, signature))
            if verdicts[-1].text == VALID:
                return verdicts[-1]
        return verdicts[0]

    def _verdict_by(self, way: Way, signature: MessageSignature) -> _Verdict:
        """RFC 6376 6.1.3."""
        body, length = self.bodies[way.body], way.body.length
        if length is not None and length > body.size:
            return _Verdict("l= is larger than the body")  # RFC 6376 3.5
        if body.digest != signature.body_hash:
            return _Verdict("body hash does not match")
        fields = select_fields(self.message, signature.headers, own=signature.field)  # RFC 6376 3.5, h=: never itself
        return self._verdict(signature, header_hash(fields, signature.field.octets, is_relaxed=way.is_header_relaxed))

    def _verdict(self, signed: Seal | MessageSignature | str, digest: bytes) -> _Verdict:
        if isinstance(signed, str):
            return _Verdict(signed)
        try:
            key = self._key(signed)
        except KeyRefusedError as refused:
            return _Verdict(refused.reason)
        if key is None:
            return _Verdict(self.keys[signed.key_name].failure, is_temporary=True)
        return _Verdict(VALID if key.verifies(signed.signature, digest) else "signature does not match")

    def _key(self, signed: Seal | MessageSignature) -> KeyRecord | None:
        """None: DNS could not tell. Raises KeyRefusedError."""
        answer = self.keys[signed.key_name]
        if answer.failed:
            return None
        bits = {"minimum_bits": self.scheme.minimum_bits, "maximum_bits": self.scheme.maximum_bits}
        return read_key(answer.records, algorithm=signed.algorithm, **bits)

    def _first_failure(self) -> ChainResult | None:
        """The result when something failed: what failed for good goes before what DNS could not tell."""
        number = self.chain.highest
        candidates = [(number, SIGNATURE, self.signatures[number])]
        candidates += [(number, SEAL, verdict) for number, verdict in sorted(self.seals.items(), reverse=True)]
        bad = [one for one in candidates if one[2].text not in {VALID, NOT_CHECKED}]
        if not bad:
            return None
        number, name, verdict = min(bad, key=lambda one: one[2].is_temporary)
        reason = f"i={number}: {name}{_of(self._domain(number, name))}: {verdict.text}"
        if verdict.is_temporary:
            reason += ", which RFC 8617 counts as a failure"  # RFC 8617 5.2.1
        return self._result("fail", reason, is_temporary=verdict.is_temporary)

    def _domain(self, number: int, name: str) -> str:
        signed = self.read_seals.get(number) if name == SEAL else self.read_signatures.get(number)
        return signed.domain if isinstance(signed, Seal | MessageSignature) else ""

    def _oldest_pass(self, newest_first: tuple[Set, ...]) -> Generator[Questions, Answers, int]:
        for one in newest_first[1:]:
            if self.is_large:
                yield Questions()
            self._check_signature(one)
            if self.signatures[one.instance].text != VALID:
                return one.instance + 1
        return 0

    def _summary(self, oldest_pass: int) -> str:
        number = len(self.chain.sets)
        text = f"{number} set{'' if number == 1 else 's'}, the newest{_of(self._domain(number, SEAL))}"
        if oldest_pass:
            text += f"; i={oldest_pass - 1}: {SIGNATURE}: {self.signatures[oldest_pass - 1].text}"
        return text

    def _result(
        self, status: Literal["pass", "fail"], reason: str, *, oldest_pass: int = 0, is_temporary: bool = False
    ) -> ChainResult:
        newest = self.read_signatures.get(self.chain.highest)
        reports = tuple(
            SetReport(
                instance=one.instance,
                sealer=self._domain(one.instance, SEAL),
                signer=self._domain(one.instance, SIGNATURE),
                cv=one.cv,
                seal=self.seals[one.instance].text,
                message_signature=self.signatures[one.instance].text,
                claims=one.claims,
            )
            for one in self.chain.sets
        )
        return ChainResult(
            status=status,
            reason=reason,
            sets=reports,
            oldest_pass=oldest_pass,
            is_temporary=is_temporary,
            chain=self.chain,
            newest=newest if isinstance(newest, MessageSignature) else None,
        )


def _read(read: Callable[[], S]) -> S | str:
    try:
        return read()
    except UnusableError as error:
        return str(error)


def seal_digests(sets: Iterable[Set]) -> dict[int, bytes]:
    """The hash that each seal signs: all sets up to its own, in order, its own b= without value (RFC 8617 5.1.1).

    Each field is made canonical once, always relaxed, whatever the number of sets.
    """
    digests: dict[int, bytes] = {}
    before = hashlib.sha256()
    for one in sets:
        before.update(canonical_field(one.results, is_relaxed=True))
        before.update(canonical_field(one.signature, is_relaxed=True))
        here = before.copy()
        here.update(own_field(one.seal.octets, is_relaxed=True))
        digests[one.instance] = here.digest()
        before.update(canonical_field(one.seal, is_relaxed=True))
    return digests


def _of(domain: str) -> str:
    return f" of {domain}" if domain else ""
