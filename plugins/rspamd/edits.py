"""What rspamd wants done to a message, as edits of ours: `milter.add_headers`, `milter.remove_headers`, the subject, signatures. Pure.

Places are those of the milter protocol: without an order behind all fields; order 1, and 0, on top, since our own Received is not
rspamd's to see; order n behind n - 1 fields; a negative one counts from the end. What cannot be done is told, not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway import AddHeader, Edit, Message, add_header, insert_header, remove_header, replace_header
from gateway.plugins.rspamd.answer import Answer, as_list
from gateway.scanning import shown
from gateway.words import encode_words

MAX_EDITS = 200
MAX_TOLD = 20
MAX_VALUE = 32_768
_LINE_END = re.compile(r"\r\n|\r|\n")
_BEHIND_ALL = 1_000_000
_ENVELOPE = ("change_from", "add_rcpt")


@dataclass(slots=True)
class Wishes:
    """What it wants done."""

    edits: list[Edit] = field(default_factory=list)
    signatures: list[AddHeader] = field(default_factory=list)
    gone: tuple[str, ...] = ()
    """Recipients that are not to get it."""
    on_reject: str = ""
    """`discard` or `quarantine` instead of a refusal."""
    no_action: bool = False
    """The action is only to be told of."""
    not_done: list[str] = field(default_factory=list)
    """What cannot be done here, in words for the operator."""

    def want(self, name: str, make: Callable[..., Edit | None], *given: object) -> None:
        """One more edit of a field of this name, or why there is none."""
        if len(self.edits) >= MAX_EDITS:
            self.cannot(name, f"more than {MAX_EDITS} edits")
            return
        try:
            edit = make(name, *given)
        except ValueError as error:
            self.cannot(name, str(error))
            return
        if edit is not None:
            self.edits.append(edit)

    def cannot(self, what: str, why: str) -> None:
        """Told to the operator."""
        if len(self.not_done) < MAX_TOLD:
            self.not_done.append(f"{shown(what, 80)}: {shown(why)}")


def read(answer: Answer, message: Message, *, spam_header: str, with_fields: bool = True) -> Wishes:
    """All of them; never raises, whatever the answer has. `with_fields`: those that add and remove fields, too."""
    wishes = Wishes()
    milter = answer.milter
    if spam_header:  # whoever wrote one before is no judge here
        wishes.want(spam_header, remove_header)
    if with_fields:
        for name, occurrences in _items(milter.get("remove_headers")):
            for number in as_list(occurrences):
                wishes.want(name, _removal, number, message)
        for name, values in _items(milter.get("add_headers")):
            for value in as_list(values):
                wishes.want(name, _addition, value, message)
    for signature in answer.signatures:
        try:
            wishes.signatures.append(add_header("DKIM-Signature", body(signature)))
        except ValueError as error:
            wishes.cannot("DKIM-Signature", str(error))
    wishes.gone = tuple(one for one in as_list(milter.get("del_rcpt")) if isinstance(one, str))
    for name in _ENVELOPE:
        if milter.get(name):
            wishes.cannot(name, "the next hop has been asked about the envelope already")
    reject = milter.get("reject")
    wishes.on_reject = reject if isinstance(reject, str) and reject in {"discard", "quarantine"} else ""
    wishes.no_action = milter.get("no_action") is True
    return wishes


def mark(wishes: Wishes, answer: Answer, *, spam_header: str) -> None:
    """For `add header`: `X-Spam: Yes`, or what `milter.spam_header` says instead."""
    wanted = answer.milter.get("spam_header")
    if isinstance(wanted, dict):
        for name, value in wanted.items():
            wishes.want(name, remove_header)
            wishes.want(name, _on_top, value)
    elif spam_header:
        wishes.want(spam_header, _on_top, wanted if isinstance(wanted, str) else "Yes")


def rewrite_subject(wishes: Wishes, answer: Answer) -> None:
    """For `rewrite subject`."""
    if answer.subject:
        plain = " ".join(_LINE_END.sub(" ", answer.subject.replace("\0", "")).split())
        wishes.want("Subject", replace_header, encode_words(plain))


def body(value: object) -> str:
    """A field body as it may stand: its lines folded with CRLF, other than ASCII as encoded words. ValueError for what is no text."""
    if not isinstance(value, str) or len(value) > MAX_VALUE:
        raise ValueError("no text, or too long")
    lines = [line for line in _LINE_END.split(value.replace("\0", "")) if line.strip()]
    folded = [line if not number or line[0] in " \t" else f"\t{line}" for number, line in enumerate(lines)]
    return encode_words("\r\n".join(folded).strip())


def _on_top(name: str, value: object) -> Edit:
    return add_header(name, body(value))


def _addition(name: str, value: object, message: Message) -> Edit:
    order: object = None
    if isinstance(value, dict):
        order = value.get("order", value.get("index"))
        value = value.get("value")
    text = body(value)
    if order is None:
        return insert_header(name, text, _BEHIND_ALL)
    place = max(-_BEHIND_ALL, min(_whole(order), _BEHIND_ALL))
    below = place - 1 if place >= 0 else len(message.fields) + place + 1
    return insert_header(name, text, below) if below > 0 else add_header(name, text)


def _removal(name: str, number: object, message: Message) -> Edit | None:
    """Numbers count from 1; 0: all; negative ones from the last."""
    which = _whole(number)
    if which == 0:
        return remove_header(name)
    count = len(message.fields_named(name))
    occurrence = which - 1 if which > 0 else count + which
    return remove_header(name, occurrence) if 0 <= occurrence < count else None


def _whole(number: object) -> int:
    match number:
        case bool():
            pass
        case int():
            return number
        case float() if number.is_integer():
            return int(number)
    raise ValueError(f"{shown(str(number), 40)} is no whole number")


def _items(found: object) -> Iterator[tuple[str, Any]]:
    return iter(found.items()) if isinstance(found, dict) else iter(())
