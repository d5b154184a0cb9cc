"""Rules that are asked at RCPT (RFC 5321 4.1.1.3): what they may name and do, and recipients that are added and removed.

At RCPT only the envelope and the client are known, and it is there that recipients come: the next hop is asked about each.
Afterwards a recipient can only be left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydantic import Field, field_validator

from gateway import (
    AddRecipient,
    Path,
    PluginOptions,
    Recipient,
    Transaction,
    UseForwardPath,
    add_recipient,
    mailbox_key,
    use_forward_path,
)

KNOWN = ("reverse_path.", "recipient.", "client.", "tls.", "time.", "direction")
"""Beginnings of the facts that are known at RCPT."""
OF_CONTENT = frozenset(["header", "header_raw", "headers", "headers_raw", "has_header", "auth_values", "rate"])
"""Functions that look into the message, or at what checks of it found."""
AT_RCPT = ("accept", "reject", "defer", "discard", "redirect", "add_recipient", "use_recipient")
"""Actions of a rule with `at = "rcpt"`."""
ONLY_AT_RCPT = ("add_recipient", "use_recipient")


def objection(at: str, actions: Iterable[str], facts: Collection[str], functions: Collection[str]) -> str:
    """Why a rule with these cannot be asked at its place, or ``."""
    if at != "rcpt":
        found = next((name for name in actions if name in ONLY_AT_RCPT), "")
        return f'found {found} in a rule about the content; allowed: at = "rcpt", where the next hop is asked' if found else ""
    wrong = sorted(path for path in facts if not path.startswith(KNOWN))
    if wrong:
        return f"found {wrong[0]} in a rule at RCPT, where only these are known: {', '.join(f'{one}…' for one in KNOWN[:4])}"
    wrong = sorted(OF_CONTENT.intersection(functions))
    if wrong:
        return f"found {wrong[0]}() in a rule at RCPT, where the message is not known yet"
    wrong = [name for name in actions if name not in AT_RCPT]
    return f"found {wrong[0]} in a rule at RCPT; allowed: {', '.join(AT_RCPT)}" if wrong else ""


def _check_mailbox(value: str) -> str:
    local, at, domain = value.rpartition("@")
    if not (local and at and domain) or any(c.isspace() or c in "<>" or not c.isprintable() for c in value):
        raise ValueError("a mailbox as local-part@domain")
    return value


class AddTheRecipient(PluginOptions):
    """`add_recipient`: one more recipient, or several, that the client does not know of. At RCPT only."""

    add_recipient: str | tuple[str, ...] = Field(min_length=1)

    @field_validator("add_recipient")
    @classmethod
    def _can_be(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for one in _listed(value):
            _check_mailbox(one)
        return value

    def paths(self, transaction: Transaction, recipient: Recipient) -> list[AddRecipient | UseForwardPath]:
        """Those that the transaction does not have yet."""
        there = {mailbox_key(one.forward_path).address for one in (*transaction.recipients, recipient)}
        return [add_recipient(one) for one in _listed(self.add_recipient) if _key(one) not in there]


class UseTheRecipient(PluginOptions):
    """`use_recipient`: the next hop is told this recipient instead. At RCPT only."""

    use_recipient: str

    @field_validator("use_recipient")
    @classmethod
    def _can_be(cls, value: str) -> str:
        return _check_mailbox(value)

    def paths(self, transaction: Transaction, recipient: Recipient) -> list[AddRecipient | UseForwardPath]:  # noqa: ARG002 - as its sibling
        """The other path."""
        return [use_forward_path(self.use_recipient)]


class RemoveTheRecipient(PluginOptions):
    """`remove_recipient`: these do not get the message; their copies are discarded, which the journal has."""

    remove_recipient: str | tuple[str, ...] = Field(min_length=1)

    @field_validator("remove_recipient")
    @classmethod
    def _can_be(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for one in _listed(value):
            _check_mailbox(one)
        return value

    def among(self, recipients: Iterable[Recipient]) -> list[str]:
        """Mailboxes as received of those that it names."""
        named = {_key(one) for one in _listed(self.remove_recipient)}
        return [one.mailbox for one in recipients if mailbox_key(one.forward_path).address in named]


def _listed(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _key(mailbox: str) -> str:
    local, _, domain = mailbox.rpartition("@")
    return mailbox_key(Path(f"<{mailbox}>".encode(), local, domain)).address
