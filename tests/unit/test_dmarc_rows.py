"""Rows of DMARC reports: what one decision record says, how rows are counted, and what bounds them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.config.models import DmarcReportsConfig
from gateway.journal import Journal
from gateway.journal.dmarc_rows import MAX_SIGNATURES, ReportRow, rows_of
from gateway.journal.dmarc_tables import SCHEMA, Collector
from gateway.sqlite import Database
from gateway.trace import Record
from tests.dmarc_records import NOON, a_finding, a_recipient, a_record


def rows(record: Record, *, recipient_domains: bool = False) -> list[ReportRow]:
    return list(rows_of(record, recipient_domains=recipient_domains))


def row(record: Record, *, recipient_domains: bool = False) -> dict[str, Any]:
    [one] = rows(record, recipient_domains=recipient_domains)
    found: dict[str, Any] = json.loads(one.row)
    return found


def test_a_row() -> None:
    [one] = rows(a_record())
    assert (one.day, one.policy_domain) == ("2026-11-25", "example.org")
    assert json.loads(one.policy) == {
        "published": [["p", "reject"], ["adkim", "r"], ["aspf", "r"], ["t", "n"]],
        "rua": ["mailto:dmarc@example.org"],
    }
    assert json.loads(one.row) == {
        "source": "192.0.2.7",
        "disposition": "none",
        "dkim": "fail",
        "spf": "fail",
        "reason": ["local_policy", ""],
        "header_from": "news.example.org",
        "envelope_from": "example.net",
        "signatures": [["example.net", "k1", "pass"]],
        "mail_from": ["example.net", "pass"],
    }


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(a_record(a_finding(rua=[])), id="nobody wants a report"),
        pytest.param(a_record(a_finding(method="spf")), id="another method"),
        pytest.param(a_record(a_finding(policy_domain="")), id="no domain"),
        pytest.param(a_record(a_finding(policy_domain="a b<>&.org")), id="no domain name"),
        pytest.param(a_record(a_finding(policy_domain="a." * 127)), id="too long a name"),
        pytest.param(a_record(client="unix"), id="no address"),
        pytest.param(a_record(client=""), id="an unknown address"),
        pytest.param(a_record(client="10.1.2.3"), id="an inner network"),
        pytest.param(a_record(client="::ffff:127.0.0.1"), id="this host"),
        pytest.param(a_record(client="fe80::1%eth0"), id="a link"),
        pytest.param(a_record(identity="bob"), id="a submission"),
        pytest.param(a_record(verdict="deferred", recipients=[a_recipient(fate="deferred")]), id="it comes again"),
        pytest.param(a_record(verdict="vanished", recipients=[a_recipient(fate="vanished")]), id="it was never taken"),
        pytest.param(a_record(steps=[]), id="no finding"),
    ],
)
def test_no_row(record: Record) -> None:
    assert rows(record) == []


def test_a_second_plugin_does_not_count_the_message_again() -> None:
    record = a_record()
    [step] = record["steps"]
    assert len(rows(a_record(steps=[step, {**step, "plugin": "dmarc_on_trial"}]))) == 1
    assert len(rows(a_record(steps=[{**step, "findings": []}, step]))) == 1


def test_behind_another_gateway_that_one_reports() -> None:
    """The client is the other gateway, whose address says nothing about the sender."""
    record = a_record()
    [step] = record["steps"]
    spf = {"kind": "UpstreamResult", "method": "spf", "result": "pass", "upstream": "mx1.here.test"}
    assert rows(a_record(steps=[{**step, "plugin": "upstream", "findings": [spf]}, step])) == []
    ours = {**spf, "upstream": ""}
    assert len(rows(a_record(steps=[{**step, "plugin": "spf", "findings": [ours]}, step]))) == 1


def test_counted_whatever_others_did() -> None:
    """RFC 9990 2.1: all messages received, even if other filters block them, and what those did is not told."""
    refused = a_record(verdict="rejected", recipients=[a_recipient(fate="rejected", verdict="reject", plugin="rules")])
    assert row(refused)["disposition"] == "none"
    partly = [a_recipient(), a_recipient("<b@here.test>", fate="deferred")]
    assert len(rows(a_record(verdict="deferred", recipients=partly))) == 1


@pytest.mark.parametrize(
    ("finding", "verdict", "disposition", "reason"),
    [
        ({"result": "pass"}, "", "pass", []),
        ({"result": "pass", "requested": "none"}, "", "none", []),
        ({}, "reject", "reject", []),
        ({}, "discard", "reject", []),
        ({"requested": "quarantine", "policy": "quarantine"}, "quarantine", "quarantine", []),
        ({}, "quarantine", "quarantine", ["local_policy", ""]),
        ({"requested": "none", "policy": "none"}, "", "none", []),
        ({"policy": "quarantine", "published": [["t", "y"]]}, "quarantine", "quarantine", ["policy_test_mode", ""]),
        ({"policy": "quarantine", "published": [["t", "y"]]}, "", "none", ["local_policy", ""]),
        ({"requested": "quarantine", "policy": "none", "published": [["t", "y"]]}, "", "none", ["policy_test_mode", ""]),
        ({"override": ["trusted_forwarder", "lists.test"]}, "", "none", ["trusted_forwarder", "lists.test"]),
        ({"override": ["local_policy", "verdict = off"]}, "", "none", ["local_policy", ""]),
        ({"override": ["arc", "x"]}, "", "none", ["local_policy", ""]),
        ({"result": "temperror"}, "", "none", ["other", "temporary failure of DNS"]),
    ],
)
def test_disposition_and_reason(finding: dict[str, Any], verdict: str, disposition: str, reason: list[str]) -> None:
    decided = a_recipient(fate="rejected", verdict=verdict, plugin="dmarc" if verdict else "")
    found = row(a_record(a_finding(**finding), verdict="rejected", recipients=[a_recipient(), decided]))
    assert (found["disposition"], found["reason"]) == (disposition, reason)


def test_signatures_in_their_order_and_bounded() -> None:
    """RFC 9990 2.1.3."""
    signatures = [
        ["dkim", "other.test", "a", "fail"],
        ["dkim", "other.test", "b", "pass"],
        ["dkim", "example.org", "c", "pass"],
        ["dkim", "news.example.org", "D", "pass"],
        ["dkim", "odd.test", "e", "nonsense"],
        ["dkim", "", "f", "fail"],
    ]
    found = row(a_record(a_finding(authenticated=signatures, aligned=["dkim"])))
    assert [selector for _, selector, _ in found["signatures"]] == ["d", "c", "b", "a"]
    assert (found["dkim"], found["spf"], found["mail_from"]) == ("pass", "fail", [])
    many = [["dkim", f"d{n}.test", "s", "pass"] for n in range(100)]
    assert len(row(a_record(a_finding(authenticated=many)))["signatures"]) == MAX_SIGNATURES


@pytest.mark.parametrize(
    ("path", "domain"),
    [("<>", ""), ("<@relay.test:A@Example.NET>", "example.net"), ('<"a@b"@example.net>', "example.net"), ("<postmaster>", "")],
)
def test_envelope_from(path: str, domain: str) -> None:
    assert row(a_record(reverse_path=path))["envelope_from"] == domain


@pytest.mark.parametrize(
    ("client", "source"),
    [("2001:DB8:0::1", "2001:db8::1"), ("::ffff:192.0.2.1", "192.0.2.1")],
)
def test_source(client: str, source: str) -> None:
    assert row(a_record(client=client))["source"] == source


def test_recipients_are_told_only_where_asked_for_and_only_if_one() -> None:
    assert "envelope_to" not in row(a_record())
    assert row(a_record(), recipient_domains=True)["envelope_to"] == "here.test"
    two = a_record(recipients=[a_recipient(), a_recipient("<b@there.test>")])
    assert "envelope_to" not in row(two, recipient_domains=True)


# -- in the journal's file ---------------------------------------------------------------------------------------------


def ask(file: Path, question: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(file) as connection:
        return connection.execute(question).fetchall()


async def written(file: Path, records: list[Record], *, clock: Callable[[], float] = lambda: NOON, **settings: Any) -> None:
    reports = DmarcReportsConfig(enabled=True, address="dmarc@here.test", **settings)
    journal = await Journal.open(file, retention=10**9, queue=100_000, clock=clock, reports=reports)
    for record in records:
        journal.record(record)
    await journal.close()
    assert journal.dropped == 0


async def test_messages_that_belong_together_are_one_row(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    records = [a_record(number=n, client=f"192.0.2.{n % 2}") for n in range(7)]
    await written(file, records)
    await written(file, [a_record(number=9, client="192.0.2.0")])
    assert ask(file, "SELECT count FROM dmarc_rows ORDER BY count") == [(3,), (5,)]
    assert ask(file, "SELECT day, domains, rows, left_out FROM dmarc_days") == [("2026-11-25", 1, 2, 0)]
    assert ask(file, "SELECT count(*) FROM records") == [(8,)]


async def test_off_by_default(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    for reports in (None, DmarcReportsConfig()):
        journal = await Journal.open(file, retention=10**9, queue=100, reports=reports)
        journal.record(a_record())
        await journal.close()
    assert ask(file, "SELECT count(*) FROM dmarc_rows") == [(0,)]
    assert ask(file, "SELECT count(*) FROM records") == [(1,)]


async def test_the_last_policy_of_a_day_stands(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    policies = [a_finding(), a_finding(rua=["mailto:b@example.org"]), a_finding()]
    await written(file, [a_record(one, number=n) for n, one in enumerate(policies)])
    [(policy,)] = ask(file, "SELECT policy FROM dmarc_policies")
    assert json.loads(policy)["rua"] == ["mailto:dmarc@example.org"]
    assert ask(file, "SELECT count FROM dmarc_rows") == [(3,)]


async def test_rows_of_a_domain_are_bounded(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    records = [a_record(number=n, client=f"2001:db8::{n:x}") for n in range(12)]
    await written(file, [*records, *records[:3]], max_rows=10)
    assert ask(file, "SELECT rows, left_out FROM dmarc_policies") == [(10, 2)]
    assert ask(file, "SELECT sum(count), count(*) FROM dmarc_rows") == [(13, 10)]


async def test_addresses_without_number(tmp_path: Path) -> None:
    """What 100,000 addresses leave behind is what the limit says, and nothing grows in memory meanwhile."""
    file = tmp_path / "journal.sqlite"
    database = Database(file, SCHEMA, synchronous="NORMAL")
    database.create()
    collector = Collector(DmarcReportsConfig(enabled=True, max_rows=1_000))
    left_out = 0
    for first in range(0, 100_000, 5_000):
        records = (a_record(client=f"2001:db8::{n >> 16:x}:{n & 0xFFFF:x}") for n in range(first, first + 5_000))
        tally = collector.tally(records)
        left_out += database.write_now(partial(collector.add, tally=tally))
    await database.close()
    assert left_out == 99_000
    assert ask(file, "SELECT rows, left_out FROM dmarc_policies") == [(1_000, 99_000)]
    assert ask(file, "SELECT count(*), sum(count) FROM dmarc_rows") == [(1_000, 1_000)]
    assert set(vars(collector)) == {"_settings"}


async def test_rows_of_a_day_are_bounded(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    records = [a_record(a_finding(policy_domain=f"d{n % 3}.test"), number=n, client=f"192.0.2.{n}") for n in range(9)]
    await written(file, records, max_rows_a_day=5)
    assert ask(file, "SELECT rows FROM dmarc_days") == [(5,)]
    assert ask(file, "SELECT count(*) FROM dmarc_rows") == [(5,)]
    assert ask(file, "SELECT sum(left_out) FROM dmarc_policies") == [(4,)]


async def test_domains_of_a_day_are_bounded(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    records = [a_record(a_finding(policy_domain=f"d{n % 4}.test"), number=n) for n in range(8)]
    await written(file, records, max_domains=3)
    assert ask(file, "SELECT domains, rows, left_out FROM dmarc_days") == [(3, 3, 2)]


async def test_a_finding_that_is_nonsense_costs_its_row_only(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    nonsense = [
        a_finding(rua=5),
        a_finding(authenticated=7),
        a_finding(published=[["p"]]),
        a_finding(aligned=3),
        a_finding(override=4),
        {"method": "dmarc", "rua": {"x": 1}},
    ]
    await written(file, [*(a_record(one, number=n) for n, one in enumerate(nonsense)), a_record(number=99)])
    assert ask(file, "SELECT count(*) FROM records") == [(7,)]
    assert ("example.org",) in ask(file, "SELECT policy_domain FROM dmarc_rows")


async def test_hostile_text_is_stored_and_bounded(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    hostile = "<&\"'\x00\udcff\u202e" * 100
    finding = a_finding(domain=hostile, authenticated=[["dkim", hostile, hostile, "fail"], ["spf", hostile, "", "none"]])
    await written(file, [a_record(finding, reverse_path=f"<x@{hostile}>")])
    [(text,)] = ask(file, "SELECT row FROM dmarc_rows")
    assert text.isascii()
    assert len(json.loads(text)["signatures"][0][0]) == 255


async def test_retention(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    await written(file, [a_record(), a_record(number=2, time=NOON - 86400)])
    later = NOON + 7 * 86400
    await written(file, [a_record(number=3, time=later)], clock=lambda: later)
    assert ask(file, "SELECT day FROM dmarc_rows ORDER BY day") == [("2026-11-25",), ("2026-12-02",)]
    assert ask(file, "SELECT count(*) FROM dmarc_policies") == [(2,)]
    assert ask(file, "SELECT count(*) FROM dmarc_days") == [(2,)]


async def test_what_was_collected_ends_also_when_it_is_turned_off(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    await written(file, [a_record()])
    later = NOON + 9 * 86400
    journal = await Journal.open(file, retention=10**9, queue=10, clock=lambda: later, reports=DmarcReportsConfig())
    journal.record(a_record(number=2, time=later))
    await journal.close()
    for table in ("dmarc_rows", "dmarc_policies", "dmarc_days"):
        assert ask(file, f"SELECT count(*) FROM {table}") == [(0,)]
