"""What a client sends and what the next hop is given, over sockets: the same octets. RFC 3461 4, 5321 2.4, 4.5.2, 6152 3, 6531 3.3."""

from __future__ import annotations

import asyncio
import socket
import threading
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import DROP, ScriptedNextHop, Taken, _path

DEPTH = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
EXAMPLES = 150


@dataclass
class Between:
    """A client's connection to the gateway, and the next hop behind it."""

    port: int
    hop: ScriptedNextHop
    sock: socket.socket | None = None

    def say(self, *commands: bytes) -> list[bytes]:
        """Each command's reply, all its lines."""
        if self.sock is None:
            self.sock = socket.create_connection(("127.0.0.1", self.port), 20)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.stream = self.sock.makefile("rb")
            assert self.reply().startswith(b"220")
        replies = []
        for command in commands:
            self.sock.sendall(command)
            replies.append(self.reply())
        return replies

    def reply(self) -> bytes:
        lines = [self.stream.readline()]
        while lines[-1][3:4] == b"-":
            lines.append(self.stream.readline())
        return b"".join(lines)

    def transaction(self, mail: bytes, rcpts: list[bytes], content: bytes = b"Subject: x\r\n\r\n") -> Taken:
        """Sent and taken; what the next hop got. `content` ends in CRLF."""
        self.hop.transactions.clear()
        wire = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
        replies = self.say(b"EHLO client.test\r\n", mail, *rcpts, b"DATA\r\n", wire)
        assert [reply[:3] for reply in replies] == [b"250"] * (len(rcpts) + 2) + [b"354", b"250"], (mail, rcpts, replies)
        (taken,) = self.hop.transactions
        return taken

    def close(self) -> None:
        if self.sock is not None:
            self.stream.close()
            self.sock.close()
            self.sock = None


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Between]:
    """Gateway and next hop in a thread; the client may relay, so that any domain goes through."""
    ready: Future[Between] = Future()
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve(directory: Path) -> None:
        async with AsyncExitStack() as stack:
            hop = await stack.enter_async_context(ScriptedNextHop())
            config = {
                "server": {"name": "mx.example.test"},
                "listener": [{"name": "mx", "lenient_networks": [], "trusted_networks": ["127.0.0.0/8"]}],
                "route": [{"domains": ["example.test"], "servers": [hop.address]}],
                "limits": {"spool_memory": "64KB", "commands": 1_000_000},
            }
            gateway = InProcessGateway(Config.model_validate(config), directory=directory)
            await stack.enter_async_context(gateway)
            ready.set_result(Between(gateway.port(), hop))
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(tmp_path_factory.mktemp("octets")),))
    thread.start()
    made = ready.result(20)
    try:
        yield made
    finally:
        made.close()
        loop.call_soon_threadsafe(ended.set)
        thread.join(20)
        loop.close()


# ---- envelopes ----------------------------------------------------------------------------------------------------------

_ATEXT = "abcXYZ019!#$%&'*+/=?^_`{|}~-"
_UTF8 = [
    "é",
    "e\u0301",
    "ﬁ",
    "Å",
    "\u212b",
    "ß",
    "İ",
    "ı",
    "ё",
    "用户",
    "ท",
    "ا",
    "🙂",
    "e\u0301\u0323",
    "\u1e9b\u0323",
    "\u200d",
    "\ufeff",
]
"""Composed, decomposed, compatibility forms, letters whose case is a trap, joiners: whoever normalises or folds changes one of them."""
atom = st.text(_ATEXT, min_size=1, max_size=12)
utf8_atom = st.lists(st.sampled_from(_UTF8) | atom, min_size=1, max_size=6).map("".join)
quoted = st.lists(
    st.sampled_from([" ", "a", "B", "<", ">", "@", ",", ":", ";", "(", "\\\\", '\\"', "\\a", "\\ ", "..", "%", "!"]), max_size=12
).map(lambda parts: f'"{"".join(parts)}"')
dotted = st.lists(atom, min_size=1, max_size=4).map(".".join)
long_local = st.integers(1, 300).map(lambda size: "b" * size)
label = st.text("abcXYZ019", min_size=1, max_size=10) | st.sampled_from(["xn--mnchen-3ya", "a-b", "_x", "a_b"])
domain = st.lists(label, min_size=1, max_size=4).map(".".join) | st.sampled_from(
    ["[192.0.2.1]", "[IPv6:2001:DB8::1]", "[tag:free-text]", "EXAMPLE.Test"]
)
utf8_domain = st.sampled_from(["bücher.test", "bu\u0308cher.test", "BÜCHER.test", "例え.test"]) | domain
route = st.just("") | st.just("") | st.sampled_from(["@relay.test:", "@A.test,@b.Test:"])
mailbox = st.builds("{}{}@{}".format, route, dotted | quoted | long_local, domain)
utf8_mailbox = st.builds("{}{}@{}".format, route, utf8_atom | dotted | quoted, utf8_domain)

xchar = st.sampled_from([chr(octet) for octet in range(33, 127) if chr(octet) not in "+="]) | st.sampled_from(
    ["+2B", "+3D", "+0D+0A", "+00", "+E9", "+2b"]
)
xtext = st.lists(xchar, min_size=1, max_size=30).map("".join)


def cased(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from([text, text.lower(), text.title()])


ret = cased("RET=FULL") | cased("RET=HDRS")
envid = st.builds("{}={}".format, cased("ENVID"), xtext)
body = cased("BODY=8BITMIME") | cased("BODY=7BIT")
notify = cased("NOTIFY=NEVER") | cased("NOTIFY=SUCCESS,FAILURE,DELAY") | st.just("NOTIFY=DELAY,success")
orcpt = st.builds("{}={};{}".format, cased("ORCPT"), st.sampled_from(["rfc822", "RFC822", "utf-8", "x400"]), xtext)


def some(*parameters: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """Each of them or not, in any order."""
    each = st.tuples(*(st.none() | one for one in parameters))
    return each.map(lambda found: [one for one in found if one is not None]).flatmap(st.permutations).map(list)


def line(front: str, path: str, parameters: list[str]) -> bytes:
    return " ".join([f"{front}<{path}>", *parameters]).encode() + b"\r\n"


def words(parameters: list[str]) -> tuple[bytes, ...]:
    return tuple(one.encode() for one in parameters)


@settings(DEPTH, max_examples=EXAMPLES)
@given(mailbox | st.just(""), some(ret, envid, body), st.lists(st.tuples(mailbox, some(notify, orcpt)), min_size=1, max_size=3))
def test_paths_and_their_parameters(
    between: Between, mail: str, parameters: list[str], rcpts: list[tuple[str, list[str]]]
) -> None:
    taken = between.transaction(line("MAIL FROM:", mail, parameters), [line("RCPT TO:", *one) for one in rcpts])
    assert taken.reverse_path == f"<{mail}>".encode()
    assert taken.parameters == words(parameters)
    assert taken.recipients == [(f"<{path}>".encode(), words(more)) for path, more in rcpts]


@settings(DEPTH, max_examples=EXAMPLES)
@given(utf8_mailbox, some(st.just("SMTPUTF8"), envid).filter(lambda some: "SMTPUTF8" in some), st.lists(utf8_mailbox, min_size=1))
@example("e\u0301@client.test", ["SMTPUTF8"], ["\u00e9@example.test", "e\u0301@example.test", "\u00c9@example.test"])
def test_utf8_paths(between: Between, mail: str, parameters: list[str], rcpts: list[str]) -> None:
    """Neither NFC nor NFD is made of them, no case is folded, no domain is encoded."""
    taken = between.transaction(line("MAIL FROM:", mail, parameters), [line("RCPT TO:", one, []) for one in rcpts])
    assert (taken.reverse_path, taken.parameters) == (f"<{mail}>".encode(), words(parameters))
    assert taken.paths == [f"<{one}>".encode() for one in rcpts]


def test_an_envelope_that_is_said_again_has_the_same_octets(between: Between) -> None:
    """The link is lost before the content; the parameters are not lost with it (RFC 3461 4)."""
    mail, rcpt = '"b  c"@Client.Test', "Bob+40X=y@EXAMPLE.test"
    parameters, more = ["envid=QQ+2b314+0D", "Ret=Hdrs"], ["ORCPT=rfc822;B+6fb@Example.test", "notify=Success,DELAY"]
    between.hop.script("DATA", DROP, "354 go on", stay=False)
    before = between.hop.connections
    taken = between.transaction(line("MAIL FROM:", mail, parameters), [line("RCPT TO:", rcpt, more)])
    assert between.hop.connections > before
    assert taken.reverse_path == f"<{mail}>".encode()
    assert taken.parameters == words(parameters)
    assert taken.recipients == [(f"<{rcpt}>".encode(), words(more))]


# ---- content ------------------------------------------------------------------------------------------------------------

octets = st.binary(max_size=60).map(lambda found: found.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0.", b"\0"))
text_line = octets | st.sampled_from([b"", b".", b"..", b".x", b" .", b"\xff" * 78, b"\0", b"From x", b"\x1a", b"\x04"])
long_line = st.builds(
    lambda size, one: one * size, st.sampled_from([997, 998, 999, 1000, 1001, 2047, 4096, 65_535, 200_000]), st.sampled_from([b"x", b".", b"\xe9", b"\0"])
)  # fmt: skip
fields = st.lists(
    st.sampled_from(
        [b"Subject: x", b"X-8bit: \xe9\xff", b"X-Utf8: \xc3\xa9", b"X-Folded: a\r\n\tb", b"X-Empty:", b"X-Long: " + b"y" * 2000]
    )
)


@settings(DEPTH, max_examples=EXAMPLES)
@given(fields, st.lists(text_line | text_line | text_line | long_line, max_size=12), st.booleans())
@example([b"Subject: x"], [b"x" * 1000, b"y" * 1001, b".", b"\xe9" * 5000, b"z" * 999_000], False)
def test_content(between: Between, header: list[bytes], lines: list[bytes], is_eightbit: bool) -> None:
    """Lines of any length, 8-bit octets with and without BODY=8BITMIME, dots and NUL: nothing is converted, wrapped or cut."""
    content = b"".join(one + b"\r\n" for one in [*(header or [b"Subject: y"]), b"", *lines])
    parameters = ["BODY=8BITMIME"] if is_eightbit else []
    taken = between.transaction(line("MAIL FROM:", "a@client.test", parameters), [b"RCPT TO:<b@example.test>\r\n"], content)
    assert taken.content.endswith(content)
    added = taken.content[: len(taken.content) - len(content)]
    assert added.startswith(b"Received: from client.test ")
    assert added.count(b"\r\n") == added.count(b"\r\n\t") + 1
    assert taken.parameters == words(parameters)


def test_the_comparison_can_fail(between: Between, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what the next hop was given is read as something that normalises would write it."""
    monkeypatch.setattr(
        "gateway.testing.next_hop._path", lambda line: _path(unicodedata.normalize("NFC", line.decode()).encode())
    )
    with pytest.raises(AssertionError):
        one_example(test_utf8_paths)(between, "e\u0301@client.test", ["SMTPUTF8"], ["b@example.test"])
    monkeypatch.setattr("gateway.testing.next_hop._path", lambda line: _path(line.upper()))
    with pytest.raises(AssertionError):
        one_example(test_paths_and_their_parameters)(between, "a@client.test", ["envid=x"], [("b@example.test", [])])


def one_example(test: Any) -> Callable[..., None]:
    """The test itself, without what makes its examples."""
    inner: Callable[..., None] = test.hypothesis.inner_test
    return inner
