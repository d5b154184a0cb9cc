"""BDAT: RFC 3030 2. A chunk goes into the intake of its message; the last one is the end of the content, as the dot is.

A chunk that is refused is read all the same and dropped, and so are all that follow it up to the last one or RSET: a message
with a hole never goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.smtp.chunks import ChunkIntake
from gateway.smtp.conversation import Conversation
from gateway.smtp.extensions.binarymime import is_binary
from gateway.smtp.grammar import SyntaxFault, parse_bdat
from gateway.smtp.protocol import Command
from gateway.smtp.record import Ending
from gateway.smtp.replies import Reply, reply
from gateway.smtp.states import AFTER_LAST, State
from gateway.smtp.transactions import end
from gateway.smtp.verbs.data import finish_content, opening


async def bdat(talk: Conversation, command: Command) -> Reply:
    """Before its octets are read: 250 if `talk.chunks` shall take them, else what the client hears after they were dropped."""
    try:
        size, _ = parse_bdat(command.argument)
    except SyntaxFault as fault:
        return talk.ours(fault.code, fault.enhanced, fault.text)
    transaction = talk.transaction
    if talk.chunks is None:
        if talk.state is State.BDAT:
            return talk.ours(503, "5.5.1", "Chunk dropped after a refused one; send RSET")
        answer = opening(talk)
        if not isinstance(answer, Reply):
            answer = await answer
        if answer.code != 354 or transaction is None:
            return answer
        site = talk.door.site
        talk.chunks = ChunkIntake(
            site.limits,
            directory=site.spool,
            lenient=talk.lenient,
            is_binary=is_binary(transaction.parameters),
            verifies=talk.door.chain.verifies,
        )
    talk.chunks.expect(size)
    return reply(250, "2.0.0", f"Ok: {size} octets")


async def end_of_chunk(talk: Conversation, answer: Reply, *, is_last: bool, vanished: Callable[[], bool]) -> Reply:
    """The octets were read: `answer` is what `bdat` said, or an earlier refusal. The reply, after what it promises is done."""
    intake, talk.chunks = talk.chunks, None
    if talk.state is not State.GREETING and talk.state is not State.REFUSED:
        talk.state = AFTER_LAST if is_last else State.BDAT
    if intake is None or not answer.is_positive:
        if intake is not None:
            intake.discard()
        end(talk, answer)
        return answer
    if is_last:
        intake.finish()
        return await finish_content(talk, intake, vanished)
    if intake.fault is not None:
        refused = talk.with_id(intake.fault)
        end(talk, refused, ending=Ending(reply=refused, size=intake.size))
        return refused
    talk.chunks = intake
    return answer
