"""What a scheme of signatures is: DKIM, ARC, and whatever comes after them. Pure: it asks, is answered, and comes to a result.

A scheme does no I/O. Its `evaluate` yields questions, public keys by DNS name and body hashes, and is sent the answers;
`gateway.mailauth.asking` carries them for all schemes alike.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from gateway.mailauth.canonical import BodyHash, BodyHashWanted, PrefixWanted
from gateway.message import Message

Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Questions:
    """What is needed next, all at once. None at all lets other work on the loop go first."""

    names: frozenset[str] = frozenset()
    """DNS names whose TXT records are wanted."""
    bodies: frozenset[BodyHashWanted] = frozenset()
    prefixes: frozenset[PrefixWanted] = frozenset()
    """For the reason of a failure: was something added below?"""


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """The TXT records at a name, the strings of each joined."""

    records: tuple[bytes, ...] = ()
    failed: bool = False
    """DNS failed for now: nothing is known (RFC 6376 6.1.2, a temporary failure)."""
    trouble: str = ""
    """Why, for people; `` where nobody said."""

    @property
    def failure(self) -> str:
        """The reason of a result, where DNS failed."""
        return "the key could not be looked up" + (f": {self.trouble}" if self.trouble else "")


@dataclass(frozen=True, slots=True)
class Answers:
    """To each question its answer."""

    names: Mapping[str, KeyAnswer] = field(default_factory=dict)
    bodies: Mapping[BodyHashWanted, BodyHash] = field(default_factory=dict)
    prefixes: Mapping[PrefixWanted, int] = field(default_factory=dict)
    """Octets of the beginning that has the hash; nothing when there is none."""


class Scheme(Protocol[Result_co]):
    """A scheme, as a plugin uses it."""

    @property
    def name(self) -> str:
        """The method of Authentication-Results (RFC 8601 2.7): `dkim`, `arc`."""
        ...

    @property
    def reads(self) -> frozenset[str]:
        """Names of the header fields that make it up, in lower case."""
        ...

    def evaluate(self, message: Message, *, now: float) -> Generator[Questions, Answers, Result_co]:
        """Verify the message, `now` in seconds since the epoch. Raises nothing, whatever the message is."""
        ...


class SigningScheme(Protocol):
    """The other half: what adds its fields to a message that leaves, with key and facts in itself."""

    @property
    def name(self) -> str:
        """As of `Scheme`."""
        ...

    @property
    def wanted(self) -> frozenset[BodyHashWanted]:
        """The body hashes it needs."""
        ...

    def fields(self, message: Message, bodies: Mapping[BodyHashWanted, BodyHash], *, now: int) -> list[tuple[str, str]]:
        """Names and bodies of the fields to put on top, the lowest first. `now` in seconds since the epoch."""
        ...
