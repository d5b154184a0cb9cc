"""The RFC 7208 suite of openspf as data: what its cases ask, and its zones in the form of `gateway.testing.dns_server`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

SUITES = Path(os.environ.get("MAILGATEWAY_SUITES") or Path(__file__).parents[1].parent / "shared" / "suites")
SUITE = SUITES / "rfc7208-tests.yml"
CASES = 203


@dataclass(frozen=True, slots=True)
class Case:
    """One question and its answers."""

    name: str
    client: str
    helo: str
    mailfrom: str
    allowed: tuple[str, ...]
    explanation: str | None
    """The domain's own; `` for none; None: the suite does not say."""

    @property
    def identity(self) -> tuple[str, str]:
        """Local part and domain of MAIL FROM (RFC 7208 2.4)."""
        local_part, _, domain = (self.mailfrom or f"postmaster@{self.helo}").rpartition("@")
        return local_part, domain


@dataclass(frozen=True, slots=True)
class Scenario:
    """Cases that share their zones."""

    name: str
    cases: tuple[Case, ...]
    zones: dict[str, Any]


@cache
def scenarios() -> tuple[Scenario, ...]:
    """All of them; empty where the suite is not there."""
    if not SUITE.exists():
        return ()
    found = []
    for document in yaml.safe_load_all(SUITE.read_text()):
        cases = tuple(_case(name, case) for name, case in document["tests"].items())
        zones = {name: _as_zone(records) for name, records in document["zonedata"].items()}
        found.append(Scenario(document["description"], cases, zones))
    return tuple(found)


def need_suite() -> None:
    """Skip where it is not there, and fail where CI=true."""
    if not SUITE.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{SUITE} is missing, and in CI it must not be")
        pytest.skip(f"the RFC 7208 suite is not there: {SUITE} (MAILGATEWAY_SUITES names another place)")


def _case(name: str, case: dict[str, Any]) -> Case:
    result, explanation = case["result"], case.get("explanation")
    return Case(
        name=name,
        client=case["host"],
        helo=case["helo"],
        mailfrom=case["mailfrom"],
        allowed=tuple(result) if isinstance(result, list) else (result,),
        explanation="" if explanation == "DEFAULT" else explanation,
    )


def _as_zone(records: list[Any]) -> dict[str, Any]:
    """The suite's records in the form of the stub: SPF stands for TXT where there is no TXT; TIMEOUT is a failing server."""
    kinds: dict[str, list[Any]] = {}
    for record in records:
        if isinstance(record, str):
            continue
        for kind, value in record.items():
            kinds.setdefault(kind, []).append(value)
    spf = kinds.pop("SPF", [])
    if "TXT" not in kinds:
        kinds["TXT"] = spf
    zone: dict[str, Any] = {kind: [v for v in values if v != "NONE"] for kind, values in kinds.items()}
    if "TIMEOUT" in records:
        fails = dict.fromkeys(("A", "AAAA", "MX", "PTR", "TXT"), "TEMPFAIL")
        zone = fails | {kind: values for kind, values in zone.items() if values or kind != "TXT"}
        if "TXT" in kinds and not zone["TXT"]:
            zone["TXT"] = "TEMPFAIL"
    return zone
