"""Text and links of an HTML body, what it shows for a link, and what it hides. One pass, linear in the input whatever it is.

No parser of the document: html.parser of older Pythons takes quadratic time on crafted input.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urljoin

MAX_SHOWN = 500
"""Characters of what is shown for a link."""
MAX_URL = 2_048
MAX_STYLE = 500
"""Characters of a `style` that are looked at."""
_DROPPED = dict.fromkeys(map(ord, "\t\r\n"))
_TAG = re.compile(r"<(/?)([A-Za-z][^\s/>]*+)")
_ATTRIBUTE = re.compile(r"[\s/]*+([^\s/>=][^\s/>=]*+)(?:\s*+=\s*+(\"[^\"]*+\"|'[^']*+'|[^\s>\"'][^\s>]*+|[\"']?))?")
_TAG_END = re.compile(r"[\s/]*+>")
_RAW = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style", "title", "textarea", "xmp", "noframes")}
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "blockquote",
        "br",
        "center",
        "dd",
        "div",
        "dl",
        "dt",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "td",
        "th",
        "tr",
        "ul",
    ]
)
_VOID = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"])
_LINKS = frozenset(
    (
        "href",
        "src",
        "action",
        "formaction",
        "background",
        "data",
        "poster",
        "xlink:href",
        "srcset",
        "ping",
        "longdesc",
        "manifest",
    )
)
_ZEROS = re.compile(r"&#0{4,}")
_HUGE = re.compile(r"&#\d{8,};?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_REFRESH = re.compile(r"[\s\d.]*[;,]?\s*(?:url\s*=\s*)?[\"']?([^\s\"']++)", re.IGNORECASE)
_HIDING = re.compile(
    r"display:none|visibility:(?:hidden|collapse)|mso-hide:all|font-size:(?:0(?![.\d])|0?\.\d|1px)|opacity:0(?:\.0\d*)?(?![.\d])|"
    r"(?:\A|;)(?:(?:max-height|max-width|height|width|line-height):0(?![.\d])|text-indent:-\d{3}|(?:left|top):-\d{3})"
)
_COLOUR = re.compile(r"(?:\A|;)color:([^;!]{1,40})")
_GROUND = re.compile(r"(?:\A|;)background(?:-color)?:([^;!]{1,40})")
_SPACE = re.compile(r"\s+")


@dataclass(slots=True, kw_only=True)
class Html:
    """What was read of one document."""

    text: str = ""
    """Without tags; what is hidden too."""
    links: list[str] = field(default_factory=list)
    """Of all kinds of elements, in order."""
    anchors: list[tuple[str, str]] = field(default_factory=list)
    """What a click leads to, and the text that is shown for it."""
    hidden: str = ""
    """The text that styles or attributes hide."""


def unescape(text: str) -> str:
    """Character references decoded; numbers too large to be one become U+FFFD instead of an error."""
    if "&" not in text:
        return text
    return html.unescape(_HUGE.sub("\ufffd", _ZEROS.sub("&#0", text)))


def read_html(source: str, *, max_links: int = 1_000) -> Html:
    """Text, links and what is hidden. Never raises."""
    return _Reader(source, max_links).read()


class _Reader:
    """One pass over the source."""

    def __init__(self, source: str, max_links: int) -> None:
        self._source = source
        self._max_links = max_links
        self._text: list[str] = []
        self._hidden: list[str] = []
        self._hiding = ""
        """Name of the element that hides what is in it."""
        self._level = 0
        """Elements of that name that are open."""
        self._anchor: tuple[str, int] | None = None
        """Where the open anchor leads to, and what of the text stands before it."""
        self._base = ""
        self._found = Html()

    def read(self) -> Html:
        source, at, size = self._source, 0, len(self._source)
        find, match, text = source.find, _TAG.match, self._text
        while at < size:
            start = find("<", at)
            if start < 0:
                self._say(source[at:])
                break
            if start > at:
                if self._hiding:
                    self._hidden.append(source[at:start])
                text.append(source[at:start])
            tag = match(source, start)
            at = self._behind_markup(start) if tag is None else self._element(tag)
        self._end_anchor()
        self._found.text = unescape("".join(text))
        self._found.hidden = unescape("".join(self._hidden)).strip()
        return self._found

    def _say(self, text: str) -> None:
        if text:
            self._text.append(text)
            if self._hiding:
                self._hidden.append(text)

    def _element(self, tag: re.Match[str]) -> int:
        """Behind the tag; of elements whose content is no markup, before their end tag."""
        name = tag[2].lower()
        is_end = bool(tag[1])
        if name in _BLOCKS:
            self._text.append("\n")
        at, attributes = _attributes(self._source, tag.end())
        if self._anchor is not None and name == "a":
            self._end_anchor()
        if is_end:
            if name == self._hiding:
                self._level -= 1
                if not self._level:
                    self._hiding = ""
                    self._hidden.append(" ")
            return at
        if attributes:
            self._read_attributes(name, attributes)
        if name == self._hiding:
            self._level += 1
        elif not self._hiding and attributes and name not in _VOID and _hides(attributes):
            self._hiding, self._level = name, 1
        if name in _RAW:
            end = _RAW[name].search(self._source, at)
            upto = len(self._source) if end is None else end.start()
            if name in {"title", "textarea"}:
                self._say(self._source[at:upto])
            at = upto
        return at

    def _read_attributes(self, name: str, attributes: list[tuple[str, str]]) -> None:
        if name == "meta":
            found = dict(reversed(attributes))  # of doubled ones the first counts
            target = _REFRESH.match(found.get("content", "")) if found.get("http-equiv", "").lower() == "refresh" else None
            if target is not None:
                self._link(target[1])
        for key, value in attributes:
            if key not in _LINKS:
                continue
            link = value.translate(_DROPPED).strip()
            if key == "srcset":
                link = link.partition(",")[0].strip().partition(" ")[0]
            if name == "base" and key == "href":
                self._base = self._base or link
            elif link and not link.startswith("#"):
                self._link(link)
                if name in {"a", "area"} and key in {"href", "xlink:href"} and self._anchor is None:
                    self._anchor = (self._whole(link), len(self._text))

    def _link(self, link: str) -> None:
        if len(self._found.links) < self._max_links:
            self._found.links.append(self._whole(link))

    def _whole(self, link: str) -> str:
        """With the document's base in front, where it has one and the link needs one."""
        if not self._base or _SCHEME.match(link):
            return link[:MAX_URL]
        try:
            return urljoin(self._base, link)[:MAX_URL]
        except ValueError:  # a base with half an IPv6 address
            return link[:MAX_URL]

    def _end_anchor(self) -> None:
        if self._anchor is None:
            return
        link, start = self._anchor
        self._anchor = None
        if len(self._found.anchors) < self._max_links:
            shown = unescape("".join(self._text[start:])[: 10 * MAX_SHOWN])
            self._found.anchors.append((link, _SPACE.sub(" ", shown).strip()[:MAX_SHOWN]))

    def _behind_markup(self, start: int) -> int:
        """A comment, declaration, stray end tag, or a plain `<`."""
        source = self._source
        if source.startswith("<!--", start):
            # What is not closed reaches to the end of the document: so each search is paid for once.
            end = source.find("-->", start + 2)
            return len(source) if end < 0 else end + 3
        if source.startswith(("<!", "<?", "</"), start):
            end = source.find(">", start)
            return len(source) if end < 0 else end + 1
        self._say("<")
        return start + 1


def _attributes(source: str, at: int) -> tuple[int, list[tuple[str, str]]]:
    """The offset behind the tag and its attributes with a value, or called `hidden`. A tag that is not closed reaches to the end."""
    found: list[tuple[str, str]] = []
    while True:
        end = _TAG_END.match(source, at)
        if end is not None:
            return end.end(), found
        one = _ATTRIBUTE.match(source, at)
        if one is None:
            lone = source.find("=", at)
            if lone < 0:
                return len(source), found
            at = lone + 1
            continue
        if one[2] in {'"', "'"}:  # a quote that is not closed
            return len(source), found
        name, value = one[1].lower(), one[2] or ""
        if name in _READ and (value or name == "hidden"):
            found.append((name, unescape(value.strip("\"'"))))
        at = one.end()


_READ = _LINKS | {"style", "hidden", "content", "http-equiv", "color", "bgcolor"}


def _hides(attributes: list[tuple[str, str]]) -> bool:
    """True for an element whose text nobody sees: by attribute, style, or in the colour of its ground."""
    colour = ground = ""
    for name, value in attributes:
        if name == "hidden" or (name == "style" and (_style_hides(value[:MAX_STYLE]))):
            return True
        if name == "color":
            colour = value
        elif name == "bgcolor":
            ground = value
    return bool(colour and ground) and _same(colour.lower(), ground.lower())


@lru_cache(maxsize=1_000)
def _style_hides(style: str) -> bool:
    """Remembered: the elements of a document have few different ones."""
    style = _SPACE.sub("", style).lower()
    if _HIDING.search(style):
        return True
    colour, ground = _COLOUR.search(style), _GROUND.search(style)
    return colour is not None and ground is not None and _same(colour[1], ground[1])


_NAMED = {"white": "#ffffff", "black": "#000000"}


def _same(one: str, other: str) -> bool:
    return _colour(one) == _colour(other)


def _colour(text: str) -> str:
    """Three digits are six: `#fff`."""
    name = _NAMED.get(text, text)
    return "#" + "".join(2 * digit for digit in name[1:]) if len(name) == 4 and name[0] == "#" else name
