"""Bounce addresses with a tag (BATV, draft-levine-smtp-batv): our reverse-paths are signed, and a bounce to an unsigned one is not ours.

`prvs=KDDDSSSSSS=local@domain`: number of the key, day of expiry modulo 1000, six digits of an HMAC-SHA1. Nothing is stored. Exim's `prvs`
makes and takes the same.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Literal

from pydantic import Field, model_validator

from gateway import (
    Context,
    Duration,
    Fact,
    Finding,
    MailboxKey,
    Message,
    OptionError,
    OptionMistake,
    Plugin,
    PluginOptions,
    Recipient,
    Reject,
    Score,
    Transaction,
    UseForwardPath,
    UseReversePath,
    Verdict,
    a_labels,
    hook,
    mailbox_key,
    read_secret,
    reject,
    use_forward_path,
    use_reverse_path,
)
from gateway.exemptions import Mailboxes, MailboxPattern, Networks, NetworkText

_TAGGED = re.compile(r"prvs=(?P<key>[0-9])(?P<day>[0-9]{3})(?P<signature>[0-9a-f]{6})=(?P<local>.+)", re.IGNORECASE | re.DOTALL)
_SRS = re.compile(r"SRS[01][=+-]", re.IGNORECASE)
_DOT_STRING = re.compile(r"[^\s\x00-\x20\"(),:;<>@\[\\\]\x7f]+")
_NOTIFICATION = re.compile(r"multipart/report\b.*\breport-type\s*=\s*\"?disposition-notification\b", re.IGNORECASE | re.DOTALL)
_DAY = 86_400
_DAYS = 1_000
"""After which the day of a tag begins anew."""
MINIMUM_SECRET = 16
_WORST = ("forged", "expired", "unsigned", "signed")

State = Literal["signed", "expired", "forged", "unsigned"]
"""Of an address that a bounce came to; `forged`: it has a tag that no key of ours made."""


class Options(PluginOptions):
    """Whose reverse-paths are signed, with which keys, and what becomes of other bounces."""

    domains: tuple[str, ...] = Field(min_length=1)
    """Domains whose reverse-paths are signed, and whose bounces are checked: all mail that they send must go out through here."""
    keys: dict[str, str] = Field(min_length=1, max_length=10)
    """Number, one digit, to the file with the secret: `{ 0 = "secrets/batv-0" }`, 16 characters or more in each."""
    sign_with: int | None = Field(default=None, ge=0, le=9)
    """The number of the key that signs; with one key, that one. All of them are believed."""
    lifetime: Duration = Field(default=7.0 * _DAY, ge=_DAY, le=400.0 * _DAY)
    """How long a bounce may take: at least as long as your outgoing queue tries."""
    clients: tuple[Literal["authenticated", "trusted", "stranger"], ...] = ("authenticated", "trusted")
    """Whose mail is signed."""
    check: tuple[Literal["authenticated", "trusted", "stranger"], ...] = ("stranger",)
    """Whose bounces are checked."""
    stage: Literal["rcpt", "content"] = "rcpt"
    """When other bounces are refused: at RCPT, or after the content, so that servers which only try out an address by RCPT from the null
    reverse-path get their answer, and receipts that people asked for (MDN) pass."""
    unsigned: Literal["reject", "score", "ignore"] = "reject"
    """What becomes of a bounce to an address without a valid tag."""
    weight: float = 4.0
    """Of the score."""
    exempt: tuple[MailboxPattern, ...] = ("postmaster@", "abuse@")
    """Addresses that are never signed, and take every bounce: those of lists, and of programs that send elsewhere as well."""
    exempt_networks: tuple[NetworkText, ...] = ()
    """Clients whose bounces are not checked."""

    @model_validator(mode="after")
    def _has_its_key(self) -> Options:
        if wrong := [one for one in self.keys if not re.fullmatch(r"[0-9]", one)]:
            raise ValueError(f"found the key {wrong[0]!r}; allowed: one digit")
        if self.sign_with is None and len(self.keys) > 1:
            raise ValueError("found several keys and no sign_with; allowed: sign_with, the number of one of them")
        if self.sign_with is not None and str(self.sign_with) not in self.keys:
            raise ValueError(f"found sign_with = {self.sign_with}; allowed: {', '.join(sorted(self.keys))}")
        return self


class Batv(Plugin[Options]):
    """Signs at MAIL; takes the tag off, and refuses bounces without one, at RCPT or after the content."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError for a key that cannot be read, or is too short."""
        super().__init__(options, name=name, context=context)
        own = self.options
        self._domains = frozenset((a_labels(one) or one.lower()).removesuffix(".") for one in own.domains)
        self._exempt = Mailboxes.of(own.exempt)
        self._networks = Networks.of(own.exempt_networks)
        self._number = next(iter(own.keys)) if own.sign_with is None else str(own.sign_with)
        self._keys = {} if context is None else self._read(context)

    def _read(self, context: Context) -> dict[str, bytes]:
        keys, mistakes = {}, []
        for number, file in self.options.keys.items():
            try:
                keys[number] = read_secret(file, context=context).strip().encode()
                found = f"{file}: a secret of {len(keys[number])} octets"
            except (OSError, ValueError) as error:
                keys[number], found = b"", str(error)
            if len(keys[number]) < MINIMUM_SECRET:
                allowed = f"a file with a secret of {MINIMUM_SECRET} octets or more"
                mistakes.append(OptionMistake(key=("keys", number), found=found, allowed=allowed))
        if mistakes:
            raise OptionError(*mistakes)
        return keys

    @property
    def files_read(self) -> Sequence[str | FilePath]:
        """The keys: a new one counts after a reload, which the gateway does by itself."""
        base = self.context.base_directory if hasattr(self, "context") else "."
        return tuple(FilePath(base, file) for file in self.options.keys.values())

    @hook(cheap=True)
    def mail(self, transaction: Transaction) -> UseReversePath | None:
        """The reverse-path of our users, signed."""
        key = mailbox_key(transaction.reverse_path, case_sensitive=True)
        if key.domain not in self._domains or transaction.session.client_class.value not in self.options.clients:
            return None
        if key in self._exempt or _SRS.match(key.local_part) or _TAGGED.fullmatch(key.local_part):
            return None
        day = (int(self.context.clock() + self.options.lifetime) // _DAY) % _DAYS
        tag = f"{self._number}{day:03}"
        return use_reverse_path(_written(f"prvs={tag}{self._sign(self._number, tag, _lower(key))}={key.local_part}", key.domain))

    @hook(cheap=True)
    def rcpt(self, transaction: Transaction, recipient: Recipient) -> UseForwardPath | Reject | None:
        """The address without its tag; a bounce to another one is refused here, if at all."""
        if (found := self._find(recipient)) is None:
            return None
        state, plain = found
        if (
            state != "signed"
            and self._is_checked(transaction)
            and self.options.stage == "rcpt"
            and self.options.unsigned == "reject"
        ):
            self.context.metrics.count("bounces", state=state)
            return self._refusal(state, plain)
        return use_forward_path(_written(plain.local_part, plain.domain)) if state in {"signed", "expired"} else None

    @hook(cheap=True)
    def check(self, transaction: Transaction) -> list[Finding]:
        """What kind of address a bounce came to."""
        states = self._states(transaction)
        if not states:
            return []
        worst = min((state for state, _ in states.values()), key=_WORST.index)
        self.context.metrics.count("bounces", state=worst)
        found: list[Finding] = [Fact(name=f"{self.name}.bounce", value=worst)]
        if worst != "signed" and self.options.unsigned == "score":
            found.append(
                Score(symbol="BATV_BOUNCE", weight=self.options.weight, evidence=f"a bounce to an address that is {worst}")
            )
        return found

    @hook(cheap=True)
    def judge(self, transaction: Transaction, message: Message) -> list[Verdict]:
        """At `stage = "content"`: other bounces, save receipts that people may have asked for (RFC 8098)."""
        if self.options.stage != "content" or self.options.unsigned != "reject":
            return []
        states = self._states(transaction)
        content_type = message.field("content-type") if states else None
        if content_type is not None and _NOTIFICATION.match(content_type.value.strip()[:2_000]):
            return []
        undecided = {one.mailbox for one in transaction.undecided}
        return [
            self._refusal(state, plain).only(mailbox)
            for mailbox, (state, plain) in states.items()
            if state != "signed" and mailbox in undecided
        ]

    def _states(self, transaction: Transaction) -> dict[str, tuple[State, MailboxKey]]:
        """Of the recipients of a bounce that is checked, by mailbox."""
        if not self._is_checked(transaction):
            return {}
        found = {one.mailbox: self._find(one) for one in transaction.recipients if not one.added}
        return {mailbox: one for mailbox, one in found.items() if one is not None}

    def _is_checked(self, transaction: Transaction) -> bool:
        session = transaction.session
        return (
            transaction.reverse_path.is_null
            and session.client_class.value in self.options.check
            and session.client_address not in self._networks
        )

    def _find(self, recipient: Recipient) -> tuple[State, MailboxKey] | None:
        """What its tag says, and the address without it; None for an address that is none of our business."""
        key = mailbox_key(recipient.forward_path, case_sensitive=True)
        if key.domain not in self._domains or _SRS.match(key.local_part):
            return None
        found = _TAGGED.fullmatch(key.local_part)
        if found is None:
            return None if key in self._exempt else ("unsigned", key)
        plain = MailboxKey(found["local"], key.domain)
        number, day = found["key"], found["day"]
        signatures = {self._sign(number, number + day, one) for one in (plain, _lower(plain))}  # Exim signs the case that it sees
        is_ours = any([hmac.compare_digest(one, found["signature"].lower()) for one in signatures])  # noqa: C419 - all of them
        if number not in self._keys or not is_ours:
            return None if plain in self._exempt else ("forged", plain)
        left = (int(day) - int(self.context.clock()) // _DAY) % _DAYS
        return ("signed" if left <= _DAYS // 2 else "expired"), plain

    def _sign(self, number: str, tag: str, key: MailboxKey) -> str:
        text = f"{tag}{key.local_part}@{key.domain}"
        return hmac.new(self._keys.get(number, b""), text.encode("utf-8", "surrogateescape"), hashlib.sha1).hexdigest()[:6]

    def _refusal(self, state: State, plain: MailboxKey) -> Reject:
        return reject(
            "This address has sent no message that this is a bounce of",
            code=550,
            enhanced="5.7.1",
            reason="batv-invalid",
            evidence=f"{state}: a bounce to <{plain.address[:300]}>",
        )


def _lower(key: MailboxKey) -> MailboxKey:
    """As it is signed: servers on the way back may have changed its case."""
    return MailboxKey(key.local_part.lower(), key.domain)


def _written(local_part: str, domain: str) -> str:
    """As a mailbox, in quotes where it needs them (RFC 5321 4.1.2)."""
    if _DOT_STRING.fullmatch(local_part) and all(local_part.split(".")):
        return f"{local_part}@{domain}"
    quoted = re.sub(r'(["\\])', r"\\\1", local_part)
    return f'"{quoted}"@{domain}'
