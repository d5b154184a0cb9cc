"""The Organizational Domain of a name (RFC 9989 4.10), and records that begin with v=DMARC1, asked of a resolver."""

from __future__ import annotations

import asyncio

from gateway.context import Resolver
from gateway.mailauth.dmarc import Answer, record_tags, txt_answer, walk_from, walk_names


async def records_at(name: str, resolver: Resolver) -> list[dict[str, str]]:
    """The tags of the DMARC records among the TXT records of a name. DnsError."""
    answer = await _texts_at(name, resolver)
    return [tags for tags in map(record_tags, answer.texts) if tags is not None]


async def organizational_domain(domain: str, resolver: Resolver) -> str:
    """RFC 9989 4.10.2. DnsError when one of the names could not be looked up."""
    # a record at a name too long for `_dmarc.` cannot be; the resolver says so
    names = [f"_dmarc.{name}" for name in walk_names(domain)]
    answers = await asyncio.gather(*(_texts_at(name, resolver) for name in names))
    found = {(name, "TXT"): answer for name, answer in zip(names, answers, strict=True)}
    return walk_from(domain, found).organizational_domain


async def _texts_at(name: str, resolver: Resolver) -> Answer:
    return txt_answer((await resolver.query(name, "TXT")).records)
