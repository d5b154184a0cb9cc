"""Is DMARC enforced for this domain? draft-brand-indicators-for-message-identification 7.1, steps 7 to 9. Nothing is looked up.

The author's domain and its Organizational Domain are both asked: one that lets failures through gets no indicator shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.mailauth.dmarc import record_tags


def objection(records: Sequence[bytes]) -> str:
    """What in the TXT records of a `_dmarc` name speaks against it; `` when nothing does, or there is no record."""
    found = [tags for tags in (record_tags(record.decode("ascii", "replace")) for record in records) if tags is not None]
    if len(found) != 1:  # RFC 9989 4.10: several are none
        return ""
    tags = {name: value.lower() for name, value in found[0].items()}
    policy, percentage = tags.get("p", "none"), tags.get("pct", "100")
    if policy not in {"quarantine", "reject"}:
        return "p=none"
    if tags.get("sp", policy) not in {"quarantine", "reject"}:
        return "sp=none"
    if tags.get("t") == "y":  # RFC 9989 4.7: what pct=0 was before
        return "t=y"
    if policy == "quarantine" and percentage.strip("0123456789") == "" and percentage.lstrip("0") != "100":
        return f"p=quarantine with pct={percentage[:5]}"
    return ""
