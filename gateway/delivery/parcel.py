"""What a delivery is given: the parcel, and what it asks of quarantine, journal, ledger and next hop. No behaviour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from gateway.content import Content, Form
from gateway.edits import Edit
from gateway.ledger import LOCAL, Attempt
from gateway.message import Message
from gateway.outcome import Fate, History
from gateway.quarantine.copies import Copy, State, Ticket
from gateway.smtp.paths import Parameter
from gateway.smtp.replies import Reply
from gateway.trace import Record
from gateway.transaction import Transaction
from gateway.values import value

Envelope = tuple[bytes, Sequence[bytes]]
"""A path with its parameters."""


class Handover(Protocol):
    """One transaction's way to one next hop; `gateway.relay` has the real one."""

    added_crlf: bool
    """The content went by DATA and lacked a CRLF at its end."""

    @property
    def next_hop(self) -> str:
        """For logs."""
        ...

    def stands(self, mail: Envelope, recipients: Sequence[Envelope]) -> bool:
        """The link's envelope is exactly this one already: `prepare` need not be awaited."""
        ...

    async def prepare(self, mail: Envelope, recipients: Sequence[Envelope]) -> None:
        """Make the link's envelope exactly this one. LinkError: nothing was sent."""
        ...

    async def send(self, chunks: Iterable[bytes], *, size: int, form: Form = Form.LINES) -> list[Reply]:
        """Send the content; one reply, or one for each recipient. LinkError: it may have been taken or not."""
        ...


class Copies(Protocol):
    """The quarantine, as far as a delivery needs it."""

    async def write_all(self, to_write: Sequence[Copy], state: State) -> list[Ticket]:
        """All in one durable commit. StorageError: none is there."""
        ...

    async def hold(self, ticket: Ticket, *more: Ticket) -> bool:
        """Pending becomes held, all or none. False: no longer ours. StorageError."""
        ...

    async def drop(self, ticket: Ticket) -> None:
        """A pending copy goes. StorageError."""
        ...


class Records(Protocol):
    """The journal, as far as a discard needs it."""

    async def commit(self, record: Record) -> None:
        """Durable before return. StorageError."""
        ...


class Memory(Protocol):
    """The ledger; `gateway.ledger` has the real one."""

    def has_hints(self, since: float) -> bool:
        """Whether any process may have left a hint lately, as far as it did before `since`, a loop time."""
        ...

    def is_empty(self, since: float) -> bool:
        """It is sure that there was no entry at all at `since`, a loop time: `history` of one recipient need not be asked."""
        ...

    async def hint(self, reverse_path: bytes, mailbox: str) -> str:
        """The class an earlier transaction left, `` when none. StorageError."""
        ...

    async def history(self, attempt: Attempt, mailboxes: Sequence[str]) -> History:
        """Never raises: what cannot be read is not known."""
        ...

    async def write(self, attempt: Attempt, entries: Mapping[int, Fate], transaction_id: str) -> bool:
        """Durable before return. False: this content can have none. StorageError."""
        ...

    async def consume(self, attempt: Attempt, indexes: Iterable[int]) -> bool:
        """Gone, durably, all or none. False: no longer there. StorageError."""
        ...

    async def leave(self, reverse_path: bytes, hints: Mapping[str, str]) -> None:
        """Hints by mailbox; an empty one is forgotten. StorageError."""
        ...

    async def split(self, reverse_path: bytes, hints: Mapping[str, str]) -> None:
        """Hints by mailbox, and one more round for this recipient set. StorageError."""
        ...


@value(frozen=True, slots=True)
class Parcel:
    """Everything one delivery needs beside the plan. The plan's indexes are those of `transaction.recipients`."""

    transaction: Transaction
    content: Content
    """As received."""
    chunks: Callable[[], Iterable[bytes]]
    """The final octets, trace fields on top."""
    size: int
    """Of the final octets; of lines perhaps without the trace field."""
    discard_record: Callable[[Sequence[int]], Record]
    """The decision record to commit before these recipients' copies are thrown away."""
    form: Form = Form.LINES
    """How they may travel."""
    handover: Handover | None = None
    """The way to `plan.route`: the live one, or after a redirect a new one. None when nothing is forwarded. The caller
    abandons it in the end, whatever happened."""
    mail: Envelope = (b"<>", ())
    """Reverse-path and parameters as they go on."""
    recipients: Sequence[Envelope] = ()
    """One for each of `plan.forward`, in its order, as they go on."""
    edits: tuple[Edit, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    """Of the message, for the quarantine's pages: JSON values only."""

    @property
    def attempt(self) -> Attempt:
        """This message as the ledger knows it."""
        return attempt_of(self.transaction, self.content)


def attempt_of(transaction: Transaction, content: Content) -> Attempt:
    """This message as the ledger knows it: everything as received."""
    session = transaction.session
    return Attempt(
        client_address=LOCAL + session.listener if session.is_local else session.client_address,
        reverse_path=transaction.reverse_path.octets,
        parameters=tuple(octets_of(transaction.parameters)),
        recipients=tuple((one.forward_path.octets, tuple(octets_of(one.parameters))) for one in transaction.recipients),
        content=content,
    )


def octets_of(parameters: Iterable[Parameter]) -> list[bytes]:
    """Parameters as received."""
    return [parameter.octets for parameter in parameters]


def facts_of(transaction: Transaction, message: Message) -> dict[str, Any]:
    """What the quarantine's pages show of a message that is held."""
    session = transaction.session
    return {
        "client": session.client_address,
        "helo": session.helo,
        "identity": session.identity,
        "subject": message.subject[:500],
        "message_id": message.message_id,
        "time": transaction.started,
    }
