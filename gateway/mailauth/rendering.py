"""Tag lists written as header fields: RFC 6376 3.2, folded at 78 characters (RFC 5322 2.1.1), always the same way."""

from __future__ import annotations

import base64
from collections.abc import Iterable

_LINE = 78
_FOLD = "\r\n\t"


def render_tags(name: str, tags: Iterable[tuple[str, str]]) -> str:
    """The body of the field `name`: its tags, and at the end `b=` without a value. Folded between tags and at the colons of a list.

    The signature is made over this; `with_signature` puts it in without moving anything before it.
    """
    text = ""
    column = len(name) + 2
    for tag, value in (*tags, ("b", "")):
        for piece in _pieces(f"{tag}={value}" + (";" if tag != "b" else "")):
            space = " " if text and piece.is_first else ""
            if text and column + len(space) + len(piece.text) > _LINE:
                text += _FOLD + piece.text
                column = 1 + len(piece.text)
            else:
                text += space + piece.text
                column += len(space) + len(piece.text)
    return text


def with_signature(name: str, body: str, signature: bytes) -> str:
    """The body that `render_tags` made, with the value of its b=."""
    value = base64.b64encode(signature).decode("ascii")
    column = len(f"{name}: {body}".rpartition("\r\n")[2])
    first = max(_LINE - column, 0)
    lines = [value[:first], *(value[at : at + _LINE - 1] for at in range(first, len(value), _LINE - 1))]
    return body + _FOLD.join(lines)


class _Piece:
    """What may not be broken; a fold may stand before it."""

    __slots__ = ("is_first", "text")

    def __init__(self, text: str, *, is_first: bool) -> None:
        self.text = text
        self.is_first = is_first


def _pieces(tag: str) -> Iterable[_Piece]:
    """A tag as a whole; h= cut behind each colon when it does not fit on a line."""
    if len(tag) < _LINE or not tag.startswith("h="):
        yield _Piece(tag, is_first=True)
        return
    items = tag.split(":")
    for place, item in enumerate(items):
        last = place == len(items) - 1
        yield _Piece(item if last else f"{item}:", is_first=place == 0)
