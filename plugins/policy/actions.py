"""What a policy server's action comes to here: a verdict now, something for later in the transaction, or a fault by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from gateway import (
    AddHeader,
    AddRecipient,
    Defer,
    Fact,
    Reject,
    add_header,
    add_recipient,
    defer,
    reject,
)
from gateway.policy.codec import Action, shown

MAX_NOTES = 100
"""PREPENDs, and answers to tell of, in one transaction."""
MAX_TEXT = 300
PERMITS = frozenset({"OK", "PERMIT"})
_NO_OPINION = frozenset({"DUNNO", "INFO", "WARN"})
_ENVELOPE = frozenset({"MAIL", "RCPT", "DATA", "END-OF-MESSAGE"})
_WHY = {
    "FILTER": "the gateway's routes say which next hop a message goes to",
    "REDIRECT": "recipients of a message are not replaced as a whole here",
    "STRIP": "it is a word of header_checks",
}


class UnsupportedActionError(Exception):
    """An action that has no equivalent here, in words for the operator."""


@dataclass(slots=True)
class Notes:
    """What a transaction was told for later."""

    hold: str = ""
    discard: str = ""
    soften: bool = False
    """DEFER_IF_REJECT came: what is refused later is refused for now only."""
    prepended: list[AddHeader] = field(default_factory=list)
    """In the order in which they came; the first stands highest."""
    copies: set[str] = field(default_factory=set)
    """Addresses of BCC that were added."""
    told: list[Fact] = field(default_factory=list)

    def tell(self, fact: Fact) -> None:
        """For the decision record; more than MAX_NOTES are not told of."""
        if len(self.told) < MAX_NOTES:
            self.told.append(fact)


Answer: TypeAlias = Reject | Defer | AddRecipient | None


def carry_out(action: Action, state: str, notes: Notes, evidence: str) -> Answer:
    """The answer of the hook that asked; what is for later goes into the notes. UnsupportedActionError."""
    word = action.word
    if word in _NO_OPINION or word in PERMITS:
        return None
    if action.code:
        return _refusal(action, notes, evidence)
    if word in {"HOLD", "DISCARD", "PREPEND"} and state not in _ENVELOPE:
        raise UnsupportedActionError(f"{word} at {state}: there is no message yet that it could be for")
    match word:
        case "HOLD":
            notes.hold = evidence
        case "DISCARD":
            notes.discard = evidence
        case "PREPEND":
            _prepend(action, state, notes)
        case "BCC" if state == "RCPT":
            return _copy(action, notes)
        case _:
            why = _WHY.get(word, f"it is not known, or not at {state}")
            raise UnsupportedActionError(f"{shown(word, 40)} has no equivalent here: {why}")
    return None


def _refusal(action: Action, notes: Notes, evidence: str) -> Reject | Defer | None:
    if action.word == "DEFER_IF_REJECT":
        notes.soften = True
        return None
    text = shown(action.text, MAX_TEXT).strip() or "Access denied"
    softened = action.code >= 500 and notes.soften
    if action.code >= 500 and not softened:
        enhanced = action.enhanced or "5.7.1"
        return reject(text, code=action.code, enhanced=enhanced, reason="policy-reject", evidence=evidence)
    code = 450 if softened else action.code
    enhanced = "4" + (action.enhanced or "4.7.1")[1:]
    return defer(text, code=code, enhanced=enhanced, reason="policy-defer", evidence=evidence)


def _prepend(action: Action, state: str, notes: Notes) -> None:
    name, colon, value = action.text.partition(":")
    if state == "END-OF-MESSAGE":  # as in Postfix, whose own fields stand there already
        raise UnsupportedActionError("PREPEND at END-OF-MESSAGE")
    if not colon:
        raise UnsupportedActionError(f"PREPEND of {shown(action.text, 80)!r}, which is no header field")
    if len(notes.prepended) >= MAX_NOTES:
        raise UnsupportedActionError(f"more than {MAX_NOTES} PREPENDs in one transaction")
    try:
        notes.prepended.append(add_header(name.strip(), value.strip()))
    except ValueError as error:
        raise UnsupportedActionError(f"PREPEND: {shown(str(error))}") from error


def _copy(action: Action, notes: Notes) -> AddRecipient | None:
    address = action.text.strip().removeprefix("<").removesuffix(">")
    if not address or "@" not in address or not address.isprintable() or " " in address or len(address) > 320:
        raise UnsupportedActionError(f"BCC to {shown(action.text, 80)!r}, which is no address")
    if address in notes.copies:
        return None
    if len(notes.copies) >= MAX_NOTES:
        raise UnsupportedActionError(f"more than {MAX_NOTES} BCC addresses in one transaction")
    notes.copies.add(address)
    return add_recipient(address)
