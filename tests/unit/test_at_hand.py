"""What the resolver's cache has is taken without waiting."""

from __future__ import annotations

import asyncio

import pytest

from gateway import DnsAnswer, DnsError
from gateway.at_hand import answers_to, at_hand
from gateway.config.models import DnsConfig
from gateway.dns import CachingResolver
from gateway.dns.answers import BadAnswerError, Reading
from gateway.dns.servers import Server
from gateway.testing import FakeResolver


class Backend:
    """A name server that says what it was asked; names with `fails` have no answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, server: Server, name: str, kind: str, *, want_ad: bool) -> Reading:
        self.asked.append(name)
        await asyncio.sleep(0)
        if "fails" in name:
            raise BadAnswerError("no")
        return Reading(records=((name.encode(),),), exists=True, authenticated=False, ttl=60, canonical="", unfinished=False)

    async def close(self) -> None:
        """Nothing to close."""


def resolver_over(backend: Backend) -> CachingResolver:
    resolver = CachingResolver(DnsConfig(nameservers=("192.0.2.53",)))
    resolver._asker._backend = backend
    return resolver


async def test_what_was_asked_before_needs_no_waiting_and_no_name_server() -> None:
    backend = Backend()
    resolver = resolver_over(backend)
    assert at_hand(resolver)("a.example", "TXT") is None
    questions = [("a.example", "TXT"), ("fails.example", "TXT"), ("b.example", "TXT")]
    first = await answers_to(resolver, questions)
    assert [one.what if isinstance(one, DnsError) else one.records for one in first] == [
        ((b"a.example",),),
        "no",
        ((b"b.example",),),
    ]
    known = at_hand(resolver)("a.example", "TXT")
    assert known is not None
    assert known.cached
    backend.asked.clear()
    work = answers_to(resolver, [questions[0], questions[2]])
    with pytest.raises(StopIteration) as ended:  # it did not wait
        work.send(None)
    assert [one.records for one in ended.value.value] == [((b"a.example",),), ((b"b.example",),)]
    assert backend.asked == []
    await resolver.close()


async def test_a_resolver_that_knows_nothing_at_once_is_asked() -> None:
    resolver = FakeResolver({"a.example": {"TXT": ["x"]}, "b.example": "TEMPFAIL"})
    assert at_hand(resolver)("a.example", "TXT") is None
    one, other = await answers_to(resolver, [("a.example", "TXT"), ("b.example", "TXT")])
    assert isinstance(one, DnsAnswer)
    assert one.records == ((b"x",),)
    assert isinstance(other, DnsError)
    assert resolver.queries == [("a.example", "TXT"), ("b.example", "TXT")]
    assert await answers_to(resolver, []) == []
