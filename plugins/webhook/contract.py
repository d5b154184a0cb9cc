"""What a web service is told of a message and may answer, as JSON: the models are the contract, docs/schemas has them as JSON schemas.

Everything is bounded, and what a client said is text in JSON, never more.
"""

from __future__ import annotations

import math
from dataclasses import fields as fields_of
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from gateway import Finding, Message, Session, Transaction

MAX_TEXT = 2_000
"""Characters of one text."""
MAX_LIST = 200
"""Recipients, header fields, attachments and findings, of each."""
Scalar: TypeAlias = bool | int | float | str


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Client(_Told):
    """Who sends it."""

    address: str
    """IP address; empty when it is not known."""
    name: str
    """Verified reverse name, where something looked it up."""
    client_class: Literal["authenticated", "trusted", "stranger"]
    helo: str
    identity: str
    """Authenticated identity, or empty."""
    protocol: str
    """`smtp` or `lmtp`."""
    tls: str
    """`TLSv1.3`, or empty."""


class Envelope(_Told):
    """RFC 5321 2.3.1."""

    reverse_path: str
    """Empty for `<>`."""
    recipients: list[str]
    """The first 200."""
    recipient_count: int


class HeaderField(_Told):
    """One header field, decoded."""

    name: str
    value: str


class Attachment(_Told):
    """A part with a name, marked as attachment, or no text."""

    name: str
    declared_type: str
    detected_type: str
    """By content; empty for what is not known."""


class FindingTold(_Told):
    """What a check found so far."""

    plugin: str
    kind: str
    """`AuthResult`, `Score`, `Label`, `Fact`, or the class of a plugin's own."""
    values: dict[str, Scalar]


class Request(_Told):
    """What the service gets."""

    version: Literal[1] = 1
    id: str
    """The transaction's identifier, as in the log and the journal."""
    time: int
    """Seconds since the epoch."""
    server: str
    listener: str
    client: Client
    envelope: Envelope
    size: int
    """Octets of the message."""
    subject: str
    message_id: str
    fields: list[HeaderField]
    """From the top, the first 200."""
    attachments: list[Attachment]
    findings: list[FindingTold]
    content: str | None = None
    """The message in base64, where `content = "base64"` asks for it."""


class AddedField(BaseModel):
    """A header field that the service wants on the message."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]
    value: Annotated[str, StringConstraints(pattern=r"^[ -~]{0,500}$")]


class Answer(BaseModel):
    """What the service answers with 200. 204, or nothing, is `{"verdict": "pass"}`. Further keys are ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    verdict: Literal["pass", "reject", "defer", "quarantine", "discard"] = "pass"
    text: Annotated[str, StringConstraints(pattern=r"^[ -~]{1,200}$")] | None = None
    """Of the reply that refuses; printable ASCII, on one line."""
    reason: Annotated[str, StringConstraints(max_length=500)] = ""
    """For the operator; the client does not see it."""
    box: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")] | None = None
    """Quarantine box."""
    score: Annotated[float, Field(ge=-1_000_000, le=1_000_000, allow_inf_nan=False)] | None = None
    labels: Annotated[list[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]], Field(max_length=50)] = []
    headers: Annotated[list[AddedField], Field(max_length=20)] = []


def parse(octets: bytes) -> Answer:
    """An answer. ValueError says what is wrong with it."""
    if not octets.strip():
        return Answer()
    try:
        return Answer.model_validate_json(octets, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise ValueError(f"{where or 'the answer'}: {first['msg']}") from error


def tell(transaction: Transaction, message: Message, *, now: float, server: str) -> Request:
    """All but the content."""
    session = transaction.session
    return Request(
        id=transaction.id,
        time=int(now),
        server=server,
        listener=session.listener,
        client=_client(session),
        envelope=Envelope(
            reverse_path=_text(transaction.reverse_path.mailbox),
            recipients=[_text(one.mailbox) for one in transaction.recipients[:MAX_LIST]],
            recipient_count=len(transaction.recipients),
        ),
        size=message.size,
        subject=_text(message.subject),
        message_id=_text(message.message_id),
        fields=[HeaderField(name=_text(one.name), value=_text(one.value)) for one in message.fields[:MAX_LIST]],
        attachments=[
            Attachment(name=_text(one.filename), declared_type=_text(one.content_type), detected_type=one.detected_type)
            for one in message.attachments[:MAX_LIST]
        ],
        findings=[_finding(plugin, one) for plugin, one in [*transaction.findings.attributed()][:MAX_LIST]],
    )


def _client(session: Session) -> Client:
    return Client(
        address=session.client_address,
        name=_text(session.client_name),
        client_class=session.client_class.value,
        helo=_text(session.helo),
        identity=_text(session.identity),
        protocol=session.protocol,
        tls=session.tls.version if session.tls is not None else "",
    )


def _finding(plugin: str, finding: Finding) -> FindingTold:
    values: dict[str, Scalar] = {}
    for one in fields_of(finding):
        value = getattr(finding, one.name)
        if isinstance(value, float) and not math.isfinite(value):
            continue
        values[one.name] = value if isinstance(value, bool | int | float) else _text(str(value))
    return FindingTold(plugin=plugin, kind=type(finding).__name__, values=values)


def _text(text: str) -> str:
    """Bounded, and without what is no character."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()
