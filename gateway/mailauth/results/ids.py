"""Names of authentication services (authserv-id, RFC 8601 2.5): the same name in other spellings, and whether a field bears it.

A forged field is one that any reader might take for ours: one that follows the RFC, and one that knows no comments, no quotes,
no escapes, or that decodes what is not to be decoded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from gateway.mailauth.results.reading import MAX_HEAD, read_id
from gateway.mailauth.results.scanner import Scanner, readable
from gateway.words import decode_words

MAX_MARKS = 60
"""Quotes, escapes and comments within them; nobody needs more, and each has to be looked at in many ways."""

_INVISIBLE = re.compile("[\\s\ufffd\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]+")
_DOTS = re.compile("[\u3002\uff0e\uff61]")
_WORD = re.compile(r"[^\s;()<>\"'=,/\\:\[\]@\ufffd]+")
_FLAT_COMMENT = re.compile(r"\([^()]*+\)")
_SHORT_COMMENT = re.compile(r"\([^)]*+\)")
_MARKS = str.maketrans("", "", "\"'\\")


class Names:
    """The names that only we may write. One that begins with `*.` is every name below another."""

    def __init__(self, names: Iterable[str]) -> None:
        every = tuple(names)
        self._keys = frozenset(id_key(name) for name in every if not name.startswith("*."))
        self._above = frozenset(id_key(name[2:]) for name in every if name.startswith("*."))

    def __contains__(self, name: object) -> bool:
        """Whether this is one of them, in whatever spelling."""
        key = id_key(str(name))
        return key in self._keys or any(above in self._above for above in _above(key))


def id_key(name: str) -> str:
    """What two spellings of one name have in common: A-labels in lower case (RFC 8616 2), no dot at an end, no space."""
    text = _INVISIBLE.sub("", name[:MAX_HEAD])
    if not text.isascii():
        text = _DOTS.sub(".", unicodedata.normalize("NFKC", text))
        text = ".".join(map(_a_label, text.split(".")))
    return text.lower().strip(".")


def bears_name(body: bytes, names: Names) -> bool:
    """Whether a field body bears one of these names for some reader, or no name that can be read (RFC 8601 5, 7.1)."""
    head = body[:MAX_HEAD]
    if sum(map(head.count, (b"(", b'"', b"\\", b"=?"))) > MAX_MARKS:
        return True
    texts = {readable(head)}
    if not head.isascii():
        texts.add(head.decode("latin-1"))
    for text in texts:
        name = read_id(text)
        if not name or name in names:
            return True
        if any(word in names for one in {*_heads(text)} for word in _WORD.findall(one)):
            return True
    return len(body) > MAX_HEAD and b";" not in head


def _heads(text: str) -> Iterator[str]:
    """What stands before the first semicolon, as careless readers see it."""
    for one in {text, decode_words(text)}:
        bare = Scanner(one).without_comments()
        yield bare.partition(";")[0]
        yield _FLAT_COMMENT.sub(" ", one).partition(";")[0]
        last = one.rfind(")") + 1  # behind it nothing is closed, and looking for that again and again is quadratic
        yield (_SHORT_COMMENT.sub(" ", one[:last]) + one[last:]).partition(";")[0]
        for head in (bare.partition(";")[0], one.partition(";")[0] if "(" not in one else ""):
            joined = head.translate(_MARKS)
            yield joined
            yield _INVISIBLE.sub("", joined)


def _a_label(label: str) -> str:
    if label.isascii() or len(label) > 200:
        return label
    try:
        return label.encode("idna").decode("ascii")
    except UnicodeError:
        return label.casefold()


def _above(key: str) -> Iterator[str]:
    """The names above this one; a name has at most 127 labels (RFC 1035 2.3.4)."""
    labels = key.split(".")[-128:]
    return (".".join(labels[place:]) for place in range(1, len(labels)))
