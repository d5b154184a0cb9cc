"""Signed messages by chance: folds, white space, 8-bit, empty bodies, bodies without an end, all canonicalizations, `l=`, several
signatures; and what may happen to them afterwards. A seed gives the same message always."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from gateway.mailauth import PrivateKey
from tests.dkim_signer import ed25519_key, rsa_key, sign

KEYS: dict[bytes, PrivateKey] = {b"r1": rsa_key(1024), b"r2": rsa_key(1024), b"ed": ed25519_key()}
"""By selector; `r2` is published at another name too, so that a wrong key is met."""
DOMAIN = b"example.org"
RECORDS: dict[str, bytes] = {
    **{f"{selector.decode()}._domainkey.example.org": key.record.encode() for selector, key in KEYS.items()},
    "wrong._domainkey.example.org": KEYS[b"r2"].record.encode(),
    "test._domainkey.example.org": b"v=DKIM1; t=y; n=notes; p=" + KEYS[b"r1"].record.encode().partition(b"p=")[2],
}
NAMES = [b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Received", b"Cc", b"MIME-Version", b"X-Odd", b"Content-Type"]
_WORDS = [
    b"a",
    b"hello",
    b"<a@b.example>",
    b"=?utf-8?q?caf=C3=A9?=",
    b"\xe9\xff",
    b"caf\xc3\xa9",
    b"x" * 90,
    b":",
    b"=",
    b";",
    b"b=1",
]
_SPACES = [b" ", b"  ", b"\t", b" \t ", b"\r\n ", b"\r\n\t", b" \r\n  ", b"\r\n \t"]
_LINES = [
    b"",
    b"text",
    b" leading",
    b"trailing ",
    b"tabs\tand  spaces \t",
    b" ",
    b"\t",
    b".",
    b"..",
    b"\xff\xfe\x00",
    b"\r",
    b"x" * 998,
    b"--boundary",
    b"From me",
]


@dataclass(frozen=True, slots=True)
class Case:
    """One message, as it arrives."""

    content: bytes
    was_changed: bool


def case(seed: int) -> Case:
    """The message of a seed."""
    rng = random.Random(seed)
    content = _header(rng) + b"\r\n" + _body(rng)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        content = _signed(rng, content)
    changed = content
    if rng.random() < 0.5:
        for _ in range(rng.choice([1, 1, 2])):
            changed = rng.choice(_CHANGES)(rng, changed)
    return Case(changed, changed != content)


def _value(rng: random.Random) -> bytes:
    if rng.random() < 0.05:
        return b""
    value = rng.choice([b" ", b" ", b" ", b"", b"\t", b"  ", b"\r\n "])
    for _ in range(rng.randint(1, 6)):
        value += rng.choice(_WORDS) + rng.choice([b" ", b" ", *_SPACES])
    # A line of white space alone would be obs-FWS; a value may end in white space.
    value = re.sub(rb"(\r\n[ \t]+)+(?=\r\n|\Z)", b"", value)
    return value if rng.random() < 0.3 else value.rstrip(b" \t\r\n")


def _header(rng: random.Random) -> bytes:
    names = [b"From", *rng.choices(NAMES[1:], k=rng.randint(0, 8))]
    if rng.random() < 0.03:
        names.append(b"From")
    rng.shuffle(names)
    spelled = [rng.choice([name, name, name.lower(), name.upper()]) for name in names]
    return b"".join(name + b":" + _value(rng) + b"\r\n" for name in spelled)


def _body(rng: random.Random) -> bytes:
    lines = rng.choices(_LINES, k=rng.choice([0, 0, 1, 2, 3, 5, 12]))
    body = b"".join(line + b"\r\n" for line in lines) + b"\r\n" * rng.choice([0, 0, 0, 1, 3])
    if rng.random() < 0.15:
        body += rng.choice(_LINES)
    return body if rng.random() < 0.97 else b""


def _signed(rng: random.Random, content: bytes) -> bytes:
    selector = rng.choice([b"r1", b"r1", b"r2", b"ed", b"test", b"wrong", b"gone"])
    key = KEYS.get(selector, KEYS[b"r1"])
    algorithm = b"ed25519-sha256" if selector == b"ed" else b"rsa-sha256"
    names = [b"from", *rng.choices([name.lower() for name in NAMES], k=rng.randint(0, 7))]
    rng.shuffle(names)
    colon = rng.choice([b":", b" : ", b":\r\n\t", b" :"])
    tags = [
        (b"v", b"1"),
        (b"a", algorithm),
        (b"d", DOMAIN if rng.random() < 0.8 else b"Example.ORG"),
        (b"s", selector),
        (b"h", colon.join(names)),
        (b"bh", b"{bh}"),
    ]
    canon = rng.choice([b"simple", b"relaxed", b"simple/simple", b"relaxed/relaxed", b"relaxed/simple", b"simple/relaxed", b""])
    now_and_then = [
        (0.9, b"c", canon),
        (0.3, b"q", b"dns/txt"),
        (0.2, b"i", rng.choice([b"@example.org", b"a.b@example.org", b"x@news.example.org", b"@other.example"])),
        (0.3, b"t", rng.choice([b"1", b"1700000000", b"99999999999"])),
        (0.1, b"x", rng.choice([b"1", b"1700000001", b"99999999998"])),
        (0.2, b"l", str(rng.choice([0, 1, 2, 10, 30, 100])).encode()),
        (0.1, b"z", b"Subject:=20x|From:y"),
        (0.1, b"unknown", b"any value"),
    ]
    tags += [(name, value) for share, name, value in now_and_then if value and rng.random() < share]
    if rng.random() < 0.5:
        rng.shuffle(tags)
    tags.insert(rng.randint(1, len(tags)), (b"b", b"{b}"))
    gap = rng.choice([b" ", b" ", b"\r\n\t", b"\r\n  "])
    equals = rng.choice([b"=", b"=", b"=", b" = ", b"= "])
    template = gap + (b";" + gap).join(name + equals + value for name, value in tags) + rng.choice([b"", b"", b";"])
    return _folded(rng, sign(content, key, template))


def _folded(rng: random.Random, content: bytes) -> bytes:
    """The value of b= is not hashed: fold it as signers do."""
    if rng.random() < 0.5:
        return content
    field, end, rest = content.partition(b"\r\n" if b"\r\n\t" not in content[:400] and b"\r\n " not in content[:400] else b"\0")
    found = re.search(rb"[;\s]b ?= ?[A-Za-z0-9+/]{40}", field)
    return field[: found.end()] + b"\r\n " + field[found.end() :] + end + rest if found else content


def _octet(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    if content[at : at + 1] in b"\r\n":
        return content
    return content[:at] + rng.choice([b"", b"x", b" ", content[at : at + 1] * 2]) + content[at + 1 :]


def _wider(rng: random.Random, content: bytes) -> bytes:
    """More white space where there is some: relaxed does not mind."""
    places = [found.start() for found in re.finditer(rb"(?<=\S) (?=\S)", content)]
    at = rng.choice(places) if places else 0
    return content[:at] + rng.choice([b" ", b"\t", b"\r\n"]) + content[at:] if places else content


def _longer(rng: random.Random, content: bytes) -> bytes:
    return content + rng.choice([b"\r\n", b"\r\n\r\n", b" \r\n", b"added\r\n", b" ", b"x"])


def _shorter(rng: random.Random, content: bytes) -> bytes:
    cut = content[: -rng.choice([2, 2, 4, 8])]
    return content if cut.endswith(b"\r") or b"\r\n\r\n" not in cut else cut


def _one_more_field(rng: random.Random, content: bytes) -> bytes:
    field = rng.choice(NAMES) + b": added\r\n"
    head, blank, body = content.partition(b"\r\n\r\n")
    return field + content if rng.random() < 0.5 else head + b"\r\n" + field.removesuffix(b"\r\n") + blank + body


def _fields(content: bytes) -> tuple[list[bytes], bytes]:
    head, blank, body = content.partition(b"\r\n\r\n")
    return re.findall(rb"[^\r\n]+(?:\r\n[ \t][^\r\n]*)*\r\n", head + b"\r\n"), blank[2:] + body


def _one_field_less(rng: random.Random, content: bytes) -> bytes:
    fields, rest = _fields(content)
    if len(fields) > 1:
        del fields[rng.randrange(len(fields))]
    return b"".join(fields) + rest


def _other_order(rng: random.Random, content: bytes) -> bytes:
    fields, rest = _fields(content)
    rng.shuffle(fields)
    return b"".join(fields) + rest


def _other_case(rng: random.Random, content: bytes) -> bytes:
    fields, rest = _fields(content)
    at = rng.randrange(len(fields))
    name, colon, body = fields[at].partition(b":")
    fields[at] = name.swapcase() + colon + body
    return b"".join(fields) + rest


_CHANGES = (
    _octet,
    _octet,
    _wider,
    _wider,
    _longer,
    _longer,
    _shorter,
    _one_more_field,
    _one_field_less,
    _other_order,
    _other_case,
)
