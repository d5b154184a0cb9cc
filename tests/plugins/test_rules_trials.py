"""Tests beside rules: what they say where the rule does otherwise than they expect, and what `config check --test` makes of them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from gateway import ConfigError, Context, Trial
from gateway.plugins.rules import Options, Rules
from gateway.testing import FakeContext

GROUP = """
[[rule]]
name = "scored"
when = "message.subject == 'x'"
then = [{ score = 2.5 }, { add_header = "X-Seen: yes" }, { tag_subject = "[X]" }]
[[rule]]
name = "refused"
when = "message.subject == 'no'"
then = { reject = "Not this", code = 554 }
[[rule]]
name = "half"
when = "recipient.mailbox == 'bob@example.org' && auth.spf == 'fail'"
then = { quarantine = "spam" }
[[rule]]
name = "watched"
when = "fact('x') == 1 && labels.exists(l, l == 'l') && score.total > 1.0"
then = "discard"
mode = "monitor"
[[rule]]
name = "who"
when = '''client.address == "2001:db8::1" && client.port == 1 && client.name == "n.example" && client.helo == "h.example" && tls.is_on
  && client.identity == "alice" && client.listener == "submission" && auth_values("dkim", "header.d") == ["example.org"]
  && reverse_path.is_null && size(recipients) == 2'''
then = "accept"
[[rule]]
name = "trusted"
when = 'client.is_trusted && message.text.contains("needle")'
then = "defer"
[[rule]]
name = "broken"
when = "1 / size(attachments) == 5"
then = "accept"
"""
NAMES = [table["name"] for table in tomllib.loads(GROUP)["rule"]]


async def tried(tmp_path: Path, rule: str, test: str) -> Trial:
    data = tomllib.loads(GROUP)
    tables = [one for one in data["rule"] if one["name"] == rule or rule != "broken" != one["name"]]
    next(one for one in tables if one["name"] == rule)["test"] = [tomllib.loads(test)]
    group = Rules(
        Options.model_validate({"rule": tables}),
        name="rules",
        context=cast("Context", FakeContext(base_directory=str(tmp_path))),
    )
    (trial,) = await group.trials()
    return trial


WHO = """
client = { address = "2001:db8::1", port = 1, name = "n.example", helo = "h.example", identity = "alice", listener = "submission" }
tls = true
auth.dkim = "pass header.d=example.org"
reverse_path = ""
recipients = ["bob@example.org", "carol@example.org"]
"""
RIGHT = [
    ("scored", "message.subject = 'x'\nexpect = 'holds'"),
    ("scored", "expect = 'nothing'"),
    ("refused", "expect = { verdict = 'nothing', recipients = ['bob@example.org'] }"),
    ("refused", "message.subject = 'no'\nexpect = { verdict = 'reject', recipients = [] }"),
    (
        "half",
        (
            "auth.spf = 'fail'\nrecipients = ['bob@example.org', 'a@b.test']\n"
            "expect = { verdict = 'quarantine', recipients = ['a@b.test'] }"
        ),
    ),
    (
        "scored",
        (
            "message.subject = 'x'\n"
            "expect = { score = 2.5, edits = ['add_header X-Seen: yes', 'tag_subject [X]'], labels = [], verdict = 'holds' }"
        ),
    ),
    ("refused", "message.subject = 'no'\nexpect = 'reject 554 5.7.1 Not this'"),
    ("scored", "message.subject = 'no'\nexpect = { verdict = 'reject', rule = 'refused' }"),
    ("half", "auth.spf = 'fail'\nrecipients = ['bob@example.org', 'a@b.test']\nexpect = 'quarantine spam'"),
    (
        "half",
        (
            "auth.spf = 'fail'\nrecipients = ['bob@example.org', 'a@b.test']\n"
            "expect.verdict = { 'bob@example.org' = 'quarantine', 'a@b.test' = 'nothing' }"
        ),
    ),
    ("watched", "facts = { x = 1 }\nlabels = ['l']\nscores = { A = 1.5 }\nexpect = 'would discard'"),
    ("watched", "facts = { x = 2 }\nexpect = 'nothing'"),
    ("who", WHO + "expect = 'accept'"),
    ("who", "expect = 'nothing'"),
    ("trusted", 'client.is_trusted = true\nmessage.source = "Subject: x\\n\\na needle\\n"\nexpect = "defer 451"'),
    ("trusted", "client.is_trusted = true\nmessage.file = 'unix.eml'\nexpect = 'defer'"),
    ("trusted", "client.is_trusted = true\nmessage.file = 'crlf.eml'\nexpect = 'defer'"),
    ("trusted", "client.is_trusted = true\nmessage.html = '<p>needle</p>'\nexpect = 'defer'"),
]


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    (tmp_path / "unix.eml").write_bytes(b"Subject: x\n\na needle\n")
    (tmp_path / "crlf.eml").write_bytes(b"Subject: x\r\n\r\na needle\r\n")
    return tmp_path


@pytest.mark.parametrize(("rule", "test"), RIGHT)
async def test_what_is_as_expected(samples: Path, rule: str, test: str) -> None:
    trial = await tried(samples, rule, test)
    assert (trial.problem, trial.told, trial.passed) == ("", "", True)


WRONG = [
    ("scored", "message.subject = 'x'\nexpect = 'nothing'", "the rule holds, and should not"),
    ("scored", "expect = 'holds'", "the rule does not hold, and should"),
    ("refused", "expect = 'reject'", "expected reject, got nothing: the rule does not hold"),
    ("refused", "message.subject = 'no'\nexpect = 'reject 550'", "expected reject 550, got reject 554 5.7.1 Not this"),
    ("scored", "message.subject = 'no'\nexpect = 'reject'", "expected reject by the rule 'scored', got it by rule-refused"),
    (
        "half",
        (
            "auth.spf = 'fail'\nrecipients = ['bob@example.org', 'a@b.test']\n"
            "expect.verdict = { 'bob@example.org' = 'nothing', 'a@b.test' = 'discard', 'x@y.test' = 'nothing' }"
        ),
        (
            "the rule holds for bob@example.org, and should not; expected discard for a@b.test, got nothing: the rule does not hold; "
            "no recipient x@y.test; there are bob@example.org, a@b.test"
        ),
    ),
    ("watched", "expect = 'would discard'", "expected would discard, got none"),
    (
        "scored",
        "expect = { recipients = ['a@b.test'] }",
        'expected it to go on to "a@b.test", got "bob@example.org"',
    ),
    (
        "scored",
        "message.subject = 'x'\nexpect = { score = 1, edits = [], labels = ['b', 'a'] }",
        (
            'expected a score of 1, got 2.5; expected the labels "a", "b", got none; '
            'expected the edits none, got "add_header X-Seen: yes", "tag_subject [X]"'
        ),
    ),
    ("broken", "expect = 'accept'", "judge: ValueError: rule 'broken'"),
    ("scored", "message.file = 'none.eml'\nexpect = 'nothing'", "the test cannot be run: [Errno 2] No such file"),
]


@pytest.mark.parametrize(("rule", "test", "problem"), WRONG)
async def test_what_is_otherwise_is_said(tmp_path: Path, rule: str, test: str, problem: str) -> None:
    trial = await tried(tmp_path, rule, test)
    assert trial.problem.startswith(problem)
    assert trial.name == f"rule {rule!r}, test 1"
    assert trial.key == ("rule", 0 if rule == "broken" else NAMES.index(rule), "test", 0)


async def test_the_trace_is_told_and_the_group_is_as_before(tmp_path: Path) -> None:
    trial = await tried(tmp_path, "refused", "name = 'of the code'\nmessage.subject = 'no'\nexpect = 'reject 550'")
    assert trial.name == "rule 'refused', test of the code"
    assert "verdict reject reason=rule-refused" in trial.told


BAD = [
    ({"expect": "quarantin"}, "one of nothing, holds, accept, reject"),
    ({"expect": "would"}, "one of nothing, holds"),
    ({"expect": {"verdict": {"a@b.test": "maybe"}}}, "one of nothing, holds"),
    ({}, "Field required"),
    ({"expect": "holds", "message": {"file": "x", "subject": "y"}}, "file and nothing beside it"),
    ({"expect": "holds", "recipients": []}, "at least 1 item"),
    ({"expect": "holds", "sender": "x"}, "Extra inputs"),
]


@pytest.mark.parametrize(("test", "why"), BAD)
def test_a_test_that_cannot_be_is_refused_with_its_rule(test: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Options.model_validate({"rule": [{"name": "r", "when": "true", "then": "accept", "test": [test]}]})


async def test_tests_of_a_file_have_their_lines_and_their_messages_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "rules.d"
    folder.mkdir()
    (folder / "m.eml").write_bytes(b"Subject: no\n\n")
    text = "[[rule]]\nname = 'r'\nwhen = 'message.subject == \"no\"'\nthen = 'accept'\n"
    (folder / "a.toml").write_text(
        text + "[[rule.test]]\nmessage.file = 'm.eml'\nexpect = 'accept'\n[[rule.test]]\nexpect = 'accept'\n"
    )
    group = Rules(Options(files=("rules.d",)), context=cast("Context", FakeContext(base_directory=str(tmp_path))))
    first, second = await group.trials()
    assert first.passed
    assert (second.file, second.line, second.passed) == (str(folder / "a.toml"), 8, False)


def test_a_wrong_test_of_a_file_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        "[[rule]]\nname = 'r'\nwhen = 'true'\nthen = 'accept'\n[[rule.test]]\nclient.adress = 'x'\nexpect = 'accept'\n"
    )
    with pytest.raises(ConfigError) as caught:
        Rules(Options(files=("a.toml",)), context=cast("Context", FakeContext(base_directory=str(tmp_path))))
    (problem,) = caught.value.problems
    assert str(problem) == (
        f"{tmp_path}/a.toml:6: rule[0].test[0].client.adress: found the unknown key 'adress'; "
        "allowed: address, port, name, helo, identity, is_trusted, listener (did you mean 'address'?)"
    )
