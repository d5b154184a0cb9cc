"""Recipients known to another mail server: it is asked by RCPT, and nothing is sent to it (RFC 5321 3.3, 4.5.5). Shows `context.store`."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from typing import Literal

import aiosmtplib
from pydantic import Field, field_validator

from gateway import (
    Context,
    Duration,
    Fact,
    Lookup,
    LookupFailedError,
    MailboxKey,
    Plugin,
    PluginOptions,
    Recipient,
    Reject,
    Transaction,
    hook,
    mailbox_key,
    reject,
)

State = Literal["known", "unknown", "unsure"]
KEPT_HERE = 60.0
"""Seconds that a worker remembers an answer of the store without looking there."""
MAX_REPLY = 300


class Options(PluginOptions):
    """Whom to ask, and for whom."""

    server: str
    """`mail.example.org:25`. It must know its recipients at RCPT; the gateway is a client of it as any other."""
    domains: tuple[str, ...] = Field(min_length=1)
    """Domains whose recipients it knows; those of all others are not asked about."""
    tls: Literal["may", "must", "no"] = "may"
    """`must`: with a certificate that can be verified, or nothing is asked."""
    catch_all: bool = True
    """Ask now and then for a mailbox that cannot be there: a domain that takes that one knows nothing, and is not asked about."""
    at_once: int = Field(default=5, ge=1, le=100)
    """Connections to the server, of each worker; more recipients wait."""
    query_limit: Duration = Field(default=8.0, gt=0)
    """Time for one question, its wait included."""
    remember: Duration = 86_400.0
    """How long a known recipient is not asked about again, by any worker of this host."""
    remember_unknown: Duration = 1_800.0
    """The same for an unknown one."""
    remember_unsure: Duration = 120.0
    """The same where the server said to come again later."""

    @field_validator("server")
    @classmethod
    def _is_server(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ValueError(f'found {value!r}; allowed: host:port, such as "mail.example.org:25"')
        return value


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said of one recipient."""

    state: State
    reply: str
    """For the operator; never shown to a client."""


class CallAhead(Plugin[Options]):
    """Asks the server at RCPT."""

    @hook(cheap=True)
    def startup(self, context: Context) -> None:
        """Get ready; nothing is asked yet."""
        host, _, port = self.options.server.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._domains = frozenset(domain.lower() for domain in self.options.domains)
        self._nobody = f"nobody-{secrets.token_hex(8)}"
        self._open: set[str] = set()
        """Domains found to take every recipient; at most all of `domains`."""
        self._answer = Lookup(
            self._stored,
            clock=context.clock,
            keep=lambda answer: min(KEPT_HERE, self._kept(answer)),
            limit=self.options.query_limit,
            at_once=self.options.at_once,
        )

    @hook
    async def rcpt(self, recipient: Recipient) -> Reject | None:
        """550 5.1.1 for a recipient that the server refuses as unknown."""
        path = recipient.onward_path
        key = mailbox_key(path, case_sensitive=True)
        if key.domain not in self._domains or key.is_postmaster or not path.mailbox.isascii():
            return None
        if self.options.catch_all and await self._takes_everything(key.domain):
            return None
        answer = await self._answer((f"<{path.mailbox}>", key))
        match answer.state:
            case "known":
                return None
            case "unknown":
                return reject(
                    "No such recipient here",
                    code=550,
                    enhanced="5.1.1",
                    reason="unknown-recipient",
                    evidence=f"{self.options.server}: {answer.reply}",
                )
            case "unsure":  # `on_error` decides, as with a server that is away
                raise LookupFailedError(f"{self.options.server}: {answer.reply}")

    @hook(cheap=True)
    def check(self, transaction: Transaction) -> list[Fact]:
        """Recipients that could not be verified, since their domain takes all."""
        domains = {mailbox_key(one.forward_path).domain for one in transaction.recipients} & self._open
        return [Fact(name="call_ahead.catch_all", value=", ".join(sorted(domains)))] if domains else []

    @hook
    async def shutdown(self) -> None:
        """End questions under way."""
        await self._answer.close()

    async def _takes_everything(self, domain: str) -> bool:
        answer = await self._answer((f"<{self._nobody}@{domain}>", MailboxKey("", domain)))
        (self._open.add if answer.state == "known" else self._open.discard)(domain)
        return answer.state == "known"

    async def _stored(self, asked: tuple[str, MailboxKey]) -> Answer:
        """From the store, which all workers share, or from the server."""
        path, key = asked
        name = f"{self.options.server}/{key.address if key.local_part else f'*@{key.domain}'}"[:400]
        known = await self.context.store.get(name)
        if known is not None:
            return Answer(**json.loads(known))
        answer = await self._ask(path)
        await self.context.store.put(name, json.dumps(asdict(answer)).encode(), ttl=self._kept(answer))
        self.context.metrics.count("questions", answer=answer.state)
        return answer

    async def _ask(self, path: str) -> Answer:
        """One session: MAIL with the null reverse-path (RFC 5321 4.5.5), RCPT, QUIT. What it raises is a failed look-up."""
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            timeout=self.options.query_limit,
            local_hostname=self.context.server_name,
            start_tls={"may": None, "must": True, "no": False}[self.options.tls],
            validate_certs=self.options.tls == "must",
        )
        try:
            await client.connect()
            await client.ehlo()
            mail = await client.execute_command(b"MAIL", b"FROM:<>")
            if mail.code // 100 != 2:
                raise ConnectionRefusedError(f"MAIL FROM:<> was answered {_shown(mail)}")
            answer = await client.execute_command(b"RCPT", b"TO:" + path.encode("ascii"))
            return Answer(_state(answer), _shown(answer))
        finally:
            client.close()

    def _kept(self, answer: Answer) -> float:
        return {
            "known": self.options.remember,
            "unknown": self.options.remember_unknown,
            "unsure": self.options.remember_unsure,
        }[answer.state]


def _state(reply: aiosmtplib.SMTPResponse) -> State:
    """What a reply to RCPT says of the mailbox. ConnectionRefusedError where it is about us, not about the recipient."""
    if reply.code // 100 == 2:
        return "known"
    if reply.code // 100 == 4:
        return "unsure"
    enhanced = reply.message.split(" ", 1)[0]
    of_mailbox = enhanced.startswith(("5.1.", "5.2.1"))  # RFC 3463 3.2, 3.3
    if of_mailbox or (reply.code in {550, 551, 553} and not enhanced.startswith("5.")):
        return "unknown"
    raise ConnectionRefusedError(f"RCPT was answered {_shown(reply)}")


def _shown(reply: aiosmtplib.SMTPResponse) -> str:
    text = " ".join(reply.message.split())[:MAX_REPLY]
    return f"{reply.code} " + "".join(c if c.isprintable() else "\ufffd" for c in text)
