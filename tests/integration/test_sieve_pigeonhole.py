"""Scripts and messages, run here and by Pigeonhole's `sieve-test`: both come to the same action."""

from __future__ import annotations

import ast
import os
import pwd
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import Score
from gateway.plugins.sieve import Options, Sieve
from gateway.testing import a_message, a_transaction, run_plugin

pytestmark = pytest.mark.real

MESSAGE = """\
From: "Doe, John" <john@Example.COM>
To: bob@example.org, "Other" <carol+lists@sub.example.net>
Cc: Undisclosed:;
Subject:   Re: [talk] =?utf-8?q?Gr=C3=BC=C3=9Fe?= from *here*
X-Count: 007
X-Count: 12 apples
X-Empty:
X-Spam-Score: 5
Date: Tue, 24 Nov 2026 10:00:00 +0000
Message-ID: <1@client.test>
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=B

--B
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

The secret word is k=C3=A4se.
--B
Content-Type: text/html

<p>The <b>hidden</b> word</p>
--B--
"""
ALL = (
    'require ["fileinto", "reject", "envelope", "body", "variables", "editheader", "relational", "spamtest", "spamtestplus", '
    '"comparator-i;ascii-numeric"];\n'
)
TESTS = [
    'header :is "subject" "re: [talk] grüße from *here*"',
    'header :contains ["x-none", "SUBJECT"] ["nothing", "TALK"]',
    'header :contains "subject" ""',
    'header :is "x-empty" ""',
    'header :is "x-none" ""',
    'header :matches "subject" "*\\\\*here\\\\*"',
    'header :matches "subject" "Re: ?talk? *"',
    'header :matches "subject" "re"',
    'header :comparator "i;octet" :contains "subject" "RE:"',
    'header :comparator "i;octet" :matches "subject" "Re:*"',
    'header :count "eq" :comparator "i;ascii-numeric" "x-count" "2"',
    'header :count "ge" :comparator "i;ascii-numeric" ["x-count", "x-none"] "3"',
    'header :value "lt" :comparator "i;ascii-numeric" "x-count" "10"',
    'header :value "gt" :comparator "i;ascii-numeric" "x-count" "12"',
    'header :is :comparator "i;ascii-numeric" "x-count" "7"',
    'header :value "ge" :comparator "i;ascii-numeric" "subject" "99999"',
    'address :is :all "from" "john@example.com"',
    'address :is "from" "john@example.com"',
    'address :domain :is "to" "SUB.example.net"',
    'address :localpart :matches ["to", "cc"] "carol+*"',
    'address :comparator "i;octet" :domain :is "from" "example.com"',
    'envelope :is "from" "ann@client.test"',
    'envelope :domain :is "to" "example.org"',
    'envelope :localpart :is ["from", "to"] ["zoe", "bob"]',
    'exists ["from", "date"]',
    'exists ["from", "x-none"]',
    "size :over 100",
    "size :over 1K",
    "size :under 1M",
    'not exists "x-none"',
    'allof (true, not false, anyof (false, exists "to"))',
    "anyof (false, allof (true, false))",
    'body :contains "käse"',
    'body :content "text" :contains "hidden"',
    'body :content "text/plain" :contains "hidden"',
    'body :raw :contains "k=C3=A4se"',
    'body :text :matches "*secret*word*"',
    'spamtest :value "ge" :comparator "i;ascii-numeric" "5"',
    'spamtest :is "5"',
    'spamtest :percent :value "gt" :comparator "i;ascii-numeric" "90"',
]
SCRIPTS = [
    "",
    "keep;",
    "discard;",
    'reject "No, thank you.";',
    "reject text:\nTwo\nlines\n.\n;",
    "discard; keep;",
    'if true { stop; } fileinto "x";',
    'if false { discard; } elsif true { fileinto "b"; } else { keep; }',
    'if false { discard; } elsif false { fileinto "b"; } else { fileinto "c"; }',
    'if header :matches "subject" "*[*]*" { set "x" "${2}"; fileinto "l.${x}.${9}"; }',
    'if header :matches "subject" "**" { fileinto "a${1}b"; }',
    'if string :matches "foo.bar.baz" "*.*" { fileinto "${1}-${2}-${0}"; }',
    'if string :matches "FooBar" "?oo*" { set "y" "${1}"; fileinto "${Y}/${2}"; }',
    'set :upper "a" "juMBlEd lETteRS"; fileinto "${a}";',
    'set :lower :upperfirst "b" "juMBlEd lETteRS"; fileinto "${b}";',
    'set :upper :lowerfirst "b" "juMBlEd"; fileinto "${b}";',
    'set :length "b" "Rock ’n’ roll"; fileinto "${b}";',
    'set :quotewildcard "b" "Rock*"; if string :matches "Rock*" "${b}" { fileinto "${b}"; }',
    'set "a" "x"; set "a" "${a}${A}y${none}"; fileinto "${a}";',
    'set "a" "x"; fileinto "$${a} ${a$} ${a";',
    'addheader "X-New" "one"; if header :is "x-new" "one" { fileinto "added"; }',
    'addheader :last "X-Count" "last"; if header :count "eq" :comparator "i;ascii-numeric" "x-count" "3" { fileinto "added"; }',
    'deleteheader "x-count"; if not exists "X-Count" { fileinto "gone"; }',
    'deleteheader :index 1 "x-count"; if header :matches "x-count" "*" { fileinto "${1}"; }',
    'deleteheader :index 1 :last "x-count"; if header :matches "x-count" "*" { fileinto "${1}"; }',
    'deleteheader :contains "x-count" "apples"; if header :matches "x-count" "*" { fileinto "${1}"; }',
    'addheader "X-Count" "0"; deleteheader :index 2 "x-count"; if header :contains "x-count" "007" { fileinto "still"; }',
    "# comment\nif /* one */ true { /* two\n */ discard; } # three",
    "if not not false { discard; }",
    'if header :matches "subject" "*" { if header :matches "from" "?nobody" { } fileinto "s ${1}"; }',
]


@pytest.fixture(scope="module")
def pigeonhole(require: Callable[[str], str]) -> Iterator[Callable[[str], tuple[str, str]]]:
    """What `sieve-test` says of a script and the message: the action, and mailbox or text."""
    program = require("sieve-test")
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    made = tempfile.TemporaryDirectory()  # directories of pytest are closed to other users, and root's sieve-test becomes one
    directory = Path(made.name)
    directory.chmod(0o755)
    (directory / "message").write_bytes(MESSAGE.replace("\n", "\r\n").encode())
    (directory / "dovecot.conf").write_text(
        f"""
        log_path = /dev/stderr
        ssl = no
        first_valid_uid = 1
        mail_uid = {user.pw_uid}
        mail_gid = {user.pw_gid}
        mail_location = mbox:{directory}/mail
        plugin {{
          sieve_extensions = +spamtest +spamtestplus +editheader
          sieve_spamtest_status_header = X-Spam-Score
          sieve_spamtest_max_value = 10
        }}
        """.replace("        ", "")
    )

    def say(script: str) -> tuple[str, str]:
        (directory / "script.sieve").write_text(script)
        command = [program, "-c", str(directory / "dovecot.conf"), "-f", "ann@client.test", "-r", "bob@example.org"]
        command += ["-a", "bob@example.org", str(directory / "script.sieve"), str(directory / "message")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        assert done.returncode == 0, done.stderr
        return _action(done.stdout)

    with made:
        yield say


def _action(said: str) -> tuple[str, str]:
    is_discarded = False
    found = re.findall(r"^ \* (.*?)(?=\n \* |\n\n[A-Z]|\Z)", said, re.MULTILINE | re.DOTALL)
    for one in found:
        if folder := re.fullmatch(r"store message in folder: (.*?)\s*", one, re.DOTALL):
            return ("keep", "") if folder[1] == "INBOX" else ("fileinto", folder[1])
        if reason := re.fullmatch(r"reject message with reason: (.*?)\s*", one, re.DOTALL):
            return "reject", " ".join(reason[1].replace("?", " ").split())
        is_discarded = is_discarded or one.strip() == "discard"
    if is_discarded:  # where nothing else was asked for
        return "discard", ""
    raise AssertionError(said)


@pytest.mark.parametrize("script", SCRIPTS)
async def test_both_come_to_the_same_action(script: str, pigeonhole: Callable[[str], tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "site.sieve").write_text(ALL + script)
    theirs = pigeonhole(ALL + script)
    assert await ours(tmp_path / "site.sieve") == theirs


async def test_the_same_tests_hold(pigeonhole: Callable[[str], tuple[str, str]], tmp_path: Path) -> None:
    """All in one script, that writes down which of them do."""
    lines = [f'if {test} {{ set "r" "${{r}},{number}"; }}' for number, test in enumerate(TESTS)]
    script = ALL + "\n".join(lines) + '\nfileinto "${r}";'
    (tmp_path / "site.sieve").write_text(script)
    (_, theirs), (_, own) = pigeonhole(script), await ours(tmp_path / "site.sieve")
    assert [TESTS[int(number)] for number in own.split(",")[1:]] == [TESTS[int(number)] for number in theirs.split(",")[1:]]


async def ours(file: Path) -> tuple[str, str]:
    plugin = Sieve(Options(script=str(file), spam_score=9.0))
    transaction = a_transaction(reverse_path="ann@client.test", recipients=["bob@example.org"])
    transaction.findings.add("test", Score(symbol="s", weight=4.5))
    result = await run_plugin(plugin, message=a_message(MESSAGE.replace("\n", "\r\n").encode()), transaction=transaction)
    assert not result.findings[1:], result.findings
    if result.verdict is None:
        return "keep", ""
    kind = {"Reject": "reject", "Discard": "discard", "Quarantine": "fileinto"}[type(result.verdict).__name__]
    told = re.fullmatch(r"[^ ]+ line \d+: \w+ ('.*'|\".*\")", result.verdict.evidence, re.DOTALL)
    assert told is not None
    text = str(ast.literal_eval(told[1]))
    return kind, " ".join(text.split()) if kind == "reject" else text
