"""Real and malformed mail through the gateway: octet for octet the same at the next hop below the fields on top, or refused.

RFC 5321 2.3.8, 4.4, 4.5.2. What is sent is the test data of public parsers (tests/install-wild-mail fetches it), with CRLF line
ends and as it is.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.config.models import Config
from gateway.context import DnsAnswer
from gateway.errors import DnsError
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import ScriptedNextHop
from tests.wild.collection import Wild, collection

pytestmark = pytest.mark.slow

AT_LEAST = 400
AT_ONCE = 6
REFUSED = {
    b"550 5.6.0": "bare CR or LF, or an end of data in disguise",
    b"554 5.4.6": "a loop",
}
RECEIVED = rb"Received: from [^\r]+(?:\r\n[ \t][^\r]+)*\r\n"
ON_TOP = rb"(?:(?:Received|Authentication-Results): [^\r]+(?:\r\n[ \t][^\r]+)*\r\n)+"
ODD = [
    b"\r\nbegins with a blank line\r\n",
    b"\r\n\r\n\r\n",
    b"no header at all\r\n",
    b"no header at all, and no line end",
    b"",
    b" begins with a space: and looks folded\r\n\r\nbody\r\n",
    b": no name\r\n\r\nbody\r\n",
    b"Subject: only a header",
    b"From nobody Thu Nov 25 22:00:00 2026\r\nSubject: mbox\r\n\r\n>From body\r\n",
    b"Subject: x\r\n\r\n" + b"y" * 100_000 + b"\r\n",
    b"X" * 2000 + b": long name\r\n\r\nbody\r\n",
    b"Subject : space\r\nSubject\t: tab\r\nNo colon\r\n\r\n.\r\n..\r\n",
    b"Subject: \xff\xfe\x00 binary\r\n\r\n\x00\x01\x7f\xff\r\n",
]


@pytest.fixture(scope="module")
def wild() -> list[Wild]:
    found = collection()
    if len(found) < AT_LEAST:
        reason = f"{len(found)} messages of {AT_LEAST}: tests/install-wild-mail fetches them"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def log() -> Iterator[LogCapture]:
    """What the gateway logs meanwhile: no fault of its own, no plugin that raised."""
    before = structlog.get_config()
    captured = LogCapture()
    structlog.configure(processors=[captured], cache_logger_on_first_use=False)
    yield captured
    structlog.configure(**before)
    wrong = [e for e in captured.entries if e["log_level"] in {"error", "critical"} or e["event"] == "plugin.fault"]
    assert wrong == []


class BrokenResolver:
    """Whatever is asked: no answer in time, nothing, or nonsense."""

    def __init__(self, zones: object) -> None:
        self.queries = 0

    async def query(self, name: str, kind: str) -> DnsAnswer:
        self.queries += 1
        match self.queries % 5:
            case 0 | 1:
                raise DnsError(name, kind, "no server answered in time")
            case 2:
                return DnsAnswer(name=name, kind=kind, exists=False)
            case 3:
                records: tuple[Any, ...] = ((b"v=spf1 include:", b"\xff\0 -all"), (b"v=DKIM1; k=rsa; p=////",), (b"v=DMARC1; p",))
                return DnsAnswer(name=name, kind=kind, records=records if kind == "TXT" else ())
            case _:
                return DnsAnswer(name=name, kind=kind)


def site(next_hop: str, *, lenient: bool = False, plugins: bool = False) -> Config:
    config: dict[str, Any] = {
        "server": {"name": "mx.example.test"},
        "listener": [{"name": "mx", "lenient_networks": ["127.0.0.0/8"] if lenient else []}],
        "route": [{"domains": ["example.test"], "servers": [next_hop]}],
        "limits": {"errors": 100_000, "spool_memory": "64KB"},
    }
    if plugins:
        config["plugins"] = ["spf", "dkim", "dmarc", "authres", "recipients", "rules"]
        looked_at = 'attachments.exists(a, a.extension in [".never"]) || has_header("X-Never") || score.total >= 1000.0'
        config["rule"] = [{"name": "looks", "when": looked_at, "then": "quarantine"}]
    return Config.model_validate(config)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message, what was said to its dot, and what reached the next hop of it."""

    name: str
    octets: bytes
    """As a client sends it: with a line's end behind the last line."""
    reply: bytes
    arrived: bytes | None


def crlf(octets: bytes) -> bytes:
    """Every CR, LF and CRLF as CRLF."""
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


async def through(gateway: InProcessGateway, hop: ScriptedNextHop, messages: Sequence[Wild]) -> list[Sent]:
    """All of them, over some connections at once."""
    replies: dict[int, bytes] = {}
    ended = [one.octets if one.octets.endswith(b"\r\n") else one.octets + b"\r\n" for one in messages]
    numbers = iter(range(len(messages)))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port())
        await reader.readline()
        writer.write(b"HELO client.test\r\n")
        await reader.readline()
        for number in numbers:
            writer.write(b"MAIL FROM:<n%d@client.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n" % number)
            assert [(await reader.readline())[:3] for _ in range(3)] == [b"250", b"250", b"354"]
            writer.write((b"\r\n" + ended[number]).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
            replies[number] = await reader.readline()
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(connection())
    arrived = {int(taken.reverse_path[2:].partition(b"@")[0]): taken.content for taken in hop.transactions}
    return [Sent(one.name, ended[n], replies[n], arrived.get(n)) for n, one in enumerate(messages)]


def unchanged(sent: Sent, octets: bytes, top: bytes = RECEIVED) -> bool:
    """It arrived with fields on top and nothing else: behind an mbox line; before a blank line where there is no header at all."""
    mbox = re.match(rb">*From [^\n]*\n", octets)
    front = b"" if mbox is None else mbox[0]
    content, rest = sent.arrived or b"", octets[len(front) :]
    is_header = re.match(rb"[!-9;-~]+[ \t]*:|\r\n", rest) is not None
    added = content[len(front) : len(content) - len(rest)]
    return (
        content.startswith(front)
        and content.endswith(rest)
        and re.fullmatch(top if is_header else top + rb"\r\n", added) is not None
    )


def taken_or_refused(results: Sequence[Sent], top: bytes = RECEIVED) -> Counter[str]:
    """How many of each; AssertionError for one that was changed, or refused without its reason."""
    count: Counter[str] = Counter()
    for sent in results:
        if sent.reply.startswith(b"250"):
            assert unchanged(sent, sent.octets, top), (sent.name, (sent.arrived or b"")[:600])
            count["taken"] += 1
        else:
            assert sent.arrived is None, sent.name
            assert sent.reply[:9] in REFUSED, (sent.name, sent.reply)
            count[REFUSED[sent.reply[:9]]] += 1
    return count


@pytest.mark.timeout(300)
async def test_with_crlf_line_ends_nothing_is_changed(wild: list[Wild], log: LogCapture, tmp_path: Path) -> None:
    odd = [Wild(f"odd {number}", octets) for number, octets in enumerate(ODD)]
    messages = [Wild(one.name, crlf(one.octets)) for one in wild] + odd
    async with ScriptedNextHop() as hop, InProcessGateway(site(hop.address), directory=tmp_path) as gateway:
        count = taken_or_refused(await through(gateway, hop, messages))
    assert count["taken"] >= len(messages) - 5, count


@pytest.mark.timeout(300)
async def test_as_they_are_nothing_is_changed_or_it_is_refused(wild: list[Wild], log: LogCapture, tmp_path: Path) -> None:
    """Most have LF line ends: refused from a stranger."""
    async with ScriptedNextHop() as hop, InProcessGateway(site(hop.address), directory=tmp_path) as gateway:
        results = await through(gateway, hop, wild)
        count = taken_or_refused(results)
    is_clean = {one.name: re.search(rb"\r(?!\n)|(?<!\r)\n", one.octets) is None for one in wild}
    assert count["taken"] > 10
    assert all(is_clean[sent.name] for sent in results if sent.arrived is not None)
    assert all(sent.reply.startswith(b"550 5.6.0") for sent in results if not is_clean[sent.name])


@pytest.mark.timeout(300)
async def test_from_a_lenient_network_line_ends_become_crlf(wild: list[Wild], log: LogCapture, tmp_path: Path) -> None:
    """And nothing else changes."""
    async with ScriptedNextHop() as hop, InProcessGateway(site(hop.address, lenient=True), directory=tmp_path) as gateway:
        results = await through(gateway, hop, wild)
    changed = [sent.name for sent in results if sent.arrived is not None and not unchanged(sent, crlf(sent.octets))]
    assert changed == []
    assert sum(sent.arrived is not None for sent in results) >= len(wild) - 5


@pytest.mark.timeout(600)
async def test_all_plugins_and_broken_dns(
    wild: list[Wild], log: LogCapture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing raises, nothing is refused for it, and what they add is on top."""
    monkeypatch.setattr("gateway.testing.in_process.FakeResolver", BrokenResolver)
    messages = [Wild(one.name, crlf(one.octets)) for one in wild]
    async with ScriptedNextHop() as hop, InProcessGateway(site(hop.address, plugins=True), directory=tmp_path) as gateway:
        count = taken_or_refused(await through(gateway, hop, messages), ON_TOP)
    assert count["taken"] >= len(messages) - 5, count


async def test_a_gateway_that_changes_one_octet_is_found_out(
    wild: list[Wild], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the next hop is given tabs as spaces."""
    async with ScriptedNextHop() as hop, InProcessGateway(site(hop.address), directory=tmp_path) as gateway:
        results = await through(gateway, hop, [Wild(one.name, crlf(one.octets)) for one in wild[:50]])
    spoilt = [Sent(one.name, one.octets, one.reply, (one.arrived or b"").replace(b"\t", b" ")) for one in results]
    with pytest.raises(AssertionError):
        taken_or_refused(spoilt)
