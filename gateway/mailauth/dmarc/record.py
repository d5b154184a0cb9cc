"""The DMARC Policy Record: RFC 9989 4.7, 4.8, 4.10.1. Wrong tags fall back to their defaults, unknown ones are ignored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

Policy = Literal["none", "quarantine", "reject"]
MAX_RECORD = 4096
"""Octets of one TXT record; a longer one is no DMARC record."""
MAX_URIS = 10
"""Reporting URIs that are remembered of one record."""
MAX_URI = 500
"""Octets of one."""
_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)", re.IGNORECASE)
_TAG = re.compile(r"[ \t]*([A-Za-z]+)[ \t]*=[ \t]*([\x20-\x3a\x3c-\x7e]*?)[ \t]*")
# RFC 3986 3; `,` and `!` must be encoded (RFC 9989 4.8), a size behind `!` is of RFC 7489 and ignored.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@$&'()*+=-]|%[0-9A-Fa-f]{2})+(?:![0-9]+[kmgtKMGT]?)?")
_POLICIES = ("none", "quarantine", "reject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record, defaults filled in."""

    p: Policy = "none"
    sp: Policy | None = None
    np: Policy | None = None
    adkim: Literal["r", "s"] = "r"
    aspf: Literal["r", "s"] = "r"
    psd: Literal["y", "n", "u"] = "u"
    is_test: bool = False
    """t=y: the policy is one level milder."""
    rua: tuple[str, ...] = ()
    """Where aggregate reports are wanted: URIs as written, a size limit (`!10m`) included."""
    fo: str = ""
    """When failure reports are wanted, as written. We send none."""
    is_usable: bool = True
    """False: the policy is wrong or absent and nobody wants reports, so DMARC does not apply (RFC 9989 4.10.1)."""
    wrong: str = ""
    """The tag whose value made the record one of p=none, or unusable: `p`, `sp`, `np`."""
    text: str = ""


def parse_record(text: str) -> Record | None:
    """One TXT record; None when it is no DMARC record."""
    return _parse(text) if len(text) <= MAX_RECORD else None


def record_tags(text: str) -> dict[str, str] | None:
    """The tags of one TXT record, names in lower case, the first of each counts, without the version; None for another record."""
    version = _VERSION.match(text) if len(text) <= MAX_RECORD else None
    # RFC 9989 4.8: the value is case-sensitive, the tag's name is not.
    if version is None or "DMARC1" not in version[0]:
        return None
    tags: dict[str, str] = {}
    for part in text[version.end() :].split(";"):
        found = _TAG.fullmatch(part)
        if found is not None:
            tags.setdefault(found[1].lower(), found[2])
    return tags


@lru_cache(maxsize=512)
def _parse(text: str) -> Record | None:
    """The same few records are asked for all day."""
    tags = record_tags(text)
    if tags is None:
        return None
    rua = _uris(tags)
    # RFC 9989 4.10.1: no valid p, or a wrong sp or np. With somebody to report to it counts as p=none, for everything.
    wrong = next((name for name in ("p", "sp", "np") if tags.get(name, "none").lower() not in _POLICIES), "")
    if "p" not in tags:
        wrong = "p"
    policies = {} if wrong else {name: tags[name].lower() for name in ("p", "sp", "np") if name in tags}
    return Record(
        p=cast("Policy", policies.get("p", "none")),
        sp=cast("Policy | None", policies.get("sp")),
        np=cast("Policy | None", policies.get("np")),
        adkim=_mode(tags, "adkim"),
        aspf=_mode(tags, "aspf"),
        psd=_psd(tags),
        is_test=tags.get("t", "n").lower() == "y",
        rua=rua,
        fo=tags.get("fo", "")[:20],
        is_usable=not wrong or bool(rua),
        wrong=wrong,
        text=text,
    )


def select_record(texts: Sequence[str]) -> Record | None:
    """The record among all TXT records of a name; several are none (RFC 9989 4.10, step 2)."""
    records = [record for record in map(parse_record, texts) if record is not None]
    return records[0] if len(records) == 1 else None


def _mode(tags: dict[str, str], name: str) -> Literal["r", "s"]:
    return "s" if tags.get(name, "r").lower() == "s" else "r"


def _uris(tags: dict[str, str]) -> tuple[str, ...]:
    """RFC 9989 4.7: reporting URIs in their order; what is no URI is ignored."""
    found = [uri.strip(" \t") for uri in tags.get("rua", "").split(",")]
    return tuple(dict.fromkeys(uri for uri in found if len(uri) <= MAX_URI and _URI.fullmatch(uri) is not None))[:MAX_URIS]


def _psd(tags: dict[str, str]) -> Literal["y", "n", "u"]:
    value = tags.get("psd", "u").lower()
    return cast('Literal["y", "n", "u"]', value if value in {"y", "n"} else "u")
