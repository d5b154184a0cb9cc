"""Sessions of mutated commands against next hops that answer anything: one reply a command, and nothing but the truth. RFC 5321 4.

Every example is one session through a whole gateway over sockets. The replies are read against the octets that were sent, by
a small model of what a client knows; what reached the next hop is held against both.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from hypothesis import event, example, given
from hypothesis import strategies as st
from structlog.testing import LogCapture

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import DROP, KEYWORDS, SILENCE, Answer, ScriptedNextHop
from tests.fuzzing import examples

DEPTH = examples(200)
PATIENCE = 10.0
"""Seconds for a session to come to its end; the next hop's limits are fractions of one."""

_PATH = re.compile(rb'<(?:"(?:[^"\\]|\\.)*"|[^">])*>')
_BDAT = re.compile(rb"(?i:BDAT)(?: .*)?", re.DOTALL)
_CHUNK = re.compile(rb"(?i:BDAT) +([0-9]{1,20})(?: +(LAST))? *\r?", re.IGNORECASE)
_REPLY_LINE = re.compile(rb"[2-5][0-9]{2}[ -][ -~\t\x80-\xff]*\r\n")
_OUR_COMMANDS = re.compile(
    rb"(?:EHLO mx\.example\.test|HELO mx\.example\.test|DATA|BDAT \d+ LAST|RSET|QUIT|NOOP|MAIL FROM:<.*|RCPT TO:<.*|XCLIENT .*|XFORWARD .*)",
    re.DOTALL,
)
VALID = [
    b"EHLO client.test", b"HELO client.test", b"MAIL FROM:<a@client.test>", b"MAIL FROM:<>", b"MAIL FROM:<a@client.test> SIZE=5 BODY=8BITMIME",
    b"MAIL FROM:<a@client.test> RET=HDRS ENVID=x SMTPUTF8", b"RCPT TO:<bob@example.test>", b"RCPT TO:<carol@example.test> NOTIFY=NEVER",
    b'RCPT TO:<"q <s> \\" x"@example.test>', b"RCPT TO:<postmaster>", b"RCPT TO:<x@elsewhere.test>", b"RCPT TO:<@a.test,@b.test:bob@example.test>",
    b"RCPT TO:<j\xc3\xb6rg@example.test>", b"DATA", b"RSET", b"NOOP", b"NOOP x", b"VRFY bob", b"EXPN all", b"HELP", b"STARTTLS", b"QUIT",
    b"AUTH PLAIN AGEAYg==", b"BDAT 5 LAST", b"BDAT 2", b"BDAT 0", b"BDAT x", b"", b".", b"XCLIENT NAME=x", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2", b"GET / HTTP/1.1", b"\x16\x03\x01\x02",
]  # fmt: skip
USUAL_START = [
    b"EHLO client.test",
    b"MAIL FROM:<a@client.test>",
    b"RCPT TO:<bob@example.test>",
    b"RCPT TO:<carol@example.test>",
    b"DATA",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid command with octets put in, taken out or changed."""
    line = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(line)))
        match draw(st.integers(0, 3)):
            case 0:
                line[at:at] = draw(st.binary(min_size=1, max_size=3))
            case 1:
                del line[at : at + draw(st.integers(1, 4))]
            case 2:
                line[at : at + 1] = draw(
                    st.sampled_from([b" ", b"<", b">", b'"', b"\\", b"\0", b"\r", b"\t", b"\xff", b":", b"@", b"="])
                )
            case _:
                line[at:at] = draw(st.sampled_from([b"A", b" X=1", b"@", b"."])) * draw(st.sampled_from([1, 70, 300, 5000]))
    return bytes(line).replace(b"\n", b"")


line = st.sampled_from(VALID) | mutated() | st.binary(max_size=40).map(lambda octets: octets.replace(b"\n", b""))
line_end = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r\r\n", b" \r\n"])
body = st.lists(
    st.sampled_from(
        [b"Subject: x\r\n\r\n", b"text\r\n", b"..\r\n", b".x\r\n", b"\r\n", b"RCPT TO:<hidden@example.test>\r\n", b"QUIT\r\n", b"\n", b"\r", b"\0", b"\xff\r\n", b"x" * 3000, b"DATA\r\n"]
    ),
    max_size=6,
).map(lambda parts: b"".join(parts) + b"\r\n.\r\n")  # fmt: skip
start = st.integers(0, len(USUAL_START)).map(lambda count: b"".join(one + b"\r\n" for one in USUAL_START[:count]))
loose = st.builds(lambda text, end: text + end, line, line_end)
transaction = st.builds(
    lambda before, between, content: (
        b"RSET\r\n" + before + b"".join(one + b"\r\n" for one in USUAL_START[1:4]) + between + b"DATA\r\n" + content
    ),
    st.just(b"") | loose,
    st.just(b"") | loose,
    body,
)
chunked = st.builds(
    lambda chunks, between: (
        b"RSET\r\n"
        + b"".join(one + b"\r\n" for one in USUAL_START[1:4])
        + between.join(
            b"BDAT %d%s\r\n%s" % (len(one), b" LAST" * (number == len(chunks)), one) for number, one in enumerate(chunks, 1)
        )
    ),
    st.lists(body | st.binary(max_size=20), min_size=1, max_size=4),
    st.just(b"") | st.just(b"") | loose,
)
piece = st.one_of(loose, loose, transaction, transaction, chunked, body, start)
script = st.builds(
    lambda first, parts: first + b"".join(parts),
    st.sampled_from([b"EHLO client.test\r\n"] * 6 + [b"", b"HELO x\r\n"]),
    st.lists(piece, max_size=10),
)

reply = st.one_of(
    st.sampled_from(["250 2.0.0 Ok", "250 Ok", "354 go on", "421 4.3.2 bye", "450 4.2.0 later", "451 x", "503 5.5.1 what", "530 5.7.0 tls", "550 5.1.1 no", "552 5.2.2 full", "554", "220 again", "251 2.1.5 will forward", "250-a\n250-b\n250 c", "550-5.7.1 a\n550 5.7.1 b"]),
    st.builds(lambda code, text: f"{code} {text}", st.integers(200, 599), st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=60)),
    st.builds(lambda code: f"{code} " + "x" * 1500, st.sampled_from([250, 450, 550])),
)  # fmt: skip
mishap = st.sampled_from(
    [DROP, SILENCE, Answer(raw=b"garbage\r\n"), Answer(raw=b"250-half"), Answer(raw=b"\xff\0\r\n"), Answer(raw=b"650 no\r\n"), Answer(raw=b"45\r\n"), Answer(raw=b"550-a\r\n551 b\r\n")]
)  # fmt: skip
answers = st.lists(reply | reply | mishap, min_size=1, max_size=3)
moods = st.dictionaries(
    st.sampled_from(["MAIL", "RCPT", "RCPT TO:<BOB", "DATA", "CONTENT", "RSET", "GREETING", "EHLO"]), answers, max_size=3
)


@dataclass
class Client:
    """What a client knows of its session, from what it sent and what came back."""

    mail: bytes = b""
    recipients: list[bytes] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    """Lines that were commands."""
    taken: list[tuple[list[bytes], bytes]] = field(default_factory=list)
    """Recipients and content of each message that got 2xx."""
    unanswered: int = 0
    """Commands and contents that came to their end and got no reply."""
    is_over: bool = False
    """The last reply read says that the session ends."""
    spare: list[bytes] = field(default_factory=list)
    """Replies that no command asked for."""

    def read(self, sent: bytes, replies: list[bytes]) -> None:
        """Give each command its reply."""
        waiting = iter(replies)
        while sent:
            text, end, sent = sent.partition(b"\n")
            if not end:
                break
            self.commands.append(text.rstrip(b"\r"))
            answer = next(waiting, None)
            if answer is None:
                chunk = _CHUNK.fullmatch(text)  # one that is not whole has no reply
                self.unanswered += chunk is None or len(sent) >= int(chunk[1])
                break
            if _BDAT.fullmatch(text) and len(text) < 4096:
                chunk = _CHUNK.fullmatch(text)
                if chunk is None:  # it cannot be said what follows
                    self.is_over = True
                    break
                sent = self._chunk(sent[int(chunk[1]) :], sent[: int(chunk[1])], answer, is_last=chunk[2] is not None)
            self._command(text.rstrip(b"\r"), answer)
            if answer[:3] == b"354":
                sent = self._content(sent, waiting)
            if answer[:3] == b"421" or (answer[:3] == b"221" and text[:4].upper() == b"QUIT"):
                self.is_over = True
                break
        self.spare = list(waiting)

    def _command(self, text: bytes, answer: bytes) -> None:
        verb = text[:4].upper()
        if not answer.startswith(b"2"):
            return
        found = _PATH.search(text)
        if verb in (b"EHLO", b"HELO", b"RSET", b"MAIL"):
            self.recipients = []
            self.chunks = []
        elif verb == b"RCPT":
            assert found is not None, text
            self.recipients.append(found[0])

    def _chunk(self, rest: bytes, octets: bytes, answer: bytes, *, is_last: bool) -> bytes:
        self.chunks.append(octets)
        if is_last or answer[:1] != b"2":
            if answer[:1] == b"2":
                content = b"".join(self.chunks)
                self.taken.append((self.recipients, content.lstrip(b"\r\n").removesuffix(b"\r\n")))
            self.recipients, self.chunks = [], []
        return rest

    def _content(self, sent: bytes, waiting: Iterator[bytes]) -> bytes:
        content, end, rest = (b"\r\n" + sent).partition(b"\r\n.\r\n")
        if not end:
            return b""  # the client left before the end
        answer = next(waiting, None)
        if answer is None:
            self.unanswered += 1
            return b""
        assert answer[:1] in (b"2", b"4", b"5"), answer
        if answer.startswith(b"2"):
            self.taken.append(
                (self.recipients, (content + b"\r\n").replace(b"\r\n.", b"\r\n").lstrip(b"\r\n").removesuffix(b"\r\n"))
            )
        self.recipients = []
        return rest


def grouped(octets: bytes) -> list[bytes]:
    """Replies, each as a whole; their grammar is checked (RFC 5321 4.2)."""
    found: list[bytes] = []
    current = b""
    while octets:
        text, end, octets = octets.partition(b"\n")
        whole = text + end
        assert _REPLY_LINE.fullmatch(whole), whole
        assert len(whole) <= 512, whole
        assert not current or current[:3] == whole[:3], (current, whole)
        current += whole
        if whole[3:4] == b" ":
            found.append(current)
            current = b""
    assert not current, current
    return found


class Bench:
    """A gateway and a next hop in a loop of their own, used by many examples."""

    def __init__(self, directory: Path) -> None:
        self.runner = asyncio.Runner()
        self.hop = ScriptedNextHop()
        self.log = LogCapture()
        self.complaints: list[object] = []
        self.gateway: InProcessGateway
        self.directory = directory

    def run(self, sent: bytes, cuts: list[int], moods: dict[str, list[str | Answer]], *, chunking: bool) -> tuple[bytes, bool]:
        self.hop.keywords = (*KEYWORDS, "CHUNKING") if chunking else KEYWORDS
        return self.runner.run(self._run(sent, cuts, moods))

    async def open(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: self.complaints.append(what))
        await self.hop.start()
        names = ("connect", "greeting", "hello", "reply", "data", "block", "final_reply")
        times = {**{f"{name}_timeout": 0.03 for name in names}, "wait_limit": 1.0, "rest": 0.001}
        config = Config.model_validate(
            {
                "server": {"name": "mx.example.test"},
                "listener": [{"name": "mx", "lenient_networks": []}],
                "route": [{"domains": ["example.test"], "servers": [self.hop.address]}],
                "relay": times,
                "limits": {"text_line": 20_000, "errors": 25, "unknown_recipients": 12},
            }
        )
        self.gateway = await InProcessGateway(config, directory=self.directory).__aenter__()

    async def close(self) -> None:
        await self.gateway.__aexit__(None, None, None)
        await self.hop.stop()

    async def _run(self, sent: bytes, cuts: list[int], moods: dict[str, list[str | Answer]]) -> tuple[bytes, bool]:
        hop = self.hop
        for when in ("MAIL", "RCPT", "RCPT TO:<BOB", "DATA", "CONTENT", "RSET", "GREETING", "EHLO"):
            hop._script.pop(when, None)
        await hop.drop_all()
        hop.transactions.clear()
        hop.commands.clear()
        self.gateway.records.clear()
        self.log.entries.clear()
        for when, given_answers in moods.items():
            hop.script(when, *given_answers, stay=False)
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port())
            ends = sorted({cut for cut in cuts if 0 < cut < len(sent)} | {len(sent)})
            begin = 0
            try:
                for end in ends:
                    writer.write(sent[begin:end])
                    begin = end
                    await writer.drain()
                    await asyncio.sleep(0)
                if not writer.transport.is_closing():
                    writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
                octets = await reader.read()
                is_reset = False
            except OSError:  # it sent on behind a QUIT or 421: replies under way are lost
                octets, is_reset = bytes(reader._buffer), True  # type: ignore[attr-defined] # what came before
            writer.close()
            await self.gateway.quiet()
        left = [task for task in asyncio.all_tasks() if "_converse" in repr(task)]
        assert not left
        return octets, is_reset


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    before = structlog.get_config()
    made = Bench(tmp_path_factory.mktemp("bench"))
    structlog.configure(processors=[made.log], cache_logger_on_first_use=False)
    with made.runner:
        made.runner.run(made.open())
        yield made
        made.runner.run(made.close())
    structlog.configure(**before)


def in_order(few: list[tuple[list[bytes], bytes]], many: list[tuple[list[bytes], bytes]]) -> bool:
    rest = iter(many)
    return all(any(one == other for other in rest) for one in few)


@DEPTH
@example(sent=b"".join(one + b"\r\n" for one in USUAL_START[:2]), cuts=[], moods={"MAIL": ["250 " + "x" * 1500]}, chunking=False)
@given(sent=script, cuts=st.lists(st.integers(0, 400), max_size=5), moods=moods, chunking=st.booleans())
def test_every_command_has_its_reply_and_the_reply_is_true(
    bench: Bench, sent: bytes, cuts: list[int], moods: dict[str, list[str | Answer]], chunking: bool
) -> None:
    octets, is_reset = bench.run(sent, cuts, moods, chunking=chunking)
    replies = grouped(octets[: octets.rfind(b"\n") + 1] if is_reset else octets)
    assert is_reset or replies[0].startswith(b"220 mx.example.test")
    client = Client()
    client.read(sent, replies[1:])
    is_closed_by_us = is_reset or client.is_over or replies[-1].startswith(b"421") or b"Line too long" in replies[-1]
    assert not client.unanswered or is_closed_by_us, (client, replies)
    assert len(client.spare) <= is_closed_by_us, (client.spare, replies)
    failed = [entry for entry in bench.log.entries if entry.get("log_level") in ("error", "critical")]
    assert not failed, failed
    assert not bench.complaints, bench.complaints
    hop = bench.hop
    # no header section: an empty line keeps the trace field apart from what is there
    reached = [
        (one.paths, re.sub(rb"\AReceived:.*\r\n(?:[ \t].*\r\n)*", b"", one.content).lstrip(b"\r\n").removesuffix(b"\r\n"))
        for one in hop.transactions
        if 200 <= one.code < 300
    ]
    assert in_order(client.taken, reached), (client.taken, reached)
    event(f"messages taken: {len(client.taken)}")
    event(f"commands to the next hop: {'some' if hop.commands else 'none'}")
    known = {found[0] for text in client.commands for found in _PATH.finditer(text)} | {b"<>"}
    for command in hop.commands:
        assert _OUR_COMMANDS.fullmatch(command), command
        found = _PATH.search(command)
        assert found is None or found[0] in known, (command, client.commands)
