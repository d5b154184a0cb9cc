"""Ask SpamAssassin's spamd what it thinks of a message: over TCP or a UNIX socket, straight from the spool.

A client of our own (`protocol` has what is said): aiospamc 1.2 reads an answer to its end, however long that is, makes one copy more of each
message, and brings a command line with it. Servers, time and failures are `gateway.scanning`.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from typing import Literal

from pydantic import Field

from gateway import (
    AddHeader,
    Context,
    Defer,
    Discard,
    Duration,
    Edit,
    Fact,
    Finding,
    Label,
    Message,
    Quarantine,
    Reject,
    RemoveHeader,
    Score,
    Size,
    Transaction,
    add_header,
    hook,
    remove_header,
)
from gateway.client_names import Names, client_names
from gateway.consequences import ConsequenceOptions, Then, consequence, told
from gateway.plugins.spamassassin.protocol import (
    MAX_BODY,
    MAX_HEAD,
    AnswerError,
    Command,
    Said,
    body_size,
    parse_answer,
    parse_head,
    render,
)
from gateway.scanning import ServerNames, ServerOptions, ServerScanner, shown
from gateway.services import BadAnswerError, Service, Wire

MAX_WAITING = 10_000
"""Transactions whose fields are remembered between `check` and `rewrite`."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._:-]+")


class Options(ServerOptions, ConsequenceOptions):
    """Where spamd is, and what follows from its score."""

    server: ServerNames = ("127.0.0.1:783",)
    """Where spamd listens: `host:port`, `[::1]:port` or `unix:/path`; a list of them is asked in order until one answers."""
    ask: Literal["check", "symbols", "report", "headers"] = "report"
    """What it is asked for: the score alone (`check`), also the names of the rules that fit (`symbols`), their points and descriptions
    (`report`), or its header fields (`headers`), which then take the place of all `X-Spam-…` that came with the message."""
    user: str = Field(default="", pattern=r"^[!-~]{0,200}$")
    """Whose preferences it takes; `` for its own default."""
    per_recipient: bool = False
    """The recipient's address is the user, where there is only one."""
    threshold: float | None = None
    """From this score on a message is spam; without one spamd's own threshold holds."""
    then: Then = "quarantine"
    """What follows for spam."""
    reject_from: float | None = None
    """From this score on it is refused."""
    score_factor: float = 1.0
    """The score that rules see is spamd's, multiplied by this."""
    trace_field: bool = True
    """Show spamd a Received field of this transaction, and the reverse-path, above the message: its rules about clients need them."""
    names_limit: Duration = Field(default=2.0, ge=0)
    """Time to look up the client's name for that field; 0: not at all."""
    max_size: Size = 2_000_000
    """Larger messages are not scanned; they get the label `NAME.too_large`."""


class SpamAssassin(ServerScanner[Options]):
    """Asks at `check`."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        super().__init__(options, name=name, context=context)
        self._command: Command = _COMMANDS[self.options.ask]
        self._fields: dict[str, tuple[tuple[str, str], ...]] = {}

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding]:
        """Its score, its rules, and what follows."""
        if label := self.is_too_large(message):
            return [label]
        front = await self._front(transaction) if self.options.trace_field else b""
        user = self._user(transaction)
        said = await self.ask(lambda service: self._ask(service, message, front, user))
        if said.fields:
            while len(self._fields) >= MAX_WAITING:
                self._fields.pop(next(iter(self._fields)))
            self._fields[transaction.id] = said.fields
        return self._findings(said)

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Reject | Quarantine | Discard | Defer | None:
        """What its score comes to."""
        return consequence(self, transaction, reason="spamassassin-spam")

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction, message: Message) -> list[Edit] | None:
        """Its header fields instead of those that came with the message."""
        if self._command != "HEADERS":
            return None
        theirs = dict.fromkeys(one.name.lower() for one in message.fields if one.name.lower().startswith("x-spam-"))
        ours = [field for one in reversed(self._fields.get(transaction.id, ())) if (field := _field(*one)) is not None]
        gone: list[RemoveHeader] = [remove_header(name) for name in theirs]
        return [*gone, *ours] or None

    @hook(cheap=True)
    def done(self, transaction: Transaction) -> None:
        """Forget its fields."""
        self._fields.pop(transaction.id, None)

    async def ping(self, service: Service) -> None:
        """PING."""
        async with service.connected() as wire:
            wire.writer.write(render("PING", 0))
            head = await _head(wire, is_ping=True)
        if not head.startswith(b"SPAMD/") or b" 0 PONG" not in head:
            raise BadAnswerError(f"to a ping: {shown(head, 80)!r}")

    def _user(self, transaction: Transaction) -> str:
        options = self.options
        if options.per_recipient and len(transaction.recipients) == 1:
            mailbox = transaction.recipients[0].mailbox
            if mailbox.isascii() and mailbox.isprintable() and " " not in mailbox:
                return mailbox
        return options.user

    async def _ask(self, service: Service, message: Message, front: bytes, user: str) -> Said:
        """One message on a connection of its own."""
        async with service.connected() as wire:
            wire.writer.write(render(self._command, len(front) + message.size, user) + front)
            for chunk in message.content.chunks():
                wire.writer.write(chunk)
                await wire.writer.drain()
            wire.writer.write_eof()  # it reads lines, and waits for more of one without an end
            try:
                headers = parse_head(await _head(wire))
                body = b"" if self._command == "CHECK" else await _body(wire, body_size(headers))
                return parse_answer(self._command, headers, body)
            except AnswerError as error:
                raise BadAnswerError(shown(str(error))) from error

    async def _front(self, transaction: Transaction) -> bytes:
        """What stands above the message for spamd only: as the gateway's own trace field will, in a form that SpamAssassin reads."""
        session = transaction.session
        names: Names = ("", "")
        if self.options.names_limit:
            names = await client_names(session, self.context, self.options.names_limit)
        helo = _UNSAFE.sub("?", session.helo)[:255] or "unknown"
        name = _UNSAFE.sub("?", names[0])[:255] or "unknown"
        extended = session.esmtp or session.tls is not None or session.identity
        how = "SMTP" if not extended else f"ESMTP{'S' if session.tls else ''}{'A' if session.identity else ''}"
        date = formatdate(self.context.clock())
        received = f"Received: from {helo} ({name} [{session.client_address or '127.0.0.1'}])\r\n"
        received += f"\tby {self.context.server_name} (mailgateway) with {how} id {transaction.id};\r\n\t{date}\r\n"
        path = "".join(c if "!" <= c <= "~" else "?" for c in transaction.reverse_path.mailbox)[:500]
        return f"{received}X-Envelope-From: <{path}>\r\n".encode("ascii", "replace")

    def _findings(self, said: Said) -> list[Finding]:
        options = self.options
        rows = sorted(said.symbols, key=lambda one: -(one.points or 0.0))
        names = ", ".join(f"{one.name} {one.points:g}" if one.points is not None else one.name for one in rows)
        why = f"{said.score:g} points, {said.threshold:g} are spam: {names or 'no rules told'}"[:1_000]
        limit = said.threshold if options.threshold is None else options.threshold
        is_spam = said.is_spam if options.threshold is None else said.score >= limit
        findings: list[Finding] = [
            Fact(name=f"{self.name}.is_spam", value=is_spam),
            Score(symbol=self.name, weight=said.score * options.score_factor, evidence=why),
        ]
        for one in said.symbols:
            about = shown(one.about)
            findings.append(
                Label(name=f"{self.name}.{one.name}", evidence=about if one.points is None else f"{one.points:g} points: {about}")
            )
        if options.reject_from is not None and said.score >= options.reject_from:
            return [*findings, *told(self.name, "reject", why)]
        return [*findings, *told(self.name, options.then, why)] if is_spam else findings


_COMMANDS: dict[str, Command] = {"check": "CHECK", "symbols": "SYMBOLS", "report": "REPORT", "headers": "HEADERS"}


async def _head(wire: Wire, *, is_ping: bool = False) -> bytes:
    """To the blank line; of the answer to a ping its only line. EOFError, BadAnswerError."""
    head = b""
    while True:
        try:
            line = await wire.reader.readline()
        except ValueError:  # longer than what is read ahead
            raise BadAnswerError("an answer without an end of its line") from None
        head += line
        if not line.endswith(b"\n"):
            if head.startswith(b"SPAMD/") and head.endswith(b"\n"):
                return head  # a fault of its own has no blank line
            raise EOFError("in its answer")
        if len(head) > MAX_HEAD:
            raise BadAnswerError(f"an answer whose headers have more than {MAX_HEAD} octets")
        if is_ping or not line.strip():
            return head


async def _body(wire: Wire, size: int | None) -> bytes:
    """EOFError, BadAnswerError."""
    if size is not None:
        return await wire.reader.readexactly(size)
    body = b""
    while some := await wire.reader.read(65_536):
        body += some
        if len(body) > MAX_BODY:
            raise BadAnswerError(f"an answer of more than {MAX_BODY} octets")
    return body


def _field(name: str, value: str) -> AddHeader | None:
    """A field of spamd's, where it can be one."""
    try:
        return add_header(name, value.encode("ascii", "replace").decode())
    except ValueError:
        return None
