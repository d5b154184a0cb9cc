"""Ask rspamd about a message: its symbols become scores, its action a verdict, and the edits that it wants are carried out.

`asking` is the question over HTTP, `answer` what it says, `edits` what is to be done to the message. Servers, limits and what happens to
large messages are `gateway.scanning`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from gateway import (
    AddHeader,
    Context,
    Defer,
    Discard,
    Edit,
    Fact,
    Finding,
    Label,
    Message,
    PluginError,
    Quarantine,
    Reject,
    Score,
    Size,
    Transaction,
    defer,
    discard,
    hook,
    library,
    quarantine,
    read_secret,
    reject,
)
from gateway.client_names import client_names
from gateway.plugins.rspamd import edits
from gateway.plugins.rspamd.answer import Answer, parse
from gateway.plugins.rspamd.asking import Client, envelope
from gateway.plugins.rspamd.edits import Wishes
from gateway.scanning import ServerNames, ServerOptions, ServerScanner, shown
from gateway.services import Service

Then = Literal["reject", "defer", "quarantine", "discard", "add header", "rewrite subject", "none"]
USUAL: Mapping[str, Then] = {
    "reject": "reject",
    "soft reject": "defer",
    "greylist": "none",
    "add header": "add header",
    "rewrite subject": "rewrite subject",
    "quarantine": "quarantine",
    "discard": "discard",
    "no action": "none",
}
MAX_TRANSACTIONS = 100_000
"""That were answered and are not done, at once."""


class Options(ServerOptions):
    """`[plugin.rspamd]`."""

    server: ServerNames = ("127.0.0.1:11333",)
    """Where rspamd's normal worker, or its proxy, listens: `host:port`, `[::1]:port` or `unix:/path`; a list is asked in order."""
    max_size: Size = 50_000_000
    """Larger messages are not scanned; they get the label `NAME.too_large`. No more than rspamd's max_message."""
    actions: dict[str, Then] = Field(default={}, max_length=100)
    """What an action of rspamd comes to, where it is not the usual; names of the site's own actions too."""
    edits: bool = True
    """Carry out what rspamd wants added to, and removed from, the header section."""
    sign: bool = True
    """Put its DKIM signatures on top."""
    spam_header: str = Field(default="X-Spam", pattern=r"^[!-9;-~]{0,76}$")
    """The field for `add header`; whoever else wrote one, it goes. Empty: none."""
    weight: float = Field(default=1.0, ge=0, le=100)
    """What the scores of symbols are multiplied by; 0: they are told, and count for nothing."""
    client_names: bool = True
    """Look up the client's name, which rspamd is told."""
    pass_all: bool = False
    """All checks are run, also when the score is enough to reject: for the record, at the price of time."""
    settings: str = Field(default="", pattern=r"^[\w.-]{0,100}$")
    """Settings-ID: rspamd's settings of this name."""
    password_file: str = ""
    """A file with the password; relative to the configuration file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was answered about a message, until it is done."""

    answer: Answer
    then: Then
    wishes: Wishes = field(default_factory=Wishes)
    evidence: str = ""


class Rspamd(ServerScanner[Options]):
    """The plugin."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError without the library."""
        super().__init__(options, name=name, context=context)
        self._httpx: Any = library("httpx2", extra="http")
        self._clients: dict[Service, Client] = {}
        self._told: dict[str, Told] = {}
        self._password = ""

    @hook
    async def startup(self, context: Context) -> None:
        """Read the password, and make the clients: what their library loads when the first is made takes 100 ms."""
        if self.options.password_file:
            self._password = read_secret(self.options.password_file, context=context)
        for service in self.services:
            await asyncio.to_thread(self._client, service)
        await super().startup(context)

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding]:
        """Ask, and give what was found."""
        if label := self.is_too_large(message):
            return [label]
        if len(self._told) >= MAX_TRANSACTIONS:
            raise PluginError(self.name, f"{MAX_TRANSACTIONS} transactions under way")
        options = self.options
        names = ("", "")
        if options.client_names:
            names = await client_names(transaction.session, self.context, options.connect_timeout)
        fields = envelope(
            transaction,
            names,
            server_name=self.context.server_name,
            settings=options.settings,
            password=self._password,
            pass_all=options.pass_all,
        )

        async def scan(service: Service) -> tuple[Answer, str]:
            return parse(await self._client(service).check(fields, message)), str(service.address)

        answer, server = await self.ask(scan)
        told = self._told[transaction.id] = self._understood(answer, server, message)
        return self._findings(told, server)

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> list[Discard] | Reject | Defer | Quarantine | Discard | None:
        """What the action comes to, or the size."""
        told = self._told.get(transaction.id)
        if told is None:
            return self.judge_size(transaction)
        evidence = told.evidence
        text = shown(told.answer.text, 300).strip()
        match told.then:
            case "reject":
                return reject(text or "Rejected as spam", code=554, enhanced="5.7.1", reason="rspamd-reject", evidence=evidence)
            case "defer":
                return defer(text or "Try again later", enhanced="4.7.1", reason="rspamd-defer", evidence=evidence)
            case "quarantine":
                return quarantine("rspamd-quarantine", box=self.options.box, evidence=evidence)
            case "discard":
                return discard("rspamd-discard", evidence=evidence)
            case "add header" | "rewrite subject" | "none":
                gone = [one.mailbox for one in transaction.undecided if one.mailbox in told.wishes.gone]
                return [discard("rspamd-recipient", evidence=evidence).only(*gone)] if gone else None

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction) -> list[Edit] | None:
        """What it wants changed."""
        told = self._told.get(transaction.id)
        return told.wishes.edits or None if told is not None else None

    @hook(cheap=True)
    def sign(self, transaction: Transaction) -> list[AddHeader] | None:
        """Its signatures."""
        told = self._told.get(transaction.id)
        return told.wishes.signatures or None if told is not None and self.options.sign else None

    @hook(cheap=True)
    def done(self, transaction: Transaction) -> None:
        """Forget the transaction."""
        self._told.pop(transaction.id, None)

    @hook
    async def shutdown(self) -> None:
        """Close what is open."""
        await super().shutdown()
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.close()

    async def ping(self, service: Service) -> None:
        """GET /ping."""
        await self._client(service).ping()

    def _client(self, service: Service) -> Client:
        client = self._clients.get(service)
        if client is None:
            client = Client(self._httpx, service, connect_timeout=self.options.connect_timeout)
            self._clients[service] = client
        return client

    def _understood(self, answer: Answer, server: str, message: Message) -> Told:
        """What the answer comes to with these options."""
        options = self.options
        wishes = edits.read(answer, message, spam_header=options.spam_header, with_fields=options.edits)
        then: Then = options.actions.get(answer.action) or USUAL.get(answer.action) or "none"
        if then == "reject" and wishes.on_reject:
            then = "discard" if wishes.on_reject == "discard" else "quarantine"
        if wishes.no_action:
            then = "none"
        if then == "add header":
            edits.mark(wishes, answer, spam_header=options.spam_header)
        elif then == "rewrite subject":
            edits.rewrite_subject(wishes, answer)
        return Told(answer=answer, then=then, wishes=wishes, evidence=answer.evidence(server))

    def _findings(self, told: Told, server: str) -> list[Finding]:
        answer, name = told.answer, self.name
        found: list[Finding] = [
            Label(name=f"{name}.{answer.action.replace(' ', '_')}", evidence=told.evidence),
            Fact(name=f"{name}.score", value=answer.score),
        ]
        if answer.is_skipped:
            found.append(Label(name=f"{name}.skipped", evidence=server))
        found += [Score(symbol=one.name, weight=one.score * self.options.weight, evidence=one.options) for one in answer.symbols]
        found += [Fact(name=f"{name}.not_done", value=what) for what in told.wishes.not_done]
        return found
