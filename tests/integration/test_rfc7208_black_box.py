"""The RFC 7208 suite of openspf from outside: PROXY v2 and SMTP in, DNS over sockets, Authentication-Results at the next hop out.

Every case runs twice: with a chain that only reports, and at a listener that rejects what fails, whose reply bears the explanation.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.black_box import BlackBox, Mail
from tests.rfc7208_suite import CASES, Case, need_suite, scenarios

pytestmark = pytest.mark.slow
OPTIONS = '[plugin.spf_strict]\nuse = "spf"\nfail = "reject"'
_EXPLAINED = re.compile(r"; the domain explains: (.*) \([0-9A-Z]+-[0-9]+\)$")
"""Before the mark of the transaction that ends every refusal."""

NOT_IN_RFC_5321: dict[str, Mail] = {
    # An empty label is no Domain of RFC 5321 4.1.2; in EHLO the gateway takes any visible word, and <> makes it the identity.
    "emptylabel": Mail(helo="A...example.com"),
    # No local part is no Mailbox of RFC 5321 4.1.2. RFC 7208 4.3 puts `postmaster` there, as 2.4 does for <>.
    "nolocalpart": Mail(helo="example.net"),
}
"""Cases whose reverse-path MAIL cannot say: 501, and the same check_host() asked by the null reverse-path, as RFC 7208 2.4 has it."""
QUOTED = {"dorky-sentinel": '"Macro Error"@e8.example.com'}
"""A local part with a space is a Quoted-string (RFC 5321 4.1.2)."""


def as_mail(case: Case) -> Mail:
    return Mail(client=case.client, helo=case.helo, reverse_path=QUOTED.get(case.name, case.mailfrom))


async def miss(box: BlackBox, case: Case) -> str | None:
    """What differs from the suite, or None."""
    mail = as_mail(case)
    if case.name in NOT_IN_RFC_5321:
        refused = await box.send(mail)
        if not refused.reply.startswith("501 5.1.7 "):
            return f"MAIL FROM:<{mail.reverse_path}> was taken: {refused.reply}"
        mail = replace(NOT_IN_RFC_5321[case.name], client=case.client)
    arrived, judged = await asyncio.gather(box.send(mail), box.send(replace(mail, strict=True)))
    if arrived.content is None:
        return f"refused: {arrived.reply}"
    found = arrived.results("spf", "smtp.mailfrom")
    if len(found) != 1 or found[0].result not in case.allowed:
        return f"{found}, not {case.allowed}"
    if (found[0].result == "fail") != judged.reply.startswith("550 5.7.23 "):
        return f"{found[0].result}, but {judged.reply}"
    explained = _EXPLAINED.search(judged.reply)
    shown = explained[1] if explained else ""
    return None if case.explanation in {None, shown} else f"explanation {shown!r}, not {case.explanation!r}"


async def test_every_case(tmp_path: Path, free_port: Callable[[], int]) -> None:
    need_suite()
    misses: dict[str, str] = {}
    number = 0
    async with BlackBox(tmp_path, free_port, strict=["spf_strict", "authres"], options=OPTIONS) as box:
        for scenario in scenarios():
            box.serve(scenario.zones)
            answers = await asyncio.gather(*(miss(box, case) for case in scenario.cases))
            number += len(answers)
            misses |= {case.name: what for case, what in zip(scenario.cases, answers, strict=True) if what is not None}
    assert misses == {}
    assert number == CASES
