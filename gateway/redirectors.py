"""What redirectors wrap: the address that a rewritten or tracked link leads to in the end, where the link itself says so.

Nothing is fetched. Links that only the redirector's own server can resolve (Mimecast, Barracuda's short form, bit.ly) stay as they are.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from gateway.urls import MAX_DEPTH, MAX_URL, host_of

Read: TypeAlias = Callable[[SplitResult], str]
_ADDRESS = re.compile(r"(?:https?:)?//[^\s<>\"']+|www\.[^\s<>\"']+", re.IGNORECASE)

_IN_QUERY: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    # host or a domain above it, what the path begins with, parameters that may hold the address
    ("safelinks.protection.outlook.com", "/", ("url",)),
    ("safelinks.protection.office365.us", "/", ("url",)),
    ("linkprotect.cudasvc.com", "/", ("a",)),
    ("clicktime.symantec.com", "/", ("u",)),
    ("protect2.fireeye.com", "/", ("u",)),
    ("protect.fireeye.com", "/", ("u",)),
    ("imsva91-ctp.trendmicro.com", "/", ("url",)),
    ("ctp.trendmicro.com", "/", ("url",)),
    ("atpscan.global.hornetsecurity.com", "/", ("url", "u")),
    ("antiphishing.vadesecure.com", "/", ("u", "f")),
    ("urlsand.esvalabs.com", "/", ("u",)),
    ("google.com", "/url", ("q", "url")),
    ("google.com", "/imgres", ("imgurl",)),
    ("googleadservices.com", "/", ("adurl",)),
    ("googleads.g.doubleclick.net", "/", ("adurl",)),
    ("adclick.g.doubleclick.net", "/", ("adurl",)),
    ("translate.google.com", "/", ("u",)),
    ("youtube.com", "/redirect", ("q",)),
    ("facebook.com", "/l.php", ("u",)),
    ("facebook.com", "/flx/warn", ("u",)),
    ("instagram.com", "/", ("u",)),
    ("linkedin.com", "/redir", ("url",)),
    ("linkedin.com", "/safety/go", ("url",)),
    ("duckduckgo.com", "/l/", ("uddg",)),
    ("slack-redir.net", "/link", ("url",)),
    ("steamcommunity.com", "/linkfilter", ("url", "u")),
    ("vk.com", "/away.php", ("to",)),
    ("t.umblr.com", "/redirect", ("z",)),
    ("deviantart.com", "/users/outgoing", ("",)),
    ("href.li", "/", ("",)),
    ("out.reddit.com", "/", ("url",)),
    ("statics.teams.cdn.office.net", "/evergreen-assets/safelinks", ("url",)),
    ("urldefense.com", "/v1/url", ("u",)),
    ("urldefense.proofpoint.com", "/v1/url", ("u",)),
    ("awstrack.me", "/L0/", ("",)),
)


def _query(url: SplitResult) -> dict[str, str]:
    """Of doubled parameters the first."""
    try:
        return dict(reversed(parse_qsl(url.query, max_num_fields=50)))
    except ValueError:  # more than that
        return {}


def _whole(url: SplitResult) -> str:
    return url.path + (f"?{url.query}" if url.query else "")


def _proofpoint_2(url: SplitResult) -> str:
    """`?u=https-3A__host_path`: `-XX` is an octet, `_` a slash."""
    found = _query(url).get("u", "")
    return unquote(found.replace("-", "%").replace("_", "/"))


_V3 = re.compile(r"/v3/__(.+?)__;([A-Za-z0-9_-]*={0,2})(?:!|\Z)", re.DOTALL)
_STARS = re.compile(r"\*(?:\*(.))?", re.DOTALL)
_RUNS = {
    letter: count for count, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", start=2)
}


def _proofpoint_3(url: SplitResult) -> str:
    """`/v3/__https://host/*path__;base64!…`: each `*` stands for the next character of the base64, `**X` for a run of them."""
    found = _V3.match(_whole(url))
    if found is None:
        return ""
    replaced = iter(_base64(found[2]).decode("utf-8", "replace"))

    def put(star: re.Match[str]) -> str:
        count = _RUNS.get(star[1], 1) if star[1] else 1
        return "".join(next(replaced, "*") for _ in range(count))

    return _slashes(_STARS.sub(put, found[1]))


def _checkpoint(url: SplitResult) -> str:
    """`/v2/___https://host/path___.…` of Check Point and Avanan; `/v2/r01/___…` of later ones."""
    whole = _whole(url)
    start = whole.find("___")
    end = whole.find("___", start + 3)
    return _slashes(whole[start + 3 : end]) if 0 <= start < end else ""


def _cisco(url: SplitResult) -> str:
    """`/<key>/https%3A%2F%2Fhost`."""
    return unquote(url.path.rpartition("/")[2])


def _sophos(url: SplitResult) -> str:
    """`?d=host&u=base64`."""
    return _base64(_query(url).get("u", "")).decode("utf-8", "replace")


def _bing(url: SplitResult) -> str:
    """`/ck/a?…&u=a1<base64>`."""
    found = _query(url).get("u", "")
    return _base64(found[2:]).decode("utf-8", "replace") if found[:2] == "a1" else ""


def _amp(url: SplitResult) -> str:
    """`/amp/s/host/path`."""
    rest = _whole(url)[5:]
    secure = rest.startswith("s/")
    return f"{'https' if secure else 'http'}://{rest.removeprefix('s/')}"


_IN_PATH: tuple[tuple[str, str, Read], ...] = (
    ("urldefense.proofpoint.com", "/v2/", _proofpoint_2),
    ("urldefense.com", "/v2/", _proofpoint_2),
    ("urldefense.com", "/v3/", _proofpoint_3),
    ("urldefense.us", "/v3/", _proofpoint_3),
    ("urldefense.us", "/v2/", _proofpoint_2),
    ("protect.checkpoint.com", "/v2/", _checkpoint),
    ("url.avanan.click", "/v2/", _checkpoint),
    ("secure-web.cisco.com", "/", _cisco),
    ("protection.sophos.com", "/", _sophos),
    ("bing.com", "/ck/a", _bing),
    ("google.com", "/amp/", _amp),
)


def unwrap(url: str) -> str:
    """Where the link leads to behind all redirectors that say so; `` where it is none of those.

    Examples:
        >>> unwrap("https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fwww.google.com%2Furl%3Fq%3Dhttps%3A%2F%2Fevil.example%2F&data=05")
        'https://evil.example/'
    """
    target = ""
    for _ in range(MAX_DEPTH):
        inner = _unwrap_one(target or url[: 2 * MAX_URL])
        if not inner:
            break
        target = inner[:MAX_URL]
    return target


def _unwrap_one(url: str) -> str:
    host = host_of(url)
    known = list(_BY_DOMAIN.get(host, ()))
    labels = host.split(".")
    for at in range(1, min(len(labels) - 1, 10)):
        known += _BY_DOMAIN.get(".".join(labels[at:]), ())
    if not known:
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    path = parts.path or "/"
    for front, read in known:
        if path.lower().startswith(front):
            found = read(parts)
            if _ADDRESS.match(found) and "." in host_of(found[:MAX_URL]):
                return found.split("\n")[0].strip()
    return ""


def _from_query(names: tuple[str, ...]) -> Read:
    def read(url: SplitResult) -> str:
        if names == ("",):  # the whole query, or what follows in the path, is the address
            return unquote(url.query or url.path[url.path.lower().find("http") :])
        found = _query(url)
        return next((found[name] for name in names if _ADDRESS.match(found.get(name, ""))), "")

    return read


def _by_domain() -> dict[str, tuple[tuple[str, Read], ...]]:
    found: dict[str, list[tuple[str, Read]]] = {}
    for domain, front, read in _IN_PATH:
        found.setdefault(domain, []).append((front.lower(), read))
    for domain, front, names in _IN_QUERY:
        found.setdefault(domain, []).append((front.lower(), _from_query(names)))
    return {domain: tuple(entries) for domain, entries in found.items()}


_BY_DOMAIN = _by_domain()


def _base64(text: str) -> bytes:
    clean = text.translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    try:
        return binascii.a2b_base64(clean + "=" * (-len(clean) % 4))
    except (binascii.Error, ValueError):
        return b""


def _slashes(url: str) -> str:
    """Two slashes behind the scheme, where one was lost."""
    return re.sub(r"\A(https?):/(?!/)", r"\1://", url, flags=re.IGNORECASE)
