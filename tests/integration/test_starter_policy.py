"""The starter policy of the config.toml at the top: what it would do to clean and to bad messages, and that it does nothing yet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.testing import a_message

TOP = Path(__file__).parents[2]
WOULD = re.compile(r"starter +would have (\w+) +reason=(\S+)")
SCORE = re.compile(r"score symbol=rule-(\S+) weight=([\d.]+)")
GOOD = "Ann <ann@good.demo.test>"
ICS = b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
OFFER = '<p>Read <a href="https://www.good.demo.test/offer?id=1">our offer</a> at <a href="https://www.good.demo.test/">www.good.demo.test</a></p>'


@pytest.fixture(autouse=True)
def _no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILGATEWAY__DNS__NAMESERVERS", '["127.0.0.1:1"]')


def checked(octets: bytes, *words: str, reverse_path: str = "ann@good.demo.test") -> str:
    told = ["check", "-", "--ip", "127.0.0.1", "--helo", "good.demo.test", "--from", reverse_path, "--to", "alice@inbox.test"]
    done = CliRunner().invoke(app, [*told, *words, "--config", str(TOP / "config.toml")], input=octets)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    "octets",
    [
        a_message(from_=GOOD).octets,
        a_message(from_=GOOD, subject="Grüße", body="Bis später\r\n").octets,
        a_message(from_=GOOD, html=OFFER, headers=[("List-Unsubscribe", "<https://good.demo.test/u>")]).octets,
        a_message(
            from_=GOOD, attach=[("report.2026.pdf", b"%PDF-1.7\n", "application/pdf"), ("photo.jpg", b"\xff\xd8\xff\xe0")]
        ).octets,
        a_message(from_=GOOD, attach=("invite.ics", ICS, "text/calendar")).octets,
        a_message(from_=GOOD, attach=("signature.asc", b"-----BEGIN PGP SIGNATURE-----\n", "application/pgp-signature")).octets,
        a_message(from_=GOOD, attach=a_message(subject="forwarded", from_="bob@client.example")).octets,
        a_message(from_=GOOD, headers=[("Reply-To", "ann@home.test")]).octets,
    ],
    ids=["plain", "8-bit", "newsletter", "files", "invitation", "signed", "forwarded", "reply-to"],
)
def test_clean_mail_is_left_alone(octets: bytes) -> None:
    told = checked(bytes(octets))
    assert "check  delivered" in told
    assert (WOULD.findall(told), SCORE.findall(told)) == ([], [])


LURE = '<a href="http://198.51.100.9/login">www.bank.demo.test</a>'


@pytest.mark.parametrize(
    ("octets", "would"),
    [
        (a_message(from_=GOOD, attach=("holiday.jpg", b"MZ\x90\x00" + b"\0" * 60)).octets, ("quarantine", "rule-programs")),
        (a_message(from_=GOOD, attach="Scan.ISO").octets, ("quarantine", "rule-programs")),
        (a_message(from_=GOOD, attach="invoice.pdf          .cmd").octets, ("quarantine", "rule-programs")),
        (a_message(from_=GOOD, attach="notes\u202efdp.txt").octets, ("quarantine", "rule-hidden-ending")),
        (a_message(from_=f"{GOOD}, The Bank <service@partner.test>", html=LURE).octets, ("quarantine", "rule-suspicious")),
        (b"Subject: win\r\nContent-Type: text/html\r\n\r\n" + LURE.encode(), ("quarantine", "rule-suspicious")),
    ],
    ids=["program", "disk image", "padded", "turned", "two authors", "no author"],
)
def test_bad_mail_would_be_held_or_refused_and_is_not_yet(octets: bytes, would: tuple[str, str]) -> None:
    told = checked(bytes(octets))
    assert WOULD.findall(told)[:1] == [would]
    assert not re.search(r"starter +verdict", told)


def test_a_report_to_many_would_be_refused() -> None:
    told = checked(bytes(a_message(from_=GOOD).octets), "--to", "bob@inbox.test", reverse_path="")
    assert WOULD.findall(told) == [("reject", "rule-report-to-many")]


def test_what_is_wrong_in_every_way_would_be_refused() -> None:
    octets = b"From: a@good.demo.test, b@x.test\r\nContent-Type: text/html\r\n\r\n" + LURE.encode()
    assert WOULD.findall(checked(octets, "--helo", "x.test", reverse_path="a@x.test")) == [("reject", "rule-too-much")]


def test_its_own_tests_pass() -> None:
    done = CliRunner().invoke(app, ["config", "check", "--test", "--config", str(TOP / "config.toml")])
    assert done.exit_code == 0, done.output
    assert "0 failed" in done.output
