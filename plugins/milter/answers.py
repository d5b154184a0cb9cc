"""What a milter's answer comes to: a refusal now, something for the whole message, recipients taken away, or a fault by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway import Defer, Recipient, Reject, Transaction, defer, reject
from gateway.milter import codec
from gateway.plugins.milter.view import UnsupportedEditError, View, lines_of

MAX_TEXT = 400
_CODE = re.compile(r"([45]\d\d)(?:[ -](?:([245]\.\d{1,3}\.\d{1,3})(?:\s+|$))?(.*))?$")  # RFC 5321 4.2, RFC 3463 2


_WORDS: dict[type[object], tuple[int, str, str]] = {
    codec.Reject: (550, "5.7.1", "Command rejected"),
    codec.Tempfail: (451, "4.7.1", "Service unavailable - try again later"),
    codec.ConnectionFailed: (421, "4.7.0", "Server closing connection"),
    codec.Shutdown: (421, "4.7.0", "Server closing connection"),
}
"""What Postfix says for a milter that has no words of its own."""


@dataclass(slots=True)
class Asked:
    """What the edits of a message ask for beside the message itself."""

    hold: str = ""
    gone: list[Recipient] = field(default_factory=list)
    """Recipients that were taken away."""


def refusal(answer: codec.Answer | None, evidence: str) -> Reject | Defer | None:
    """Of connection, command or message; in Postfix's words where the milter has none."""
    if isinstance(answer, codec.ReplyCode):
        return _reply(answer, evidence)
    words = _WORDS.get(type(answer))
    return _made(*words, evidence) if words is not None else None


def _reply(answer: codec.ReplyCode, evidence: str) -> Reject | Defer:
    """Word for word, as far as a reply may be: printable ASCII, one line. codec.BadPacket where it begins with no code."""
    code, enhanced, texts = answer.code, "", []
    for line in answer.lines():
        found = _CODE.match("".join(c if " " <= c <= "~" else "?" for c in line.decode("latin-1")))
        if found is not None:
            enhanced = enhanced or found[2] or ""
            texts.append((found[3] or "").strip())
    text = " ".join(one for one in texts if one)[:MAX_TEXT] or "Command rejected"
    kind = str(code)[0]
    return _made(code, enhanced if enhanced.startswith(kind) else f"{kind}.7.1", text, evidence)


def _made(code: int, enhanced: str, text: str, evidence: str) -> Reject | Defer:
    if code >= 500:
        return reject(text, code=code, enhanced=enhanced, reason="milter-reject", evidence=evidence)
    return defer(text, code=code, enhanced=enhanced, reason="milter-defer", evidence=evidence)


def apply(
    edits: Sequence[codec.Edit], view: View, transaction: Transaction, by: str, *, body_limit: int, may_edit_body: bool
) -> Asked:
    """Edits into the view; what else they want. UnsupportedEditError for what the gateway cannot do."""
    asked = Asked()
    body: list[bytes] = []
    for edit in edits:
        match edit:
            case codec.AddHeader():
                view.add(edit.name, edit.value, by)
            case codec.InsertHeader():
                view.insert(edit.index, edit.name, edit.value, by)
            case codec.ChangeHeader():
                view.change(edit.index, edit.name, edit.value, by)
            case codec.ReplaceBody():
                body.append(edit.chunk)
            case codec.Quarantine():
                asked.hold = (
                    "".join(c if " " <= c <= "~" else "?" for c in edit.reason.decode("latin-1")[:200]) or "no reason given"
                )
            case _:
                _envelope(edit, transaction, asked)
    if body:
        if not may_edit_body:
            raise UnsupportedEditError("another body, and `allow_body_edits` is not set")
        if sum(map(len, body)) > body_limit:
            raise UnsupportedEditError(f"a body of more than {body_limit} octets")
        view.body, view.body_by = lines_of(b"".join(body)), by
    view.edits(by)  # what cannot be written is found here, not when all is decided
    return asked


def _envelope(edit: codec.Edit, transaction: Transaction, asked: Asked) -> None:
    match edit:
        case codec.DeleteRecipient():
            _take_away(edit.path, transaction, asked)
        case codec.AddRecipient() | codec.AddRecipientWithParameters():
            _put_back(edit.path, transaction, asked)
        case codec.ChangeFrom():
            if _mailbox(edit.path) != transaction.reverse_path.mailbox:
                raise UnsupportedEditError("another reverse-path (CHGFROM): it has gone to the next hop already")
        case _:
            raise UnsupportedEditError(f"{type(edit).__name__}, which is not known here")


def _take_away(path: bytes, transaction: Transaction, asked: Asked) -> None:
    for one in transaction.recipients:
        if path == one.forward_path.octets or _mailbox(path) == one.mailbox:
            asked.gone.append(one)


def _put_back(path: bytes, transaction: Transaction, asked: Asked) -> None:
    """A recipient that there is already, or that was taken away before."""
    for one in transaction.recipients:
        if path == one.forward_path.octets or _mailbox(path) == one.mailbox:
            asked.gone = [other for other in asked.gone if other is not one]
            return
    raise UnsupportedEditError("another recipient (ADDRCPT): the next hop has been asked about all of them already")


def _mailbox(path: bytes) -> str:
    return path.strip(b"<>").decode("utf-8", "replace")
