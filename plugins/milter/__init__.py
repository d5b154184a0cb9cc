"""Run a milter, as Postfix and Sendmail do: opendkim, opendmarc, clamav-milter, rspamd, spamass-milter, milter-greylist, …

Connection, HELO, MAIL, RCPT and DATA are asked live, the content at `judge`, where verdicts can still be given; its edits are carried
out at `rewrite`. Several milters are several uses of this plugin: each sees what those before it changed. `talk` is the conversation,
`macros` and `answers` say what goes in and what comes of it, `view` is the message in between.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pydantic import Field

from gateway import (
    Context,
    Defer,
    Discard,
    Duration,
    Edit,
    Message,
    Plugin,
    PluginError,
    PluginOptions,
    Quarantine,
    Recipient,
    Reject,
    Session,
    Transaction,
    discard,
    hook,
    quarantine,
)
from gateway.client_names import client_names
from gateway.milter import codec
from gateway.milter.codec import CodecError, MacroStage, Steps
from gateway.plugins.milter.answers import Asked, apply, refusal
from gateway.plugins.milter.macros import Known, macros
from gateway.plugins.milter.talk import ClosedError, Talk
from gateway.plugins.milter.view import UnsupportedEditError, View
from gateway.services import Service, ServiceError, ServiceName, parse_service

VIEW = "gateway.plugins.milter.view"
"""Key of what the milters of a chain share of a message."""
FIELDS_IN_A_ROW = 200
Answer = codec.Answer | None


class Options(PluginOptions):
    """`[plugin.milter]`."""

    server: ServiceName = "127.0.0.1:8891"
    """Where the milter listens: `host:port`, `[::1]:port` or `unix:/path`; Postfix's `inet:` in front is allowed."""
    allow_body_edits: bool = False
    """Whether it may put another body in the place of the message's; else that is a fault."""
    client_names: bool = True
    """Look up the client's name, which a milter is told with its address."""
    box: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    """Quarantine box for what it wants held."""
    connections: int = Field(default=1000, ge=1, le=100_000)
    """At once, in each worker; each client that talks to us has one for itself."""
    connect_timeout: Duration = Field(default=3.0, gt=0)
    """For a connection, and for the wait for one that is free."""
    command_timeout: Duration = Field(default=8.0, gt=0)
    """For each answer, anew after each sign of life (PROGRESS); never more than what the plugin's `timeout` leaves."""
    content_timeout: Duration = Field(default=50.0, gt=0)
    """For the answer to the end of the message with all signs of life."""
    idle: Duration = Field(default=60.0, gt=0)
    """A connection that was not used for so long is closed; its client's next command opens another, and says all again."""
    reuse: bool = False
    """Whether one connection serves one client after the other (QUIT_NC). Debian's libmilter 8.17 hangs then, so Postfix does not, either."""
    max_uses: int = Field(default=1000, ge=1)
    """Clients on one connection with `reuse`, then it is closed."""
    failures: int = Field(default=5, ge=0)
    """So many failures in a row, and the milter is left alone for `rest`; 0: never."""
    rest: Duration = Field(default=10.0, gt=0)
    """Meanwhile every question is a fault at once; then one tries."""


@dataclass(slots=True)
class _Transaction:
    """What a milter said of a message before its end."""

    id: str
    is_over: bool = False
    """Accepted: no more is asked."""
    discard: str = ""


@dataclass(slots=True)
class _Client:
    """A client of ours, as the milter knows it."""

    session: Session
    names: tuple[str, str] = ("", "")
    talk: Talk | None = None
    is_accepted: bool = False
    helo: tuple[object, ...] | None = None
    """As it was said."""
    mail: str = ""
    """The transaction that MAIL was said for, on this connection."""
    told: set[str] = field(default_factory=set)
    """Recipients that were said."""
    transaction: _Transaction | None = None
    used: float = 0.0
    is_asked: bool = False
    """A question is under way."""


class Milter(Plugin[Options]):
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
        self._clients: dict[str, _Client] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    @hook
    async def connect(self, session: Session) -> Reject | Defer | None:
        """CONNECT."""
        return await self._ask("connect", session)

    @hook
    async def helo(self, session: Session) -> Reject | Defer | None:
        """HELO."""
        return await self._ask("helo", session)

    @hook
    async def mail(self, transaction: Transaction) -> Reject | Defer | Discard | None:
        """MAIL."""
        answer = await self._ask("mail", transaction.session, transaction)
        said = self._of(transaction)
        return answer or (discard("milter-discard", evidence=said.discard) if said is not None and said.discard else None)

    @hook
    async def rcpt(self, transaction: Transaction, recipient: Recipient) -> Reject | Defer | None:
        """RCPT."""
        return await self._ask("rcpt", transaction.session, transaction, recipient)

    @hook
    async def data(self, transaction: Transaction) -> Reject | Defer | None:
        """DATA."""
        return await self._ask("data", transaction.session, transaction)

    @hook
    async def judge(
        self, transaction: Transaction, message: Message
    ) -> list[Reject | Defer | Discard | Quarantine] | Reject | Defer | Discard | None:
        """The content: header section, body, and the end, at which the milter decides."""
        refused = await self._ask("judge", transaction.session, transaction)
        said = self._of(transaction)
        if refused is not None or said is None:
            return refused
        if said.discard:
            return discard("milter-discard", evidence=said.discard)
        client = self._clients[transaction.session.id]
        if self._passes(client):
            return None
        view = message.shared.get(VIEW)
        try:
            async with self._failing(client):
                return await self._content(client, transaction, view.copy() if isinstance(view, View) else View.of(message))
        except UnsupportedEditError as error:
            raise PluginError(self.name, f"{self._service.address} asks for what cannot be done here: {error}") from error

    @hook(cheap=True)
    def rewrite(self, message: Message) -> list[Edit] | None:
        """What it changed."""
        view = message.shared.get(VIEW)
        return view.edits(self.name) or None if isinstance(view, View) else None

    @hook
    async def done(self, transaction: Transaction) -> None:
        """A transaction that came to nothing is aborted."""
        client = self._clients.get(transaction.session.id)
        if client is None or client.transaction is None or client.transaction.id != transaction.id:
            return
        client.transaction = None
        if client.talk is not None and client.mail == transaction.id:
            async with self._failing(client):
                await client.talk.abort()

    @hook
    async def disconnect(self, session: Session) -> None:
        """The connection may serve another client."""
        client = self._clients.pop(session.id, None)
        if client is not None and client.talk is not None:
            await client.talk.end(reuse=self.options.reuse)

    @hook
    async def shutdown(self) -> None:
        """Close what is open."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            if client.talk is not None:
                await client.talk.end(reuse=self.options.reuse)
        await self._service.close()

    # Commands

    async def _ask(
        self, stage: str, session: Session, transaction: Transaction | None = None, recipient: Recipient | None = None
    ) -> Reject | Defer | None:
        """Say whatever has not been said yet, up to this point; the first refusal. PluginError."""
        client = self._client(session)
        if transaction is not None and (client.transaction is None or client.transaction.id != transaction.id):
            client.transaction = _Transaction(transaction.id)
        for attempt in (1, 2):
            try:
                async with self._failing(client):
                    return await self._catch_up(stage, client, transaction, recipient)
            except ClosedError:
                self._forget(client)
                if attempt == 2:
                    raise PluginError(self.name, f"{self._service.address}: closes each connection") from None
        return None

    async def _catch_up(
        self, stage: str, client: _Client, transaction: Transaction | None, recipient: Recipient | None
    ) -> Reject | Defer | None:
        refused = await self._open(client)
        if refused is None and stage != "connect":
            refused = await self._greet(client)
        if client.is_accepted and client.talk is not None:
            talk, client.talk = client.talk, None
            await talk.end(reuse=self.options.reuse)
        message = client.transaction
        if refused is not None or transaction is None or message is None:
            return refused
        refused = await self._mail(client, transaction, message)
        everybody = [*transaction.recipients, *([recipient] if recipient is not None else [])]
        for one in everybody if stage != "mail" else []:
            if refused is None and not one.added and one.mailbox not in client.told:
                refused = await self._rcpt(client, transaction, message, one)
        if refused is None and stage == "data" and not self._passes(client):
            known = self._known(client, transaction)
            refused = await self._say(client, codec.Data(), MacroStage.DATA, known)
        return refused

    async def _open(self, client: _Client) -> Reject | Defer | None:
        if client.is_accepted or client.talk is not None:
            return None
        session = client.session
        if self.options.client_names:
            client.names = await client_names(session, self.context, self.options.connect_timeout)
        client.talk = await Talk.open(self._service, self.options.command_timeout)
        family = codec.UNKNOWN_FAMILY
        if session.client_address:
            family = codec.INET6 if ":" in session.client_address else codec.INET
        name = client.names[0] or (f"[{session.client_address}]" if session.client_address else "localhost")
        port, address = (session.client_port, session.client_address.encode()) if session.client_address else (0, b"")
        command = codec.Connect(name.encode("utf-8", "replace"), family, port, address)
        return await self._say(client, command, MacroStage.CONNECT, self._known(client))

    async def _greet(self, client: _Client) -> Reject | Defer | None:
        session = client.session
        said = (session.helo, session.esmtp, session.tls)
        if not session.helo or client.is_accepted or client.helo == said:
            return None
        client.helo = said
        name = session.helo.replace("\0", "").encode("utf-8", "replace")
        return await self._say(client, codec.Helo(name), MacroStage.HELO, self._known(client))

    async def _mail(self, client: _Client, transaction: Transaction, message: _Transaction) -> Reject | Defer | None:
        if client.is_accepted or message.is_over or client.talk is None or client.mail == transaction.id:
            return None
        await client.talk.abort()
        client.mail, client.told = transaction.id, set()
        parameters = tuple(one.octets for one in transaction.parameters)
        command = codec.Mail(transaction.reverse_path.octets, parameters)
        return await self._say(client, command, MacroStage.MAIL, self._known(client, transaction))

    async def _rcpt(
        self, client: _Client, transaction: Transaction, message: _Transaction, recipient: Recipient
    ) -> Reject | Defer | None:
        if self._passes(client) or message.is_over:
            return None
        command = codec.Rcpt(recipient.forward_path.octets, tuple(one.octets for one in recipient.parameters))
        refused = await self._say(client, command, MacroStage.RCPT, self._known(client, transaction, recipient))
        if refused is None:
            client.told.add(recipient.mailbox)
        return refused

    async def _say(self, client: _Client, command: codec.Command, stage: MacroStage, known: Known) -> Reject | Defer | None:
        """One command; its refusal."""
        talk = client.talk
        if talk is None:
            return None
        answer, _ = await talk.ask(command, macros(stage, command.letter, known, talk.agreed))
        return self._take(client, command, answer)

    def _take(self, client: _Client, command: codec.Command, answer: Answer) -> Reject | Defer | None:
        """What an answer before the end means."""
        what = type(command).__name__
        evidence = f"{self._service.address} at {what}: {type(answer).__name__}"
        if isinstance(answer, codec.ReplyCode):
            evidence += f" {answer.text[:200]!r}"
        if isinstance(answer, codec.Accept) and isinstance(command, codec.Connect | codec.Helo):
            client.is_accepted = True
        elif isinstance(answer, codec.Accept) and client.transaction is not None:
            client.transaction.is_over = True
        elif isinstance(answer, codec.Discard) and client.transaction is not None:
            client.transaction.is_over = True
            client.transaction.discard = evidence
        return refusal(answer, evidence)

    # The content

    async def _content(
        self, client: _Client, transaction: Transaction, view: View
    ) -> list[Reject | Defer | Discard | Quarantine] | Reject | Defer | None:
        talk, message = client.talk, client.transaction
        if talk is None or message is None:
            return None
        answer = await self._header_and_body(client, talk, view, transaction)
        edits: list[codec.Edit] = []
        if answer is None:
            known = self._known(client, transaction, message_id=view.message.message_id)
            packet = macros(MacroStage.END_OF_BODY, codec.EndOfBody.letter, known, talk.agreed)
            answer, edits = await talk.ask(codec.EndOfBody(), packet, total=self.options.content_timeout)
        client.mail = ""
        refused = self._take(client, codec.EndOfBody(), answer)
        if refused is not None:
            return refused
        if message.discard:
            return [discard("milter-discard", evidence=message.discard)]
        if not edits:
            return None
        asked = apply(
            edits,
            view,
            transaction,
            self.name,
            body_limit=self.context.limits.get("message_size", 50_000_000),
            may_edit_body=self.options.allow_body_edits,
        )
        view.message.shared[VIEW] = view
        return self._verdicts(asked) or None

    def _verdicts(self, asked: Asked) -> list[Reject | Defer | Discard | Quarantine]:
        where = str(self._service.address)
        found: list[Reject | Defer | Discard | Quarantine] = []
        if asked.gone:
            taken = discard("milter-recipient", evidence=f"{where} took the recipient away (DELRCPT)")
            found.append(taken.only(*(one.mailbox for one in asked.gone)))
        if asked.hold:
            found.append(quarantine("milter-quarantine", box=self.options.box, evidence=f"{where}: {asked.hold}"))
        return found

    async def _header_and_body(self, client: _Client, talk: Talk, view: View, transaction: Transaction) -> Answer:
        """All but the end; an answer that makes the rest needless."""
        if view.message.header.is_cut:
            raise UnsupportedEditError("too many header fields to show")
        with_space = bool(talk.agreed.steps & Steps.HDR_LEADSPC)
        for number, one in enumerate(view.fields):
            value = one.value if with_space else one.value.lstrip(b" \t")
            answer, _ = await talk.ask(codec.Header(one.name.encode(), value))
            if _is_over(answer):
                return answer
            if number % FIELDS_IN_A_ROW == FIELDS_IN_A_ROW - 1:
                await asyncio.sleep(0)
        packet = macros(MacroStage.END_OF_HEADER, codec.EndOfHeader.letter, self._known(client, transaction), talk.agreed)
        answer, _ = await talk.ask(codec.EndOfHeader(), packet)
        if _is_over(answer):
            return answer
        if talk.agreed.is_sent(codec.Body):
            for chunk in view.chunks(talk.agreed.chunk):
                answer, _ = await talk.ask(codec.Body(chunk))
                if isinstance(answer, codec.Skip):
                    break
                if _is_over(answer):
                    return answer
                await asyncio.sleep(0)
        return None

    # Clients

    def _known(
        self,
        client: _Client,
        transaction: Transaction | None = None,
        recipient: Recipient | None = None,
        message_id: str = "",
    ) -> Known:
        return Known(
            server_name=self.context.server_name,
            session=client.session,
            client_name=client.names[0],
            client_pointer=client.names[1],
            transaction=transaction,
            recipient=recipient,
            message_id=message_id,
        )

    def _client(self, session: Session) -> _Client:
        client = self._clients.get(session.id)
        if client is None:
            client = self._clients[session.id] = _Client(session)
        loop = asyncio.get_running_loop()
        client.used = loop.time()
        if self._sweeper is None:
            self._sweeper = loop.call_later(self.options.idle, self._sweep)
        return client

    def _of(self, transaction: Transaction) -> _Transaction | None:
        client = self._clients.get(transaction.session.id)
        return client.transaction if client is not None else None

    @staticmethod
    def _passes(client: _Client) -> bool:
        return client.is_accepted or client.talk is None or (client.transaction is not None and client.transaction.is_over)

    def _forget(self, client: _Client) -> None:
        """The connection is gone: the next command says everything again."""
        if client.talk is not None:
            client.talk.cut()
        client.talk, client.helo, client.mail, client.told = None, None, "", set()

    def _failing(self, client: _Client) -> _Failing:
        return _Failing(self, client)

    def _sweep(self) -> None:
        """Connections of clients that say nothing, or whose end this plugin was not told of (`skip`)."""
        self._sweeper = None
        loop = asyncio.get_running_loop()
        for key, client in tuple(self._clients.items()):
            is_under_way = client.is_asked or (client.talk is not None and client.talk.is_in_transaction)
            if is_under_way or loop.time() - client.used < self.options.idle:
                continue
            self._forget(client)
            if client.transaction is None and not client.is_accepted:
                del self._clients[key]
        if self._clients:
            self._sweeper = loop.call_later(self.options.idle, self._sweep)


class _Failing:
    """Around a conversation: whatever ends it early closes the connection, and a milter's fault is a PluginError."""

    def __init__(self, plugin: Milter, client: _Client) -> None:
        self._plugin = plugin
        self._client = client

    async def __aenter__(self) -> None:
        """Meanwhile the connection is not given up for being silent."""
        self._client.is_asked = True

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._client.is_asked = False
        self._client.used = asyncio.get_running_loop().time()
        if error is None or isinstance(error, ClosedError):
            return
        self._plugin._forget(self._client)  # noqa: SLF001 - of one module
        if isinstance(error, ServiceError | CodecError):
            raise PluginError(self._plugin.name, str(error)) from error


def _is_over(answer: Answer) -> bool:
    return answer is not None and not isinstance(answer, codec.Continue)
