"""Reports go out once to each destination, whatever happens between: claims, outcomes, later runs."""

from __future__ import annotations

import email
import gzip
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from gateway.config.models import DmarcReportsConfig
from gateway.dmarc_reports.sending import Attempt, Reporter, again_of
from gateway.errors import DomainError, DomainFault, LinkError
from gateway.journal import Journal
from gateway.journal.dmarc_reports import THROUGH, Due, ReportStore, State
from gateway.smtp.replies import Reply, reply
from gateway.testing import FakeResolver
from tests.dmarc_records import NOON, a_finding, a_record

OK = reply(250, "2.0.0", "Ok")
SETTINGS: dict[str, Any] = {"enabled": True, "address": "dmarc@here.test"}


class Way:
    """A next hop of which each answer is known beforehand."""

    def __init__(self, hop: NextHop) -> None:
        self.hop = hop
        self.to = ""

    async def mail(self, path: bytes, parameters: Sequence[bytes]) -> Reply:
        self.hop.said.append(path.decode())
        return self.hop.answer("mail")

    async def rcpt(self, path: bytes, parameters: Sequence[bytes]) -> Reply:
        self.to = path.decode().strip("<>")
        return self.hop.answer(self.to)

    async def send(self, chunks: Iterable[bytes], *, size: int) -> list[Reply]:
        octets = b"".join(chunks)
        assert len(octets) == size
        answer = self.hop.answer("content")
        if answer.is_positive:
            self.hop.taken.append((self.to, octets))
        return [answer]

    def abandon(self) -> None:
        self.hop.abandoned += 1


class NextHop:
    def __init__(self) -> None:
        self.answers: dict[str, Reply | LinkError] = {}
        self.taken: list[tuple[str, bytes]] = []
        self.said: list[str] = []
        self.abandoned = 0

    def answer(self, to: str) -> Reply:
        found = self.answers.get(to, OK)
        if isinstance(found, LinkError):
            raise found
        return found

    def __call__(self, domain: str) -> Any:
        self.answer(f"way to {domain}")
        return Way(self)


@pytest.fixture
def hop() -> NextHop:
    return NextHop()


async def collect(file: Path, *findings: dict[str, Any], **settings: Any) -> None:
    journal = await Journal.open(file, retention=10**9, queue=1000, reports=DmarcReportsConfig(**SETTINGS, **settings))
    for number, finding in enumerate(findings):
        journal.record(a_record(finding, number=number, client=f"192.0.2.{number}"))
    await journal.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ReportStore]:
    store = ReportStore(tmp_path / "journal.sqlite")
    await store.open()
    yield store
    await store.close()


def a_reporter(store: ReportStore, hop: NextHop, zones: dict[str, Any] | None = None, **settings: Any) -> Reporter:
    return Reporter(
        DmarcReportsConfig(**SETTINGS, **settings),
        store,
        FakeResolver(zones or {}),
        submitter="mx.here.test",
        handover=hop,
        clock=lambda: NOON + 86_400,
    )


async def run(reporter: Reporter, store: ReportStore, *, retry: bool = False) -> list[Attempt]:
    wanted = await store.due(until="2026-11-25", again=again_of(retry=retry))
    attempts = [one for due in wanted async for one in reporter.send(due, retry=retry)]
    for due in await store.due(until="2026-11-25"):
        if due not in wanted:  # what is not even listed has nothing left to send
            assert [one async for one in reporter.send(due, retry=retry)] == []
    return attempts


async def states(store: ReportStore) -> dict[str, str]:
    [due] = await store.due(until="2026-11-25")
    return {name: outcome.state for name, outcome in (await store.outcomes(due)).items() if name != THROUGH}


async def test_each_destination_gets_it_once(tmp_path: Path, store: ReportStore, hop: NextHop) -> None:
    await collect(tmp_path / "journal.sqlite", a_finding(rua=["mailto:a@example.org", "mailto:b@example.org"]), a_finding())
    reporter = a_reporter(store, hop, organization="Here")
    assert [(one.destination, one.state) for one in await run(reporter, store)] == [("dmarc@example.org", "sent")]
    assert await run(reporter, store) == []
    assert await run(reporter, store, retry=True) == []
    [(to, octets)] = hop.taken
    assert (to, hop.said, hop.abandoned) == ("dmarc@example.org", ["<>"], 1)
    parsed: Any = email.message_from_bytes(octets)
    assert parsed["To"] == to
    tree: Any = etree.fromstring(gzip.decompress(parsed.get_payload()[1].get_payload(decode=True)))
    names = {"d": "urn:ietf:params:xml:ns:dmarc-2.0"}
    assert sum(int(one.text) for one in tree.findall(".//d:count", names)) == 2
    assert parsed["Subject"].endswith(tree.find(".//d:report_id", names).text)


async def test_a_run_that_was_interrupted_goes_on(tmp_path: Path, store: ReportStore, hop: NextHop) -> None:
    uris = ["https://example.org/", *(f"mailto:{n}@example.org" for n in "abc")]
    await collect(tmp_path / "journal.sqlite", a_finding(rua=uris))
    reporter = a_reporter(store, hop)
    [due] = await store.due(until="2026-11-25")
    first = reporter.send(due)
    assert (await anext(first)).state == "unsupported"
    assert (await anext(first)).destination == "a@example.org"
    await first.aclose()
    # killed while the second one was on its way: nobody knows whether it arrived
    assert await store.claim(due, "b@example.org", again=(), now=NOON)
    assert [one.destination for one in await run(reporter, store)] == ["c@example.org"]
    assert [to for to, _ in hop.taken] == ["a@example.org", "c@example.org"]
    expected = {
        "https://example.org/": "unsupported",
        "a@example.org": "sent",
        "b@example.org": "sending",
        "c@example.org": "sent",
    }
    assert await states(store) == expected
    assert [one.state for one in await run(reporter, store, retry=True)] == ["unsupported"]


async def test_two_processes_send_one(tmp_path: Path, store: ReportStore, hop: NextHop) -> None:
    await collect(tmp_path / "journal.sqlite", a_finding())
    [due] = await store.due(until="2026-11-25")
    other = ReportStore(tmp_path / "journal.sqlite")
    again: tuple[State, ...] = ("deferred",)
    assert await store.claim(due, "dmarc@example.org", again=again, now=NOON)
    assert not await other.claim(due, "dmarc@example.org", again=again, now=NOON)
    await store.settle(due, "dmarc@example.org", "deferred", "451 4.3.0 Later", now=NOON)
    assert await other.claim(due, "dmarc@example.org", again=again, now=NOON)
    assert not await store.claim(due, "dmarc@example.org", again=again, now=NOON)
    await other.close()


LATER, NEVER = reply(451, "4.3.0", "Later"), reply(550, "5.1.1", "Nobody")


@pytest.mark.parametrize(
    ("place", "answer", "state", "again_if"),
    [
        ("dmarc@example.org", LATER, "deferred", (True, True)),
        ("mail", LATER, "deferred", (True, True)),
        ("content", LATER, "deferred", (True, True)),
        ("way to example.org", LinkError("hop", "does not answer"), "deferred", (True, True)),
        ("content", LinkError("hop", "link lost"), "deferred", (True, True)),
        ("dmarc@example.org", NEVER, "refused", (False, True)),
        ("content", NEVER, "refused", (False, True)),
        ("way to example.org", DomainError("example.org", "null MX", DomainFault.NULL_MX), "refused", (False, True)),
        ("content", LinkError("hop", "lost after the dot", unknown=True), "unknown", (False, False)),
    ],
)
async def test_what_is_tried_again(  # noqa: PLR0917 - pytest gives them by name
    tmp_path: Path, store: ReportStore, hop: NextHop, place: str, answer: Any, state: str, again_if: tuple[bool, bool]
) -> None:
    await collect(tmp_path / "journal.sqlite", a_finding())
    reporter = a_reporter(store, hop)
    hop.answers[place] = answer
    [attempt] = await run(reporter, store)
    assert (attempt.destination, attempt.state) == ("dmarc@example.org", state)
    assert str(answer) in attempt.reply
    assert attempt.link_failed == (type(answer) is LinkError)
    assert await states(store) == {"dmarc@example.org": state}
    hop.answers.clear()
    again, if_asked = again_if
    assert [one.state for one in await run(reporter, store)] == ["sent"] * again
    assert [one.state for one in await run(reporter, store, retry=True)] == ["sent"] * (if_asked and not again)
    assert len(hop.taken) == if_asked


async def test_sizes_behind_a_uri_are_ignored(tmp_path: Path, store: ReportStore, hop: NextHop) -> None:
    """They are of RFC 7489; RFC 9989 wants them ignored."""
    await collect(tmp_path / "journal.sqlite", a_finding(rua=["mailto:a@example.org!1", "mailto:b@example.org!1m"]))
    assert [one.state for one in await run(a_reporter(store, hop), store)] == ["sent", "sent"]


async def test_who_did_not_agree_may_agree_later(tmp_path: Path, store: ReportStore, hop: NextHop) -> None:
    await collect(tmp_path / "journal.sqlite", a_finding(rua=["mailto:a@reports.test", "https://example.org/"]))
    first, second = await run(a_reporter(store, hop), store)
    assert (first.state, second.state, hop.taken) == ("unauthorized", "unsupported", [])
    assert await run(a_reporter(store, hop), store) == []
    agreed = {"example.org._report._dmarc.reports.test": {"TXT": ["v=DMARC1"]}}
    assert [one.state for one in await run(a_reporter(store, hop, agreed), store, retry=True)] == ["sent", "unsupported"]


async def test_dns_that_fails_is_asked_again(tmp_path: Path, store: ReportStore, hop: NextHop) -> None:
    await collect(tmp_path / "journal.sqlite", a_finding(rua=["mailto:a@reports.test"]))
    [attempt] = await run(a_reporter(store, hop, {"example.org._report._dmarc.reports.test": "TEMPFAIL"}), store)
    assert (attempt.state, attempt.link_failed) == ("deferred", False)
    agreed = {"example.org._report._dmarc.reports.test": {"TXT": ["v=DMARC1"]}}
    assert [one.destination for one in await run(a_reporter(store, hop, agreed), store)] == ["a@reports.test"]
    silent = a_reporter(store, hop, agreed)
    assert await run(silent, store) == []
    assert len(hop.taken) == 1


async def test_a_report_that_is_not_whole_says_so(tmp_path: Path, store: ReportStore, hop: NextHop) -> None:
    await collect(tmp_path / "journal.sqlite", *[a_finding()] * 5, max_rows=3)
    [due] = await store.due(until="2026-11-25")
    assert (due.rows, due.messages, due.left_out) == (3, 3, 2)
    reporter = a_reporter(store, hop)
    xml = b"".join(await reporter.pieces(due))
    assert b"<error>This report is not whole: 2 message(s) more were received" in xml
    assert "2 message(s) more" in reporter.letter(due).text


async def test_our_own_reverse_path(tmp_path: Path, store: ReportStore, hop: NextHop) -> None:
    await collect(tmp_path / "journal.sqlite", a_finding())
    await run(a_reporter(store, hop, reverse_path="bounces@here.test"), store)
    assert hop.said == ["<bounces@here.test>"]


async def test_days_and_domains_are_chosen(tmp_path: Path, store: ReportStore) -> None:
    findings = [a_finding(policy_domain=name) for name in ("a.test", "b.test")]
    await collect(tmp_path / "journal.sqlite", *findings)

    async def found(until: str = "2026-12-01", **which: Any) -> list[Due]:
        return await store.due(until=until, **which)

    assert [one.policy_domain for one in await found()] == ["a.test", "b.test"]
    assert [one.policy_domain for one in await found(domain="b.test")] == ["b.test"]
    assert await found(until="2026-11-24") == []
    assert await found(day="2026-11-24") == []
    assert len(await found(day="2026-11-25")) == 2
