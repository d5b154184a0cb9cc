"""The rules plugin: errors when it is loaded, files, groups in a chain, and that its page names everything."""

from __future__ import annotations

import asyncio
import re
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from gateway import (
    AuthResult,
    ConfigError,
    Context,
    Defer,
    Discard,
    Message,
    OptionError,
    Plugin,
    Reject,
    Score,
    Transaction,
    Verdict,
    accept,
    hook,
    quarantine,
    reject,
)
from gateway.plugins.rules import Options, Rule, Rules
from gateway.plugins.rules.actions import ACTIONS, WORDS
from gateway.plugins.rules.cases import Case, Expected
from gateway.plugins.rules.checking import BUILT_IN
from gateway.plugins.rules.facts import ELEMENTS, FACTS, FactRow
from gateway.plugins.rules.functions import FUNCTIONS
from gateway.plugins.rules.lists import ListOptions
from gateway.testing import FakeContext, a_message, a_session, a_transaction, run_chain, run_plugin

ROOT = Path(__file__).parents[2]


def rules(*tables: Mapping[str, object], name: str = "rules") -> Rules:
    return Rules(Options.model_validate({"rule": tables}), name=name)


def a_context(directory: Path) -> Context:
    return cast("Context", FakeContext(base_directory=str(directory)))


def refusal(**table: object) -> tuple[tuple[int | str, ...], str]:
    """Where and why a rule is refused."""
    with pytest.raises(ValidationError) as caught:
        Rule.model_validate({"name": "x", "when": "true", "then": "accept", **table})
    (fault,) = caught.value.errors()
    return fault["loc"], fault["msg"]


WRONG = [
    ('auth.spff == "fail"', "unknown fact 'auth.spff' (did you mean 'auth.spf'?)", 5),
    ('subject == "x"', "unknown fact 'subject' (did you mean 'message.subject'?)", 0),
    ("clientt.port > 1", "unknown fact 'clientt' (did you mean 'client'?)", 0),
    ("foo", "unknown fact 'foo'", 0),
    ('attachments.exists(a, a.nmae == "x")', "unknown fact 'attachments.nmae' (did you mean 'attachments.name'?)", 24),
    ('lowr("x") == "x"', "unknown function 'lowr' (did you mean 'lower'?)", 0),
    ("message.subject.start('x')", "unknown function 'start'", 16),
    ('message.size > "a"', "int > string; allowed: two numbers or two strings", 13),
    ('message.size == "a"', "int is never string", 13),
    ('message.subject + 1 == "a"', "string + int", 16),
    ("score.total + 1 > 2.0", "double + int", 12),
    ("-message.subject == 'a'", "this is string; allowed: int or double", 9),
    ("!message.size", "this is int; allowed: bool", 9),
    ("message.size && true", "this is int; allowed: bool", 8),
    ("message.size ? true : false", "this is int; allowed: bool", 8),
    ("message.size", "the expression is int; allowed: true or false", 0),
    ("null", "the expression is null; allowed: true or false", 0),
    ("message", "the expression is the group message", 0),
    ("message == null", "message is a group of facts, no value; allowed: one of them: message.author_addresses", 0),
    ("message.subject.x == 1", "string has no members", 16),
    ('"a" in client.helo', "string in string", 4),
    ("5 in message.urls", "int in list of string", 2),
    ('message.subject[0] == "a"', "string cannot be indexed", 15),
    ('message.urls["a"] == "a"', "this is string; allowed: int", 13),
    ('{"a": 1}[1] == 1', "this is int; allowed: string", 9),
    ("{1: 1} == {}", "this is int; allowed: string", 1),
    ("size(1) > 1", "int has no size", 0),
    ("size() > 1", "size() with 0 values; allowed: 1", 0),
    ("lower(5) == 'x'", "lower() of int; allowed: string", 6),
    ("header() == 'x'", "header() with 0 values; allowed: 1", 0),
    ("int(true) == 1", "this is bool; allowed: string or int or double", 4),
    ("message.subject.exists(x, true)", "exists() of string; allowed: a list or a map", 16),
    ("message.urls.exists(x)", "exists() takes a name and an expression", 13),
    ("message.urls.exists('x', true)", "argument must be a simple name", 20),
    ("message.urls.exists(u, u)", "this is string; allowed: bool", 23),
    ('message.text.matches("(?=a)")', "look-around", 21),
    ('message.text.matches("a(")', "'a(' is no regular expression of RE2: missing )", 21),
    ("message.text.matches(client.helo)", "a pattern that is not written out", 28),
    ('message.text.matches_any(["(a"])', "'(a' is no regular expression of RE2: missing )", 26),
    ("matches_any(message.text, message.urls)", "patterns that are not written out", 34),
    ('client.address.in_network("10.0.0.0/40")', "does not appear to be an IPv4 or IPv6 network; allowed: a network such", 26),
    ('client.address.in_network(["10.0.0.0/8", 5])', "in_network() of int", 41),
    ('in_list("vip") == true', "in_list() with 1 values; allowed: 2", 0),
    ('within("Mon-Fry 08:00-18:00")', "found the days 'mon-fry' in 'Mon-Fry 08:00-18:00'; allowed: Mon-Fri", 7),
    ('within("Mon 8-18")', "found the hours '8-18'", 7),
    ('within("Mon 08:00-24:01")', "found the hours", 7),
    ('within("")', "found ''; allowed: Mon-Fri", 7),
    ("within(client.helo)", "a window of time that is not written out", 14),
    ('within("Mon", "Mars/Phobos")', "found 'Mars/Phobos', which is no time zone; allowed: Europe/Berlin", 14),
    ('within("Mon", "UTC", "UTC")', "within() with 3 values; allowed: 2", 0),
    ('rate(client.address, "1 hour") > 1', 'found the time \'1 hour\'; allowed: "10s" to "7d"', 21),
    ('rate(client.address, "1s") > 1', "found the time '1s'", 21),
    ("rate(client.address, client.helo) > 1", "a time that is not written out", 28),
    ('rate(message.text, "1h") > 1', "rate() of message.text; allowed: what client, envelope or header say", 13),
    ('rate(recipient.mailbox, "1h") > 1', "rate() of recipient; allowed: what client, envelope or header say", 15),
    ('rate(rate(client.port, "1h"), "1h") > 1', "rate() of rate()", 5),
    ('recipients.exists(r, rate(r.mailbox, "1h") > 1)', "unknown fact 'r'", 26),
    ('rate(message.urls, "1h") > 1', "rate() of list of string; allowed: a text or a number", 13),
    ("1u == 1u", "unsigned numbers are not supported", 0),
    ("Foo{a: 1} == 2", "message literals are not supported", 3),
    ("1 +", "the expression ends too early", 3),
    ("'abc", "a text that begins with ' and does not end", 0),
    ("", "an empty expression; allowed: a condition", 0),
    ("(" * 61 + "true" + ")" * 61, "nested too deeply", 60),
    ("true ||" * 2_000 + "true", "an expression of 14004 characters; allowed: at most 8000", 0),
]


@pytest.mark.parametrize(("when", "what", "at"), WRONG)
def test_a_wrong_expression_is_refused_with_its_place(when: str, what: str, at: int) -> None:
    place, message = refusal(when=when)
    assert place == ("when",)
    assert what in message
    if at < 60:
        assert message.splitlines()[-1] == f"| {' ' * at}^"


def test_the_line_of_a_long_expression_is_shown() -> None:
    _, message = refusal(when="message.size > 1 &&\n  " + "true && " * 20 + "foo &&\ntrue")
    line, mark = message.splitlines()[-2:]
    assert line[mark.index("^") :].startswith("foo")
    assert len(line) < 130


WRONG_ACTIONS = [
    ("rejct", ("then", 0), "one of the words accept, reject, defer, quarantine, discard, junk, or a table"),
    ("rejct", ("then", 0), "did you mean 'reject'?"),
    ("skip", ("then", 0), "skip in a table with its value: { skip = … }"),
    ({"rejct": "x"}, ("then", 0), "did you mean 'reject'?"),
    ({"reject": "a", "defer": "b"}, ("then", 0), "several as a list of them: [{ reject = … }, { defer = … }]"),
    ({}, ("then", 0), "one of the words"),
    (5, ("then", 0), "one of the words"),
    ([], ("then",), "at least one action"),
    (["accept", "reject"], ("then",), "at most one of accept, reject"),
    ({"reject": "a\r\nb"}, ("then", 0, "reject"), "printable ASCII"),
    ({"reject": "a", "code": 450}, ("then", 0, "reject"), "code 450 is not 5xx"),
    ({"defer": "a", "enhanced": "5.7.1"}, ("then", 0, "defer"), "differ in class"),
    ({"reject": "a", "colour": 1}, ("then", 0, "reject", "colour"), "Extra inputs"),
    ({"quarantine": "No Box"}, ("then", 0, "quarantine", "quarantine"), "quarantine box"),
    ({"skip": []}, ("then", 0, "skip", "skip"), "at least 1 item"),
    ({"tag_subject": " "}, ("then", 0, "tag_subject", "tag_subject"), "not blank"),
    ({"tag_subject": "a\nb"}, ("then", 0, "tag_subject", "tag_subject"), "bare CR, LF"),
    ({"add_header": "no colon"}, ("then", 0, "add_header", "add_header"), "Name: value"),
    ({"add_header": "bad name: x"}, ("then", 0, "add_header", "add_header"), "is not a field name"),
    ({"score": "high"}, ("then", 0, "score", "score"), "valid number"),
    ({"score": float("nan")}, ("then", 0, "score", "score"), "finite"),
]


@pytest.mark.parametrize(("then", "place", "what"), WRONG_ACTIONS)
def test_a_wrong_action_is_refused(then: object, place: tuple[int | str, ...], what: str) -> None:
    found, message = refusal(then=then)
    assert found == place
    assert what in message


def test_skip_is_not_for_some_recipients() -> None:
    assert "skip is for the whole message" in refusal(when="recipient.domain == 'x'", then={"skip": ["dmarc"]})[1]


def test_other_keys() -> None:
    assert refusal(whn="true")[0] == ("whn",)
    assert refusal(mode="off")[0] == ("mode",)
    assert refusal(name="")[0] == ("name",)
    with pytest.raises(OptionError, match="found 'A-B', which is 'rule-a-b' in logs as 'a b' is"):
        rules({"name": "a b", "when": "true", "then": "accept"}, {"name": "A-B", "when": "true", "then": "accept"})


def test_verdicts_carry_what_the_rule_says() -> None:
    def verdict(then: object) -> Verdict | None:
        return Rule.model_validate({"name": "No EXE!", "when": "true", "then": then}).verdict

    evidence = "rule 'No EXE!': true"
    assert verdict("accept") == accept("rule-no-exe", evidence=evidence)
    assert verdict({"reject": "Go away", "code": 554, "enhanced": "5.7.0", "keep": True}) == reject(
        "Go away", code=554, enhanced="5.7.0", keep=True, reason="rule-no-exe", evidence=evidence
    )
    assert verdict({"quarantine": "spam"}) == quarantine("rule-no-exe", box="spam", evidence=evidence)
    assert isinstance(verdict({"defer": "Later", "code": 450}), Defer)
    assert isinstance(verdict(["discard", {"score": 1}]), Discard)
    assert verdict({"score": 1}) is None
    assert Rule.model_validate({"name": "!!!", "when": "true", "then": "accept"}).reason == "rule-unnamed"


async def test_no_rules_no_opinion() -> None:
    assert (await run_plugin(Rules())).verdict is None


async def test_a_large_message_is_judged() -> None:
    group = rules({"name": "x", "when": "message.text.contains('needle')", "then": "quarantine"})
    result = await run_plugin(group, message=a_message(body="hay " * 50_000 + "needle"))
    assert result.verdict is not None


async def test_an_expression_that_fails_is_the_plugins_fault() -> None:
    group = rules({"name": "first file", "when": "attachments[0].size > 1", "then": "reject"})
    result = await run_plugin(group, on_error="defer")
    assert result.verdict is not None
    assert result.verdict.reason == "plugin-error"
    assert "rule 'first file'" in result.verdict.evidence
    about_each = rules({"name": "r", "when": "1 / size(labels) == 1 && recipient.domain == 'example.org'", "then": "reject"})
    ignored = await run_plugin(about_each, on_error="ignore")
    assert ignored.verdict is None
    assert [step["evidence"].partition(":")[0] for step in ignored.trace if step["outcome"] == "error"] == ["ValueError"]


class Dmarc(Plugin):
    """Refuses what fails, as the bundled one does."""

    @hook
    async def check(self) -> AuthResult:
        return AuthResult(method="dmarc", result="fail")

    @hook
    async def judge(self) -> Verdict:
        return reject("DMARC says no", reason="dmarc-reject")


EXCEPTION = {
    "name": "partner",
    "when": "auth.dmarc == 'fail' && reverse_path.domain == 'partner.test'",
    "then": {"skip": ["dmarc"]},
}


@pytest.mark.parametrize(("reverse_path", "refused"), [("a@partner.test", False), ("a@other.test", True)])
async def test_an_exception_before_dmarc_lets_a_partner_through(reverse_path: str, refused: bool) -> None:
    chain: list[Plugin[Any]] = [rules(EXCEPTION, name="exceptions"), Dmarc(name="dmarc")]
    result = await run_chain(chain, transaction=a_transaction(reverse_path=reverse_path))
    assert isinstance(result.verdict, Reject) is refused
    skipped = [step["evidence"] for step in result.trace if step["outcome"] == "skipped"]
    assert skipped == ([] if refused else ["by exceptions: rule-partner"])


async def test_skip_does_nothing_behind_the_plugin_or_in_monitor_mode() -> None:
    transaction = a_transaction(reverse_path="a@partner.test")
    result = await run_chain([Dmarc(name="dmarc"), rules(EXCEPTION)], transaction=transaction)
    assert isinstance(result.verdict, Reject)
    watched = rules(EXCEPTION | {"mode": "monitor"})
    result = await run_chain([watched, Dmarc(name="dmarc")], transaction=a_transaction(reverse_path="a@partner.test"))
    assert isinstance(result.verdict, Reject)


async def test_scores_reach_the_groups_behind() -> None:
    first = rules({"name": "a", "when": "true", "then": {"score": 2, "symbol": "A"}}, name="first")
    second = rules(
        {"name": "b", "when": "score.total == 2.0 && scores.exists(s, s.symbol == 'A')", "then": "quarantine"}, name="second"
    )
    assert (await run_chain([first, second])).verdict is not None


async def test_edits_need_a_judgement() -> None:
    group = rules({"name": "t", "when": "true", "then": {"tag_subject": "[T]"}})
    assert len((await run_plugin(group)).edits) == 1
    assert (await run_plugin(group)).edits != ()
    refused = rules({"name": "t", "when": "true", "then": [{"tag_subject": "[T]"}, "reject"]})
    await run_plugin(refused)
    assert refused._edits == {}, "forgotten with the message"


def test_remembered_edits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.plugins.rules._MAX_WAITING", 3)
    group = rules({"name": "t", "when": "true", "then": {"tag_subject": "[T]"}})
    group.context = a_context(Path())
    for number in range(10):
        asyncio.run(group.judge(a_transaction(id=f"t{number}"), a_message()))
    assert list(group._edits) == ["t7", "t8", "t9"]


FILE = """\
# site rules
[[rule]]
name = "one"
when = "true"
then = { score = 1 }

[[rule]]
name = "two"
when = '''
  score.total == 1.0 &&
  true
'''
then = "quarantine"
"""


async def test_rules_from_files(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(FILE)
    context = a_context(tmp_path)
    group = Rules(Options(files=("site.toml",)), context=context)
    result = await run_plugin(group, context=context)
    assert result.verdict is not None
    assert result.verdict.reason == "rule-two"


RULE = """\
[[rule]]
name = "{}"
when = "true"
then = "accept"
"""


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            FILE.replace('when = "true"', 'when = "tru"').replace('"quarantine"', '"quarantin"'),
            [(4, "rule[0].when", "unknown fact 'tru'"), (13, "rule[1].then[0]", "did you mean 'quarantine'?")],
        ),
        (FILE + "\n[[rule]]\nname = 'three'\n", [(15, "rule[2].when", "required"), (15, "rule[2].then", "required")]),
        (FILE + "whn = 1\n", [(14, "rule[1].whn", "name, when, then, mode")]),
        ("rules = 1\n" + FILE, [(1, "rules", "did you mean 'rule'?")]),
        ("rule = 1\n", [(1, "rule", "a list: [ … ]")]),
        ("rule = [1]\n", [(1, "rule[0]", "a table: { … }")]),
        ("rule = [{name = 'a', when = 'x', then = 'accept'}]\n", [(1, "rule[0].when", "unknown fact 'x'")]),
        ("a\n= 1\n", [(1, "file", "TOML")]),
        (FILE + 'x = "\n', [(14, "file", "a mistake in TOML")]),
        (FILE.replace("score = 1 ", "scor = 1 "), [(5, "rule[0].then[0]", "did you mean 'score'?")]),
    ],
)
def test_mistakes_in_files_have_their_lines(tmp_path: Path, text: str, problems: list[tuple[int, str, str]]) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Rules(Options(files=("site.toml",)), context=a_context(tmp_path))
    found = caught.value.problems
    assert [(problem.line, problem.key) for problem in found] == [(line, key) for line, key, _ in problems]
    assert all(problem.file == str(file) for problem in found)
    assert all(text in str(problem) for problem, (_, _, text) in zip(found, problems, strict=True))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# \n# \xe9\n")
    (tmp_path / "large.toml").write_bytes(b"#" * 4_000_001)
    with pytest.raises(ConfigError) as caught:
        Rules(Options(files=("none.toml", "latin.toml", "large.toml")), context=a_context(tmp_path))
    assert [(problem.line, problem.found) for problem in caught.value.problems] == [
        (None, "a file that cannot be read (No such file or directory)"),
        (2, "the octet 0xe9"),
        (None, "more than 4000000 octets"),
    ]


async def test_a_directory_of_rules_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "rules.d"
    folder.mkdir()
    (folder / "20-second.toml").write_text(RULE.format("second"))
    (folder / "10-first.toml").write_text(RULE.format("first"))
    (folder / ".hidden.toml").write_text("not TOML")
    (folder / "notes.txt").write_text("not TOML")
    (tmp_path / "empty.d").mkdir()
    group = Rules(Options(files=("rules.d", "empty.d")), context=a_context(tmp_path))
    assert [rule.name for rule in group.rules] == ["first", "second"]
    assert [Path(file).name for file in group.files_read] == ["rules.d", "10-first.toml", "20-second.toml", "empty.d"]


def test_mistakes_of_all_files_of_a_directory_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(RULE.format("a").replace("true", "tru"))
    (tmp_path / "b.toml").write_text(RULE.format("b").replace("accept", "acept"))
    with pytest.raises(ConfigError) as caught:
        Rules(Options(files=(".",)), context=a_context(tmp_path))
    assert [(Path(one.file).name, one.line, one.key) for one in caught.value.problems] == [
        ("a.toml", 3, "rule[0].when"),
        ("b.toml", 4, "rule[0].then[0]"),
    ]


def test_too_many_files_or_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / f"{name}.toml").write_text(RULE.format(name))
    monkeypatch.setattr("gateway.plugins.rules.MAX_RULES", 2)
    with pytest.raises(OptionError, match="found 3 rules; allowed: at most 2"):
        Rules(Options(files=(".",)), context=a_context(tmp_path))
    monkeypatch.setattr("gateway.plugins.rules.files.MAX_FILES", 2)
    with pytest.raises(ConfigError, match="3 files of rules in one group; allowed: at most 2"):
        Rules(Options(files=(".",)), context=a_context(tmp_path))


async def test_many_rules_are_asked_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [{"name": f"r{n}", "when": f"client.port == {n}", "then": {"score": 1.0}} for n in range(501)]
    asked: list[str] = []
    ask = Rules._ask

    def noted(*given: Any) -> Any:
        asked.append(threading.current_thread().name)
        return ask(*given)

    monkeypatch.setattr(Rules, "_ask", noted)
    for tables_now in (tables, tables[:500]):
        result = await run_plugin(rules(*tables_now), session=a_session(client_port=7))
        assert [found.symbol for found in result.findings if isinstance(found, Score)] == ["rule-r7"]
    first, second = asked
    assert first != second == threading.main_thread().name


def test_names_differ_over_files_too(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(FILE)
    with pytest.raises(ConfigError, match="found 'one', which is 'rule-one' in logs as 'one' is"):
        Rules(Options(files=("site.toml", "site.toml")), context=a_context(tmp_path))


def test_the_page_names_every_fact_function_and_action() -> None:
    page = (ROOT / "docs" / "plugins" / "rules.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z0-9_.]+)` \| [^|]* \| ([^|]*) \|$", page, re.MULTILINE))
    for row in (*FACTS, *ELEMENTS):
        assert rows.pop(row.path) == row.meaning, row.path
    for function in FUNCTIONS:
        takes = ", ".join([*map(str, function.takes), *(f"{kind}?" for kind in function.optional)])
        assert f"| `{function.name}({takes})` | {function.gives} | {function.meaning} |" in page
    assert rows == {}, "the page names facts that are not there"
    for name in BUILT_IN:
        assert f"`{name}" in page, name
    for name in ACTIONS:
        assert f"| `{name}` |" in page, name
    for name in WORDS:
        assert f'then = "{name}"' in page or f'"{name}"' in page, name
    for name in (
        *Options.model_fields,
        *Rule.model_fields,
        *Case.model_fields,
        *Expected.model_fields,
        *ListOptions.model_fields,
    ):
        assert f"`{name}`" in page, name


def test_examples_of_the_page_are_right() -> None:
    page = (ROOT / "docs" / "plugins" / "rules.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert examples
    for text in examples:
        data = tomllib.loads(text)
        tables = [data, *data.get("plugin", {}).values()]
        found = [rule for table in tables for rule in table.get("rule", [])]
        assert Options.model_validate({"rule": found}).rule
    for expression in re.findall(r"^when = '([^'\n]+)'$", page, re.MULTILINE):
        Rule.model_validate({"name": "x", "when": expression, "then": "accept"})


def test_message_type_is_public() -> None:
    assert isinstance(a_message(), Message)
    assert isinstance(a_transaction(), Transaction)


SAYS = {
    "string": '{0} + "" == {0}',
    "int": "{0} + 0 == {0}",
    "double": "{0} + 0.0 == {0}",
    "bool": "{0} || !{0}",
    "list": "size({0}) >= 0",
}


@pytest.mark.parametrize("row", FACTS, ids=lambda row: row.path)
async def test_each_fact_is_of_its_kind(row: FactRow) -> None:
    group = rules({"name": "x", "when": SAYS[row.kind.name].format(row.path), "then": "quarantine"})
    assert (await run_plugin(group, message=a_message(attach="a.txt"))).verdict is not None


@pytest.mark.parametrize("row", ELEMENTS, ids=lambda row: row.path)
async def test_each_fact_of_an_element_is_of_its_kind(row: FactRow) -> None:
    whole, _, name = row.path.partition(".")
    transaction = a_transaction()
    transaction.findings.add("test", AuthResult(method="spf", result="pass"))
    transaction.findings.add("test", Score(symbol="A", weight=1.0))
    condition = SAYS[row.kind.name].format(f"x.{name}")
    group = rules({"name": "x", "when": f"{whole}.exists(x, {condition})", "then": "quarantine"})
    message = a_message(attach=["a.txt", ("b.eml", b"Subject: inner\r\n\r\nhttps://a.test/", "message/rfc822")])
    assert (await run_plugin(group, message=message, transaction=transaction)).verdict is not None


def test_each_fact_and_function_has_a_case() -> None:
    cases = (ROOT / "tests" / "cases" / "rules-facts.case").read_text()
    for row in FACTS:
        assert row.path in cases, row.path
    for row in ELEMENTS:
        assert f".{row.path.partition('.')[2]}" in cases, row.path
    for function in FUNCTIONS:
        assert f"{function.name}(" in cases, function.name
