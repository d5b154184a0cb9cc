"""Carry a scheme's questions to DNS and to the process pool, and the answers back. The one module here that waits.

Body hashes are kept with the message and shared by all who ask, whichever plugin they are: a large body is canonicalized
once for a message, while it arrives (`arriving`) or in the process pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.at_hand import answers_to
from gateway.context import Context, DnsAnswer
from gateway.errors import DnsError
from gateway.mailauth.arriving import Arriving
from gateway.mailauth.canonical import BodyHash, BodyHashWanted, PrefixWanted, body_hashes, find_prefixes
from gateway.mailauth.key import MAX_RECORDS
from gateway.mailauth.scheme import Answers, KeyAnswer, Questions, Scheme
from gateway.message import Message

INLINE = 256 * 1024
"""Octets of a body that are hashed on the spot; larger ones that were not hashed while they arrived go to the process pool."""
SEARCHED = 10_000_000
"""Octets of a body that is searched for what was added; a reason is not worth more."""
R = TypeVar("R")


async def carry_out(scheme: Scheme[R], message: Message, context: Context) -> R:
    """The scheme's result for a message."""
    work = scheme.evaluate(message, now=context.clock())
    try:
        questions = next(work)
        while True:
            questions = work.send(await _answers(questions, message, context))
    except StopIteration as done:
        result: R = done.value
        return result


async def _answers(questions: Questions, message: Message, context: Context) -> Answers:
    if not (questions.names or questions.bodies or questions.prefixes):
        await asyncio.sleep(0)
        return Answers()
    names = sorted(questions.names)
    keys = await answers_to(context.resolver, [(name, "TXT") for name in names]) if names else []
    bodies = await shared_body_hashes(message, questions.bodies, context) if questions.bodies else {}
    prefixes = await _find_prefixes(message, questions.prefixes, context) if questions.prefixes else {}
    return Answers({name: _key_answer(key) for name, key in zip(names, keys, strict=True)}, bodies, prefixes)


async def _find_prefixes(message: Message, wanted: frozenset[PrefixWanted], context: Context) -> dict[PrefixWanted, int]:
    if message.size - message.body_offset > SEARCHED:
        return {}
    body = message.octets[message.body_offset :]
    if len(body) <= INLINE:
        return find_prefixes(body, wanted)
    return await context.run_in_process(find_prefixes, body, wanted)


def _key_answer(answer: DnsAnswer | DnsError) -> KeyAnswer:
    if isinstance(answer, DnsError):
        return KeyAnswer(failed=True, trouble=answer.what)
    return KeyAnswer(tuple([b"".join(strings) for strings in answer.records[:MAX_RECORDS]]))


@dataclass(slots=True)
class _Bodies:
    """The body hashes of one message: those there are, and those that are being computed."""

    known: dict[BodyHashWanted, BodyHash] = field(default_factory=dict)
    pending: dict[BodyHashWanted, asyncio.Task[None]] = field(default_factory=dict)


async def shared_body_hashes(
    message: Message, wanted: Collection[BodyHashWanted], context: Context
) -> dict[BodyHashWanted, BodyHash]:
    """The hashes, each computed once for this message whoever asks for it, and at the same time too.

    PluginError when the process pool is full or broke; who asks later begins anew.
    """
    bodies: _Bodies | None = message.shared.get(_Bodies)
    if bodies is None:
        bodies = message.shared[_Bodies] = _Bodies()
        arriving = message.content.arriving
        if isinstance(arriving, Arriving):
            bodies.known.update(arriving.hashes(message.size - message.body_offset))
    if (
        not (bodies.known or bodies.pending) and message.size - message.body_offset <= INLINE
    ):  # who asks first for a usual message
        hashes = body_hashes(message.octets[message.body_offset :], wanted)
        bodies.known.update(hashes)
        return hashes
    missing = frozenset(one for one in wanted if one not in bodies.known and one not in bodies.pending)
    if missing:
        body = message.octets[message.body_offset :]
        if len(body) <= INLINE:
            bodies.known.update(body_hashes(body, missing))
        else:
            # A task of its own: the one who asked first may be cancelled while others wait for it too.
            task = asyncio.get_running_loop().create_task(_compute(bodies, body, missing, context))
            task.add_done_callback(_seen)
            bodies.pending.update(dict.fromkeys(missing, task))
    for one in wanted:
        if one in bodies.pending:
            await asyncio.shield(bodies.pending[one])
    return {one: bodies.known[one] for one in wanted}


async def _compute(bodies: _Bodies, body: bytes, wanted: frozenset[BodyHashWanted], context: Context) -> None:
    try:
        bodies.known.update(await context.run_in_process(body_hashes, body, wanted))
    finally:
        for one in wanted:
            bodies.pending.pop(one, None)


def _seen(task: asyncio.Task[None]) -> None:
    """An error is told to those who wait; when nobody waits any more it is nobody's."""
    if not task.cancelled():
        task.exception()
