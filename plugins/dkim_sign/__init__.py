"""Sign what our own users send: DKIM (RFC 6376, RFC 8301, RFC 8463), with as many keys as there are for the author's domain.

Whether a message is ours is told by who hands it in and never by what it says of itself: From is what a forger writes first.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway import AddHeader, ClientClass, Context, Fact, Message, Plugin, Quarantine, Session, Transaction, add_header, hook
from gateway.mailauth import SigningKey, Terms, dkim_signature, is_within, quoted_identity, shared_body_hashes, signing_name
from gateway.plugins.dkim_sign.fields import FieldChoice
from gateway.plugins.dkim_sign.keys import Signer, Signers, read_signers
from gateway.plugins.dkim_sign.lines import has_bare_line_ends
from gateway.plugins.dkim_sign.options import KeyOptions, Options

__all__ = ["DkimSign", "KeyOptions", "Options"]

NAME = "DKIM-Signature"
MAX_SIGNATURES = 10
"""Signatures that one message gets."""


class _Unsigned(Exception):  # noqa: N818 - it is an answer on its way out, not an error
    """Why a message is not signed: a word for metrics, and the reason for people."""

    def __init__(self, word: str, reason: str) -> None:
        super().__init__(reason)
        self.word = word
        self.reason = reason


class DkimSign(Plugin[Options]):
    """The plugin."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """Reads the keys. OptionError for those that cannot be used."""
        super().__init__(options, name=name, context=context)
        base = Path() if context is None else Path(context.base_directory)
        self._signers = Signers(read_signers(self.options, base))
        self._fields = FieldChoice(self.options.fields, self.options.oversign, self.options.oversign_present)

    @property
    def signing_keys(self) -> tuple[SigningKey, ...]:
        """The keys in use, for `mailgateway dkim check`."""
        return tuple(signer.signing for signer in self._signers.all)

    @hook
    async def sign(self, transaction: Transaction, message: Message) -> list[AddHeader] | Fact:
        """A signature for each key that is for this author, the first key's on top; or why there is none."""
        try:
            self._check_client(transaction.session)
            _check_form(message)
            signers = self._chosen(transaction, _domains(message.author_domains))
            names = self._names(message)
            await self._check_line_ends(message)
        except _Unsigned as unsigned:
            self.context.metrics.count("unsigned_messages", reason=unsigned.word)
            return Fact(name=f"{self.name}.unsigned", value=unsigned.reason)
        terms = self._terms(transaction)
        bodies = await shared_body_hashes(message, [terms.wanted], self.context)
        fields: list[AddHeader] = []
        for signer in reversed(signers):
            own = Terms(
                is_header_relaxed=terms.is_header_relaxed,
                is_body_relaxed=terms.is_body_relaxed,
                identity=_identity(signer, message),
                signed_at=terms.signed_at,
                expires_at=terms.expires_at,
            )
            fields.append(add_header(NAME, dkim_signature(message, signer.signing, names, bodies[terms.wanted], own)))
            await asyncio.sleep(0)  # an RSA signature takes about a millisecond, and Python's lock is held
        self.context.metrics.count("signatures", len(fields))
        return fields

    def _check_client(self, session: Session) -> None:
        options = self.options
        if session.client_class not in options.clients:
            raise _Unsigned("client", f"the client is {session.client_class.value}")
        if options.listeners and session.listener not in options.listeners:
            raise _Unsigned("listener", f"it came through the listener {session.listener!r}")

    def _chosen(self, transaction: Transaction, authors: list[str]) -> list[Signer]:
        """The keys for this message, in the order of the configuration."""
        session = transaction.session
        if self.options.match_identity and session.client_class is ClientClass.AUTHENTICATED:
            mine = _domains([session.identity.rpartition("@")[2]] if "@" in session.identity else [])
            if not authors or any(domain not in mine for domain in authors):
                raise _Unsigned("identity", "an author's domain is not that of the client's identity")
        reverse = _domains([transaction.reverse_path.domain]) if transaction.reverse_path.domain else authors
        found = self._signers.of("author", authors) | self._signers.of("reverse-path", reverse)
        if not found:
            named = ", ".join(authors[:3]) or "no domain"
            raise _Unsigned("key", f"there is no key for the author ({named})")
        return [self._signers.all[place] for place in sorted(found)[:MAX_SIGNATURES]]

    def _names(self, message: Message) -> list[bytes]:
        names = self._fields.names(message)
        if not names:
            raise _Unsigned("fields", "too many header fields, or too large ones")
        return names

    async def _check_line_ends(self, message: Message) -> None:
        """RFC 6376 5.3: a bare CR or LF becomes a line end somewhere on the way. Only binary content may have one at all."""
        if not message.content.is_binary:
            return
        octets = message.octets[:]
        large = len(octets) > 262_144
        if await self.context.run_in_process(has_bare_line_ends, octets) if large else has_bare_line_ends(octets):
            raise _Unsigned("binary", "it has a bare CR or LF, which does not stay as it is on the way (RFC 6376 5.3)")

    def _terms(self, transaction: Transaction) -> Terms:
        header, _, body = self.options.canonicalization.partition("/")
        now = int(self.context.clock())
        # What is held may leave in weeks, and goes out with the signature of today.
        is_held = any(one.decision is not None and isinstance(one.decision.verdict, Quarantine) for one in transaction.recipients)
        ends = self.options.expires_after and not is_held
        return Terms(
            is_header_relaxed=header == "relaxed",
            is_body_relaxed=body == "relaxed",
            signed_at=now,
            expires_at=now + int(self.options.expires_after) if ends else None,
        )


def _check_form(message: Message) -> None:
    """What verifiers would read otherwise than we do is not signed (RFC 6376 3.8, 8.15)."""
    header = message.header
    if header.is_cut:
        raise _Unsigned("fields", "too many header fields")
    if not header.has_blank_line and header.end < message.size:
        raise _Unsigned("malformed", "a line of the header section is no field")
    count = len(message.fields_named("from"))
    if count != 1:
        raise _Unsigned("from", "it has no From" if not count else f"it has {count} From fields")


def _domains(names: tuple[str, ...] | list[str]) -> list[str]:
    """As the options have them; what is no name in DNS has no key."""
    found: dict[str, None] = {}
    for name in names:
        try:
            found[signing_name(name)] = None
        except ValueError:
            continue
    return list(found)


def _identity(signer: Signer, message: Message) -> str:
    """i=, or nothing."""
    wanted = signer.options.identity
    if wanted != "author":
        return quoted_identity(wanted) if wanted else ""
    for mailbox in message.author_addresses:
        try:
            identity = quoted_identity(mailbox)
        except ValueError:
            continue
        if len(identity) <= 320 and is_within(identity.rpartition("@")[2], signer.signing.domain):
            return identity
    return ""
