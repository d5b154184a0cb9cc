"""Tokens of a message: words of its text and subject, its authors, the hosts of its links, its form. Bounded; never raises.

What is remembered of a token is a number made of it: a database of words would be a database of people's mail.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.message import Message

MAX_TEXT = 64_000
"""Characters of the text that are read."""
MAX_TOKENS = 1_500
"""Of one message; those of header, links and form come first."""
MAX_HOSTS = 100
MAX_NAMES = 50
_SHORTEST, _LONGEST = 3, 30
_WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*|[$\u20ac\u00a3\u00a5%!]{1,3}")
_DIGITS = re.compile(r"\d")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True, slots=True)
class Reading:
    """What tokens are made of: plain values that can go to another process."""

    subject: str
    authors: tuple[str, ...]
    hosts: tuple[str, ...]
    names: tuple[str, ...]
    """Of attachments."""
    kinds: tuple[str, ...]
    """Types of the parts, and other marks of form."""
    text: str


@dataclass(frozen=True, slots=True)
class Lesson:
    """A message as it is learnt: numbers of its tokens, and the words for whoever asks why."""

    words: dict[int, str]
    digest: str
    """Of what was read: the same message, by whatever way it came, is one lesson."""


def read_message(message: Message) -> Reading:
    """What of a message counts."""
    kinds = [part.content_type[:60] for part in message.parts[:MAX_NAMES]]
    kinds += [f"hidden:{len(message.hidden_text) > MAX_NAMES}", f"links:{min(len(message.urls), 20).bit_length()}"]
    hosts = [_host(url) for url in message.urls[:MAX_HOSTS]]
    return Reading(
        subject=message.subject[:1_000],
        authors=tuple(message.author_addresses[:5]),
        hosts=tuple(dict.fromkeys(host for host in hosts if host)),
        names=tuple(part.filename[:200] for part in message.attachments[:MAX_NAMES]),
        kinds=tuple(dict.fromkeys(kinds)),
        text=message.text[:MAX_TEXT],
    )


def lesson_of(reading: Reading) -> Lesson:
    """The tokens, each once."""
    words: dict[int, str] = {}
    for token in _tokens(reading):
        words.setdefault(_number(token), token)
        if len(words) >= MAX_TOKENS:
            break
    return Lesson(words, hashlib.sha256(repr(reading).encode("utf-8", "replace")).hexdigest())


def _tokens(reading: Reading) -> Iterator[str]:
    for address in reading.authors:
        _, _, domain = address.lower().rpartition("@")
        yield f"from:{address.lower()[:200]}"
        yield from (f"from:{one}" for one in _parents(domain))
    for host in reading.hosts:
        yield from (f"link:{one}" for one in _parents(host))
    for kind in reading.kinds:
        yield f"form:{kind}"
    for name in reading.names:
        yield f"file:{name.lower().rpartition('.')[2][:20]}"
    yield from (f"subject:{word}" for word in _words(reading.subject))
    yield from _words(reading.text)


def _words(text: str) -> Iterator[str]:
    for word in dict.fromkeys(_WORD.findall(text.casefold())):
        if word.isascii() or not _WIDE.search(word):
            if len(word) > _LONGEST:
                yield f"long:{word[0]}:{len(word) // 10}"
            elif len(word) >= _SHORTEST or not word.isalnum():
                yield word if word.isalpha() else _DIGITS.sub("0", word)
        else:  # no spaces between words there: pairs of characters
            yield from (word[n : n + 2] for n in range(min(len(word) - 1, 200)))


def _parents(domain: str) -> Iterator[str]:
    """The domain and those above it, without the top."""
    labels = domain.strip(".").split(".")[-4:]
    for n in range(max(len(labels) - 1, 1)):
        yield ".".join(labels[n:])[:200]


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "")[:255]
    except ValueError:
        return ""


def _number(token: str) -> int:
    digest = hashlib.blake2b(token.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
