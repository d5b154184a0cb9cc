"""What was decided, in the words that an MTA knows: a reply, edits by name and number, recipients added and taken away. Pure.

What cannot be said in them, or was not agreed on, is `CannotBeSaidError`: the MTA is then told to try again later, and the record says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gateway.content import Content
from gateway.errors import GatewayError
from gateway.fields import scan
from gateway.milter import codec
from gateway.milter.codec import Actions, Steps
from gateway.milter.content import Place
from gateway.smtp.replies import Reply

if TYPE_CHECKING:
    from gateway.splice import Spliced
    from gateway.transaction import Recipient, Transaction

MAX_LINES = 32
"""Lines of a reply: what libmilter allows."""


class CannotBeSaidError(GatewayError):
    """The protocol has no word for it, or the MTA did not offer the one it has."""


def reply(answer: Reply) -> codec.ReplyCode:
    """A refusal, word for word; `%` is doubled by the codec."""
    lines = answer.lines if len(answer.lines) <= MAX_LINES else (*answer.lines[: MAX_LINES - 1], answer.lines[-1])
    return codec.ReplyCode.of(answer.code, "", *(line.replace(b"\t", b" ") for line in lines))


def edits(spliced: Spliced, places: Sequence[Place], body_offset: int, agreed: codec.Agreement) -> list[codec.Edit]:
    """From the content that the MTA told to the one that is wanted. Nothing where they are the same."""
    with_space = bool(agreed.steps & Steps.HDR_LEADSPC)
    found: list[codec.Edit] = []
    body = False
    # From the last to the first: what is taken away or put in between moves only what has been spoken of.
    for cut in reversed(spliced.cuts):
        if cut.start >= body_offset > 0:
            body = True
        elif cut.start == cut.end:
            _need(agreed, Actions.ADDHDRS, "adding header fields", is_wanted=True)
            place = sum(one.start < cut.start for one in places)
            found += _new(cut.octets, place, with_space=with_space)
        else:
            _need(agreed, Actions.CHGHDRS, "changing header fields", is_wanted=True)
            found.append(_changed(cut.start, cut.end, cut.octets, places, with_space=with_space))
    if body:
        _need(agreed, Actions.CHGBODY, "another body", is_wanted=True)
        found += _body(spliced, body_offset, agreed)
    return found


def _new(octets: bytes, place: int, *, with_space: bool) -> list[codec.Edit]:
    """New fields, the topmost said last: each goes above what is there at that place; 0 is above all."""
    section = scan(Content(octets))
    if section.end < len(octets.rstrip(b"\r\n")):
        raise CannotBeSaidError("new fields that are none")
    return [
        codec.InsertHeader(place, field.name.encode(), _value(field.raw, with_space=with_space))
        for field in reversed(section.fields)
    ]


def _changed(start: int, end: int, octets: bytes, places: Sequence[Place], *, with_space: bool) -> codec.Edit:
    """The field that lies there, by its number among those of its name."""
    count: dict[bytes, int] = {}
    for place in places:
        key = place.name.lower()
        count[key] = count.get(key, 0) + 1
        if place.start == start and place.end == end:
            value = _value(octets.partition(b":")[2].removesuffix(b"\r\n"), with_space=with_space) if octets else b""
            return codec.ChangeHeader(count[key], place.name, value)
    raise CannotBeSaidError("a change that is not of one whole field")


def _value(raw: bytes, *, with_space: bool) -> bytes:
    """A field's body with its lines parted by LF."""
    body = raw.replace(b"\r\n", b"\n").replace(b"\0", b"")
    return body if with_space else body.removeprefix(b" ")


def _body(spliced: Spliced, body_offset: int, agreed: codec.Agreement) -> Iterable[codec.Edit]:
    """All of the new body, in pieces without anything in between: Postfix takes it in no other way."""
    moved = sum(len(cut.octets) - (cut.end - cut.start) for cut in spliced.cuts if cut.start < body_offset)
    at, skip = 0, body_offset + moved
    for chunk in spliced.chunks():
        rest = chunk[max(0, skip - at) :]
        at += len(chunk)
        yield from (codec.ReplaceBody(piece) for piece in codec.chunks(rest, agreed.chunk))


def envelope(
    transaction: Transaction, said: Sequence[tuple[Recipient, bytes]], forward: Sequence[Recipient], agreed: codec.Agreement
) -> list[codec.Edit]:
    """What becomes of the envelope. `said`: the recipients that the MTA named, each with the path as it named it."""
    found: list[codec.Edit] = []
    kept = {id(one) for one in forward}
    if transaction.sent_reverse_path != transaction.reverse_path.octets:
        _need(agreed, Actions.CHGFROM, "another reverse-path", is_wanted=True)
        found.append(codec.ChangeFrom(transaction.sent_reverse_path))
    gone = [path for one, path in said if id(one) not in kept or _is_renamed(one)]
    _need(agreed, Actions.DELRCPT, "taking recipients away", bool(gone))
    found += [codec.DeleteRecipient(path) for path in gone]
    for one in forward:
        if one.added or _is_renamed(one):
            found.append(_add(one, agreed))
    return found


def _is_renamed(one: Recipient) -> bool:
    return not one.added and bool(one.sent_path) and one.sent_path != one.forward_path.octets


def _add(one: Recipient, agreed: codec.Agreement) -> codec.Edit:
    if one.parameters and agreed.actions & Actions.ADDRCPT_PAR:
        return codec.AddRecipientWithParameters(one.sent_path, b" ".join(parameter.octets for parameter in one.parameters))
    _need(agreed, Actions.ADDRCPT, "adding recipients", is_wanted=True)
    return codec.AddRecipient(one.sent_path or one.forward_path.octets)


def _need(agreed: codec.Agreement, action: Actions, what: str, is_wanted: bool) -> None:
    if is_wanted and not agreed.actions & action:
        raise CannotBeSaidError(f"{what}: the MTA does not offer it ({action.name})")
