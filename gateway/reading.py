"""What a reader gets of the text parts: text, links, what is hidden. Bounded; each part is read once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from gateway.flowed import unflow
from gateway.mime import Bounds, Part
from gateway.redirectors import unwrap
from gateway.urls import find_urls

_TIMES = 10
"""So many URLs for each one that is kept are looked at: the same may stand there often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Of one message."""

    text: str
    hidden_text: str
    charsets: tuple[str, ...]
    found: tuple[str, ...]
    """URLs as they stand there."""
    urls: tuple[str, ...]
    """And what is wrapped in them."""
    in_html: frozenset[str]
    anchors: tuple[tuple[str, str], ...]
    limits_hit: frozenset[str]


def read(parts: Iterable[Part], bounds: Bounds) -> Reading:
    """The text parts that are no attachments."""
    left = bounds.text
    texts: list[str] = []
    hidden: list[str] = []
    charsets: dict[str, None] = {}
    links: list[str] = []
    anchors: list[tuple[str, str]] = []
    hit: set[str] = set()
    for part in parts:
        if part.is_attachment or not part.content_type.startswith("text/"):
            continue
        if part.end - part.body_start > left:
            hit.add("text")
        text = part.text(left)
        left -= min(left, part.end - part.body_start)
        if part.charset:
            charsets.setdefault(part.charset[:60].lower())
        if part.content_type == "text/html":
            from gateway.hypertext import read_html  # for plugins alone (`server.preload`)

            found = read_html(text, max_links=bounds.urls + 1)
            text = found.text
            links += found.links
            anchors += found.anchors
            if found.hidden:
                hidden.append(found.hidden)
        elif part.is_flowed:
            text = unflow(text, deletes_space=part.parameter("delsp").lower() == "yes")
        texts.append(text)
    whole = "\n".join(texts)
    at_most = bounds.urls * _TIMES
    in_text = list(islice(find_urls(whole), at_most))
    if len(in_text) == at_most:
        hit.add("urls")
    every = dict.fromkeys((*links, *in_text))
    kept = tuple(islice(every, bounds.urls))
    if len(every) > bounds.urls:
        hit.add("urls")
    wrapped = (target for target in map(unwrap, kept) if target)
    return Reading(
        text=whole,
        hidden_text="\n".join(hidden),
        charsets=tuple(charsets),
        found=kept,
        urls=tuple(islice(dict.fromkeys((*kept, *wrapped)), 2 * bounds.urls)),
        in_html=frozenset(links),
        anchors=tuple(anchors[: bounds.urls]),
        limits_hit=frozenset(hit),
    )
