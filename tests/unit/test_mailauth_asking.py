"""Body hashes are computed once a message, whoever asks and when; a scheme's questions are carried and answered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Generator
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import Edit, Message, ReplacePart, add_header, remove_header, replace_body
from gateway.content import Content
from gateway.errors import PluginError
from gateway.mailauth import (
    Answers,
    BodyHashWanted,
    KeyAnswer,
    PrefixWanted,
    Questions,
    arriving,
    asking,
    body_hashes,
    canonical_field,
    carry_out,
    header_hash,
    select_fields,
    shared_body_hashes,
)
from gateway.mailauth.canonical import BodyHasher
from gateway.splice import apply
from gateway.spliced_content import SplicedContent
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


def arrived(content: Content, *, pieces: int = 1000) -> Message:
    """The message of a content whose body was hashed, relaxed, while it came."""
    octets = b"DKIM-Signature: a=rsa-sha256; c=relaxed/relaxed\r\n" + bytes(content.octets)
    coming = arriving.arriving([octets[:60], octets[60:pieces]], {"dkim-signature"})
    assert coming is not None
    for at in range(pieces, len(octets), pieces):
        coming.take(octets[at : at + pieces])
    content = Content(octets)
    content.arriving = coming
    return Message(content)


async def test_what_was_hashed_while_it_came_is_not_hashed_again() -> None:
    context = a_slow_context()
    message = arrived(a_large_message().content)
    found = await shared_body_hashes(message, {RELAXED}, context)
    assert found == body_hashes(BODY, {RELAXED})
    assert context.calls == []
    assert await shared_body_hashes(message, {RELAXED, SIMPLE}, context) == body_hashes(BODY, {RELAXED, SIMPLE})
    assert context.calls == [frozenset({SIMPLE})], "what was not foreseen is computed as ever"


async def test_hashes_of_other_octets_are_not_taken() -> None:
    """They stand with the content; and should another one have them, the size of its body tells."""
    context = a_slow_context()
    message = arrived(a_large_message().content)
    for octets in (bytes(message.octets) + b"more\r\n", b"X: y\r\n" + bytes(message.octets)[:-6]):
        other = Content(octets)
        other.arriving = message.content.arriving
        found = await shared_body_hashes(Message(other), {RELAXED}, context)
        assert found == body_hashes(octets[Message(other).body_offset :], {RELAXED})
    assert len(context.calls) == 2


@pytest.mark.parametrize(
    ("edits", "is_same"),
    [
        ([], True),
        ([add_header("X-Seen", "yes"), remove_header("From")], True),
        ([remove_header("From"), remove_header("DKIM-Signature")], True),
        ([replace_body(b"other\r\n")], False),
        ([ReplacePart(start=100_000, end=100_010, octets=b"0123456789")], False),
    ],
)
async def test_those_who_sign_have_them_where_only_the_header_was_edited(edits: list[Edit], *, is_same: bool) -> None:
    context = a_slow_context()
    message = arrived(a_large_message().content)
    final = Message(SplicedContent(apply(message.content, edits, on_top=b"Received: x\r\n"), is_binary=False))
    assert (final.content.arriving is message.content.arriving) is is_same
    found = await shared_body_hashes(final, {RELAXED}, context)
    body = bytes(final.octets)[final.body_offset :]
    assert found == body_hashes(body, {RELAXED})
    assert bool(context.calls) is (not is_same and len(body) > asking.INLINE)


@pytest.mark.parametrize("when", ["update", "finish"])
async def test_a_fault_while_it_comes_costs_the_computation(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    class Broken(BodyHasher):
        pass

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    setattr(Broken, when, fail)
    monkeypatch.setattr(arriving, "hashers", lambda _: [Broken([None], is_relaxed=True)])
    context = a_slow_context()
    with capture_logs() as logs:
        found = await shared_body_hashes(arrived(a_large_message().content), {RELAXED}, context)
    assert found == body_hashes(BODY, {RELAXED})
    assert len(context.calls) == 1
    assert [(line["event"], line["error"]) for line in logs] == [("body_hash.fault", "ZeroDivisionError()")]


async def test_a_fault_at_the_beginning_costs_the_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "scan", None)
    with capture_logs() as logs:
        assert arriving.arriving([b"DKIM-Signature: a=rsa-sha256\r\n\r\n"], {"dkim-signature"}) is None
    assert [line["event"] for line in logs] == ["body_hash.fault"]


async def test_blank_lines_without_end_are_left_to_the_pool() -> None:
    context = a_slow_context()
    body = b"\r\n" * (arriving.MAX_BLANK + arriving.PIECE) + b"x\r\n"
    message = arrived(Content(b"From: a@example.org\r\n\r\n" + body), pieces=50_000)
    assert await shared_body_hashes(message, {RELAXED}, context) == body_hashes(body, {RELAXED})
    assert len(context.calls) == 1


A_SIGNATURE = b"DKIM-Signature: a=ed25519-sha256; "


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (b"DKIM-Signature: a=rsa-sha256; bh=x\r\n", {SIMPLE}),
        (b"dkim-SIGNATURE : a=RSA-sha256;\r\n c=simple/Relaxed\r\n", {RELAXED}),
        (A_SIGNATURE + b"c=relaxed; l=70\r\n", {BodyHashWanted(False, 70)}),
        (A_SIGNATURE + b"c=relaxed/simple\r\nX: y\r\n" + A_SIGNATURE + b"c=relaxed/relaxed\r\n", {RELAXED, SIMPLE}),
        (A_SIGNATURE + b"l=1\r\nARC-Message-Signature: a=rsa-sha256\r\n", {BodyHashWanted(False, 1)}),
        (b"DKIM-Signature: a=rsa-sha1\r\n", set()),
        (b"DKIM-Signature: a=rsa-sha256; a=rsa-sha256\r\n", set()),
        (A_SIGNATURE + b"c=relaxed/other\r\n", set()),
        (A_SIGNATURE + b"l=-1\r\n", set()),
        (A_SIGNATURE + b"l=" + b"1" * 77 + b"\r\n", set()),
        (A_SIGNATURE + b"c=relaxed; x=" + b"1" * arriving.MAX_FIELD + b"\r\n", set()),
        (b"Subject: DKIM-Signature\r\n", set()),
        (b"X: \r\n" + b"DKIM-Signature: none\r\n" * arriving.MAX_SIGNATURES + A_SIGNATURE + b"\r\n", set()),
        (b"no field\r\n" + A_SIGNATURE + b"\r\n", set()),
    ],
)
def test_what_signatures_need(header: bytes, wanted: set[BodyHashWanted]) -> None:
    coming = arriving.arriving([header, b"\r\nbody"], {"dkim-signature"})
    found = coming.hashes(4) if coming is not None else {}
    assert set(found) == wanted


def test_arc_without_a_method_is_tried_either_way() -> None:
    header = b"ARC-Message-Signature: i=1; a=rsa-sha256\r\nDKIM-Signature: a=rsa-sha256; l=1\r\n"
    coming = arriving.arriving([header, b"\r\nbody"], {"arc-message-signature"})
    assert coming is not None
    assert set(coming.hashes(4)) == {SIMPLE, RELAXED}


@pytest.mark.parametrize("beginning", [b"", b"\r\n", b"\r\nDKIM-Signature: a=rsa-sha256\r\n\r\n", A_SIGNATURE + b"\r\n"])
def test_a_header_section_that_is_not_there_or_has_not_ended(beginning: bytes) -> None:
    assert arriving.arriving([beginning], {"dkim-signature"}) is None


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
