"""URLs in plain text, the host that a browser would go to (WHATWG URL), and what redirectors wrap.

linkify-it-py, which knows more forms, is not used: 12 ms for each KB of plain prose without any link, and quadratic in crafted text
(`http://a?` times 900: 0.3 s). This is one pass, 100 ns an octet at worst, in pieces, so that a thread lets others run between two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from gateway.idn import a_labels

MAX_URL = 2_048
MAX_DEPTH = 5
"""Redirectors in one another that are unwrapped."""
_PIECE = 32_768
_END = r"\s<>\"'\x00-\x20\u200b\u2028\u2029\ufeff"
_FULL = re.compile(rf"(?:(?:https?|ftp|hxxps?):[/\\]{{1,3}}|(?<![\w.@-])www\.)[^{_END}]{{1,{MAX_URL}}}+", re.IGNORECASE)
_BRACKETED = re.compile(rf"<(?:URL:)?[ \t\r\n]{{0,9}}((?:https?|ftp)://[^<>\x00]{{1,{MAX_URL}}}+)>", re.IGNORECASE)
_TOP = (
    "com|net|org|info|biz|edu|gov|mil|int|name|pro|mobi|app|dev|page|web|cloud|online|site|website|store|shop|xyz|top|club|live|link|click|tech|icu|"
    "vip|work|wiki|support|help|life|world|today|email|group|solutions|services|company|digital|agency|network|media|zone|space|fun|buzz|rest|cam|"
    "cyou|monster|quest|sbs|bond|lol|cfd|beauty|hair|zip|mov|finance|bank|loan|money|credit|win|bid|download|stream|review|party|date|science|"
    "рф|xn--[a-z0-9-]{2,59}"
)
_BARE = re.compile(
    rf"(?<![\w.@/\\:=&?%#+~$*-])(?:[^\W_](?:[\w-]{{0,62}}+)\.){{1,8}}"
    rf"(?:(?:{_TOP})(?![\w@-]|\.\w)(?:[:/?#][^{_END}]{{0,{MAX_URL}}}+)?|[a-z]{{2}}(?:(?<=\.[a-z]{{2}})(?::\d{{1,5}})?/[^{_END}]{{0,{MAX_URL}}}+)|"
    rf"(?:(?<=\.co\.)|(?<=\.com\.)|(?<=\.net\.)|(?<=\.org\.)|(?<=\.gov\.)|(?<=\.ac\.))[a-z]{{2}}(?![\w@-]|\.\w))",
    re.IGNORECASE,
)
"""A host without a scheme, as mail clients link it: with a frequent top-level domain, or any of two letters and a path."""
_TRAIL = ".,;:!?*_~|\u2026\u3002\uff0c'\"\u201d\u2019»"
_CLOSING = {")": "(", "]": "[", "}": "{"}
_WEB = frozenset(("http", "https", "ftp", "ws", "wss", "hxxp", "hxxps"))
_NO_HOST = frozenset(
    ("javascript", "vbscript", "data", "cid", "mid", "tel", "sms", "about", "blob", "urn", "callto", "geo", "magnet", "bitcoin")
)
_DROPPED = dict.fromkeys(map(ord, "\t\r\n"))
"""What browsers take out of a URL first."""
_SCHEME = re.compile(r"[\x00-\x20]*([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_FRONT = re.compile(r"[\x00-\x20]*(?:(?:https?|ftp|wss?|hxxps?):)?[/\\]*", re.IGNORECASE)
_PORT = re.compile(r"\d{1,5}(?:[/?#]|\Z)")
_AUTHORITY = re.compile(r"[^/\\?#]*")
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
_SECOND = frozenset(("co", "com", "net", "org", "gov", "gob", "ac", "edu", "or", "ne", "go", "gov", "mil", "nom", "gen"))


def find_urls(text: str) -> Iterator[str]:
    """URLs: with a scheme or `www.`, in angle brackets over several lines, without a scheme.

    Examples:
        >>> list(find_urls("See https://a.example/x_(y), or bit.ly/abc. Bye!"))
        ['https://a.example/x_(y)', 'bit.ly/abc']
    """
    for piece in _pieces(text):
        for word in dict.fromkeys(piece.split()):  # most are none, which a look for two characters tells faster than a pattern
            has_scheme = False
            if ":" in word or "www." in word or "WWW." in word:
                for found in _FULL.finditer(word):
                    if _has_host(url := _trimmed(found[0])):
                        has_scheme = True
                        yield url
            if not has_scheme and "." in word[1:-1]:
                for found in _BARE.finditer(word):
                    yield _trimmed(found[0])
        if "<" in piece:
            for found in _BRACKETED.finditer(piece):
                if "\n" in found[1]:  # RFC 3986, appendix C: broken where it was too long
                    yield "".join(found[1].split())


def _pieces(text: str) -> Iterator[str]:
    """Cut at white space, where there is some: a search holds all threads while it lasts."""
    at, size = 0, len(text)
    while at < size:
        upto = at + _PIECE
        if upto < size:
            cut = max(text.rfind("\n", at, upto), text.rfind(" ", at, upto))
            upto = cut + 1 if cut > at else upto
        yield text[at:upto]
        at = upto


def _has_host(url: str) -> bool:
    return url.rstrip("/\\")[-1:] not in {":", ""}


def _trimmed(url: str) -> str:
    """Without the punctuation of the sentence around it; a bracket stays where it was opened within."""
    url = url.rstrip(_TRAIL)
    if url[-1:] not in _CLOSING:
        return url
    end = len(url)
    surplus = {last: url.count(last) - url.count(first) for last, first in _CLOSING.items()}
    while end:
        last = url[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif last not in _TRAIL:
            break
        end -= 1
    return url[:end]


def host_of(url: str) -> str:
    r"""The host in lower case, with A-labels, that a browser would go to; of `mailto:` the domain; `` where there is none.

    Examples:
        >>> host_of("https:\\\\user:x@Bücher.example.:8080/path"), host_of("http://0x7f.1/"), host_of("javascript:alert(1)")
        ('xn--bcher-kva.example', '127.0.0.1', '')
    """
    url = url[:MAX_URL].translate(_DROPPED)
    scheme = _SCHEME.match(url)
    if scheme is not None and (name := scheme[1].lower()) not in _WEB:
        rest = url[scheme.end() :]
        if name == "mailto":
            return _host(rest.partition("?")[0].rpartition("@")[2])
        if name in _NO_HOST or not (rest.startswith("//") or "." in name or _PORT.match(rest)):
            return ""
        url = rest if rest.startswith("//") else url
    front = _FRONT.match(url)
    authority = _AUTHORITY.match(url, front.end() if front is not None else 0)
    return _host(authority[0].rpartition("@")[2]) if authority is not None else ""


def _host(text: str) -> str:
    if text.startswith("["):
        return (text.partition("]")[0] + "]").lower()
    host = unquote(text.partition(":")[0]) if "%" in text else text.partition(":")[0]
    host = (a_labels(host.strip()) or host.lower().strip()).rstrip(".")
    return _ipv4(host) or host


def _ipv4(host: str) -> str:
    """Dotted, of what browsers take for an IPv4 address: `0x7f.1`, `2130706433`; or ``."""
    pieces = host.split(".")
    if len(pieces) > 4 or not all(_NUMBER.fullmatch(piece) and len(piece) <= 20 for piece in pieces):
        return ""
    try:
        numbers = [
            int(p[2:] or "0", 16) if p[:2] in {"0x", "0X"} else int(p, 8 if p[0] == "0" and len(p) > 1 else 10) for p in pieces
        ]
    except ValueError:  # 09 is no octal number
        return ""
    *front, last = numbers
    if any(number > 255 for number in front) or last >= 256 ** (5 - len(numbers)):
        return ""
    value = sum(number << 8 * (3 - at) for at, number in enumerate(front)) + last
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


def same_site(one: str, other: str) -> bool:
    """True where two hosts belong together: their last two labels agree, three where the second is `co`, `com`, … of a country."""
    return one == other or (_site(one) == _site(other) and "." in one)


def _site(host: str) -> str:
    labels = host.split(".")
    if labels[-1].isdigit():
        return host
    count = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND else 2
    return ".".join(labels[-count:])


def shown_host(text: str) -> str:
    """The host that a link's text names, where it reads like an address: `www.bank.example/login`; or ``."""
    text = text.strip()
    if len(text) > MAX_URL or " " in text.strip(" \u00a0"):
        words = text[:200].split()
        text = words[0] if len(words) == 1 else ""
    if not text or "@" in text.partition("/")[0]:
        return ""
    if _FULL.fullmatch(text) or _BARE.fullmatch(text) or (text[:4].lower() == "www." and "." in text[4:]):
        return host_of(text)
    return ""
