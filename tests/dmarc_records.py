"""Decision records with a DMARC finding, as the journal has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gateway.trace import RecipientRecord, Record, StepRecord

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()


def a_recipient(path: str = "<bob@here.test>", **changes: str) -> RecipientRecord:
    blank: dict[str, str] = dict.fromkeys(RecipientRecord.__annotations__, "")
    return blank | {"forward_path": path, "fate": "delivered"} | changes  # type: ignore[return-value]


def a_finding(**changes: Any) -> dict[str, Any]:
    finding: dict[str, Any] = {
        "kind": "DmarcFinding",
        "method": "dmarc",
        "result": "fail",
        "domain": "news.example.org",
        "policy": "reject",
        "policy_domain": "example.org",
        "requested": "reject",
        "published": [["p", "reject"], ["adkim", "r"], ["aspf", "r"], ["t", "n"]],
        "rua": ["mailto:dmarc@example.org"],
        "aligned": [],
        "authenticated": [["spf", "example.net", "", "pass"], ["dkim", "example.net", "k1", "pass"]],
        "override": ["", ""],
    }
    return finding | changes


def a_record(finding: dict[str, Any] | None = None, **changes: Any) -> Record:
    step = StepRecord(
        at_ms=1.0,
        stage="check",
        plugin="dmarc",
        outcome="finding",
        duration_ms=1.0,
        mode="enforce",
        recipient="",
        verdict=None,
        findings=[a_finding() if finding is None else finding],
        evidence="",
    )
    record: dict[str, Any] = dict.fromkeys(Record.__annotations__, "")
    record |= {
        "id": f"t{changes.pop('number', 1)}",
        "time": NOON,
        "client": "192.0.2.7",
        "reverse_path": "<a@example.net>",
        "parameters": [],
        "recipients": [a_recipient()],
        "verdict": "delivered",
        "steps": [step],
        "size": 1,
        "duration_ms": 1.0,
        "steps_dropped": 0,
    }
    return record | changes  # type: ignore[return-value]
