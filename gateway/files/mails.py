"""Messages that are files: .eml and .mht (RFC 2557), attached with an encoding, or within archives. Their attachments are its members."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.content import Content
from gateway.files.found import Budget, Found, LimitError, Member, Octets, Trouble
from gateway.files.parts import given, wanted
from gateway.message import Message


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """Each attachment, and what holds no text whatever it says."""
    message = Message(Content(bytes(octets)))
    parts = wanted(message)
    for word in message.limits_known:
        yield Trouble(word, "of a message that is a file")
    budget.look()
    for one in given(message.octets, parts):
        front = "".join(f"{name or 'message'}/" for name in one.within)
        names = tuple(front + name for name in one.names) or (front + "part",)
        try:
            content = budget.take(one.content)
        except LimitError as error:
            if error.is_final:
                raise
            yield Member(names=names, size=len(one.content), declared_type=one.declared_type, trouble=error)
            continue
        yield Member(names=names, content=content, declared_type=one.declared_type, signs=one.signs)
