"""`mailgateway dmarc report`: which reports, where to, and what it says when it cannot."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import dmarc
from gateway.cli.commands import app
from gateway.config.models import DmarcReportsConfig
from gateway.journal import Journal
from tests.dmarc_records import NOON, a_finding, a_record

CONFIG = """
[server]
name = "mx.here.test"
state_directory = "{state}"
[dmarc_reports]
enabled = {enabled}
address = "dmarc@here.test"
retention = "3650d"
[dns]
nameservers = ["127.0.0.1:{dns}"]
timeout = "1s"
[dns.zones]
"_dmarc.a.test" = {{ TXT = ["v=DMARC1; p=reject"] }}
[[route]]
domains = ["here.test"]
servers = ["127.0.0.1:{port}"]
[relay]
connect_timeout = "2s"
"""
TODAY = datetime.now(UTC).strftime("%Y-%m-%d")


@pytest.fixture
async def report(tmp_path: Path, free_port: Callable[[], int]) -> Callable[..., Result]:
    """Run it, on a journal with reports for a.test to e.test of the 25th and one of today; nobody listens at the route."""
    journal = await Journal.open(
        tmp_path / "journal.sqlite",
        retention=10**9,
        queue=100,
        reports=DmarcReportsConfig(enabled=True, address="a@b.test", retention=10**9),
    )
    for number, name in enumerate("abcde"):
        finding = a_finding(policy_domain=f"{name}.test", rua=[f"mailto:x@{name}.test"])
        journal.record(a_record(finding, number=number))
    journal.record(a_record(a_finding(policy_domain="today.test"), number=9, time=time.time()))
    await journal.close()
    port, dns = free_port(), free_port()

    def run(*words: str, enabled: bool = True) -> Result:
        config = tmp_path / "config.toml"
        config.write_text(CONFIG.format(state=tmp_path, port=port, dns=dns, enabled=str(enabled).lower()))
        return CliRunner().invoke(app, ["dmarc", "report", *words, "--config", str(config)])

    return run


def test_off(report: Callable[..., Result]) -> None:
    found = report(enabled=False)
    assert found.exit_code == 1
    assert "enabled is false" in found.output


def test_what_is_due(report: Callable[..., Result]) -> None:
    found = report("--dry-run")
    assert found.exit_code == 0
    assert [line.split()[1:6] for line in found.output.splitlines() if "2026-11-25" in line] == [
        [f"{name}.test", "1", "1", "0", f"x@{name}.test"] for name in "abcde"
    ]
    assert "today.test" not in found.output
    assert "nothing" in report("--dry-run", "--domain", "z.test").output


def test_print(report: Callable[..., Result]) -> None:
    found = report("--print", "--domain", "B.test")
    assert found.exit_code == 0
    assert found.output.startswith("<?xml")
    assert "<domain>b.test</domain>" in found.output
    many = report("--print")
    assert many.exit_code == 1
    assert "5 reports; name one" in many.output


def test_a_day_that_is_not_over_is_looked_at_and_not_sent(report: Callable[..., Result]) -> None:
    assert "<domain>today.test</domain>" in report("--print", "--day", TODAY).output
    found = report("--day", TODAY)
    assert found.exit_code == 1
    assert "is not over" in found.output


def test_to_a_directory(report: Callable[..., Result], tmp_path: Path) -> None:
    found = report("--to", str(tmp_path), "--domain", "a.test")
    assert found.exit_code == 0
    [file] = tmp_path.glob("mx.here.test!a.test!1795564800!1795651199!*.xml.gz")
    assert found.output.strip() == str(file)
    assert gzip.decompress(file.read_bytes()).decode() == report("--print", "--domain", "a.test").output
    nowhere = report("--to", str(tmp_path / "nowhere"))
    assert nowhere.exit_code == 1
    assert "nowhere" in nowhere.output


def test_a_next_hop_that_is_away_is_not_asked_for_every_report(report: Callable[..., Result]) -> None:
    found = report()
    assert found.exit_code == 1
    assert "the next hop is not reached" in found.output
    assert found.output.count("deferred") == dmarc.MAX_LINK_FAILURES
    assert "d.test" not in found.output
    assert report("--domain", "e.test").output.count("deferred") == 1


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "2026-1-1"])
def test_no_day(report: Callable[..., Result], day: str) -> None:
    found = report("--day", day)
    assert found.exit_code == 2
    assert "is no day" in found.output


def test_no_journal(report: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").unlink()
    found = report()
    assert found.exit_code == 1
    assert "there is no journal" in found.output


def test_a_day_is_over_an_hour_after_midnight() -> None:
    midnight = NOON + 12 * 3600
    assert dmarc._last_day(midnight + 3599) == "2026-11-24"
    assert dmarc._last_day(midnight + 3600) == "2026-11-25"
