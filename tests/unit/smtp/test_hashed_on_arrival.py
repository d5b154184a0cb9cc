"""Large signed content is hashed while it arrives, and verified by that: gateway.mailauth.arriving at the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway import Message
from gateway.config.models import Config
from gateway.content import Content
from gateway.mailauth import BodyHashWanted, arriving, asking, body_hashes, decode_base64, parse_tags
from gateway.mailauth.arriving import Arriving
from gateway.smtp.intake import SMALL
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import ScriptedNextHop
from gateway.testing.wire import connect
from tests import arc_chains
from tests.dkim_signer import ed25519_key, sign

KEY = ed25519_key()
ZONES: dict[str, Any] = {
    "s._domainkey.example.org": {"TXT": [KEY.record]},
    **arc_chains.zones("list.example"),
}
HEADER = b"From: a@example.org\r\nSubject: x\r\n"
BODY = b"A line  of text \t \r\n.\r\n..dots\r\n\r\n" * 8_500 + b" \r\n\r\n"
RELAXED = b" v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.org; s=s; h=from:subject; bh={bh}; b={b}"
SIMPLE = RELAXED.replace(b"relaxed/relaxed", b"simple").replace(b"h=from", b"l=100000; h=from")


def signed(*templates: bytes, header: bytes = HEADER, body: bytes = BODY) -> bytes:
    content = header + b"\r\n" + body
    for template in templates:
        content = sign(content, KEY, template)
    return content


class Seen:
    """What became of the contents: which were hashed when somebody asked, and which of the large ones while they arrived."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.afterwards: list[int] = []
        self.arrived: list[bool] = []
        begin = arriving.arriving

        def hashed(body: bytes, wanted: Any) -> Any:
            self.afterwards.append(len(body))
            return body_hashes(body, wanted)

        async def in_the_pool(bodies: Any, body: bytes, wanted: Any, context: Any) -> None:
            bodies.known.update(hashed(body, wanted))
            for one in wanted:
                bodies.pending.pop(one)

        def begun(pieces: list[bytes], names: frozenset[str]) -> Arriving | None:
            found = begin(pieces, names)
            self.arrived.append(found is not None)
            return found

        async def no_prefixes(*_: object) -> dict[Any, int]:
            return {}

        monkeypatch.setattr(asking, "_find_prefixes", no_prefixes)
        monkeypatch.setattr(asking, "body_hashes", hashed)
        monkeypatch.setattr(asking, "_compute", in_the_pool)
        monkeypatch.setattr(arriving, "arriving", begun)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


async def results(
    directory: Path, contents: list[bytes], *, chunking: bool = False, plugins: str = "dkim arc", **limits: int
) -> list[str]:
    """What the gateway writes about each: the methods and results of its Authentication-Results."""
    found = []
    async with ScriptedNextHop() as hop:
        config = {
            "server": {"name": "mx.example.test"},
            "plugins": [*plugins.split(), "authres"],
            "route": [{"domains": ["example.test"], "servers": [hop.address]}],
            "limits": limits,
        }
        async with InProcessGateway(Config.model_validate(config), directory=directory, zones=ZONES) as gateway:
            for content in contents:
                await say(gateway.port(), content, chunking=chunking)
        for one, content in zip(hop.transactions, contents, strict=True):
            assert one.content.endswith(content)
            header = Message(Content(one.content)).field("authentication-results")
            assert header is not None
            words = header.unfolded.replace(";", " ").split()
            found.append(" ".join(sorted(word for word in words if word.startswith(("dkim=", "arc=")))))
    return found


async def say(port: int, content: bytes, *, chunking: bool) -> None:
    """In pieces of odd sizes, each read by itself."""
    client = await connect(port)
    client.say(b"EHLO c.test\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\n")
    if chunking:
        client.say(b"BDAT %d\r\n%sBDAT %d LAST\r\n%s" % (100_001, content[:100_001], len(content) - 100_001, content[100_001:]))
    else:
        client.say(b"DATA\r\n")
        octets = content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        for at in range(0, len(octets), 70_001):
            client.say(octets[at : at + 70_001])
            await asyncio.sleep(0.001)
    client.say(b"QUIT\r\n")
    while (line := await client.line()) != "221 2.0.0 Bye":
        assert line is not None
        assert line.startswith(("2", "354"))
    client.close()


@pytest.mark.parametrize(("memory", "chunking"), [(1_000, False), (1_000_000, False), (200_000, True)])
async def test_it_is_verified_by_what_was_hashed_while_it_came(
    tmp_path: Path, seen: Seen, memory: int, *, chunking: bool
) -> None:
    whole = signed(RELAXED, SIMPLE)
    changed = whole[:-40].replace(b"text", b"test", 1) + whole[-40:]
    footer = whole + b"something below\r\n"
    found = await results(tmp_path, [whole, changed, footer], chunking=chunking, spool_memory=memory)
    assert found == ["arc=none dkim=pass dkim=pass", "arc=none dkim=fail dkim=fail", "arc=none dkim=fail dkim=pass"]
    assert seen.arrived == [True, True, True]
    assert seen.afterwards == [], "nothing is hashed twice"


async def test_a_chain_of_arc_is_too(tmp_path: Path, seen: Seen) -> None:
    content = arc_chains.chain("list.example", content=arc_chains.PLAIN + b"More  of it\r\n" * 20_000)
    assert await results(tmp_path, [content]) == ["arc=pass dkim=none"]
    assert (seen.arrived, seen.afterwards) == ([True], [])


async def test_who_seals_it_needs_no_hash_of_their_own(tmp_path: Path, seen: Seen) -> None:
    """The header is edited, the body is not: authres wrote into it."""
    (tmp_path / "key").write_bytes(arc_chains.pem())
    (tmp_path / "key").chmod(0o600)
    plugin = {"arc_seal": {"domain": "list.example", "selector": "s", "file": "key"}}
    content = signed(RELAXED)
    async with ScriptedNextHop() as hop:
        config = {
            "plugins": ["dkim", "arc", "authres", "arc_seal"],
            "plugin": plugin,
            "route": [{"domains": ["example.test"], "servers": [hop.address]}],
        }
        async with InProcessGateway(Config.model_validate(config), directory=tmp_path, zones=ZONES) as gateway:
            await say(gateway.port(), content, chunking=False)
    sealed = Message(Content(hop.transactions[0].content)).field("arc-message-signature")
    assert sealed is not None
    [digest] = [found.digest for found in body_hashes(BODY, [BodyHashWanted(is_relaxed=True)]).values()]
    assert decode_base64(parse_tags(sealed.raw)[b"bh"]) == digest
    assert seen.afterwards == []


async def test_what_cannot_be_foreseen_is_hashed_when_somebody_asks(tmp_path: Path, seen: Seen) -> None:
    long_header = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 900) for number in range(330)) + HEADER
    contents = [signed(RELAXED, header=long_header), signed(RELAXED, body=b"small\r\n"), signed(*[RELAXED] * 8, SIMPLE)]
    passed = "arc=none dkim=pass"
    assert await results(tmp_path, contents) == [passed, passed, f"arc=none{' dkim=pass' * 8} dkim=policy"]
    assert seen.arrived == [False, True]
    assert seen.afterwards == [len(BODY), len(b"small\r\n")]


async def test_without_a_signature_or_a_verifier_nothing_is_hashed(tmp_path: Path, seen: Seen) -> None:
    assert len(BODY) > SMALL
    assert await results(tmp_path, [HEADER + b"\r\n" + BODY]) == ["arc=none dkim=none"]
    assert await results(tmp_path, [signed(RELAXED)], plugins="spf") == [""]
    assert (seen.arrived, seen.afterwards) == ([False], [])
