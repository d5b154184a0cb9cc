"""Ask any web service about a message: JSON goes there, signed, and a verdict, a score, labels and header fields come back.

`contract` has both as models, `sending` the body and its signature. Time and failures are `gateway.scanning`.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from gateway import (
    Context,
    Defer,
    Discard,
    Duration,
    Edit,
    Fact,
    Finding,
    Label,
    Message,
    OptionError,
    OptionMistake,
    Quarantine,
    Reject,
    RemoveHeader,
    Score,
    Transaction,
    add_header,
    defer,
    discard,
    hook,
    library,
    quarantine,
    read_secret,
    reject,
    remove_header,
)
from gateway.plugins.webhook.contract import Answer, parse, tell
from gateway.plugins.webhook.sending import Body, make_body, sign
from gateway.scanning import Scanner, ScannerOptions, shown
from gateway.services import BadAnswerError, Service

MAX_ANSWER = 65_536
"""Octets."""
MAX_WAITING = 100_000
"""Transactions whose answers are remembered until they are done."""


class Options(ScannerOptions):
    """Where the service is, what it is told, and what it may do."""

    url: str
    """Where requests go: `https://scan.example.org/message`."""
    stage: Literal["check", "judge"] = "check"
    """`check`: beside all other checks, after SPF, DKIM and DMARC, whose results it is told; `judge`: when all of them are done, so that
    it is told every finding."""
    content: Literal["none", "base64", "raw"] = "none"
    """Whether the message goes along: in the JSON, or as it came in a part of its own."""
    secret_file: str = ""
    """A file with a secret that requests are signed with; relative to the configuration file."""
    token_file: str = ""
    """A file with a token, sent as `Authorization: Bearer …`."""
    ca_file: str = ""
    """Certificates in PEM to believe instead of the system's."""
    header_prefix: str = Field(default="X-", pattern=r"^[A-Za-z][A-Za-z0-9-]{1,40}$")
    """Names of header fields that it may add begin so. Fields of the same name that came with the message are removed."""
    score_factor: float = 1.0
    """Its score is multiplied by this."""
    text: str = Field(default="Message content is not accepted here", pattern=r"^[ -~]{1,200}$")
    """Of a reply that refuses, where the answer has none."""
    connect_timeout: Duration = Field(default=3.0, gt=0)
    """For a connection, TLS included."""

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or not value.isprintable():
            raise ValueError("found no address of a web service; allowed: http(s)://host/…, without a password")
        return value


class Webhook(Scanner[Options]):
    """Asks at `check`, or at `judge`."""

    needs: ClassVar[tuple[str, ...]] = ("auth.spf", "auth.dkim", "auth.dmarc", "auth.arc", "auth.iprev")

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError without the library, and for certificates that cannot be used."""
        super().__init__(options, name=name, context=context)
        self._httpx: Any = library("httpx2", extra="http")
        self._answers: dict[str, Answer] = {}
        self._secret = b""
        self._trust: Any = True
        if self.options.ca_file:
            file = Path() if context is None else Path(context.base_directory)
            try:
                self._trust = ssl.create_default_context(cafile=str(file / self.options.ca_file))
            except OSError as error:  # ssl.SSLError is one
                mistake = OptionMistake(
                    key=("ca_file",), found=f"certificates that cannot be used: {error}", allowed="a file in PEM"
                )
                raise OptionError(mistake) from error

    def make_services(self) -> list[Service]:
        """The service, by host and port: what else stands in the address may be a secret."""
        parts = urlsplit(self.options.url)
        return [self.service(f"{parts.scheme}://{parts.netloc}")]

    @hook
    async def startup(self, context: Context) -> None:
        """Read the secrets, make the client. OSError or ValueError for a file that cannot be used."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "mailgateway"}
        if self.options.token_file:
            headers["Authorization"] = f"Bearer {read_secret(self.options.token_file, context=context).strip()}"
        if self.options.secret_file:
            self._secret = read_secret(self.options.secret_file, context=context).encode()
            if len(self._secret) < 16:
                raise ValueError(
                    f"{self.options.secret_file}: found a secret of {len(self._secret)} octets; allowed: 16 and more"
                )
        httpx = self._httpx
        self._client = await asyncio.to_thread(  # reading the system's certificates takes a while
            httpx.AsyncClient,
            headers=headers,
            timeout=httpx.Timeout(None, connect=self.options.connect_timeout),  # the turn of the question bounds all of it
            limits=httpx.Limits(max_connections=self.options.connections),
            follow_redirects=False,
            trust_env=False,
            verify=self._trust,
        )

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding] | None:
        """Its score, its labels, and its verdict as a fact."""
        if label := self.is_too_large(message):
            return [label]
        if self.options.stage != "check":
            return None
        answer = await self._ask_about(transaction, message)
        findings: list[Finding] = [Label(name=f"{self.name}.{one}") for one in dict.fromkeys(answer.labels)]
        if answer.score is not None:
            findings.append(
                Score(symbol=self.name, weight=answer.score * self.options.score_factor, evidence=shown(answer.reason))
            )
        return [*findings, Fact(name=f"{self.name}.verdict", value=f"{answer.verdict} {shown(answer.reason)}".strip())]

    @hook
    async def judge(
        self, transaction: Transaction, message: Message
    ) -> list[Reject | Quarantine | Discard | Defer | Score] | Reject | Quarantine | Discard | Defer | None:
        """What it says."""
        if self.options.stage == "check":
            answer = self._answers.get(transaction.id)
            return self._verdict(answer) if answer is not None else self.judge_size(transaction)
        if any(True for _ in transaction.findings.by(self.name, Label)):
            return self.judge_size(transaction)
        answer = await self._ask_about(transaction, message)
        why = shown(answer.reason)
        values: list[Reject | Quarantine | Discard | Defer | Score] = [
            Score(symbol=f"{self.name}.{one}", weight=0.0, evidence=why) for one in dict.fromkeys(answer.labels)
        ]
        if answer.score is not None:
            weight = answer.score * self.options.score_factor
            values.append(Score(symbol=self.name, weight=weight, evidence=why))
        if (verdict := self._verdict(answer)) is not None:
            values.append(verdict)
        return values or None

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction, message: Message) -> list[Edit] | None:
        """Its header fields, instead of those of their names that came with the message."""
        answer = self._answers.get(transaction.id)
        if answer is None or not answer.headers:
            return None
        names = {one.name.lower() for one in answer.headers}
        gone: list[RemoveHeader] = [remove_header(name) for name in sorted(names) if message.field(name) is not None]
        return [*gone, *(add_header(one.name, one.value) for one in reversed(answer.headers))]

    @hook(cheap=True)
    def done(self, transaction: Transaction) -> None:
        """Forget its answer."""
        self._answers.pop(transaction.id, None)

    @hook
    async def shutdown(self) -> None:
        """Close its connections."""
        await self._client.aclose()
        await super().shutdown()

    def _verdict(self, answer: Answer) -> Reject | Quarantine | Discard | Defer | None:
        evidence = shown(answer.reason) or "no reason given"
        match answer.verdict:
            case "reject":
                return reject(answer.text or self.options.text, reason="webhook", evidence=evidence)
            case "defer":
                text = answer.text or "Temporary failure, please try again later"
                return defer(text, reason="webhook", evidence=evidence)
            case "quarantine":
                return quarantine("webhook", box=answer.box or self.options.box, evidence=evidence)
            case "discard":
                return discard("webhook", evidence=evidence)
            case "pass":
                return None

    async def _ask_about(self, transaction: Transaction, message: Message) -> Answer:
        now = self.context.clock()

        def prepare() -> tuple[Body, dict[str, str]]:
            """In a thread: large messages are looked through, encoded and hashed."""
            body = make_body(tell(transaction, message, now=now, server=self.context.server_name), message, self.options.content)
            nonce = secrets.token_hex(16)
            headers = {"Content-Type": body.kind, "Content-Length": str(body.size)}
            headers |= {"Mailgateway-Timestamp": str(int(now)), "Mailgateway-Nonce": nonce}
            if self._secret:
                headers["Mailgateway-Signature"] = f"sha256={sign(body, self._secret, int(now), nonce)}"
            return body, headers

        body, headers = await asyncio.to_thread(prepare)
        answer = await self.ask(lambda service: self._post(service, body, headers))
        while len(self._answers) >= MAX_WAITING:
            self._answers.pop(next(iter(self._answers)))
        self._answers[transaction.id] = answer
        return answer

    async def _post(self, service: Service, body: Body, headers: dict[str, str]) -> Answer:
        httpx, octets = self._httpx, b""
        try:
            async with self._client.stream("POST", self.options.url, content=_pieces(body), headers=headers) as response:
                async for chunk in response.aiter_raw(8_192):
                    octets += chunk
                    if len(octets) > MAX_ANSWER:
                        raise BadAnswerError(f"an answer of more than {MAX_ANSWER} octets")
        except httpx.ConnectTimeout:
            raise service.failed("no connection in time", "connect") from None
        except httpx.ConnectError as error:
            raise service.failed(f"cannot connect: {shown(str(error))}", "connect") from error
        except httpx.HTTPError as error:
            raise EOFError(shown(f"{type(error).__name__} {error}")) from error
        if response.status_code not in {200, 204}:
            raise BadAnswerError(f"status {response.status_code}: {shown(octets, 120)!r}")
        try:
            answer = parse(octets)
        except ValueError as error:
            raise BadAnswerError(f"no answer as agreed: {shown(str(error))}") from error
        for one in answer.headers:
            if not one.name.lower().startswith(self.options.header_prefix.lower()):
                raise BadAnswerError(f"a header field {one.name}, whose name does not begin with {self.options.header_prefix}")
        return answer


async def _pieces(body: Body) -> AsyncIterator[bytes]:
    for piece in body.pieces():
        yield piece
