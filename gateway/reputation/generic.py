"""Names that a provider gives to every address it has: they hold the address, or say that it is given out anew. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from gateway.reputation.keys import Address

_TOKEN = re.compile(r"[a-z]+|\d+")
_DYNAMIC = frozenset(
    [
        "adsl",
        "broadband",
        "cable",
        "catv",
        "cpe",
        "cust",
        "customer",
        "customers",
        "dhcp",
        "dial",
        "dialin",
        "dialup",
        "dip",
        "docsis",
        "dsl",
        "dyn",
        "dynamic",
        "dynip",
        "fiber",
        "fibre",
        "ftth",
        "gprs",
        "home",
        "hsd",
        "lte",
        "mobile",
        "pool",
        "poolip",
        "ppp",
        "pppoe",
        "pptp",
        "residential",
        "res",
        "umts",
        "user",
        "users",
        "vdsl",
        "wifi",
        "wireless",
        "xdsl",
    ]
)
_OF_SERVERS = frozenset(
    [
        "edge",
        "esmtp",
        "lists",
        "mail",
        "mailer",
        "mailgate",
        "mailout",
        "mta",
        "mx",
        "out",
        "outbound",
        "relay",
        "send",
        "smtp",
        "smtpout",
        "static",
    ]
)
_MAX_NAME = 255


def generic_name(name: str, address: Address) -> str:
    """What makes the name look so, for people; `` for one that somebody chose. Words such as `mail` and `static` speak against it."""
    front = ".".join(name[:_MAX_NAME].lower().rstrip(".").split(".")[:-2])  # what stands in front of most registered domains
    tokens = _TOKEN.findall(front)
    if _OF_SERVERS.intersection(tokens):
        return ""
    if _holds(front, address):
        return "it holds the address"
    words = _DYNAMIC.intersection(tokens)
    has_number = any(one.isdigit() for one in tokens)
    return f"it has the word {min(words)} and a number" if words and has_number else ""


def _holds(front: str, address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        nibbles = address.exploded.replace(":", "")
        plain = re.sub(r"[^0-9a-f]", "", front)
        return nibbles in plain or str(address).replace(":", "-") in front or address.exploded.replace(":", "-") in front
    octets = list(address.packed)
    padded = "".join(f"{one:03}" for one in octets)
    if padded in front or address.packed.hex() in front:
        return True
    numbers = [int(one) for one in re.findall(r"\d+", front) if len(one) <= 3]
    return any(_has_row(numbers, row) for row in (octets[1:], octets[:0:-1]))


def _has_row(numbers: Sequence[int], row: Sequence[int]) -> bool:
    """The last three octets one behind the other: the first is often left out, as is the network's own."""
    return any(list(numbers[at : at + len(row)]) == list(row) for at in range(len(numbers)))
