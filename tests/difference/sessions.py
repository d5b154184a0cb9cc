"""Sessions to play twice: what the clients of the dialogues say, and ones that hypothesis makes. RFC 5321 4.1.

Whether a command is well formed is said here by regular expressions of the difference test's own, not by the gateway's grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from gateway.testing.dialogue import Line, literal, read

HELLO = "EHLO client.example"
LONGEST = 1000
"""Octets of a command line: 512, and what extensions add to that (RFC 5321 4.5.3.1.4, 3461 5.4)."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command line with its end (BDAT: and its octets), and the content that follows where it is asked for."""

    octets: bytes
    content: bytes = b""
    """With its mark, sent after 354 only."""
    joined: bool = False
    """Sent in one write with the step before (RFC 2920)."""

    @property
    def verb(self) -> str:
        """In upper case."""
        return self.octets.strip().partition(b" ")[0].decode("latin-1").upper()

    @property
    def is_well_formed(self) -> bool:
        """A command of RFC 5321 and of the extensions that a usual server has, spelt as their grammar has it."""
        if self.verb == "BDAT":
            return _CHUNK.match(self.octets) is not None and not _BARE.search(self.octets)
        if len(self.octets) > LONGEST or _WELL_FORMED.fullmatch(self.octets) is None:
            return False
        try:
            self.octets.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return self.verb != "MAIL" or self.octets.isascii() or b" SMTPUTF8" in self.octets.upper()


Session = tuple[Step, ...]

# ---- grammar: RFC 5321 4.1.2, RFC 6531 3.3, and the parameters of RFC 1870, 6152, 3461, 6531

_ATOM = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]+"
_LOCAL = rb'(?:%s(?:\.%s)*|"(?:[ !#-\[\]-~]|\\[ -~])*")' % (_ATOM, _ATOM)
_LABEL = rb"[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff-]*[A-Za-z0-9\x80-\xff])?"
_DOMAIN = rb"(?:%s(?:\.%s)*|\[(?:\d+\.){3}\d+\]|\[IPv6:[0-9a-f:]+\])" % (_LABEL, _LABEL)
_HELLO_NAME = rb"(?:[A-Za-z0-9][A-Za-z0-9.-]{,254}|\[(?:\d+\.){3}\d+\]|\[IPv6:[0-9a-f:]+\])"
_MAILBOX = rb"(?:@%s(?:,@%s)*:)?%s@%s" % (_DOMAIN, _DOMAIN, _LOCAL, _DOMAIN)
_XTEXT = rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+"
_MAIL_PARAMETER = rb" (?:SIZE=\d{1,20}|BODY=(?:7BIT|8BITMIME)|RET=(?:FULL|HDRS)|ENVID=%s|SMTPUTF8)" % _XTEXT
_NOTIFY = rb"(?:NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY))*)"
_RCPT_PARAMETER = rb" (?:NOTIFY=%s|ORCPT=rfc822;%s)" % (_NOTIFY, _XTEXT)
_WELL_FORMED = re.compile(
    rb"(?:(?:EHLO|HELO) %s|MAIL FROM:<(?:%s)?>(?:%s)*|RCPT TO:<(?:%s|postmaster)>(?:%s)*|DATA|RSET|QUIT|NOOP(?: [!-~]+)?|HELP(?: [!-~]+)?"
    rb"|(?:VRFY|EXPN|ETRN) [!-~]+)\r\n" % (_HELLO_NAME, _MAILBOX, _MAIL_PARAMETER, _MAILBOX, _RCPT_PARAMETER),
    re.IGNORECASE,
)

_CHUNK = re.compile(rb"BDAT (\d{1,20})(?: LAST)?\r\n", re.IGNORECASE)  # RFC 3030 2
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")

# ---- the dialogues


def of_dialogue(file: Path) -> Session:
    """What the client says, up to where it starts TLS; waits are left out, a last line without an end too."""
    dialogue = read(file)
    hello = dialogue.header.get("hello", HELLO)
    pieces = [] if hello == "by hand" else [(f"{hello}\r\n".encode(), False)]
    lines = dialogue.lines
    for at, line in enumerate(lines):
        if line.who != "C":
            continue
        if line.how in "%^":
            break
        if line.how in ":!":
            octets = line.text.encode() + b"\r\n" if line.how == ":" else literal(line, file)
            pieces.append((octets, _is_asked_for_content(lines[at + 1 :])))
    return _steps(pieces)


def _is_asked_for_content(after: tuple[Line, ...]) -> bool:
    """354 comes before the client says more."""
    for line in after:
        if line.who == "C":
            return False
        if line.who == "S" and line.text.startswith("354"):
            return True
    return False


def _steps(pieces: list[tuple[bytes, bool]]) -> Session:
    steps: list[Step] = []
    content: bytes | None = None
    rest = b""
    for piece, asked in pieces:
        octets = piece
        if content is not None:
            content += octets
            ended = re.search(rb"(?:\r\n|^)\.\r\n" if steps[-1].octets.endswith(b"\r\n") else rb"\n\.\n", content)
            if ended is None:
                continue
            steps[-1] = Step(steps[-1].octets, content[: ended.end()])
            octets = content[ended.end() :]
            content = None
        commands, rest = _commands(rest + octets)
        steps += [Step(command) for command in commands]
        if asked:
            content = b""
    return tuple(steps)


def _commands(octets: bytes) -> tuple[list[bytes], bytes]:
    """Lines with their ends, BDAT with its chunk, and what is not whole yet."""
    commands = []
    while (end := octets.find(b"\n") + 1) > 0:
        chunk = _CHUNK.match(octets)
        if chunk is not None:
            end = chunk.end() + int(chunk[1])
            if end > len(octets):
                break
        commands.append(octets[:end])
        octets = octets[end:]
    return commands, octets


# ---- made by hypothesis

_REVERSE = [
    "<a@client.test>",
    "<>",
    "<A.b+c@client.test>",
    '<"a b"@client.test>',
    "<@relay.test:a@client.test>",
    "<a@[192.0.2.1]>",
]
_REVERSE += ["<a@[IPv6:2001:db8::1]>", "<a=b?c@sub.client.test>", "<j\u00f6rg@client.test>"]
_FORWARD = ["<bob@example.test>"] * 3 + ["<alice@example.test>"] * 2
_FORWARD += [
    "<nobody@example.test>",
    "<deferred@example.test>",
    "<postmaster>",
    "<POSTMASTER>",
    "<Bob@EXAMPLE.test>",
    "<x@elsewhere.test>",
]
_FORWARD += [
    '<"bob"@example.test>',
    '<"no body"@example.test>',
    "<@a.test,@b.test:bob@example.test>",
    "<x@[192.0.2.1]>",
    "<j\u00f6rg@example.test>",
]
_FORWARD += ["<x%elsewhere.test@example.test>", '<"x@elsewhere.test"@example.test>', "<elsewhere.test!x@example.test>"]
_CONTENTS = [
    "Subject: x\r\n\r\nbody\r\n.\r\n", ".\r\n", "..\r\n.\r\n", "\r\nno header\r\n.\r\n", "no header\r\n.\r\n", "Subject: x\r\n\r\n..dot\r\n\u00e9\r\n.\r\n",
    f"X-Long: {'x' * 990}\r\n\r\n{'y' * 998}\r\n.\r\n", "Subject: x\r\n\r\n" + "line\r\n" * 3000 + ".\r\n",
]  # fmt: skip
_MAIL_WORDS = [
    "SIZE=0",
    "SIZE=1000",
    "SIZE=49970000",
    "SIZE=49990000",
    "SIZE=60000000",
    "BODY=7BIT",
    "BODY=8BITMIME",
    "body=8bitmime",
    "RET=FULL",
]
_MAIL_WORDS += ["RET=HDRS", "ENVID=QQ+2B314", "SMTPUTF8"]
_RCPT_WORDS = ["NOTIFY=NEVER", "NOTIFY=SUCCESS,FAILURE", "notify=Delay", "ORCPT=rfc822;Bob+40example.test"]


def _line(text: str) -> Step:
    return Step(text.encode() + b"\r\n")


def _with_words(front: str, paths: list[str], words: list[str]) -> st.SearchStrategy[Step]:
    def key(word: str) -> str:
        return word.partition("=")[0].upper()

    def spelt(path: str, more: list[str]) -> Step:
        if front == "MAIL FROM:" and not path.isascii() and "SMTPUTF8" not in more:
            more = [*more, "SMTPUTF8"]
        return _line(" ".join([f"{front}{path}", *more]))

    none: list[str] = []
    parameters = st.one_of(st.just(none), st.lists(st.sampled_from(words), max_size=3, unique_by=key))
    return st.builds(spelt, st.sampled_from(paths), parameters)


_MAIL = st.one_of(st.just(_line("MAIL FROM:<a@client.test>")), _with_words("MAIL FROM:", _REVERSE, _MAIL_WORDS))
_RCPT = _with_words("RCPT TO:", _FORWARD, _RCPT_WORDS)
_DATA = st.sampled_from(_CONTENTS).map(lambda content: Step(b"DATA\r\n", content.encode()))
_HELLO = st.sampled_from(
    [_line(text) for text in ("EHLO client.test", "HELO client.test", "EHLO [192.0.2.1]", "ehlo CLIENT.test")]
)
_EHLO = st.just(_line("EHLO client.test"))
_SIMPLE = st.sampled_from(
    [
        _line(text)
        for text in (
            "RSET",
            "NOOP",
            "NOOP x",
            "rset",
            "VRFY bob@example.test",
            "VRFY nobody@example.test",
            "EXPN all",
            "ETRN node.test",
            "etrn [192.0.2.1]",
            "HELP",
            "QUIT",
        )
    ]
)
_PIECES = [b"", b"Subject: x\r\n\r\nbody\r\n", b"\r\n.\r\n", b"no end", b"QUIT\r\n", b"line\r\n" * 3000]
_BDAT = st.builds(
    lambda piece, last: Step(b"BDAT %d%s\r\n%s" % (len(piece), last, piece)),
    st.sampled_from(_PIECES),
    st.sampled_from([b"", b" LAST"]),
)
_ANY_ORDER = st.one_of(_MAIL, _RCPT, _RCPT, _DATA, _BDAT, _HELLO, _SIMPLE).map(lambda step: [step])


@st.composite
def _transaction(draw: st.DrawFn) -> list[Step]:
    """MAIL, some RCPT, DATA or some BDAT; sometimes in one write."""
    content = [draw(_DATA)] if draw(st.booleans()) else draw(st.lists(_BDAT, min_size=1, max_size=3))
    steps = [draw(_MAIL), *draw(st.lists(_RCPT, min_size=1, max_size=3)), *content]
    if draw(st.booleans()):
        return steps
    return [steps[0], *(Step(step.octets, step.content, joined=True) for step in steps[1:])]


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """Valid commands in any order; nearly all begin with a greeting."""
    begins = draw(st.sampled_from([_EHLO] * 8 + [_HELLO, _SIMPLE, _MAIL]).flatmap(lambda strategy: strategy))
    return _joined([begins], draw(st.lists(st.one_of(_ANY_ORDER, _transaction()), min_size=2, max_size=10)))


_MALFORMED = [
    "MAIL", "MAIL FROM:", "MAIL FROM:a@client.test", "MAIL FROM: <a@client.test>", "MAIL FROM:<a@client.test", "MAIL FROM:<a@@client.test>",
    "MAIL FROM:<a@client.test>x", "MAIL TO:<a@client.test>", "MAIL FROM:<a b@client.test>", "MAIL FROM:<.a@client.test>", "MAIL FROM:<a@client..test>",
    "MAIL FROM:<a@client.test> SIZE=x", "MAIL FROM:<a@client.test> SIZE", "MAIL FROM:<a@client.test> BODY=9BIT", "MAIL FROM:<a@client.test> X=1",
    "MAIL FROM:<a@client.test> RET=ALL", "MAIL FROM:<a@client.test> RET=FULL RET=HDRS", "MAIL FROM:<a@client.test> ENVID=", "MAIL FROM:<a@client.test> =1",
    "MAIL FROM:<a@client.test> SMTPUTF8=1", "MAIL FROM:<a>", "MAIL FROM:<@>", "MAIL FROM:<a@[1.2.3]>", "RCPT", "RCPT TO:", "RCPT TO:bob@example.test",
    "RCPT TO: <bob@example.test>", "RCPT TO:<bob@example.test", "RCPT TO:<>", "RCPT TO:<bob>", "RCPT TO:<bob@example.test> NOTIFY=SOMETIMES",
    "RCPT TO:<bob@example.test> NOTIFY=NEVER,SUCCESS", "RCPT TO:<bob@example.test> ORCPT=bob", "RCPT TO:<bob@example.test> X-ODD=1",
    'RCPT TO:<"bob@example.test>', "RCPT TO:<bob@-example.test>", "RCPT FROM:<bob@example.test>", "DATA now", "RSET now", "QUIT now", "EHLO", "HELO", "EHLO a b",
    "EHLO \u00e9", "NOPE", "", " ", " NOOP", "NOOP\tx", "EHLO\tx", "MAILFROM:<a@client.test>", "AUTH", "AUTH NOPE", "VRFY", "STARTTLS", "STARTTLS now",
    "BDAT", "BDAT LAST", "BDAT -1", "BDAT 5 FIRST", "BDAT 0 LAST LAST", "BDAT 99999999999999999999999", "XCLIENT NAME=x", "XFORWARD NAME=x", "TURN", "SEND FROM:<a@client.test>", "\u00ff\u00fe", "RCPT TO:<" + "b" * 70 + "@example.test>",
    "MAIL FROM:<a@" + "d." * 130 + "test>", "EHLO " + "x" * 300, "X" * 1500, "RCPT TO:<bob@example.test> " + "X=1 " * 30,
]  # fmt: skip
_LOOSE_CONTENTS = [
    "Subject: x\n\nbody\r\n.\r\n",
    "Subject: x\r\n\r\na\rb\r\n.\r\n",
    "Subject: x\r\n\r\n\0\r\n.\r\n",
    "Subject: x\r\n\r\n\0.\r\n.\r\n",
]


@st.composite
def _mutated(draw: st.DrawFn) -> Step:
    """A valid command with one octet put in, taken out or changed."""
    line = draw(st.one_of(_MAIL, _RCPT, _SIMPLE, _HELLO)).octets[:-2]
    at = draw(st.integers(0, len(line)))
    put = draw(
        st.sampled_from([b"", b" ", b"<", b">", b"@", b'"', b"\\", b":", b"=", b",", b".", b"\t", b"\0", b"\x80", b"x", b"("])
    )
    return Step(line[:at] + put + line[at + draw(st.integers(0, 1)) :] + b"\r\n")


_BROKEN = st.one_of(st.sampled_from([_line(text) for text in _MALFORMED]), _mutated()).map(lambda step: [step])
_LOOSE = st.sampled_from(_LOOSE_CONTENTS).map(
    lambda content: [
        _line("RSET"),
        _line("MAIL FROM:<a@client.test>"),
        _line("RCPT TO:<bob@example.test>"),
        Step(b"DATA\r\n", content.encode()),
    ]
)


def malformed_sessions() -> st.SearchStrategy[Session]:
    """The same with commands among them that no grammar has."""
    parts = st.lists(st.one_of(_BROKEN, _BROKEN, _BROKEN, _ANY_ORDER, _transaction(), _LOOSE), min_size=2, max_size=8)
    return st.builds(_joined, _HELLO.map(lambda step: [step]), parts)


def _joined(begin: list[Step], parts: list[list[Step]]) -> Session:
    steps = begin + [step for part in parts for step in part]
    return (*steps, _line("QUIT"))
