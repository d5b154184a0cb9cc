"""Recipients known to a web service: it is asked at RCPT and answers in JSON (RFC 5321 3.3). Shows a client that lives with the worker."""

from __future__ import annotations

from string import Formatter
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, Field, ValidationError, field_validator

from gateway import (
    Context,
    Duration,
    Lookup,
    MailboxKey,
    Plugin,
    PluginOptions,
    Recipient,
    Reject,
    hook,
    library,
    mailbox_key,
    read_secret,
    reject,
)

PLACES = frozenset(["address", "local_part", "domain"])
MAX_ANSWER = 65_536
"""Octets."""
MAX_KEPT = 7 * 86_400
"""Seconds that a service may have its answer remembered."""


class Options(PluginOptions):
    """Where to ask, and for whom."""

    url: str
    """With `{address}`, or `{local_part}` and `{domain}`: `https://users.example.org/mailboxes/{address}`. They are percent-encoded."""
    domains: tuple[str, ...] = Field(min_length=1)
    """Domains whose recipients the service knows; those of all others are not looked up."""
    token_file: str = ""
    """A file with a token, sent as `Authorization: Bearer …`; relative to the configuration file."""
    ca_file: str = ""
    """Certificates in PEM to believe instead of the system's."""
    case_sensitive: bool = False
    """Whether the service gets the local part as written, or in lower case."""
    subaddress: str = Field(default="+", max_length=4)
    """Characters that begin a subaddress: `alice+lists` is known where `alice` is. `` turns it off."""
    at_once: int = Field(default=10, ge=1, le=1_000)
    """Requests at once, of each worker; more wait."""
    query_limit: Duration = Field(default=3.0, gt=0)
    """Time for one look-up, its wait included."""
    remember: Duration = 300.0
    """How long a known recipient is not asked about again, where the answer has no `ttl`."""
    remember_unknown: Duration = 60.0
    """The same for an unknown one."""
    stale: Duration = 3600.0
    """How long an old answer serves while the service does not answer."""
    failures: int = Field(default=5, ge=1)
    """After so many failures in a row the service is left alone …"""
    pause: Duration = 10.0
    """… for so long."""

    @field_validator("url")
    @classmethod
    def _is_template(cls, value: str) -> str:
        parts = urlsplit(value)
        named = {name for _, name, _, _ in Formatter().parse(value) if name is not None}
        if parts.scheme not in {"http", "https"} or not parts.hostname or not named or named - PLACES:
            raise ValueError(f"found {value!r}; allowed: http(s)://host/… with {{address}} or {{local_part}} and {{domain}}")
        if named & {name for _, name, _, _ in Formatter().parse(parts.netloc) if name is not None}:
            raise ValueError("found a host made of the recipient, who then would choose whom we ask; allowed: a host of yours")
        return value


class Answer(BaseModel):
    """What the service answers with 200: `{"known": true}`. Further keys are ignored. 404 is `{"known": false}`."""

    known: bool
    ttl: float | None = Field(default=None, ge=0, le=MAX_KEPT)
    """Seconds to remember it."""


class RecipientsHttp(Plugin[Options]):
    """Asks the service at RCPT."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError without the library."""
        super().__init__(options, name=name, context=context)
        self._httpx: Any = library("httpx2", extra="http")
        self._domains = frozenset(domain.lower() for domain in self.options.domains)

    @hook
    async def startup(self, context: Context) -> None:
        """Make the client, whose connections are used again and again."""
        options = self.options
        headers = {"Accept": "application/json", "User-Agent": "mailgateway"}
        if options.token_file:
            headers["Authorization"] = f"Bearer {read_secret(options.token_file, context=context)}"
        self._client = self._httpx.AsyncClient(
            headers=headers,
            timeout=options.query_limit,
            limits=self._httpx.Limits(max_connections=options.at_once),
            follow_redirects=False,
            trust_env=False,
            verify=_trust(options.ca_file, context),
        )
        self._answer = Lookup(
            self._ask,
            clock=context.clock,
            keep=self._kept,
            limit=options.query_limit,
            at_once=options.at_once,
            stale=options.stale,
            failures=options.failures,
            pause=options.pause,
        )

    @hook
    async def rcpt(self, recipient: Recipient) -> Reject | None:
        """550 5.1.1 for a recipient that the service does not know."""
        sensitive = self.options.case_sensitive
        key = mailbox_key(recipient.onward_path, case_sensitive=sensitive)
        if key.domain not in self._domains or key.is_postmaster or (await self._answer(key)).known:
            return None
        plain = mailbox_key(recipient.onward_path, case_sensitive=sensitive, subaddress=self.options.subaddress)
        if plain != key and (await self._answer(plain)).known:
            return None
        return reject("No such recipient here", code=550, enhanced="5.1.1", reason="unknown-recipient")

    @hook
    async def shutdown(self) -> None:
        """Close its connections."""
        await self._answer.close()
        await self._client.aclose()

    async def _ask(self, key: MailboxKey) -> Answer:
        places = {"address": key.address, "local_part": key.local_part, "domain": key.domain}
        url = self.options.url.format_map({name: quote(value, safe="") for name, value in places.items()})
        async with self._client.stream("GET", url) as response:
            if response.status_code == 404:
                return Answer(known=False)
            if response.status_code != 200:
                raise ValueError(f"status {response.status_code}")
            octets = b""
            async for chunk in response.aiter_bytes(8_192):
                octets += chunk
                if len(octets) > MAX_ANSWER:
                    raise ValueError(f"an answer of more than {MAX_ANSWER} octets")
        try:
            return Answer.model_validate_json(octets, strict=True)
        except ValidationError as error:
            raise ValueError(f'no answer as agreed ({{"known": true}}): {error.errors()[0]["msg"]}') from error

    def _kept(self, answer: Answer) -> float:
        if answer.ttl is not None:
            return answer.ttl
        return self.options.remember if answer.known else self.options.remember_unknown


def _trust(ca_file: str, context: Context) -> Any:
    """What httpx takes as `verify`."""
    if not ca_file:
        return True
    import ssl
    from pathlib import Path

    return ssl.create_default_context(cafile=str(Path(context.base_directory, ca_file)))
