"""The same sessions against a bare Postfix and against the gateway in front of it: equal codes, save what is listed.

`make difference` plays 6,000 generated sessions and prints how often which rule applied; the suite plays a part of them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import LogCapture

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from tests.difference.playing import Answer, Exchange, has_hung_up, play, play_all
from tests.difference.rules import RULES, Tally, compare
from tests.difference.sessions import Session, Step, malformed_sessions, of_dialogue, sessions
from tests.integration.postfix import RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]

DEEP = os.environ.get("MAILGATEWAY_DIFFERENCE", "")
GENERATED = int(DEEP or "300")
"""Sessions of either kind. Other ones each time, where the environment says how many."""
AT_ONCE = 12
SECOND_TRIES = 3
SHORT = 5.0
"""Seconds for a session that is tried shortened."""
DIALOGUES = sorted((Path(__file__).parents[1] / "dialogues").glob("*.smtp"))
LIMITS = {
    "smtpd_hard_error_limit": "1000000",
    "smtpd_soft_error_limit": "1000000",
    "smtpd_junk_command_limit": "1000000",
    "virtual_transport": "discard:",
}


@dataclass
class Both:
    """Ports of the bare server and of the server that trusts the gateway; it is one Postfix."""

    bare: int
    behind: int


@pytest.fixture(scope="module")
def both(require: Callable[[str], str]) -> Iterator[Both]:
    require("postfix")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # the same Postfix as strangers see it: to this service loopback is nobody
    strangers = f"127.0.0.1:{port} inet n - n - 100 smtpd\n  -o mynetworks=192.0.2.1\n"
    with RealPostfix(settings=LIMITS, services=strangers) as postfix:
        yield Both(port, postfix.port)


@pytest.fixture
def log() -> Iterator[LogCapture]:
    """What the gateway logs while it is played with: no fault may be among it."""
    before = structlog.get_config()
    captured = LogCapture()
    structlog.configure(processors=[captured], cache_logger_on_first_use=False)
    yield captured
    structlog.configure(**before)
    assert [entry for entry in captured.entries if entry["log_level"] in {"error", "critical"}] == []


def behind(both: Both, directory: Path, listener: dict[str, str] | None = None) -> InProcessGateway:
    """The gateway before that Postfix, with its limits raised as those of Postfix are. `listener`: more of its settings."""
    config = {
        "server": {"name": "mx.example.test"},
        "listener": [{"name": "mx", "lenient_networks": [], **(listener or {})}],
        "route": [{"domains": ["example.test"], "servers": [f"127.0.0.1:{both.behind}"]}],
        "limits": {"errors": 1_000_000, "unknown_recipients": 1_000_000, "commands": 1_000_000},
    }
    return InProcessGateway(Config.model_validate(config), directory=directory)


def generated(strategy: st.SearchStrategy[Session], count: int) -> list[Session]:
    """So many sessions, different ones. Hypothesis only makes them: they are played many at once afterwards."""
    found: dict[Session, None] = {}

    @settings(
        max_examples=count * 2,
        database=None,
        deadline=None,
        derandomize=not DEEP,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(session: Session) -> None:
        found[session] = None

    collect()
    return list(found)[:count]


async def told_apart(bare: int, gate: int, played: list[Session], tally: Tally) -> dict[str, Session]:
    """Sessions that go another way at the gateway: one for each way."""
    first, second = await asyncio.gather(play_all(bare, played, at_once=AT_ONCE), play_all(gate, played, at_once=AT_ONCE))
    apart: dict[str, Session] = {}
    for session, theirs, ours in zip(played, first, second, strict=True):
        if compare(theirs, ours, tally):
            continue
        if has_hung_up(theirs) and tally.again < SECOND_TRIES:  # a process of the bare server's died: nothing is known
            tally.again += 1
            tally.differences.pop()
            if compare(await play(bare, session), await play(gate, session), tally):
                continue
        if tally.differences:
            apart.setdefault(tally.differences[-1][0], session)
    return apart


async def shortened(bare: int, gate: int, session: Session, what: str) -> str:
    """The session without the steps that its difference does not need, and what both said."""
    told = ""
    at = len(session)
    while at >= 0:
        shorter = session[:at] + session[at + 1 :]
        tally = Tally()
        try:
            async with asyncio.timeout(SHORT):
                differs = not compare(await play(bare, shorter), await play(gate, shorter), tally)
        except TimeoutError:  # half of a chunk is left: one of them waits for the rest
            differs = False
        if differs and tally.differences[0][0] == what:
            session, told = shorter, tally.differences[0][1]
        at -= 1
    return told


async def no_difference(both: Both, directory: Path, played: list[Session], listener: dict[str, str] | None = None) -> Tally:
    tally = Tally()
    async with behind(both, directory, listener) as gateway:
        apart = await told_apart(both.bare, gateway.port(), played, tally)
        shown = [
            f"{what}\n{await shortened(both.bare, gateway.port(), session, what)}" for what, session in list(apart.items())[:5]
        ]
    print(f"\n{tally.report()}")  # noqa: T201 - what `make difference` is for
    if tally.differences:
        pytest.fail(f"{len(tally.differences)} sessions differ, shortened:\n\n" + "\n\n".join(shown), pytrace=False)
    return tally


def test_every_rule_is_listed_and_they_are_few() -> None:
    page = (Path(__file__).parents[2] / "docs" / "differences.md").read_text()
    assert [rule.name for rule in RULES if f"\n| {rule.name}" not in page] == []
    assert len(RULES) < 15
    assert all(rule.reason for rule in RULES)


async def test_what_is_offered_differs_by_what_is_listed(both: Both, tmp_path: Path) -> None:
    """The server's keywords; SIZE with room, and without what this version does not carry or answers by itself."""
    async with behind(both, tmp_path) as gateway:
        offers = []
        for port in (both.bare, gateway.port()):
            (exchange, *_) = await play(port, (Step(b"EHLO client.test\r\n"),))
            offers.append({line[4:].decode() for line in exchange.answer.octets.splitlines()[1:]})
    bare, gate = offers
    assert "SIZE 50000000" in bare
    assert gate - bare == {f"SIZE {50_000_000 - 16 * 1024}"}
    assert bare - gate <= {"SIZE 50000000", "VRFY", "ETRN"}


def test_a_difference_is_told() -> None:
    def said(octets: bytes, reply: bytes) -> list[Exchange]:
        return [Exchange(Step(octets), Answer(reply))]

    mail, odd = b"MAIL FROM:<a@client.test>\r\n", b"MAIL FROM:<a@client.test> X=1\r\n"
    for octets, bare, gate, is_same in (
        (mail, b"250 2.1.0 Ok\r\n", b"250 2.1.0 Fine\r\n", True),
        (mail, b"250 2.1.0 Ok\r\n", b"250 2.0.0 Ok\r\n", False),
        (mail, b"250 2.1.0 Ok\r\n", b"451 4.3.0 Later\r\n", False),
        (mail, b"550 5.7.1 No\r\n", b"550 5.1.8 No\r\n", False),
        (mail, b"250 2.1.0 Ok\r\n", b"", False),
        (odd, b"555 5.5.4 No\r\n", b"501 5.5.2 No\r\n", True),
        (odd, b"555 5.5.4 No\r\n", b"451 4.3.0 Later\r\n", False),
    ):
        tally = Tally()
        assert compare(said(octets, bare), said(octets, gate), tally) is is_same, (octets, bare, gate)
        assert bool(tally.differences) is not is_same


@pytest.mark.timeout(1800)
async def test_the_dialogues(both: Both, log: LogCapture, tmp_path: Path) -> None:
    played = [of_dialogue(file) for file in DIALOGUES]
    assert sum(len(session) for session in played) > 200
    assert any(step.content for session in played for step in session)
    await no_difference(both, tmp_path, played)


@pytest.mark.timeout(1800)
async def test_valid_commands_in_any_order(both: Both, log: LogCapture, tmp_path: Path) -> None:
    played = generated(sessions(), GENERATED)
    assert len(played) == GENERATED
    assert all(step.is_well_formed for session in played for step in session)
    tally = await no_difference(both, tmp_path, played, {"vrfy": "next_hop", "expn": "next_hop", "etrn": "next_hop"})
    assert tally.ruled["VRFY"] == tally.ruled["EXPN"] == 0
    assert tally.replies > GENERATED * 3
    assert tally.skipped < tally.replies / 5


@pytest.mark.timeout(1800)
async def test_malformed_commands(both: Both, log: LogCapture, tmp_path: Path) -> None:
    played = generated(malformed_sessions(), GENERATED)
    assert len(played) == GENERATED
    assert sum(not step.is_well_formed for session in played for step in session) > GENERATED
    tally = await no_difference(both, tmp_path, played)
    assert tally.replies > GENERATED * 3
