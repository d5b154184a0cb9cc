"""Ask a policy server, as Postfix does with check_policy_service: postgrey, policyd-spf, and whatever speaks its protocol.

One request for each stage that `states` names. What an action comes to is `actions`, what is asked `request`; the connections are
`gateway.services`. A server that cannot be asked, or answers nonsense, is a fault of this plugin: `on_error` decides.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import Field

from gateway import (
    Accept,
    AddHeader,
    AddRecipient,
    Context,
    Defer,
    Duration,
    Fact,
    Message,
    Plugin,
    PluginError,
    PluginOptions,
    Recipient,
    Reject,
    Session,
    Transaction,
    Verdict,
    accept,
    discard,
    hook,
    quarantine,
)
from gateway.client_names import client_names
from gateway.plugins.policy.actions import PERMITS, Answer, Notes, UnsupportedActionError, carry_out
from gateway.plugins.policy.request import attributes
from gateway.policy.codec import Action, PolicyFault, Reader, parse_action, render, shown
from gateway.services import Service, ServiceError, ServiceName, Wire, parse_service

State = Literal["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE"]

MAX_TRANSACTIONS = 100_000
"""With something noted for later, at once."""
READ = 8192


class Options(PluginOptions):
    """`[plugin.policy]`."""

    server: ServiceName = "127.0.0.1:10023"
    """Where the policy server listens: `host:port`, `[::1]:port` or `unix:/path`; Postfix's `inet:` in front is allowed."""
    states: tuple[State, ...] = Field(default=("RCPT",), min_length=1)
    """At which of the client's commands it is asked. Servers written for smtpd_recipient_restrictions want `RCPT`."""
    policy_context: str = Field(default="", pattern=r"^[!-~]{0,100}$")
    """The attribute of this name, by which a server knows who asks."""
    permit: Literal["go on", "accept"] = "go on"
    """What OK means at RCPT: the same as DUNNO, or that this recipient needs no later plugin and no judge."""
    client_names: bool = True
    """Look up the client's name for `client_name` and `reverse_client_name`; postgrey's list of known clients needs it."""
    box: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    """Quarantine box for HOLD."""
    connections: int = Field(default=20, ge=1, le=1000)
    """At once, in each worker; a question that gets none within `connect_timeout` is a fault."""
    connect_timeout: Duration = Field(default=3.0, gt=0)
    """For a connection, and for the wait for one that is free."""
    reply_timeout: Duration = Field(default=8.0, gt=0)
    """From the request to its answer. Never more than what the plugin's `timeout` leaves."""
    idle: Duration = Field(default=100.0, gt=0)
    """A connection that nobody used for so long is closed."""
    max_uses: int = Field(default=1000, ge=1)
    """Requests on one connection, then it is closed."""
    failures: int = Field(default=5, ge=0)
    """So many failures in a row, and the server is left alone for `rest`; 0: never."""
    rest: Duration = Field(default=10.0, gt=0)
    """Meanwhile each question is a fault at once; then one tries."""


class Policy(Plugin[Options]):
    """The plugin."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        super().__init__(options, name=name, context=context)
        chosen = self.options
        self._service = Service(
            parse_service(chosen.server),
            connections=chosen.connections,
            connect_timeout=chosen.connect_timeout,
            idle=chosen.idle,
            max_uses=chosen.max_uses,
            failures=chosen.failures,
            rest=chosen.rest,
            plugin=self.name,
        )
        self._notes: dict[str, Notes] = {}

    @hook
    async def connect(self, session: Session) -> Reject | Defer | None:
        """CONNECT."""
        return _no_copy(await self._ask("CONNECT", session, None))

    @hook
    async def helo(self, session: Session) -> Reject | Defer | None:
        """EHLO or HELO."""
        return _no_copy(await self._ask("EHLO", session, None))

    @hook
    async def mail(self, transaction: Transaction) -> Reject | Defer | None:
        """MAIL."""
        return _no_copy(await self._ask("MAIL", transaction.session, transaction))

    @hook
    async def rcpt(self, transaction: Transaction, recipient: Recipient) -> Accept | Reject | Defer | AddRecipient | None:
        """RCPT."""
        return await self._ask("RCPT", transaction.session, transaction, recipient=recipient)

    @hook
    async def data(self, transaction: Transaction) -> Reject | Defer | None:
        """DATA."""
        return _no_copy(await self._ask("DATA", transaction.session, transaction))

    @hook(cheap=True)
    def check(self, transaction: Transaction) -> list[Fact] | None:
        """What the server said before, for the decision record."""
        notes = self._notes.get(transaction.id)
        if notes is None or not notes.told:
            return None
        told, notes.told = notes.told, []
        return list(told)

    @hook
    async def judge(self, transaction: Transaction, message: Message) -> Verdict | None:
        """END-OF-MESSAGE; and HOLD and DISCARD of before, which are for the whole message."""
        answer = _no_copy(await self._ask("END-OF-MESSAGE", transaction.session, transaction, message=message))
        notes = self._notes.get(transaction.id)
        if answer is not None or notes is None:
            return answer
        if notes.discard:
            return discard("policy-discard", evidence=notes.discard)
        if notes.hold:
            return quarantine("policy-hold", box=self.options.box, evidence=notes.hold)
        return None

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction) -> list[AddHeader] | None:
        """What PREPEND wants, the first on top."""
        notes = self._notes.get(transaction.id)
        return notes.prepended[::-1] if notes is not None and notes.prepended else None

    @hook(cheap=True)
    def done(self, transaction: Transaction) -> None:
        """Forget the transaction."""
        self._notes.pop(transaction.id, None)

    @hook
    async def shutdown(self) -> None:
        """Close what is kept open."""
        await self._service.close()

    async def _ask(
        self,
        state: State,
        session: Session,
        transaction: Transaction | None,
        *,
        recipient: Recipient | None = None,
        message: Message | None = None,
    ) -> Answer | Accept:
        options = self.options
        if state not in options.states:
            return None
        names = ("", "")
        if options.client_names:
            names = await client_names(session, self.context, options.connect_timeout)
        request = attributes(
            state, session, transaction, names=names, context=options.policy_context, recipient=recipient, message=message
        )
        action = await self._exchange(request)
        self.context.metrics.count("actions", state=state, action=shown(action.word, 20) if action.word.isalpha() else "other")
        about = f" <{request['recipient']}>" if request["recipient"] else ""
        evidence = shown(f"{self._service.address} at {state}{about}: {action}")
        notes = self._notes_of(transaction)
        if action.word not in {"DUNNO", "OK"}:
            notes.tell(Fact(name=f"{self.name}.{state.lower()}", value=evidence))
        about_whom = transaction.id if transaction is not None else session.id
        if action.word == "WARN":
            self.context.log.warning("policy.told", id=about_whom, text=evidence)
        elif action.word == "INFO":
            self.context.log.info("policy.told", id=about_whom, text=evidence)
        try:
            answer = carry_out(action, state, notes, evidence)
        except UnsupportedActionError as error:
            raise PluginError(self.name, f"{self._service.address} at {state}: {error}") from error
        if answer is None and state == "RCPT" and action.word in PERMITS and options.permit == "accept":
            return accept("policy-ok", evidence=evidence)
        return answer

    def _notes_of(self, transaction: Transaction | None) -> Notes:
        if transaction is None:  # nothing is kept of a session: what could be is refused
            return Notes()
        notes = self._notes.get(transaction.id)
        if notes is None:
            if len(self._notes) >= MAX_TRANSACTIONS:
                raise PluginError(self.name, f"{MAX_TRANSACTIONS} transactions under way")
            notes = self._notes[transaction.id] = Notes()
        return notes

    async def _exchange(self, request: dict[str, str]) -> Action:
        """One request and its answer. PluginError, once a kept connection that was closed meanwhile is replaced."""
        octets = render(request)
        try:
            while True:
                wire = await self._service.lend()
                try:
                    return await self._on(wire, octets)
                except _ClosedError:  # only of a kept connection; each of those is tried once at most
                    continue
        except ServiceError as error:
            raise PluginError(self.name, str(error)) from error

    async def _on(self, wire: Wire, octets: bytes) -> Action:
        service, is_good = self._service, False
        reader = Reader()
        clock = asyncio.get_running_loop().time
        asked = clock()
        try:
            async with asyncio.timeout(self.options.reply_timeout):
                wire.writer.write(octets)
                await wire.writer.drain()
                answer = await _read(wire, reader)
            action = parse_action(answer.get("action", ""))
            is_good = True
        except TimeoutError:
            raise service.failed(f"no answer within {self.options.reply_timeout:g} s", "timeout") from None
        except (OSError, EOFError) as error:
            if wire.uses and reader.is_clean:
                raise _ClosedError from error
            raise service.failed("the connection was closed before the answer", "closed") from error
        except PolicyFault as error:
            raise service.failed(str(error)) from error
        else:
            service.succeeded(clock() - asked)
            return action
        finally:
            service.take_back(wire, keep=is_good)


async def _read(wire: Wire, reader: Reader) -> dict[str, str]:
    """One answer, and nothing behind it. EOFError, OSError, PolicyFault."""
    while True:
        some = await wire.reader.read(READ)
        if not some:
            raise EOFError
        answers = reader.feed(some)
        if len(answers) > 1 or (answers and not reader.is_clean):
            raise PolicyFault("more than one answer to one request")
        if answers:
            return answers[0]


class _ClosedError(Exception):
    """The server had closed a kept connection."""


def _no_copy(answer: Answer | Accept) -> Reject | Defer | None:
    """BCC is carried out at RCPT only, and accept given there."""
    return answer if isinstance(answer, Reject | Defer) else None
