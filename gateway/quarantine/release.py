"""Release: a held message goes to its next hop, with its own envelope, never twice at once.

Content: original octets, stored edits, and one trace field of ours on top: Received (RFC 5321 4.4), since the release is the
moment at which the message passes us on; the copy holds none of ours. What the next hop refuses stays held with its reply.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from gateway.content import Content, Form
from gateway.errors import LinkError, StorageError
from gateway.quarantine.copies import Entry, State, Ticket
from gateway.quarantine.hold import INTERRUPTED, Quarantine
from gateway.quarantine.rows import change, end
from gateway.relay.each import PartlyAnsweredError
from gateway.smtp.received import date
from gateway.smtp.replies import Reply, reply
from gateway.splice import apply
from gateway.sqlite import Connection, scalar

MAX_REPLY = 1_000
BINARY = frozenset({"BINARYMIME", "CHUNKING"})
"""What a next hop must offer for a message that came with BODY=BINARYMIME (RFC 3030 3)."""


class Handover(Protocol):
    """One transaction's way to a next hop; `gateway.relay` has it. LinkError when the link fails."""

    @property
    def next_hop(self) -> str:
        """For logs."""
        ...

    def mail(self, path: bytes, parameters: Sequence[bytes], *, needs: Iterable[str] = ()) -> Awaitable[Reply]:
        """MAIL."""
        ...

    def rcpt(self, path: bytes, parameters: Sequence[bytes]) -> Awaitable[Reply]:
        """RCPT."""
        ...

    async def send(self, chunks: Iterable[bytes], *, size: int, form: Form = Form.LINES) -> list[Reply]:
        """The content, by DATA or BDAT; one reply, or one for each accepted recipient."""
        ...

    def abandon(self) -> None:
        """Give the link back. Harmless at any time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What the next hop said about one recipient."""

    recipient: str
    next_hop: str
    reply: Reply
    delivered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseReport:
    """What became of a release. `released` only when the next hop has taken every recipient."""

    released: bool
    attempts: tuple[Attempt, ...] = ()
    problem: str = ""
    """Why nothing was tried: not held, being released elsewhere; or that another process meanwhile took over."""


def trace_field(entry: Entry, *, server_name: str, now: float) -> bytes:
    """The Received field of a release: RFC 5321 4.4. What the client said is cleaned to what a name may hold."""
    helo = re.sub(r"[^A-Za-z0-9._\-\[\]:]", "?", entry.fact("helo"))[:255]
    client = re.sub(r"[^A-Za-z0-9.:]", "?", entry.fact("client"))[:64]
    literal = f"[IPv6:{client}]" if ":" in client else f"[{client}]"  # RFC 5321 4.1.3
    origin = f"from {helo} ({literal})\r\n\t" if helo and client else ""
    return (
        f"Received: {origin}by {server_name} (mailgateway)\r\n"
        f"\t(held in quarantine since {date(int(entry.created))})\r\n"
        f"\tid {entry.id};\r\n"
        f"\t{date(int(now))}\r\n"
    ).encode("ascii", "replace")


async def release(
    quarantine: Quarantine, id_: str, handover: Callable[[str, Entry], Handover], *, server_name: str
) -> ReleaseReport:
    """Release one held message. `handover` gives the way to the next hop of a route. StorageError.

    Recipients the next hop takes are written down at once, so that a later release names only the rest.
    """
    entry = await quarantine.get(id_)
    if entry is None:
        return ReleaseReport(released=False, problem="there is no such copy")
    if entry.state is not State.HELD:
        return ReleaseReport(released=False, problem=f"it is {entry.state}, not held")
    ticket = Ticket(id=entry.id, epoch=secrets.token_hex(8))
    now = quarantine.clock()
    values = {"state": State.RELEASING, "epoch": ticket.epoch, "lease": now + quarantine.lease, "updated": now}

    def claim(connection: Connection) -> int:
        return change(connection, values, id=entry.id, epoch=entry.epoch, state=State.HELD)

    if not await quarantine.database.write(claim):
        return ReleaseReport(released=False, problem="it is being released by another process")
    return await _Release(quarantine, entry, ticket, server_name).run(handover)


class _Release:
    """A claimed copy on its way."""

    def __init__(self, quarantine: Quarantine, entry: Entry, ticket: Ticket, server_name: str) -> None:
        self.quarantine = quarantine
        self.entry = entry
        self.ticket = ticket
        self.server_name = server_name
        self.attempts: list[Attempt] = []

    async def run(self, handover: Callable[[str, Entry], Handover]) -> ReleaseReport:
        """One transaction for each route, then the end."""
        waiting = [route for index, (_, _, route) in enumerate(self.entry.recipients) if index not in self.entry.released]
        async with self._renewed():
            try:
                content = await self.quarantine.content(self.entry)
                try:
                    for route in dict.fromkeys(waiting):
                        await self._deliver(content, route, handover)
                finally:
                    content.close()
            except BaseException:
                await self._finish(problem=INTERRUPTED)
                raise
            return await self._finish()

    @asynccontextmanager
    async def _renewed(self) -> AsyncIterator[None]:
        """Keep the lease alive while the next hop takes its time."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(self.quarantine.lease / 3)
                with suppress(StorageError):  # the next turn may succeed; if none does, the lease lapses: that is its use
                    await self.quarantine.renew()

        self.quarantine.own(self.ticket)
        renewal = asyncio.get_running_loop().create_task(renew())
        try:
            yield
        finally:
            self.quarantine.forget(self.ticket)
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)

    async def _deliver(self, content: Content, route: str, handover: Callable[[str, Entry], Handover]) -> None:
        """One transaction with one next hop, for the recipients of one route."""
        entry = self.entry
        waiting = [n for n, (_, _, of) in enumerate(entry.recipients) if of == route and n not in entry.released]
        answers: dict[int, Reply] = {}
        accepted: list[int] = []
        taken: list[int] = []
        way: Handover | None = None
        try:
            way = handover(route, entry)
            needs = BINARY if self._is_binary else ()
            asked = [one for one in entry.parameters if one.upper() != b"PRDR"]  # asked of us, not of the next hop
            mail = await way.mail(entry.reverse_path, asked, needs=needs)
            for index in waiting:
                path, parameters, _ = entry.recipients[index]
                answers[index] = await way.rcpt(path, parameters) if mail.is_positive else mail
            accepted = [index for index in waiting if answers[index].is_positive]
            if accepted:
                finals = await self._send(content, way)
                for place, index in enumerate(accepted):  # LMTP: one reply for each recipient (RFC 2033 4.2)
                    answers[index] = finals[place] if len(finals) == len(accepted) else finals[0]
                taken = [index for index in accepted if answers[index].is_positive]
        except LinkError as error:
            failed = reply(451, error.enhanced, str(error))
            known = {n: answers[n] for n in waiting if n in answers and not answers[n].is_positive}
            if isinstance(error, PartlyAnsweredError):
                known |= dict(zip(accepted, error.replies, strict=False))
            answers = {n: known.get(n, failed) for n in waiting}
            taken = [n for n in accepted if answers[n].is_positive]
        finally:
            if way is not None:
                way.abandon()
        if taken:
            await self._mark(taken)
        self.attempts += [
            Attempt(
                recipient=entry.recipients[index][0].decode("utf-8", "replace"),
                next_hop=way.next_hop if way else route,
                reply=answers[index],
                delivered=index in taken,
            )
            for index in waiting
        ]

    @property
    def _is_binary(self) -> bool:
        return any(parameter.upper() == b"BODY=BINARYMIME" for parameter in self.entry.parameters)

    async def _send(self, content: Content, way: Handover) -> list[Reply]:
        on_top = trace_field(self.entry, server_name=self.server_name, now=self.quarantine.clock())
        utf8 = any(parameter.upper() == b"SMTPUTF8" for parameter in self.entry.parameters)  # RFC 6531 3.1
        content.is_binary = self._is_binary
        spliced = apply(content, self.entry.edits, on_top=on_top, utf8=utf8)
        return await way.send(spliced.chunks(), size=spliced.size, form=spliced.form)

    async def _mark(self, taken: list[int]) -> None:
        """Write down who has it, even if another process has meanwhile swept the row: it is a fact."""

        def work(connection: Connection) -> None:
            found = scalar(connection, "SELECT released FROM copies WHERE id = ?", (self.entry.id,))
            if found is not None:
                released = json.dumps(sorted({*json.loads(found), *taken}))
                change(connection, {"released": released}, id=self.entry.id)

        await self.quarantine.database.write(work)

    async def _finish(self, *, problem: str = "") -> ReleaseReport:
        """Everybody has it: released. Else held again, with what the next hop said."""
        now = self.quarantine.clock()
        entry = self.entry
        said = "; ".join(f"{a.recipient}: {a.reply}" for a in self.attempts if not a.delivered) or problem
        last = str(self.attempts[-1].reply) if self.attempts else ""

        def work(connection: Connection) -> tuple[bool, str | None]:
            found = connection.execute("SELECT released, epoch, state FROM copies WHERE id = ?", (entry.id,)).fetchone()
            if found is None:
                return False, None
            everybody = len(json.loads(found["released"])) == len(entry.recipients)
            ours = found["epoch"] == self.ticket.epoch and found["state"] == State.RELEASING
            # swept while we were stopped, and nobody has claimed it since: what the next hop took is released all the same
            if everybody and (ours or found["state"] == State.HELD):
                return True, end(connection, entry.id, State.RELEASED, now=now, reply=last[:MAX_REPLY])
            if ours:
                values = {"state": State.HELD, "epoch": secrets.token_hex(8), "last_reply": said[:MAX_REPLY], "updated": now}
                change(connection, values, id=entry.id)
            return False, None

        released, blob = await self.quarantine.database.write(work)
        await self.quarantine.bury(blob)
        return ReleaseReport(released=released, attempts=tuple(self.attempts))
