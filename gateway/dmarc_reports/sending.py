"""One report to each of its destinations, at most once: claimed on the disk, handed over, its outcome written down. RFC 9990 2.5.

There is no queue and no bounce: what is deferred is tried at the next run, until the retention ends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.config.models import DmarcReportsConfig
from gateway.context import Resolver
from gateway.dmarc_reports.destinations import Destination, NotThere, permitted
from gateway.dmarc_reports.document import Metadata, document
from gateway.dmarc_reports.mail import DAY, Letter, begin_of, compress, message, report_id
from gateway.errors import DomainError, LinkError
from gateway.journal.dmarc_reports import THROUGH, Due, ReportStore, State
from gateway.smtp.replies import Reply

if TYPE_CHECKING:
    from gateway.relay.handover import Handover

GRACE = 3_600
"""Seconds after midnight until a day is over: transactions that began in it must have ended."""
AGAIN: frozenset[State] = frozenset({"deferred"})
"""Outcomes that the next run tries again."""
AGAIN_IF_ASKED: frozenset[State] = AGAIN | {"refused", "unauthorized", "unsupported"}
_STATES: dict[str, State] = {"unauthorized": "unauthorized", "unsupported": "unsupported", "dns": "deferred"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """A destination, and what became of the report there."""

    destination: str
    state: State
    reply: str
    link_failed: bool = False
    """The next hop was not reached, which is nothing of this report."""


class Reporter:
    """Makes reports and sends them."""

    def __init__(
        self,
        settings: DmarcReportsConfig,
        store: ReportStore,
        resolver: Resolver,
        *,
        submitter: str,
        handover: Callable[[str], Handover],
        clock: Callable[[], float],
    ) -> None:
        """`submitter`: our domain name. `handover` gives the way for a recipient's domain, or raises LinkError."""
        self._settings = settings
        self._store = store
        self._resolver = resolver
        self._submitter = submitter
        self._handover = handover
        self._clock = clock

    async def destinations(self, due: Due) -> list[Destination | NotThere]:
        """Where it may go, and where it may not."""
        return await permitted(due.policy_domain, due.rua, self._resolver, most=self._settings.max_destinations)

    async def pieces(self, due: Due) -> list[bytes]:
        """The document. StorageError."""
        begin = begin_of(due.day)
        metadata = Metadata(
            organization=self._settings.organization or self._submitter,
            address=self._settings.address,
            contact=self._settings.contact,
            report_id=self._id(due),
            begin=begin,
            end=begin + DAY - 1,
            policy_domain=due.policy_domain,
            published=due.published,
            error=_left_out(due),
        )
        return list(document(metadata, await self._store.rows(due)))

    def letter(self, due: Due) -> Letter:
        """What its message says."""
        organization = self._settings.organization or self._submitter
        text = (
            f"This is the DMARC aggregate report (RFC 9990) of {organization} for {due.policy_domain},\r\n"
            f"{due.day}, 00:00 to 24:00 UTC: {due.messages} message(s) in {due.rows} row(s).\r\n"
            f"{_left_out(due)}\r\nIt is sent to the addresses in the rua tag of the domain's DMARC record. Questions go to\r\n"
            f"{self._settings.address}. {self._settings.contact}\r\n"
        )
        return Letter(
            address=self._settings.address,
            organization=organization,
            submitter=self._submitter,
            policy_domain=due.policy_domain,
            day=due.day,
            report_id=self._id(due),
            text=text,
        )

    async def send(self, due: Due, *, retry: bool = False) -> AsyncGenerator[Attempt, None]:
        """To every destination that has not got it. `retry`: also to those that refused it before. StorageError."""
        again = again_of(retry=retry)
        known = await self._store.outcomes(due)
        is_through = known.pop(THROUGH, None) is not None
        if is_through and not any(outcome.state in again for outcome in known.values()):
            return  # nothing is looked up again
        report = b""
        for one in await self.destinations(due):
            name = one.name if isinstance(one, NotThere) else one.mailbox
            before = known.get(name)
            if before is not None and before.state not in again:
                continue
            if isinstance(one, NotThere):
                yield await self._settled(due, name, _STATES[one.fault], one.why)
                continue
            report = report or compress(await self.pieces(due))
            octets = message(self.letter(due), report, to=one.mailbox, now=self._clock())
            if await self._store.claim(due, name, again=again, now=self._clock()):
                yield await self._settled(due, name, *await self._hand_over(one, octets))
        await self._store.settle(due, THROUGH, "sent", "", now=self._clock())

    async def _settled(self, due: Due, name: str, state: State, said: str, link_failed: bool = False) -> Attempt:
        await self._store.settle(due, name, state, said, now=self._clock())
        return Attempt(name, state, said, link_failed)

    async def _hand_over(self, to: Destination, octets: bytes) -> tuple[State, str, bool]:
        """One transaction, one attempt."""
        way: Handover | None = None
        try:
            way = self._handover(to.host)
            answer = await way.mail(f"<{self._settings.reverse_path}>".encode(), ())
            if answer.is_positive:
                answer = await way.rcpt(f"<{to.mailbox}>".encode(), ())
            if answer.is_positive:
                answer = (await way.send([octets], size=len(octets)))[0]
        except DomainError as error:  # null MX and the like: about the recipient
            return "refused", str(error), False
        except LinkError as error:
            return "unknown" if error.unknown else "deferred", str(error), True
        finally:
            if way is not None:
                way.abandon()
        return _state(answer), str(answer), False

    def _id(self, due: Due) -> str:
        return report_id(self._submitter, due.policy_domain, due.day)


def again_of(*, retry: bool) -> frozenset[State]:
    """Outcomes that this run tries again."""
    return AGAIN_IF_ASKED if retry else AGAIN


def _state(answer: Reply) -> State:
    if answer.is_positive:
        return "sent"
    return "refused" if answer.first == 5 else "deferred"


def _left_out(due: Due) -> str:
    """What a report that is not whole says (RFC 9990 2.1.5)."""
    if not due.left_out:
        return ""
    return f"This report is not whole: {due.left_out} message(s) more were received, beyond our limit of rows."
