"""A key record as it is published: written for a zone file, and compared with the private key it should belong to (RFC 6376 3.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.mailauth.key import MAX_RECORD, KeyRefusedError, read_key
from gateway.mailauth.signing import SigningKey
from gateway.mailauth.tags import TagListError, decode_base64, parse_tags, parts

_STRING = 255
_KNOWN = {b"v", b"k", b"h", b"s", b"t", b"n", b"p", b"g"}
RECOMMENDED_BITS = 2048
"""RFC 8301 3.2."""


class Weight(StrEnum):
    """What a remark means for signatures."""

    ERROR = "error"
    """Verifiers refuse them, all or some."""
    WARNING = "warning"
    """They pass; something is probably not meant."""
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about a record, for the operator."""

    weight: Weight
    text: str


def error(text: str) -> Remark:
    """Verifiers refuse signatures."""
    return Remark(Weight.ERROR, text)


def warning(text: str) -> Remark:
    """Probably not meant."""
    return Remark(Weight.WARNING, text)


def strings(record: str) -> list[str]:
    """The record as the strings of a TXT record: 255 octets each at most (RFC 1035 3.3, RFC 6376 3.6.2.2)."""
    return [record[at : at + _STRING] for at in range(0, len(record), _STRING)]


def zone_entry(name: str, record: str) -> str:
    """The record as a line of a zone file, over several lines where it is long (RFC 1035 5.1)."""
    quoted = [f'"{one}"' for one in strings(record)]
    if len(quoted) == 1:
        return f"{name}. IN TXT {quoted[0]}"
    return f"{name}. IN TXT (\n" + "".join(f"\t{one}\n" for one in quoted) + ")"


def remarks(records: Sequence[bytes], key: SigningKey) -> list[Remark]:
    """Everything that is wrong with what is published for this key; each record's strings are joined already."""
    found: list[Remark] = []
    if not records:
        return [error("there is no TXT record")]
    if len(records) > 1:
        found.append(error(f"there are {len(records)} TXT records; what verifiers do then is undefined (RFC 6376 3.6.2.2)"))
    for number, record in enumerate(records[:10]):
        front = f"record {number + 1}: " if len(records) > 1 else ""
        found += [Remark(one.weight, front + one.text) for one in _of_record(record, key)]
    if key.key.algorithm == "rsa-sha256" and key.key.bits < RECOMMENDED_BITS:
        found.append(warning(f"the key has {key.key.bits} bits; {RECOMMENDED_BITS} are recommended (RFC 8301 3.2)"))
    return found


def _of_record(record: bytes, key: SigningKey) -> Iterator[Remark]:
    if len(record) > MAX_RECORD:
        yield error(f"it has more than {MAX_RECORD} octets")
        return
    for mark, what in ((b'"', "quotation marks"), (b"\\", "backslashes"), (b"(", "parentheses"), (b"TXT", "the word TXT")):
        if mark in record:
            yield error(f"{what} are in the value: a form took the zone file's notation for the value itself")
            return
    try:
        tags = parse_tags(record)
    except TagListError as fault:
        yield error(f"it is no list of tags: {fault}")
        return
    yield from _of_tags(tags, key)
    yield from _of_key(tags, record, key)


def _of_tags(tags: dict[bytes, bytes], key: SigningKey) -> Iterator[Remark]:
    kind = key.key.algorithm.partition("-")[0]
    if b"v" not in tags:
        yield warning("it has no v=DKIM1")
    elif tags[b"v"] != b"DKIM1" or next(iter(tags)) != b"v":
        yield error("v= is not DKIM1, or not the first tag")
    if tags.get(b"k", b"rsa").lower() != kind.encode():
        yield error(f"k= is not {kind}, which the private key is" + ("" if b"k" in tags else "; without k= it is rsa"))
    if b"h" in tags and b"sha256" not in [one.lower() for one in parts(tags[b"h"])]:
        yield error("h= does not allow sha256")
    if b"s" in tags and not {b"*", b"email"} & {one.lower() for one in parts(tags[b"s"])}:
        yield error("s= does not allow email")
    flags = [one.lower() for one in parts(tags.get(b"t", b""))]
    if b"y" in flags:
        yield warning("t=y says that you are testing: verifiers treat your mail as unsigned; take it out when all is well")
    if b"s" in flags:
        yield Remark(Weight.NOTE, f"t=s: i= may only be in {key.domain} itself, not below it")
    if b"g" in tags:
        yield warning("g= is from an older standard (RFC 4871): old verifiers may refuse, others do not read it")
    if unknown := sorted(tags.keys() - _KNOWN):
        yield warning(f"tags that DKIM does not know: {', '.join(one.decode('ascii')[:20] for one in unknown[:5])}")


def _of_key(tags: dict[bytes, bytes], record: bytes, key: SigningKey) -> Iterator[Remark]:
    published = tags.get(b"p")
    if published is None:
        yield error("it has no p=")
        return
    if not published:
        yield error("p= is empty: the key is revoked")
        return
    try:
        octets = decode_base64(published)
    except TagListError:
        yield error("p= is not base64: cut short, or something follows it")
        return
    own = decode_base64(parse_tags(key.key.record.encode())[b"p"])
    if octets == own:
        return
    if octets.startswith(own) or own.startswith(octets):
        yield error("p= is this key, cut short or with something behind it")
        return
    try:
        other = read_key([record], algorithm=key.key.algorithm, minimum_bits=512, maximum_bits=16_384)
    except KeyRefusedError as refused:
        if refused.reason != "key of another type than the signature":
            yield error(f"p= is of no use: {refused.reason}")
        return
    digest = bytes(32)
    if not other.verifies(key.key.sign(digest), digest):  # the same key may be written otherwise (RFC 6376 erratum 3017)
        yield error(f"p= is another key ({other.bits} bits): the private key and the record do not belong together")
