"""Text and links of an HTML body, as a reader would see them. One pass, linear in the input whatever it is.

No parser of the document: html.parser of older Pythons takes quadratic time on crafted input.
"""

from __future__ import annotations

import html
import re

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
_LINKS = frozenset(("href", "src", "action", "formaction", "background", "data", "poster"))
_ZEROS = re.compile(r"&#0{4,}")
_HUGE = re.compile(r"&#\d{8,};?")


def unescape(text: str) -> str:
    """Character references decoded; numbers too large to be one become U+FFFD instead of an error."""
    if "&" not in text:
        return text
    return html.unescape(_HUGE.sub("\ufffd", _ZEROS.sub("&#0", text)))


def read_html(source: str, *, max_links: int = 1_000) -> tuple[str, list[str]]:
    """The visible text and the links, in order. Never raises."""
    text: list[str] = []
    links: list[str] = []
    at = 0
    while at < len(source):
        start = source.find("<", at)
        if start < 0:
            text.append(source[at:])
            break
        text.append(source[at:start])
        tag = _TAG.match(source, start)
        if tag is None:
            at = _behind_markup(source, start, text)
            continue
        name = tag[2].lower()
        if name in _BLOCKS:
            text.append("\n")
        at, found = _attributes(source, tag.end())
        links.extend(found[: max_links - len(links)])
        if not tag[1] and name in _RAW:
            end = _RAW[name].search(source, at)
            if name in {"title", "textarea"}:
                text.append(source[at : len(source) if end is None else end.start()])
            at = len(source) if end is None else end.start()
    return unescape("".join(text)), links


def _behind_markup(source: str, start: int, text: list[str]) -> int:
    """A comment, declaration, stray end tag, or a plain `<`."""
    if source.startswith("<!--", start):
        # What is not closed reaches to the end of the document: so each search is paid for once.
        end = source.find("-->", start + 2)
        return len(source) if end < 0 else end + 3
    if source.startswith(("<!", "<?", "</"), start):
        end = source.find(">", start)
        return len(source) if end < 0 else end + 1
    text.append("<")
    return start + 1


def _attributes(source: str, at: int) -> tuple[int, list[str]]:
    """The offset behind the tag and the links in it. A tag that is not closed reaches to the end."""
    links: list[str] = []
    while True:
        end = _TAG_END.match(source, at)
        if end is not None:
            return end.end(), links
        found = _ATTRIBUTE.match(source, at)
        if found is None:
            lone = source.find("=", at)
            if lone < 0:
                return len(source), links
            at = lone + 1
            continue
        if found[2] in {'"', "'"}:  # a quote that is not closed
            return len(source), links
        value = found[2] or ""
        if value and found[1].lower() in _LINKS:
            link = re.sub(r"[\t\r\n]", "", unescape(value.strip("\"'"))).strip()
            if link and not link.startswith("#"):
                links.append(link[:2048])
        at = found.end()
