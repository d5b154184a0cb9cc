"""The ARC validation suite, each case through the plugin."""

from __future__ import annotations

import pytest

from gateway.plugins.arc import Arc
from gateway.testing import FakeContext, a_message, run_plugin
from tests.arc_suite import CASES, Case, cases, need_suite


def test_the_suite_is_there() -> None:
    need_suite()
    assert len(cases()) == CASES
    assert {case.status for case in cases()} == {"none", "pass", "fail"}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])
async def test_case(case: Case) -> None:
    result = await run_plugin(Arc(), message=a_message(case.content), context=FakeContext(zones=case.zones))
    found = result.transaction.findings
    [arc] = [one for one in found if getattr(one, "method", "") == "arc"]
    assert (arc.result, arc.reason) == (case.status, arc.reason)  # type: ignore[attr-defined]
