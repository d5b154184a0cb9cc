"""Is DMARC enforced for this domain? draft-brand-indicators-for-message-identification 7.1, steps 7 to 9. Nothing is looked up.

The author's domain and its Organizational Domain are both asked: one that lets failures through gets no indicator shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_VERSION = re.compile(rb"[ \t]*v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_TAG = re.compile(rb"[ \t]*([A-Za-z]+)[ \t]*=[ \t]*([!-:<-~]*)[ \t]*")
_MAX_RECORD = 4_096


def objection(records: Sequence[bytes]) -> str:
    """What in the TXT records of a `_dmarc` name speaks against it; `` when nothing does, or there is no record."""
    found = [record for record in records if len(record) <= _MAX_RECORD and _VERSION.match(record)]
    if len(found) != 1:  # RFC 9989 4.10: several are none
        return ""
    tags: dict[bytes, bytes] = {}
    for part in found[0].split(b";"):
        tag = _TAG.fullmatch(part)
        if tag is not None:
            tags.setdefault(tag[1].lower(), tag[2].lower())
    policy, percentage = tags.get(b"p", b"none"), tags.get(b"pct", b"100")
    if policy not in {b"quarantine", b"reject"}:
        return "p=none"
    if tags.get(b"sp", policy) not in {b"quarantine", b"reject"}:
        return "sp=none"
    if tags.get(b"t") == b"y":  # RFC 9989 4.7: what pct=0 was before
        return "t=y"
    if policy == b"quarantine" and percentage.strip(b"0123456789") == b"" and percentage.lstrip(b"0") != b"100":
        return f"p=quarantine with pct={percentage.decode()[:5]}"
    return ""
