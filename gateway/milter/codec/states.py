"""Which packet may come when: the order of a milter conversation as a table, for both sides, without I/O.

NEW          nothing was said; Negotiate must come.
NEGOTIATED   agreed; Connect.
CONNECTED    a client is there; Helo, or Mail where the MTA lets a client do without.
MAIL         Mail was said; Rcpt.
RCPT         Rcpt was said; more, or Data, or the content.
DATA         Data was said; the content.
HEADER       fields come.
BODY         the fields are over, the body comes.
SKIPPING     of the body no more is wanted (Skip): EndOfBody.
LEFT         no more is asked about this client: accepted, refused or gone; QuitNewConnection or Quit.
CLOSED       Quit was said.

Commands that were agreed to be left out are passed over. Macros, Unknown, Abort and Quit may come in nearly every state. Mail or
Helo within a transaction end it, as if Abort had come first: Sendmail and libmilter see it so.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from gateway.milter.codec.answers import (
    Accept,
    AddHeader,
    AddRecipient,
    AddRecipientWithParameters,
    Answer,
    ChangeFrom,
    ChangeHeader,
    ConnectionFailed,
    DeleteRecipient,
    Discard,
    InsertHeader,
    Progress,
    Quarantine,
    Reject,
    ReplaceBody,
    ReplyCode,
    SetMacros,
    Shutdown,
    Skip,
    Tempfail,
)
from gateway.milter.codec.bits import Actions, Steps
from gateway.milter.codec.commands import (
    Abort,
    Body,
    Command,
    Connect,
    Data,
    EndOfBody,
    EndOfHeader,
    Header,
    Helo,
    Macros,
    Mail,
    Quit,
    QuitNewConnection,
    Rcpt,
    Unknown,
)
from gateway.milter.codec.errors import BadPacket
from gateway.milter.codec.negotiation import Agreement
from gateway.milter.codec.packet import Negotiate

Kind: TypeAlias = type[Command]


class State(Enum):
    """Where a conversation stands."""

    NEW = "new"
    NEGOTIATED = "negotiated"
    CONNECTED = "connected"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    HEADER = "header"
    BODY = "body"
    SKIPPING = "skipping"
    LEFT = "left"
    CLOSED = "closed"


TRANSACTION = frozenset({State.MAIL, State.RCPT, State.DATA, State.HEADER, State.BODY, State.SKIPPING})
"""States within a transaction."""
_CONTENT: dict[Kind, State] = {Header: State.HEADER, EndOfHeader: State.BODY}
_BODY: dict[Kind, State] = {Body: State.BODY, EndOfBody: State.CONNECTED}
NEXT: dict[State, dict[Kind, State]] = {
    State.NEW: {Negotiate: State.NEGOTIATED},
    State.NEGOTIATED: {Connect: State.CONNECTED},
    State.CONNECTED: {Helo: State.CONNECTED, Mail: State.MAIL},
    State.MAIL: {Rcpt: State.RCPT},
    State.RCPT: {Rcpt: State.RCPT, Data: State.DATA, **_CONTENT},
    State.DATA: _CONTENT,
    State.HEADER: _CONTENT,
    State.BODY: _BODY,
    State.SKIPPING: {EndOfBody: State.CONNECTED},
    State.LEFT: {},
    State.CLOSED: {},
}
"""The state after a command, before its answer. What must come in between is in `_THROUGH`."""
_THROUGH: dict[State, tuple[tuple[Kind, State], ...]] = {
    State.NEGOTIATED: ((Connect, State.CONNECTED),),
    State.CONNECTED: ((Mail, State.MAIL),),
    State.MAIL: ((Rcpt, State.RCPT),),
    State.RCPT: ((EndOfHeader, State.BODY),),
    State.DATA: ((EndOfHeader, State.BODY),),
    State.HEADER: ((EndOfHeader, State.BODY),),
}
"""A command that may be left out by agreement, and the state that is then passed through."""
_OVER = frozenset({Accept, Reject, Tempfail, ReplyCode, Discard})
_EDITS: dict[type[Answer], Actions] = {
    AddHeader: Actions.ADDHDRS,
    InsertHeader: Actions.ADDHDRS,
    ChangeHeader: Actions.CHGHDRS,
    ReplaceBody: Actions.CHGBODY,
    AddRecipient: Actions.ADDRCPT,
    AddRecipientWithParameters: Actions.ADDRCPT_PAR,
    DeleteRecipient: Actions.DELRCPT,
    ChangeFrom: Actions.CHGFROM,
    Quarantine: Actions.QUARANTINE,
}


def after_command(state: State, command: Kind, agreed: Agreement) -> State:
    """The state once that command was said, before it was answered. BadPacket if it is out of order.

    The MTA asks before it sends, the milter when it reads.
    """
    if state is State.CLOSED:
        raise BadPacket(f"{command.__name__} after Quit")
    if command is Quit:
        return State.CLOSED
    if state is not State.NEW:
        if command is Macros:
            return state
        if command is Abort:
            return State.CONNECTED if state in TRANSACTION else state
        if command is QuitNewConnection and agreed.is_sent(QuitNewConnection):
            return State.NEGOTIATED
        if command is Unknown and state is not State.LEFT and agreed.version >= 3:
            return state
    found = _reached(state, command, agreed)
    if found is None and state in TRANSACTION and command in {Mail, Helo}:
        found = _reached(State.CONNECTED, command, agreed)
    if found is None:
        raise BadPacket(f"{command.__name__} out of order, in state {state.value}")
    return found


def _reached(state: State, command: Kind, agreed: Agreement) -> State | None:
    """By this command, or passing over commands that are not sent."""
    while True:
        found = NEXT[state].get(command)
        if found is not None:
            return found
        passed = next((after for left_out, after in _THROUGH.get(state, ()) if not agreed.is_sent(left_out)), None)
        if passed is None:
            return None
        state = passed


def is_last(answer: Answer) -> bool:
    """Nothing more comes for this command: it is neither an edit nor a sign of life."""
    return type(answer) not in _EDITS and not isinstance(answer, Progress | SetMacros)


def after_answer(state: State, command: Kind, answer: Answer, agreed: Agreement) -> State:
    """The state once that command was answered so; `state` is the one after the command. BadPacket if it may not be answered so.

    An edit, Progress or SetMacros leaves the state; the answer is still to come (`is_last`).
    """
    kind = type(answer)
    if isinstance(answer, Negotiate) != (command is Negotiate):
        raise BadPacket(f"{kind.__name__} as answer to {command.__name__}")
    if not is_last(answer):
        _check_edit(command, answer, agreed)
        return state
    if not agreed.is_answered(command):
        raise BadPacket(f"{kind.__name__} as answer to {command.__name__}, which is not answered")
    match answer:
        case ConnectionFailed() | Shutdown():
            return State.LEFT
        case Skip():
            if command is not Body or not agreed.steps & Steps.SKIP:
                raise BadPacket(f"Skip as answer to {command.__name__}, or without agreement")
            return State.SKIPPING
        case Discard() if command in {Connect, Helo, Unknown}:
            raise BadPacket(f"Discard as answer to {command.__name__}")
    if kind not in _OVER or command is Unknown:
        return state
    if command in {Connect, Helo}:
        return State.LEFT
    if command is Rcpt and isinstance(answer, Reject | Tempfail | ReplyCode):
        return state  # this recipient is refused, nobody else
    return State.CONNECTED


def _check_edit(command: Kind, answer: Answer, agreed: Agreement) -> None:
    kind = type(answer)
    if isinstance(answer, SetMacros):
        if command is not Negotiate:
            raise BadPacket(f"SetMacros as answer to {command.__name__}")
    elif isinstance(answer, Progress):
        if not agreed.is_answered(command) or command is Negotiate:
            raise BadPacket(f"Progress as answer to {command.__name__}, which is not waited for")
    elif command is not EndOfBody:
        raise BadPacket(f"{kind.__name__} as answer to {command.__name__}; edits belong to the end of the message")
    elif not agreed.actions & _EDITS[kind]:
        raise BadPacket(f"{kind.__name__}, which was not agreed")
