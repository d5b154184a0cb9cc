"""The sets of a message and whether they form a chain: RFC 8617 4.2 and 5.2, steps 1 to 3. No signature is looked at yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.fields import HeaderField
from gateway.mailauth.arc.fields import (
    MAX_INSTANCE,
    RESULTS,
    SEAL,
    SIGNATURE,
    Tags,
    UnusableError,
    instance_of,
    read_claims,
    read_cv,
    read_tags,
)
from gateway.message import Message

FIELDS = (RESULTS, SIGNATURE, SEAL)
_One = tuple[HeaderField, Tags, str]
"""A field, its tags, and the results it claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """One whole set."""

    instance: int
    results: HeaderField
    claims: str
    """What the sealer says it found: the payload of ARC-Authentication-Results."""
    signature: HeaderField
    signature_tags: Tags
    seal: HeaderField
    seal_tags: Tags
    cv: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The sets of a message, the oldest first, or why they are no chain."""

    sets: tuple[Set, ...] = ()
    fault: str = ""
    highest: int = 0
    """The highest instance of any field, 0 when there is none."""
    is_sealed_as_failed: bool = False
    """The newest seal says cv=fail: nobody adds to such a chain."""

    @property
    def is_there(self) -> bool:
        """The message has fields of ARC, whatever they are."""
        return bool(self.sets or self.fault)


def collect(message: Message, *, max_sets: int = MAX_INSTANCE) -> Chain:
    """Find the sets. Never raises, whatever the message is."""
    fields = {name: message.fields_named(name) for name in FIELDS}
    most = max(map(len, fields.values()))
    if not most:
        return Chain()
    if message.header.is_cut:
        return Chain(fault="the message has too many header fields")
    if most > max_sets:
        return Chain(fault=f"more than {max_sets} sets", highest=MAX_INSTANCE)
    found, fault = _by_instance(fields)
    highest = max((number for numbers in found.values() for number in numbers), default=0)
    newest = found[SEAL].get(highest, ())
    if any(tags.get(b"cv", b"").lower() == b"fail" for _, tags, _ in newest):
        return Chain(fault=f"i={highest}: sealed as a failed chain (cv=fail)", highest=highest, is_sealed_as_failed=True)
    fault = fault or next(_gaps(found, highest), "")
    if fault:
        return Chain(fault=fault, highest=highest)
    return _chain(found, highest)


def _by_instance(fields: dict[str, tuple[HeaderField, ...]]) -> tuple[dict[str, dict[int, list[_One]]], str]:
    """The fields by name and instance, and the first that has none."""
    found: dict[str, dict[int, list[_One]]] = {name: {} for name in fields}
    fault = ""
    for name, several in fields.items():
        for field in several:
            tags: Tags = {}
            claims = ""
            try:
                if name == RESULTS:
                    number, claims = read_claims(field)
                else:
                    tags = read_tags(field)
                    number = instance_of(tags)
            except UnusableError as error:
                fault = fault or f"{name}: {error}"
                continue
            found[name].setdefault(number, []).append((field, tags, claims))
    return found, fault


def _gaps(found: dict[str, dict[int, list[_One]]], highest: int) -> Iterator[str]:
    """What hinders the sets from being whole and without gaps."""
    for number in range(1, highest + 1):
        for name in FIELDS:
            count = len(found[name].get(number, ()))
            if count != 1:
                yield f"i={number}: " + (f"{count} fields {name}" if count else f"no {name}")


def _chain(found: dict[str, dict[int, list[_One]]], highest: int) -> Chain:
    sets = []
    for number in range(1, highest + 1):
        (((results, _, claims),), ((signature, tags, _),), ((seal, seal_tags, _),)) = (found[name][number] for name in FIELDS)
        try:
            cv = read_cv(seal_tags)
        except UnusableError as error:
            return Chain(fault=f"i={number}: {SEAL}: {error}", highest=highest)
        wanted = "none" if number == 1 else "pass"
        if cv != wanted:
            return Chain(fault=f"i={number}: the seal says cv={cv}, and only {wanted} can be there", highest=highest)
        sets.append(
            Set(
                instance=number,
                results=results,
                claims=claims,
                signature=signature,
                signature_tags=tags,
                seal=seal,
                seal_tags=seal_tags,
                cv=cv,
            )
        )
    return Chain(sets=tuple(sets), highest=highest)
