"""The ARC validation suite as data: messages with CRLF, zones in the form of the stub name server, and the status each must get."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import yaml

from tests.rfc7208_suite import SUITES

SUITE = SUITES / "arc-validation-tests.yml"
CASES = 171
SEALED_AS_FAILED = frozenset({"cv_fail_i1_as_cv_fail", "cv_fail_i2_as2_fail", "cv_fail_i2_as1_fail"})
"""The suite is of 2016 and expects no status where a seal says cv=fail: such chains were not to be looked at. RFC 8617 5.2 says
`fail` in step 2 when it is the newest seal, and in step 3C when it is another."""


@dataclass(frozen=True, slots=True)
class Case:
    """One message and the status of its chain."""

    name: str
    content: bytes
    status: str
    """`none`, `pass` or `fail`."""
    zones: dict[str, Any]


@cache
def cases() -> tuple[Case, ...]:
    """All of them; none where the suite is not there."""
    if not SUITE.exists():
        return ()
    found = []
    for document in yaml.safe_load_all(SUITE.read_text()):
        zones = {name: {"TXT": [text]} for name, text in document["txt-records"].items()}
        for name, case in document["tests"].items():
            status = (case["cv"] or "").lower()
            if name in SEALED_AS_FAILED:
                assert status == "", "the suite has changed"
                status = "fail"
            content = case["message"].replace("\n", "\r\n").encode()
            found.append(Case(name, content, status, zones))
    return tuple(found)


def need_suite() -> None:
    """Skip where it is not there, and fail where CI=true."""
    if not SUITE.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{SUITE} is missing, and in CI it must not be")
        pytest.skip(f"the ARC suite is not there: {SUITE} (MAILGATEWAY_SUITES names another place)")
