"""Why a header hash does not match, where that can be told: the changes that mail meets on its way are undone one by one.

Nothing here makes a signature valid: what is found is a reason for people. An RSA signature tells the digest it is over, so
that a try costs a hash; tries are bounded in number and octets.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence

from gateway import HeaderField
from gateway.mailauth import KeyRecord, canonical_field, own_field, relaxed_field
from gateway.plugins.dkim.coverage import shown
from gateway.plugins.dkim.signature import Signature, decode_quoted

MAX_TRIES = 60
MAX_OCTETS = 1_000_000
"""Octets that are hashed to find out why."""
_TAG = re.compile(
    rb"([ \t\r\n]*(?:(?:[Rr][Ee]|[Ff][Ww][Dd]?|[Aa][Ww]): ?)?)(?:\[[^\[\]\r\n]{1,60}\]|\*{1,8}[A-Z ]{1,20}\*{1,8}|[A-Z]{3,12}:)[ \t]+"
)
_ENCODINGS = (b"7bit", b"8bit", b"quoted-printable", b"base64", b"binary")
_LISTED = re.compile(r"list-|x-|sender\Z|reply-to\Z|cc\Z|precedence\Z|errors-to\Z|archived-at\Z|feedback-id\Z|resent-")
_Variant = tuple[str, dict[int, bytes]]
"""What was done, and the fields that it changes, by their place: the octets, or nothing for a field that is left out."""


def explain(signature: Signature, key: KeyRecord, fields: Sequence[HeaderField], own: bytes) -> str:
    """The reason that the signature does not match over these fields (those that h= names, in its order)."""
    digest = key.recover(signature.signature)
    if digest is None and key.kind == "rsa":
        return "the signature was not made with the published key, or is damaged"
    pieces = [canonical_field(field, is_relaxed=signature.is_header_relaxed) for field in fields]
    end = own_field(own, is_relaxed=signature.is_header_relaxed)
    budget = MAX_OCTETS - sum(map(len, pieces)) - len(end)
    for tries, (what, changes) in enumerate(_variants(signature, fields)):
        budget -= sum(map(len, pieces)) + len(end)
        if budget < 0 or tries >= MAX_TRIES:
            break
        hasher = hashlib.sha256(b"".join(changes.get(place, piece) for place, piece in enumerate(pieces)))
        hasher.update(end)
        if hasher.digest() == digest or (digest is None and key.verifies(signature.signature, hasher.digest())):
            return what
    general = "signed header fields were changed" + (", or another key signed" if digest is None else "")
    copies = _copied(signature, fields)
    changed = ", ".join(shown(name) for name, _ in _differing(fields, copies))
    if changed:
        return f"{general}; by z= of the signer: {changed}"
    return general


def _variants(signature: Signature, fields: Sequence[HeaderField]) -> Iterator[_Variant]:
    is_relaxed = signature.is_header_relaxed
    originals = _differing(fields, _copied(signature, fields))
    if originals:
        changes = {place: _field(fields[place], body, is_relaxed=is_relaxed) for _, (place, body) in originals}
        yield f"changed after signing, by z= of the signer: {', '.join(shown(name) for name, _ in originals)}", changes
    authors = [place for place, field in enumerate(fields) if field.name.lower() == "from"]
    added = {place: field for place, field in enumerate(fields) if place not in authors or len(authors) > 1}
    subject = _untagged(fields, is_relaxed=is_relaxed)
    if subject:
        yield "a tag was put in front of Subject", subject
    for place, field in added.items():
        yield f"{shown(field.name.lower())} was added after signing", {place: b""}
    listed = {place: b"" for place, field in added.items() if _LISTED.match(field.name.lower())}
    names = ", ".join(dict.fromkeys(shown(fields[place].name.lower()) for place in listed))
    if len(listed) > 1:
        yield f"added after signing: {names}", dict(listed)
    if listed and subject:
        yield f"a tag was put in front of Subject, and added after signing: {names}", {**listed, **subject}
    yield from _replaced(fields, is_relaxed=is_relaxed)
    if subject:
        for place, field in added.items():
            if place not in subject:
                yield f"a tag was put in front of Subject, and {shown(field.name.lower())} was added", {**subject, place: b""}


def _untagged(fields: Sequence[HeaderField], *, is_relaxed: bool) -> dict[int, bytes]:
    for place, field in enumerate(fields):
        if field.name.lower() == "subject":
            body = field.raw
            bare = _TAG.sub(rb"\1", body, count=1) if len(body) < 4096 and _TAG.match(body) else body
            return {place: _field(field, bare, is_relaxed=is_relaxed)} if bare != body else {}
    return {}


def _replaced(fields: Sequence[HeaderField], *, is_relaxed: bool) -> Iterator[_Variant]:
    """Content-Transfer-Encoding converted on the way; From rewritten by a list that keeps the author in another field."""
    by_name = {field.name.lower(): place for place, field in enumerate(fields)}
    place = by_name.get("content-transfer-encoding")
    if place is not None:
        for encoding in _ENCODINGS:
            what = f"Content-Transfer-Encoding was {encoding.decode()} when it was signed"
            yield what, {place: _field(fields[place], b" " + encoding, is_relaxed=is_relaxed)}
    if "from" in by_name and "reply-to" in by_name:
        body = fields[by_name["reply-to"]].raw
        rewritten = {by_name["from"]: _field(fields[by_name["from"]], body, is_relaxed=is_relaxed)}
        yield "From was rewritten, its former value is in Reply-To", rewritten
        yield "From was rewritten, its former value is in the added Reply-To", {**rewritten, by_name["reply-to"]: b""}


def _copied(signature: Signature, fields: Sequence[HeaderField]) -> dict[str, bytes]:
    """z=: name and body of fields as they were signed (RFC 6376 3.5). Only those that occur once."""
    found: dict[str, bytes] = {}
    several: set[str] = set()
    for item in signature.copied.split(b"|")[: len(fields) + 20]:
        name, colon, body = item.partition(b":")
        key = name.strip().lower().decode("latin-1")
        value = decode_quoted(body)
        if key in found or not colon or value is None:
            several.add(key)
        else:
            found[key] = value
    return {name: body for name, body in found.items() if name not in several}


def _differing(fields: Sequence[HeaderField], copies: dict[str, bytes]) -> list[tuple[str, tuple[int, bytes]]]:
    """Those whose copy is another text; white space does not count, as z= need not have kept it."""
    bare: Callable[[bytes], bytes] = lambda text: text.translate(None, b" \t\r\n")  # noqa: E731 - for this comparison
    places: dict[str, list[int]] = {}
    for place, field in enumerate(fields):
        places.setdefault(field.name.lower(), []).append(place)
    found = []
    for name, body in copies.items():
        at = places.get(name, [])
        if len(at) == 1 and bare(fields[at[0]].raw) != bare(body):
            found.append((name, (at[0], body)))
    return found


def _field(field: HeaderField, body: bytes, *, is_relaxed: bool) -> bytes:
    """This field with another body."""
    if is_relaxed:
        return relaxed_field(field.name.encode(), body)
    return field.octets[: field.colon - field.start + 1] + body + b"\r\n"
