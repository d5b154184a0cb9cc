"""Bundled plugins with `process = true`: what they decide, find and change is what they do without."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.plugins.dnsbl import Dnsbl
from gateway.plugins.iprev import Iprev
from gateway.plugins.recipients import Recipients
from gateway.plugins.rules import Options, Rules
from gateway.plugins.spf import Spf
from gateway.testing import FakeContext, Result, a_message, a_session, a_transaction, run_plugin
from gateway.testing.isolation import isolated
from gateway.trace import jsonable

ZONES = {
    "7.2.0.192.in-addr.arpa": {"PTR": ["mx.client.example"]},
    "mx.client.example": {"A": ["192.0.2.7"]},
    "client.example": {"TXT": ["v=spf1 ip4:192.0.2.0/24 -all"]},
    "other.example": {"TXT": ["v=spf1 include:broken.example -all"]},
    "broken.example": "SERVFAIL",
    "strict.example": {"TXT": ["v=spf1 -all"]},
    "7.2.0.192.list.example": {"A": ["127.0.0.2"]},
    "8.2.0.192.list.example": "SERVFAIL",
}
CASES: list[tuple[str, type[Any], dict[str, Any], list[dict[str, Any]]]] = [
    (
        "recipients",
        Recipients,
        {"known": {"example.org": ["alice"]}},
        [{"recipients": ["alice@example.org", "bob@example.org", "alice+x@example.org", "x@elsewhere.example"]}],
    ),
    ("iprev", Iprev, {}, [{"client_address": "192.0.2.7"}, {"client_address": "192.0.2.8"}, {"client_address": ""}]),
    (
        "dnsbl",
        Dnsbl,
        {"lists": [{"zone": "list.example"}], "reject_at": 1},
        [{"client_address": "192.0.2.7"}, {"client_address": "192.0.2.8"}, {"client_address": "192.0.2.9"}],
    ),
    (
        "spf",
        Spf,
        {},
        [
            {"client_address": "192.0.2.7", "reverse_path": "a@client.example"},
            {"client_address": "192.0.2.7", "reverse_path": "a@other.example"},
            {"client_address": "192.0.2.7", "reverse_path": "a@strict.example"},
            {"client_address": "192.0.2.7", "reverse_path": ""},
        ],
    ),
]


async def run(plugin: Any, context: FakeContext, case: dict[str, Any]) -> Result:
    session = a_session(client_address=case.get("client_address", "192.0.2.9"), helo="mx.client.example")
    given = {name: case[name] for name in ("reverse_path", "recipients") if name in case}
    return await run_plugin(plugin, transaction=a_transaction(session=session, **given), message=a_message(), context=context)


@pytest.mark.parametrize(("name", "kind", "options", "cases"), CASES, ids=[case[0] for case in CASES])
async def test_the_same_in_a_process_of_its_own(
    name: str, kind: type[Any], options: dict[str, Any], cases: list[dict[str, Any]]
) -> None:
    here, there = FakeContext(zones=ZONES), FakeContext(zones=ZONES)
    async with isolated(name, options, context=there) as apart:
        for case in cases:
            local = await run(kind(kind.options_type(**options), name=name, context=here), here, case)
            remote = await run(apart, there, case)
            assert list(remote.decisions.values()) == list(local.decisions.values())
            assert [jsonable(one) for one in remote.findings] == [jsonable(one) for one in local.findings]
            assert remote.edits == local.edits
            assert [one["outcome"] for one in remote.trace] == [one["outcome"] for one in local.trace]


async def test_rules_remember_from_judge_to_rewrite() -> None:
    rule = [
        {"name": "tagged", "when": "message.size < 100000", "then": {"tag_subject": "[X]"}},
        {"name": "exe", "when": 'attachments.exists(a, a.name.endsWith(".exe"))', "then": "quarantine"},
    ]
    here, there = FakeContext(), FakeContext()
    async with isolated("rules", {"rule": rule}, context=there) as apart:
        for message in (a_message(), a_message(attach="x.exe")):
            local = await run_plugin(Rules(Options.model_validate({"rule": rule}), name="rules", context=here), message=message)
            remote = await run_plugin(apart, message=message)
            assert list(remote.decisions.values()) == list(local.decisions.values())
            assert remote.edits == local.edits
            assert remote.edits
