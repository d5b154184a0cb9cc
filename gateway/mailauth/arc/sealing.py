"""Add a set to a message: RFC 8617 5.1. Pure: key, results and body hash come in, the bodies of three fields go out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gateway.mailauth.arc.chain import Chain, collect
from gateway.mailauth.arc.fields import MAX_INSTANCE, RESULTS, SEAL, SIGNATURE
from gateway.mailauth.canonical import BodyHash, BodyHashWanted, relaxed_field
from gateway.mailauth.fields import canonical_field, header_hash, own_field, select_fields
from gateway.mailauth.rendering import render_tags, with_signature
from gateway.mailauth.signing import SigningKey
from gateway.message import Message

SIGNED = (
    "from", "sender", "reply-to", "subject", "date", "message-id", "to", "cc", "in-reply-to", "references", "mime-version",
    "content-type", "content-transfer-encoding", "list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post",
    "list-subscribe", "list-post", "list-owner", "list-archive", "dkim-signature",
)  # fmt: skip
"""Signed where they are there (RFC 8617 4.1.2: not ARC-Seal, and nothing that others remove on the way)."""
MAX_NAMES = 100
"""Names in h= at most; a message with more fields than that is not sealed."""
WANTED = BodyHashWanted(is_relaxed=True)
"""The body hash of the message signature."""


class NotSealedError(Exception):
    """No set may be added, and why, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArcSealer:
    """The scheme (`gateway.mailauth.scheme.SigningScheme`), for one message.

    `state` is what became of the chain as it was received; `results` the payload of Authentication-Results.
    """

    name: ClassVar[str] = "arc"
    key: SigningKey
    state: str
    """`none`, `pass` or `fail`: cv= of the seal."""
    results: str

    @property
    def wanted(self) -> frozenset[BodyHashWanted]:
        """The body hashes it needs."""
        return frozenset({WANTED})

    def fields(self, message: Message, bodies: Mapping[BodyHashWanted, BodyHash], *, now: int) -> list[tuple[str, str]]:
        """The three fields, the lowest first. NotSealedError."""
        chain = _chain_of(message, self.state)
        instance = chain.highest + 1
        results = f"i={instance}; {self.results}"
        signature = self._signature(message, instance, bodies[WANTED], now)
        seal = self._seal(chain, instance, results, signature, now)
        return [(RESULTS, results), (SIGNATURE, signature), (SEAL, seal)]

    def _signature(self, message: Message, instance: int, body: BodyHash, now: int) -> str:
        names = signed_names(message)
        tags = [
            ("i", str(instance)),
            ("a", self.key.key.algorithm),
            ("c", "relaxed/relaxed"),
            ("d", self.key.domain),
            ("s", self.key.selector),
            ("t", str(now)),
            ("h", b":".join(names).decode("ascii")),
            ("bh", base64.b64encode(body.digest).decode("ascii")),
        ]
        unsigned = render_tags(SIGNATURE, tags)
        own = f"{SIGNATURE}: {unsigned}".encode()
        digest = header_hash(select_fields(message, names), own, is_relaxed=True)
        return with_signature(SIGNATURE, unsigned, self.key.key.sign(digest))

    def _seal(self, chain: Chain, instance: int, results: str, signature: str, now: int) -> str:
        tags = [
            ("i", str(instance)),
            ("a", self.key.key.algorithm),
            ("cv", self.state),
            ("d", self.key.domain),
            ("s", self.key.selector),
            ("t", str(now)),
        ]
        unsigned = render_tags(SEAL, tags)
        # RFC 8617 5.1.2: of a chain that failed nothing is sealed but the set that says so.
        hasher = hashlib.sha256()
        for one in chain.sets if self.state == "pass" else ():
            for field in (one.results, one.signature, one.seal):
                hasher.update(canonical_field(field, is_relaxed=True))
        hasher.update(relaxed_field(RESULTS.encode(), results.encode()))
        hasher.update(relaxed_field(SIGNATURE.encode(), signature.encode()))
        hasher.update(own_field(f"{SEAL}: {unsigned}".encode(), is_relaxed=True))
        return with_signature(SEAL, unsigned, self.key.key.sign(hasher.digest()))


def signed_names(message: Message) -> list[bytes]:
    """h=: each name as often as it is there, From once more so that none can be added. NotSealedError when it is too much."""
    names: list[bytes] = [b"from"]
    for name in SIGNED:
        names += [name.encode("ascii")] * len(message.fields_named(name))
        if len(names) > MAX_NAMES:
            raise NotSealedError("too many header fields")
    return names


def _chain_of(message: Message, state: str) -> Chain:
    """The chain to add to, as it is in the message that leaves. NotSealedError."""
    chain = collect(message)
    if chain.is_sealed_as_failed:
        raise NotSealedError("it was sealed as a failed chain before")  # RFC 8617 5.1.1
    if (state == "none") == chain.is_there:
        raise NotSealedError("fields of a chain were added or removed on the way through here")
    if state == "pass" and chain.fault:
        raise NotSealedError(f"the chain was changed on the way through here: {chain.fault}")
    if chain.highest >= MAX_INSTANCE:  # RFC 8617 4.2.1
        raise NotSealedError(f"the chain has {MAX_INSTANCE} sets or more")
    return chain
