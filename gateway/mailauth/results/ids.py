"""Names of authentication services (authserv-id, RFC 8601 2.5): the same name in other spellings, and whether a field bears it.

A forged field is one that any reader might take for ours: one that follows the RFC, and one that knows no comments, no quotes,
no escapes, or that decodes what is not to be decoded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

import idna

from gateway.idn import MAX_LABEL, a_labels
from gateway.mailauth.results.reading import MAX_HEAD, read_id
from gateway.mailauth.results.scanner import Scanner, readable
from gateway.words import decode_words

MAX_MARKS = 40
"""Quotes, escapes and comments within them; nobody needs more, and each has to be looked at in many ways."""

_PLAIN = re.compile(rb"[ \t]*(?:\r\n[ \t]+)?([A-Za-z0-9][A-Za-z0-9.-]*)[ \t]*;")
_INVISIBLE = re.compile("[\\s\ufffd\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]+")
_UNSEEN = re.compile("[\ufffd\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]+")
_DOTS = re.compile("[\u3002\uff0e\uff61]")
_WORD = re.compile(r"[^\s;()<>\"'=,/\\:\[\]@\ufffd]+")
_FLAT_COMMENT = re.compile(r"\([^()]*+\)")
_SHORT_COMMENT = re.compile(r"\([^)]*+\)")
_MARKS = str.maketrans("", "", "\"'\\")


class Names:
    """The names that only we may write. One that begins with `*.` is every name below another."""

    def __init__(self, names: Iterable[str]) -> None:
        every = tuple(names)
        self._names = [_spellings(name) for name in every if not name.startswith("*.")]
        self._above = [_spellings(name[2:]) for name in every if name.startswith("*.")]

    def __contains__(self, name: object) -> bool:
        """Whether this is one of them, in whatever spelling."""
        return self.has(folded(str(name)[:MAX_HEAD]))

    def has(self, word: str) -> bool:
        """The same of a word that is folded already."""
        labels = word.strip(".").split(".")
        if any(len(own) == len(labels) and _is(own, labels) for own in self._names):
            return True
        return any(0 < len(own) < len(labels) and _is(own, labels[-len(own) :]) for own in self._above)


def id_key(name: str) -> str:
    """What two spellings of one name have in common: A-labels in lower case (RFC 8616 3), no dot at an end, no space."""
    text = _INVISIBLE.sub("", name[:MAX_HEAD])
    if not text.isascii():
        text = ".".join(map(a_label, _DOTS.sub(".", unicodedata.normalize("NFKC", text)).split(".")))
    return text.lower().strip(".")


def folded(text: str) -> str:
    """Without space and what is not seen, in lower case; of full-width letters and the like what they look like."""
    return _folded(_INVISIBLE.sub("", text))


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    return _DOTS.sub(".", unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()))


def _spellings(name: str) -> list[frozenset[str]]:
    """For each label of a name its spellings: as U-label, and as A-label of IDNA 2008 and of 2003, all folded."""
    labels = _INVISIBLE.sub("", name).strip(".").split(".")
    return [frozenset((folded(one), a_label(one), _old_a_label(one), *map(folded, _u_labels(one)))) for one in labels]


def _is(own: list[frozenset[str]], labels: list[str]) -> bool:
    return all(label in spellings for spellings, label in zip(own, labels, strict=True))


def bears_name(body: bytes, names: Names) -> bool:
    """Whether a field body bears one of these names for some reader, or no name that can be read (RFC 8601 5, 7.1)."""
    head = body[:MAX_HEAD]
    plain = _PLAIN.match(head)
    if plain is not None:  # nothing in it that could be read in two ways
        return names.has(plain[1].decode("ascii").lower())
    if sum(map(head.count, (b"(", b'"', b"\\", b"=?"))) > MAX_MARKS:
        return True
    texts = {readable(head)}
    if not head.isascii():
        texts.add(head.decode("latin-1"))
    for text in texts:
        name = read_id(text)
        if not name or name in names:
            return True
        words = {word for head in {*_heads(text)} for word in _WORD.findall(_folded(head))}
        if any(map(names.has, words)):
            return True
    return len(body) > MAX_HEAD and b";" not in head


def _heads(text: str) -> Iterator[str]:
    """What stands before the first semicolon, as careless readers see it; what is not seen is gone from each."""
    for one in {text, decode_words(text)}:
        bare = Scanner(one).without_comments()
        yield bare.partition(";")[0]
        yield _FLAT_COMMENT.sub(" ", one).partition(";")[0]
        last = one.rfind(")") + 1  # behind it nothing is closed, and looking for that again and again is quadratic
        yield (_SHORT_COMMENT.sub(" ", one[:last]) + one[last:]).partition(";")[0]
        for head in (bare.partition(";")[0], one.partition(";")[0] if "(" not in one else ""):
            joined = head.translate(_MARKS)
            yield joined
            yield _UNSEEN.sub("", joined)
            yield _INVISIBLE.sub("", joined)


def a_label(label: str) -> str:
    """IDNA 2008 (RFC 5891), or where it has none IDNA 2003; in lower case. The label itself, where neither has any."""
    return label.lower() if len(label) > MAX_LABEL else a_labels(label) or label.casefold()


def _old_a_label(label: str) -> str:
    if label.isascii() or len(label) > 63:
        return label.lower()
    try:
        return label.encode("idna").decode("ascii")
    except UnicodeError:
        return label.casefold()


def _u_labels(label: str) -> Iterator[str]:
    """What an A-label shows, as the one and the other reads it."""
    if not label.lower().startswith("xn--") or not label.isascii() or len(label) > 63:
        return
    for decode in (idna.ulabel, lambda text: text.encode("ascii").decode("idna")):
        try:
            yield decode(label.lower())
        except UnicodeError:
            continue
