"""The starter policy of the config.toml at the top: what it would do to clean and to bad messages, and that it does nothing yet."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.config.load import load
from gateway.content import Content
from gateway.dns import CachingResolver
from gateway.generation import Generation
from gateway.message import Message
from gateway.offline import fate_of, walk
from gateway.plugin_context import PluginContexts
from gateway.testing import a_message, a_session, a_transaction
from gateway.trace import StepRecord, Trace

CONFIG = Path(__file__).parents[2] / "config.toml"
GOOD = "Ann <ann@good.demo.test>"
ICS = b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
OFFER = '<p>Read <a href="https://www.good.demo.test/offer?id=1">our offer</a> at <a href="https://www.good.demo.test/">www.good.demo.test</a></p>'
LURE = '<a href="http://198.51.100.9/login">www.bank.demo.test</a>'


def zipped(name: str, octets: bytes, *, is_encrypted: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, octets)
    found = bytearray(file.getvalue())
    if is_encrypted:  # the bit in both headers: what lists it goes no further
        found[6] |= 1
        found[found.index(b"PK\x01\x02") + 8] |= 1
    return bytes(found)


SCRIPT = zipped("Invoice.vbs", b"rem")


def good(**parts: Any) -> bytes:
    return bytes(a_message(from_=GOOD, **parts).octets)


CLEAN = {
    "plain": good(),
    "8-bit": good(subject="Grüße", body="Bis später\r\n"),
    "newsletter": good(html=OFFER, headers=[("List-Unsubscribe", "<https://good.demo.test/u>")]),
    "files": good(attach=[("report.2026.pdf", b"%PDF-1.7\n", "application/pdf"), ("photo.jpg", b"\xff\xd8\xff\xe0")]),
    "invitation": good(attach=("invite.ics", ICS, "text/calendar")),
    "signed": good(attach=("signature.asc", b"-----BEGIN PGP SIGNATURE-----\n", "application/pgp-signature")),
    "forwarded": good(attach=a_message(subject="forwarded", from_="bob@client.example")),
    "reply-to": good(headers=[("Reply-To", "ann@home.test")]),
    "archive": good(attach=("photos.zip", zipped("photo.txt", b"a view of the sea"))),
}


@dataclass(frozen=True, slots=True)
class Bad:
    octets: bytes
    would: str
    helo: str = "good.demo.test"
    reverse_path: str = "ann@good.demo.test"
    recipients: tuple[str, ...] = ("alice@inbox.test",)


BAD = {
    "program": Bad(good(attach=("holiday.jpg", b"MZ\x90\x00" + b"\0" * 60)), "Quarantine rule-programs"),
    "disk image": Bad(good(attach="Scan.ISO"), "Quarantine rule-programs"),
    "padded": Bad(good(attach="invoice.pdf          .cmd"), "Quarantine rule-programs"),
    "zipped": Bad(good(attach=("scan.zip", SCRIPT)), "Quarantine rule-programs-in-archives"),
    "zipped twice": Bad(good(attach=("scan.zip", zipped("a.zip", SCRIPT))), "Quarantine rule-programs-in-archives"),
    "turned": Bad(good(attach="notes\u202efdp.txt"), "Quarantine rule-hidden-ending"),
    "two authors": Bad(
        bytes(a_message(from_=f"{GOOD}, The Bank <service@partner.test>", html=LURE).octets), "Quarantine rule-suspicious"
    ),
    "no author": Bad(b"Subject: win\r\nContent-Type: text/html\r\n\r\n" + LURE.encode(), "Quarantine rule-suspicious"),
    "report to many": Bad(
        good(), "Reject rule-report-to-many", reverse_path="", recipients=("alice@inbox.test", "bob@inbox.test")
    ),
    "everything": Bad(
        b"From: a@good.demo.test, b@x.test\r\nContent-Type: text/html\r\n\r\n" + LURE.encode(),
        "Reject rule-too-much",
        helo="x.test",
        reverse_path="a@x.test",
    ),
    "encrypted": Bad(good(attach=("secret.zip", zipped("a.txt", b"x", is_encrypted=True))), ""),
}


@dataclass(frozen=True, slots=True)
class Told:
    fates: tuple[str, ...]
    steps: tuple[StepRecord, ...]
    """Of `starter`."""

    @property
    def would(self) -> list[str]:
        verdicts = [step["verdict"] for step in self.steps if step["outcome"] == "would" and step["verdict"] is not None]
        return [f"{verdict['kind']} {verdict['reason']}" for verdict in verdicts]

    @property
    def scores(self) -> list[tuple[str, float]]:
        return [(found["symbol"], found["weight"]) for step in self.steps for found in step["findings"]]


async def judged() -> dict[str, Told]:
    """All messages, by one gateway without a name server."""
    loaded = load(CONFIG, environ={"MAILGATEWAY__DNS__NAMESERVERS": '["127.0.0.1:1"]'})
    contexts = PluginContexts(loaded.config, directory=CONFIG.parent, resolver=CachingResolver(loaded.config.dns))
    generation = await Generation.load(loaded.config, locate=loaded.locate, directory=CONFIG.parent, context_factory=contexts)
    await generation.startup()
    found: dict[str, Told] = {}
    try:
        for name, one in {**{name: Bad(octets, "") for name, octets in CLEAN.items()}, **BAD}.items():
            session = a_session(client_address="127.0.0.1", helo=one.helo)
            transaction = a_transaction(session=session, reverse_path=one.reverse_path, recipients=one.recipients)
            transaction.trace = Trace()
            done = await walk(generation.chain("mx"), transaction, Message(Content(one.octets)))
            steps = tuple(step for step in transaction.trace.step_records() if step["plugin"] == "starter")
            found[name] = Told(tuple(map(fate_of, done.transaction.recipients)), steps)
    finally:
        await generation.shutdown()
        await contexts.close()
    return found


@pytest.fixture(scope="module")
def told() -> dict[str, Told]:
    for name in [name for name in os.environ if name.startswith("MAILGATEWAY__")]:
        pytest.fail(f"{name} would change the configuration")
    return asyncio.run(judged())


@pytest.mark.parametrize("name", CLEAN)
def test_clean_mail_is_left_alone(told: dict[str, Told], name: str) -> None:
    assert (told[name].fates, told[name].would, told[name].scores) == (("delivered",), [], [])


@pytest.mark.parametrize("name", [name for name in BAD if BAD[name].would])
def test_bad_mail_would_be_held_or_refused_and_is_not_yet(told: dict[str, Told], name: str) -> None:
    assert told[name].would[:1] == [BAD[name].would]
    assert not [step for step in told[name].steps if step["outcome"] == "verdict"]


def test_what_nobody_can_look_into_counts(told: dict[str, Told]) -> None:
    assert (told["encrypted"].would, told["encrypted"].scores) == ([], [("rule-file-that-nobody-can-look-into", 1.5)])


def test_its_own_tests_pass() -> None:
    done = CliRunner().invoke(app, ["config", "check", "--test", "--config", str(CONFIG)])
    assert done.exit_code == 0, done.output
    assert ", 0 failed" in done.output
