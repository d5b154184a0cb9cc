"""Tell people in Slack, Matrix or by a webhook what was decided. Shows `done` and work beside the mail: nobody's mail waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from string import Template
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator, model_validator

from gateway import (
    Context,
    Duration,
    Outcome,
    Plugin,
    PluginOptions,
    Recipient,
    Transaction,
    hook,
    library,
    read_secret,
)

Fate = Literal["delivered", "held", "rejected", "deferred", "discarded", "vanished"]
MAX_TEXT = 300
"""Characters of one value."""
MAX_RECIPIENTS = 5
"""Named in one notice."""


class Options(PluginOptions):
    """Whom to tell, what, and how often at most."""

    to: Literal["slack", "matrix", "webhook"]
    """`slack`: an incoming webhook; `matrix`: a room; `webhook`: JSON with every value, for a program of yours."""
    url_file: str
    """A file with the address, since Slack's is a secret: the webhook's, or of the Matrix server (`https://matrix.example.org`)."""
    token_file: str = ""
    """A file with a token, sent as `Authorization: Bearer …`; Matrix needs it."""
    room: str = ""
    """Matrix: the room's id, `!abc:example.org`."""
    fates: tuple[Fate, ...] = ("held", "rejected", "discarded")
    """What is told of."""
    reasons: tuple[str, ...] = ()
    """Only of these reasons, as the log has them; empty: of all."""
    text: str = "$fate: mail from $sender to $recipients ($plugin: $reason), $id"
    """With `$fate`, `$sender`, `$recipients`, `$plugin`, `$reason`, `$evidence`, `$client`, `$id`."""
    per_minute: int = Field(default=10, ge=1, le=1_000)
    """Notices at most; how many more there were is said in the next."""
    queue: int = Field(default=100, ge=1, le=10_000)
    """Notices that wait at most, in each worker; beyond it they are only counted."""
    send_limit: Duration = Field(default=5.0, gt=0)
    """Time for one request."""

    @field_validator("text")
    @classmethod
    def _has_known_places(cls, value: str) -> str:
        template = Template(value)
        unknown = set(template.get_identifiers()) - Event.__dataclass_fields__.keys()
        if unknown or not template.is_valid():
            raise ValueError(
                f"found {', '.join(sorted(unknown)) or 'a $ without a name'}; allowed: {', '.join(Event.__dataclass_fields__)}"
            )
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.to == "matrix" and not (self.room and self.token_file):
            raise ValueError("found matrix without room or token_file; allowed: both")
        return self


@dataclass(frozen=True, slots=True)
class Event:
    """What a notice is about; all on one line, bounded."""

    fate: str
    sender: str
    recipients: str
    plugin: str
    reason: str
    evidence: str
    client: str
    id: str


class Notice(Plugin[Options]):
    """Writes down at `done`, and sends in the background."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError without the library."""
        super().__init__(options, name=name, context=context)
        self._httpx: Any = library("httpx2", extra="http")
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._sent = 0
        self._woken = asyncio.Event()

    @hook
    async def startup(self, context: Context) -> None:
        """Read the secrets, and begin to wait. OSError or ValueError for a file that cannot be used."""
        self._url = read_secret(self.options.url_file, context=context).strip()
        if urlsplit(self._url).scheme not in {"http", "https"} or not urlsplit(self._url).hostname:
            raise ValueError(f"{self.options.url_file}: found no address; allowed: https://host/…")
        headers = {"User-Agent": "mailgateway"}
        if self.options.token_file:
            headers["Authorization"] = f"Bearer {read_secret(self.options.token_file, context=context).strip()}"
        self._client = self._httpx.AsyncClient(
            headers=headers, timeout=self.options.send_limit, follow_redirects=False, trust_env=False
        )
        context.spawn(self._send_all(), name="send notices")

    @hook(cheap=True)
    def done(self, transaction: Transaction, outcome: Outcome) -> None:
        """Note what is to be told; nothing waits here."""
        told = [mailbox for mailbox, fate in outcome.fates if fate in self.options.fates]
        recipients = [one for one in transaction.recipients if one.mailbox in told]
        decided = next((one.decision for one in recipients if one.decision is not None), None)
        reason = decided.verdict.reason if decided is not None else ""
        if not told or (self.options.reasons and reason not in self.options.reasons):
            return
        event = Event(
            fate=next(fate for mailbox, fate in outcome.fates if mailbox == told[0]),
            sender=_shown(transaction.reverse_path.mailbox) or "<>",
            recipients=_named(recipients, told),
            plugin=decided.plugin if decided is not None else "next hop",
            reason=reason,
            evidence=_shown(decided.verdict.evidence) if decided is not None else "",
            client=_shown(transaction.session.client_address),
            id=transaction.id,
        )
        if len(self._waiting) >= self.options.queue:
            self._dropped += 1
            self.context.metrics.count("dropped")
        else:
            self._waiting.append(event)
            self._woken.set()

    @hook
    async def shutdown(self) -> None:
        """Close the connection; what waits is not sent any more."""
        await self._client.aclose()

    async def _send_all(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                await self._send(self._waiting.popleft())
                await asyncio.sleep(60 / self.options.per_minute)

    async def _send(self, event: Event) -> None:
        """One try: a notice is not worth more. Its failure is counted and logged, without the address."""
        dropped, self._dropped = self._dropped, 0
        text = Template(self.options.text).safe_substitute(asdict(event)) + (f" (and {dropped} more)" if dropped else "")
        method, url, body = self._request(event, text, dropped)
        try:
            response = await self._client.request(method, url, json=body)
            problem = "" if response.status_code // 100 == 2 else f"status {response.status_code}"
        except self._httpx.HTTPError as error:
            problem = type(error).__name__
        if problem:
            self._dropped += dropped + 1
            self.context.log.warning("notice.failed", error=problem, id=event.id)
        self.context.metrics.count("notices", outcome="failed" if problem else "sent")

    def _request(self, event: Event, text: str, dropped: int) -> tuple[str, str, dict[str, Any]]:
        match self.options.to:
            case "slack":  # its own markup: these three begin it
                escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
                return "POST", self._url, {"text": escaped, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
            case "matrix":
                self._sent += 1
                place = f"rooms/{quote(self.options.room, safe='')}/send/m.room.message/{quote(event.id, safe='')}.{self._sent}"
                return "PUT", f"{self._url.rstrip('/')}/_matrix/client/v3/{place}", {"msgtype": "m.notice", "body": text}
            case "webhook":
                return "POST", self._url, {"text": text, "more": dropped, **asdict(event)}


def _named(recipients: Iterable[Recipient], told: list[str]) -> str:
    names = [_shown(one) for one in (dict.fromkeys([one.mailbox for one in recipients] + told))]
    more = f" and {len(names) - MAX_RECIPIENTS} more" if len(names) > MAX_RECIPIENTS else ""
    return ", ".join(names[:MAX_RECIPIENTS]) + more


def _shown(text: str) -> str:
    """On one line, and not so that a chat program makes a link or a call of it."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in text[:MAX_TEXT])
    return shown.replace("://", "[:]//")
