"""Body hashes are computed once a message, whoever asks and when; a scheme's questions are carried and answered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Generator
from typing import Any

import pytest

from gateway import Message
from gateway.content import Content
from gateway.errors import PluginError
from gateway.mailauth import (
    Answers,
    BodyHashWanted,
    KeyAnswer,
    PrefixWanted,
    Questions,
    asking,
    canonical_field,
    carry_out,
    header_hash,
    select_fields,
    shared_body_hashes,
)
from gateway.testing import TEMPFAIL, FakeContext

RELAXED, SIMPLE = BodyHashWanted(is_relaxed=True), BodyHashWanted(is_relaxed=False)
BODY = b"line  of text \r\n" * 20_000


class Slow(FakeContext):
    """A process pool that takes a turn of the loop, and can be told to break."""

    calls: list[frozenset[BodyHashWanted]]
    breaks = False

    async def run_in_process(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.calls.append(args[1])
        await asyncio.sleep(0)
        if self.breaks:
            raise PluginError("x", "a process of the pool ended in the middle of a call")
        return function(*args, **kwargs)


def a_slow_context() -> Slow:
    context = Slow(zones={"a.example": {"TXT": [("one ", "string"), "other"]}, "b.example": {"TXT": TEMPFAIL}})
    context.calls = []
    return context


def a_large_message() -> Message:
    return Message(Content(b"From: a@example.org\r\n\r\n" + BODY))


async def test_those_who_ask_at_once_share_one_computation() -> None:
    context, message = a_slow_context(), a_large_message()
    first, second = await asyncio.gather(
        shared_body_hashes(message, {RELAXED}, context), shared_body_hashes(message, {RELAXED, SIMPLE}, context)
    )
    assert context.calls == [frozenset({RELAXED}), frozenset({SIMPLE})]
    assert first[RELAXED] == second[RELAXED]
    assert second[SIMPLE].digest == hashlib.sha256(BODY).digest()
    assert await shared_body_hashes(message, {SIMPLE}, context) == {SIMPLE: second[SIMPLE]}
    assert len(context.calls) == 2


async def test_the_first_to_ask_may_be_cancelled() -> None:
    context, message = a_slow_context(), a_large_message()
    first = asyncio.get_running_loop().create_task(shared_body_hashes(message, {RELAXED}, context))
    second = asyncio.get_running_loop().create_task(shared_body_hashes(message, {RELAXED}, context))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)[RELAXED].size == len(BODY) - 2 * 20_000
    assert first.cancelled()
    assert len(context.calls) == 1


async def test_a_broken_pool_is_told_and_the_next_begins_anew() -> None:
    context, message = a_slow_context(), a_large_message()
    context.breaks = True
    with pytest.raises(PluginError, match="ended in the middle"):
        await shared_body_hashes(message, {RELAXED}, context)
    context.breaks = False
    assert (await shared_body_hashes(message, {RELAXED}, context))[RELAXED].size


async def test_a_small_body_needs_no_process() -> None:
    context = a_slow_context()
    message = Message(Content(b"From: a@example.org\r\n\r\nHello\r\n"))
    found = await shared_body_hashes(message, {SIMPLE}, context)
    assert found[SIMPLE].digest == hashlib.sha256(b"Hello\r\n").digest()
    assert context.calls == []


class Searching:
    """A scheme that looks for a footer."""

    name = "searching"
    reads = frozenset({"from"})

    def evaluate(self, message: Message, *, now: float) -> Generator[Questions, Answers, dict[PrefixWanted, int]]:
        digest = hashlib.sha256(b"line  of text \r\n" * 19_999).digest()
        answers = yield Questions(prefixes=frozenset({PrefixWanted(is_relaxed=False, digest=digest)}))
        return dict(answers.prefixes)


async def test_a_search_is_done_in_a_process_and_not_in_the_largest_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    context = a_slow_context()
    assert list((await carry_out(Searching(), a_large_message(), context)).values()) == [16 * 19_999]
    assert len(context.calls) == 1
    monkeypatch.setattr(asking, "SEARCHED", len(BODY) - 1)
    assert await carry_out(Searching(), a_large_message(), context) == {}
    assert len(context.calls) == 1


class Curious:
    """A scheme that asks for everything and tells what it was answered."""

    name = "curious"
    reads = frozenset({"from"})

    def evaluate(self, message: Message, *, now: float) -> Generator[Questions, Answers, list[Answers]]:
        first = yield Questions(names=frozenset({"a.example", "b.example", "c.example"}))
        second = yield Questions()
        third = yield Questions(bodies=frozenset({SIMPLE}))
        return [first, second, third]


async def test_questions_are_carried_and_answered() -> None:
    message = Message(Content(b"From: a@example.org\r\n\r\n"))
    first, second, third = await carry_out(Curious(), message, a_slow_context())
    assert first.names == {
        "a.example": KeyAnswer((b"one string", b"other")),
        "b.example": KeyAnswer(failed=True, trouble="temporary failure"),
        "c.example": KeyAnswer(),
    }
    assert (second.names, second.bodies) == ({}, {})
    assert third.bodies[SIMPLE].digest == hashlib.sha256(b"\r\n").digest()


def test_fields_are_chosen_from_the_bottom_up() -> None:
    message = Message(Content(b"To: x\r\nReceived: 1\r\nreceived : 2\r\nRECEIVED:3 \r\n\r\n"))
    chosen = select_fields(message, [b"received", b"to", b"received", b"cc", b"to", b"received", b"received"])
    assert [field.octets for field in chosen] == [b"RECEIVED:3 \r\n", b"To: x\r\n", b"received : 2\r\n", b"Received: 1\r\n"]
    assert canonical_field(chosen[2], is_relaxed=True) == b"received:2\r\n"
    assert canonical_field(chosen[2], is_relaxed=False) == b"received : 2\r\n"


def test_the_header_hash_ends_with_the_signature_itself() -> None:
    message = Message(Content(b"To:  x\r\n\r\n"))
    own = b"DKIM-Signature : v=1; b=AAAA; d=example.org\r\n"
    relaxed = header_hash(select_fields(message, [b"to"]), own, is_relaxed=True)
    assert relaxed == hashlib.sha256(b"to:x\r\ndkim-signature:v=1; b=; d=example.org").digest()
    simple = header_hash(select_fields(message, [b"to"]), own, is_relaxed=False)
    assert simple == hashlib.sha256(b"To:  x\r\nDKIM-Signature : v=1; b=; d=example.org").digest()
