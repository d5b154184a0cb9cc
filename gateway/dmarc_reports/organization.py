"""The Organizational Domain of a name by the DNS Tree Walk (RFC 9989 4.10), and records that begin with v=DMARC1.

Only what telling two organizations apart needs: where records are and their `psd`. Policies are the DMARC plugin's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from gateway.context import Resolver

MAX_LABELS = 8
"""RFC 9989 4.10: never more than eight look-ups for one walk."""
MAX_RECORD = 4096
MAX_RECORDS = 20
_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*\Z", re.IGNORECASE)


def parse_tags(octets: bytes) -> dict[str, str] | None:
    """Tags of a DMARC record in lower case, the first of each counts; None for another record (RFC 9989 4.7, 4.8)."""
    first, *others = octets[:MAX_RECORD].decode("ascii", "replace").split(";")
    if _VERSION.match(first) is None or "DMARC1" not in first or len(octets) > MAX_RECORD:
        return None
    tags: dict[str, str] = {}
    for part in others:
        name, equals, value = part.partition("=")
        if equals:
            tags.setdefault(name.strip(" \t").lower(), value.strip(" \t"))
    return tags


async def records_at(name: str, resolver: Resolver) -> list[dict[str, str]]:
    """The DMARC records among the TXT records of a name. DnsError."""
    answer = await resolver.query(name, "TXT")
    found = [parse_tags(b"".join(strings)) for strings in answer.records[:MAX_RECORDS]]
    return [tags for tags in found if tags is not None]


def walk_names(domain: str) -> list[str]:
    """The names whose records a walk looks at (RFC 9989 4.10, steps 1 to 7)."""
    labels = domain.split(".")
    above = labels[1:] if len(labels) < MAX_LABELS else labels[-(MAX_LABELS - 1) :]
    return [domain, *(".".join(above[place:]) for place in range(len(above)))]


async def organizational_domain(domain: str, resolver: Resolver) -> str:
    """RFC 9989 4.10.2. DnsError when one of the names could not be looked up."""
    names = walk_names(domain)
    # a record at a name too long for `_dmarc.` cannot be; the resolver says so
    answers = await asyncio.gather(*(records_at(f"_dmarc.{name}", resolver) for name in names))
    return _organization(domain, names, answers)


def _organization(domain: str, names: Sequence[str], answers: Sequence[list[dict[str, str]]]) -> str:
    last = ""
    for name, records in zip(names, answers, strict=True):
        if len(records) != 1:  # several are none (RFC 9989 4.10, step 2)
            continue
        psd = records[0].get("psd", "u").lower()
        if psd == "n":
            return name
        if psd == "y" and name != domain:
            return ".".join(domain.split(".")[-(name.count(".") + 2) :])
        last = name
        if psd == "y":
            break
    return last or domain
