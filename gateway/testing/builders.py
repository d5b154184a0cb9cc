"""Sessions, transactions and messages in one line, for tests of plugins."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.content import Content
from gateway.message import Message
from gateway.offline import path_of
from gateway.session import ClientClass, Session, Tls
from gateway.smtp.paths import Parameter
from gateway.trace import Trace
from gateway.transaction import Recipient, Transaction

_numbers = itertools.count(1)
_SIGNING_SEED = b"gateway.testing: not a secret!!!"
_BOUNDARY = "=_mailgateway_testing"

Attachment = str | tuple[str, bytes] | tuple[str, bytes, str] | Message
"""A file name, or (file name, octets), or (file name, octets, content type), or a message, which is forwarded so (RFC 2046 5.2.1)."""


def a_session(
    *,
    client_address: str = "192.0.2.1",
    client_name: str = "",
    helo: str = "client.example",
    identity: str = "",
    client_class: ClientClass | str | None = None,
    tls: Tls | bool = False,
    **facts: Any,
) -> Session:
    """A session of a client. With an `identity` its class is `authenticated`, else `stranger`.

    Examples:
        >>> a_session(client_address="2001:db8::1", identity="alice").client_class
        <ClientClass.AUTHENTICATED: 'authenticated'>
    """
    if client_class is None:
        client_class = ClientClass.AUTHENTICATED if identity else ClientClass.STRANGER
    if tls is True:
        tls = Tls(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384")
    facts.setdefault("id", f"session-{next(_numbers)}")
    facts.setdefault("esmtp", True)
    return Session(
        client_address=client_address,
        client_name=client_name,
        helo=helo,
        identity=identity,
        client_class=ClientClass(client_class),
        tls=tls or None,
        **facts,
    )


def a_recipient(mailbox: str = "bob@example.org", *parameters: str, route: str = "default") -> Recipient:
    """One recipient: `a_recipient("bob@example.org", "NOTIFY=NEVER")`.

    Examples:
        >>> a_recipient("bob@example.org", "NOTIFY=NEVER").parameters[0].value
        'NEVER'
    """
    path = path_of(mailbox)
    return Recipient(
        forward_path=path, sent_path=path.octets, route=route, parameters=tuple(Parameter(p.encode()) for p in parameters)
    )


def a_transaction(
    *,
    reverse_path: str = "alice@client.example",
    recipients: Iterable[str | Recipient] = ("bob@example.org",),
    parameters: Sequence[str] = (),
    session: Session | None = None,
    **facts: Any,
) -> Transaction:
    """A transaction from one mailbox (`""`: the null reverse-path) to some.

    Examples:
        >>> transaction = a_transaction(reverse_path="", recipients=["bob@example.org"])
        >>> transaction.reverse_path.is_null
        True
    """
    path = path_of(reverse_path)
    facts.setdefault("id", f"transaction-{next(_numbers)}")
    return Transaction(
        session=a_session() if session is None else session,
        reverse_path=path,
        sent_reverse_path=path.octets,
        recipients=[a_recipient(one) if isinstance(one, str) else one for one in recipients],
        parameters=tuple(Parameter(one.encode()) for one in parameters),
        trace=Trace(),
        **facts,
    )


def a_message(
    octets: bytes | None = None,
    *,
    subject: str = "Hello",
    from_: str = "Alice <alice@client.example>",
    to: str = "bob@example.org",
    body: str = "Hello Bob,\r\n\r\nhow are you?\r\n",
    html: str = "",
    attach: Attachment | Sequence[Attachment] | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Message:
    r"""A message: these octets as they are, or made from parts.

    `headers` go on top; one that bears the name of a field made here replaces it. A bare LF in `body` becomes CRLF.

    Examples:
        >>> a_message(subject="Invoice", attach=[("a.pdf", b"%PDF"), "b.exe"], headers=[("X-Seen", "yes")]).attachments[1].filename
        'b.exe'
        >>> a_message(b"Subject: as it is\r\n\r\n").subject
        'as it is'
    """
    if octets is not None:
        return Message(Content(octets))
    more = list(headers)
    theirs = {name.lower() for name, _ in more}
    number = next(_numbers)
    ours = [
        ("From", from_),
        ("To", to),
        ("Subject", _encode(subject)),
        ("Date", "Tue, 24 Nov 2026 09:00:00 +0000"),
        ("Message-ID", f"<message-{number}@client.example>"),
        ("MIME-Version", "1.0"),
    ]
    files = _attachments(attach)
    fields, rest = _parts(_crlf(body), _crlf(html), files)
    lines = [f"{name}: {value}" for name, value in [*more, *(f for f in [*ours, *fields] if f[0].lower() not in theirs)]]
    return Message(Content("\r\n".join(lines).encode() + b"\r\n\r\n" + rest))


def a_signed_message(
    message: Message | None = None, *, domain: str = "client.example", selector: str = "test", **parts: Any
) -> Message:
    """A message with a DKIM signature of this domain (RFC 6376, Ed25519); `parts` are those of `a_message`. `signing_zone` has its key.

    Examples:
        >>> message = a_signed_message(subject="Signed", domain="client.example")
        >>> message.field("DKIM-Signature").value[:23]
        'v=1; a=ed25519-sha256; '
        >>> sorted(signing_zone("client.example"))
        ['test._domainkey.client.example']
    """
    import dkim

    octets = bytes((a_message(**parts) if message is None else message).octets)
    names = (b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type")
    signature = dkim.sign(
        octets,
        selector.encode(),
        domain.encode(),
        base64.b64encode(_SIGNING_SEED),
        include_headers=[name for name in names if (b"\n" + octets.lower()).find(b"\n" + name + b":") >= 0],
        signature_algorithm=b"ed25519-sha256",
    )
    return Message(Content(bytes(signature) + octets))


def signing_zone(domain: str = "client.example", *, selector: str = "test") -> dict[str, dict[str, list[Any]]]:
    """The key of `a_signed_message` as DNS has it, for `FakeResolver` and `EndToEnd`.

    Examples:
        >>> signing_zone("client.example")["test._domainkey.client.example"]["TXT"][0][:21]
        'v=DKIM1; k=ed25519; p'
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = Ed25519PrivateKey.from_private_bytes(_SIGNING_SEED).public_key().public_bytes_raw()
    return {f"{selector}._domainkey.{domain}": {"TXT": [f"v=DKIM1; k=ed25519; p={base64.b64encode(public).decode()}"]}}


def _crlf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def _encode(text: str) -> str:
    """RFC 2047 4.1 where it is needed."""
    if text.isascii():
        return text
    return f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="


def _attachments(attach: Attachment | Sequence[Attachment] | None) -> list[tuple[str, bytes, str]]:
    if attach is None:
        return []
    if isinstance(attach, str | Message) or (
        isinstance(attach, tuple) and len(attach) in {2, 3} and isinstance(attach[1], bytes)
    ):
        many: Sequence[Any] = [attach]
    else:
        many = attach
    result = []
    for one in many:
        if isinstance(one, Message):
            result.append(("", bytes(one.octets), "message/rfc822"))
            continue
        name, octets, kind = (one, b"octets of a file", "") if isinstance(one, str) else (*one, "")[:3]
        result.append((name, octets, kind or "application/octet-stream"))
    return result


def _parts(body: str, html: str, files: list[tuple[str, bytes, str]]) -> tuple[list[tuple[str, str]], bytes]:
    """Content fields and body: one part, or a multipart (RFC 2046 5.1)."""
    text: list[tuple[list[tuple[str, str]], bytes]] = [(_content("text/plain; charset=utf-8", "8bit"), body.encode())]
    if html:
        text.append((_content("text/html; charset=utf-8", "8bit"), html.encode()))
    if len(text) == 1 and not files:
        return text[0]
    fields, octets = text[0] if len(text) == 1 else _multipart("alternative", text)
    if not files:
        return fields, octets
    parts = [(fields, octets)]
    for name, content, kind in files:
        parameters = f'; filename="{name}"' if name else ""
        disposition = ("Content-Disposition", f"attachment{parameters}")
        if kind == "message/rfc822":  # no encoding but the identity (RFC 2046 5.2.1)
            parts.append(([*_content(kind, "8bit"), disposition], content))
            continue
        parts.append(([*_content(kind, "base64"), disposition], base64.encodebytes(content).replace(b"\n", b"\r\n")))
    return _multipart("mixed", parts)


def _content(kind: str, encoding: str) -> list[tuple[str, str]]:
    return [("Content-Type", kind), ("Content-Transfer-Encoding", encoding)]


def _multipart(kind: str, parts: list[tuple[list[tuple[str, str]], bytes]]) -> tuple[list[tuple[str, str]], bytes]:
    boundary = f"{_BOUNDARY}_{kind}"
    octets = b""
    for fields, content in parts:
        header = "".join(f"{name}: {value}\r\n" for name, value in fields)
        octets += f"--{boundary}\r\n{header}\r\n".encode() + content + b"\r\n"
    return [("Content-Type", f'multipart/{kind}; boundary="{boundary}"')], octets + f"--{boundary}--\r\n".encode()
