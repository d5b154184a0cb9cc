"""The plugin sieve: RFC examples, what scripts come to in verdicts and edits, mistakes with their lines, bounds."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from gateway import (
    AddHeader,
    ConfigError,
    Context,
    Defer,
    InsertHeader,
    Label,
    Message,
    Quarantine,
    Reject,
    RemoveHeader,
    Score,
    Transaction,
)
from gateway.plugins.sieve import Options, Sieve
from gateway.plugins.sieve.language import MAX_SIZE, ScriptError, read_script
from gateway.plugins.sieve.matching import MAX_PATTERN, matches
from gateway.plugins.sieve.running import About, Budget
from gateway.plugins.sieve.running import run as run_script
from gateway.testing import EndToEnd, FakeContext, Result, a_message, a_session, a_transaction, run_plugin

REQUIRE = 'require ["fileinto", "reject", "ereject", "envelope", "body", "variables", "editheader", "spamtest"];\n'


def plugin(tmp_path: Path, script: str = "", recipients: Mapping[str, str] | None = None, **options: Any) -> Sieve:
    """`recipients`: scripts by mailbox."""
    files = {}
    for number, (mailbox, text) in enumerate((recipients or {}).items()):
        (tmp_path / f"own{number}.sieve").write_text(text)
        files[mailbox] = f"own{number}.sieve"
    if script:
        (tmp_path / "site.sieve").write_text(script)
    given = {"script": "site.sieve" if script else "", "recipients": files, **options}
    context = cast("Context", FakeContext(base_directory=str(tmp_path)))
    return Sieve(Options.model_validate(given), name="sieve", context=context)


async def run(
    tmp_path: Path, script: str, message: Message | None = None, transaction: Transaction | None = None, **options: Any
) -> Result:
    return await run_plugin(plugin(tmp_path, script, **options), message=message, transaction=transaction)


def fates(result: Result) -> dict[str, str]:
    return {mailbox: type(one.verdict).__name__ if one else "none" for mailbox, one in result.decisions.items()}


# What scripts come to

RFC_5228_9 = """
#
# Example Sieve Filter
# Declare any optional features or extension used by the script
#
require ["fileinto"];

#
# Handle messages from known mailing lists
# Move messages from IETF filter discussion list to filter mailbox
#
if header :is "Sender" "owner-ietf-mta-filters@imc.org"
        {
        fileinto "filter";  # move to "filter" mailbox
        }
#
# Keep all messages to or from people in my company
#
elsif address :DOMAIN :is ["From", "To"] "example.com"
        {
        keep;               # keep in "In" mailbox
        }

#
# Try and catch unsolicited email.  If a message is not to me,
# or it contains a subject known to be spam, file it away.
#
elsif anyof (NOT address :all :contains
               ["To", "Cc", "Bcc"] "me@example.com",
             header :matches "subject"
               ["*make*money*fast*", "*university*dipl*mas*"])
        {
        fileinto "spam";   # move to "spam" mailbox
        }
else
        {
        # Move all other (non-company) mail to "personal"
        # mailbox.
        fileinto "personal";
        }
"""


@pytest.mark.parametrize(
    ("fields", "fate", "box"),
    [
        ([("Sender", "owner-ietf-mta-filters@imc.org")], "Quarantine", "filter"),
        ([("From", "boss@Example.com")], "none", ""),
        ([("Cc", "Me@example.com"), ("To", "x@y.test")], "Quarantine", "personal"),
        ([("To", "x@y.test")], "Quarantine", "caught"),
        ([("Cc", "me@example.com"), ("To", "x@y.test"), ("Subject", "MAKE lots of MONEY really FAST")], "Quarantine", "caught"),
    ],
)
async def test_the_extended_example_of_rfc_5228(tmp_path: Path, fields: list[tuple[str, str]], fate: str, box: str) -> None:
    result = await run(tmp_path, RFC_5228_9, a_message(headers=fields), boxes={"Spam": "caught"}, junk=[])
    assert fates(result) == {"bob@example.org": fate}
    if box:
        assert isinstance(result.verdict, Quarantine)
        assert (result.verdict.box, result.verdict.reason) == (box, "sieve-fileinto")
        assert result.verdict.evidence.startswith("site.sieve line ")


async def test_a_refusal_is_a_reply_on_one_line_in_ascii(tmp_path: Path) -> None:
    script = REQUIRE + "reject text:\nNo,  tänk you.\n..Dot\x07\n.\n;"
    result = await run(tmp_path, script)
    assert isinstance(result.verdict, Reject)
    assert (result.verdict.text, result.verdict.code, result.verdict.enhanced) == ("No, tank you. .Dot", 550, "5.7.1")
    assert (result.verdict.reason, result.verdict.evidence[:25]) == ("sieve-reject", "site.sieve line 2: reject")
    empty = await run(tmp_path, REQUIRE + 'ereject "ヾ";')
    assert isinstance(empty.verdict, Reject)
    assert empty.verdict.text == "Message refused by the policy of this site"


ACTIONS = [
    ("", "none"),
    ("keep;", "none"),
    ("stop; discard;", "none"),
    ("discard;", "Discard"),
    ('fileinto "INBOX";', "none"),
    ('fileinto "a"; keep;', "none"),
    ('discard; fileinto "a";', "Quarantine"),
    ('reject "no"; discard;', "Reject"),
]


@pytest.mark.parametrize(("commands", "fate"), ACTIONS)
async def test_of_several_actions_the_one_counts_that_loses_nothing(tmp_path: Path, commands: str, fate: str) -> None:
    assert fates(await run(tmp_path, REQUIRE + commands)) == {"bob@example.org": fate}


@pytest.mark.parametrize(
    "commands", ['reject "no"; keep;', 'keep; reject "no";', 'fileinto "a"; ereject "no";', 'reject "a"; reject "b";']
)
async def test_a_refusal_beside_a_delivery_is_a_mistake_and_the_message_is_kept(tmp_path: Path, commands: str) -> None:
    result = await run(tmp_path, REQUIRE + "\n" + commands)
    assert fates(result) == {"bob@example.org": "none"}
    (label,) = result.findings
    assert isinstance(label, Label)
    assert label.name == "sieve-error"
    assert label.evidence.startswith("site.sieve:3: ")
    assert "RFC 5429 2.2" in label.evidence


async def test_names_of_boxes(tmp_path: Path) -> None:
    for mailbox, box in (("Lists/Größe 1", "lists-gr-e-1"), ("..", "default"), ("x" * 50, "x" * 32)):
        result = await run(tmp_path, REQUIRE + f'fileinto "{mailbox}";')
        assert isinstance(result.verdict, Quarantine)
        assert result.verdict.box == box


# Junk and edits


@pytest.mark.parametrize("client_class", ["stranger", "trusted"])
async def test_junk_goes_on_with_a_mark_that_nobody_else_can_make(tmp_path: Path, client_class: str) -> None:
    script = REQUIRE + 'if header :is "subject" "spam" { fileinto "junk"; }'
    forged = [("X-Spam-Flag", "NO")]
    sieve = plugin(tmp_path, script)
    session = a_session(client_class=client_class)
    junk = await run_plugin(sieve, message=a_message(subject="spam", headers=forged), session=session)
    assert fates(junk) == {"bob@example.org": "none"}
    assert junk.edits == (RemoveHeader(name="X-Spam-Flag"), AddHeader(name="X-Spam-Flag", value="YES"))
    ham = await run_plugin(sieve, message=a_message(headers=forged), session=session)
    assert ham.edits == (() if client_class == "trusted" else (RemoveHeader(name="X-Spam-Flag"),))


async def test_fields_change_as_rfc_5293_says(tmp_path: Path) -> None:
    script = (
        REQUIRE
        + """
    addheader "X-First" "a\r\n b";
    addheader :last "X-Last" "Grüße";
    deleteheader :index 1 :last "X-Many";
    deleteheader :contains "X-Some" ["no", "not"];
    deleteheader "Received";
    addheader "X-Gone" "1";
    deleteheader "x-gone";
    if allof (header :is "x-first" "a b", not exists "x-gone", header :is "x-some" "yes") { discard; keep; }
    """
    )
    many = [("X-Many", "1"), ("X-Some", "no"), ("Received", "x"), ("X-Many", "2"), ("X-Some", "yes")]
    message = a_message(headers=many)
    result = await run(tmp_path, script, message)
    assert result.edits == (
        AddHeader(name="X-First", value="a b"),
        InsertHeader(name="X-Last", value="Grüße", below=len(message.fields) + 1),
        RemoveHeader(name="X-Many", occurrence=1),
        RemoveHeader(name="X-Some", occurrence=0),
    )


async def test_edits_arrive_and_nothing_else_changes(tmp_path: Path) -> None:
    (tmp_path / "site.sieve").write_text(REQUIRE + 'deleteheader "X-Old"; addheader "X-New" "1"; addheader :last "X-End" "2";')
    content = b"subject:  odd \r\nX-Old: 1\r\nx-old: 2\r\n\r\nbody \r\n"
    async with EndToEnd(plugins=["sieve"], options={"sieve": {"script": "site.sieve"}}, base=tmp_path) as mail:
        sent = await mail.send(content)
    assert sent.taken[0].content.endswith(b"X-New: 1\r\nsubject:  odd \r\nX-End: 2\r\n\r\nbody \r\n")


# Recipients


async def test_recipients_have_scripts_of_their_own(tmp_path: Path) -> None:
    own = {
        "bob@example.org": REQUIRE + 'reject "not for Bob";',
        "@lists.example.org": REQUIRE + 'if envelope :localpart "to" "talk" { fileinto "talk"; }',
    }
    sieve = plugin(tmp_path, REQUIRE + 'if header :is "subject" "all" { discard; }', own)
    names = ["Bob@Example.org", "carol@example.org", "talk@lists.example.org", "other@lists.example.org"]
    result = await run_plugin(sieve, transaction=a_transaction(recipients=names))
    assert list(fates(result).values()) == ["Reject", "none", "Quarantine", "none"]
    everybody = await run_plugin(sieve, message=a_message(subject="all"), transaction=a_transaction(recipients=names))
    assert set(fates(everybody).values()) == {"Discard"}
    assert [one.policy_class for one in result.recipients] == [("own0.sieve",), (), ("own1.sieve",), ("own1.sieve",)]
    assert "policy_class" in plugin(tmp_path, "keep;").unused_hooks


async def test_the_sites_script_is_asked_for_each_recipient_where_it_asks_for_the_recipient(tmp_path: Path) -> None:
    script = REQUIRE + 'if envelope "to" "bob@example.org" { discard; }'
    result = await run(tmp_path, script, transaction=a_transaction(recipients=["bob@example.org", "carol@example.org"]))
    assert fates(result) == {"bob@example.org": "Discard", "carol@example.org": "none"}


async def test_changes_that_differ_by_recipient_are_not_made(tmp_path: Path) -> None:
    script = REQUIRE + 'if envelope "to" "bob@example.org" { addheader "X" "1"; }'
    two = a_transaction(recipients=["bob@example.org", "carol@example.org"])
    result = await run(tmp_path, script, transaction=two)
    assert (result.edits, [label.name for label in result.findings if isinstance(label, Label)]) == ((), ["sieve-edits-differ"])
    assert (await run(tmp_path, script)).edits == (AddHeader(name="X", value="1"),)


# Spamtest


@pytest.mark.parametrize(("weights", "value"), [((), "0"), ((-3.0,), "1"), ((2.0, 3.0), "5"), ((100.0,), "10")])
async def test_spamtest_is_made_of_the_scores(tmp_path: Path, weights: tuple[float, ...], value: str) -> None:
    transaction = a_transaction()
    for weight in weights:
        transaction.findings.add("test", Score(symbol="s", weight=weight))
    script = REQUIRE + 'if spamtest :matches "*" { fileinto "${0}"; }'
    result = await run(tmp_path, script, transaction=transaction)
    assert isinstance(result.verdict, Quarantine)
    assert result.verdict.box == value


# Mistakes

MISTAKES = [
    ("if true {", 1, "end of script reached while right_cbracket expected"),
    ("\n\nkeeep;", 3, "unknown command 'keeep'"),
    ('\nfileinto "a";', 2, "extension 'fileinto' not loaded"),
    ('require "copy";', 1, "require 'copy': one message is either forwarded or held"),
    ('require ["fileinto",\n"imap4flags"];', 1, "flags are the mailbox server's"),
    ('require "nothing";', 1, "require 'nothing': not supported; allowed: fileinto, reject"),
    (
        '\nredirect "a@b.test";',
        2,
        'redirect: recipients come at RCPT, where the next hop is asked about them: a rule with at = "rcpt"',
    ),
    ('keep;\nrequire "fileinto";', 2, "require behind another command"),
    ('if true {\nrequire "fileinto"; }', 2, "require"),
    ('if header :comparator "i;unicode" "a" "b" { keep; }', 1, "comparator"),
    ('require "relational";\nif header :value "gt" :comparator "i;ascii-numeric" "a" "1" { keep; }', 2, "without require"),
    (
        'require "comparator-i;ascii-numeric";\nif header :contains :comparator "i;ascii-numeric" "a" "1" { keep; }',
        2,
        ":contains of numbers",
    ),
    ('require "envelope";\nif envelope "auth" "x" { keep; }', 2, "envelope part 'auth'; allowed: from, to"),
    ('\n\nif spamtest "5" { keep; }', 3, 'spamtest without require "spamtest"'),
    ('require "variables";\nset "a.b" "c";', 2, "set 'a.b'; allowed: a name of letters"),
    ('require "variables";\nset "a" "${b.c}";', 2, "a variable of a name space"),
    ("if size :over 99999999999999999999G { keep; }", 1, "too large"),
    ("if " + "not " * 40 + "true { keep; }", 1, "nested too deeply; allowed: 30"),
    ("\nkeep;" * 10_001, 10_002, "more than 10000 commands and tests"),
    ("#" * (MAX_SIZE + 1), 1, f"allowed: at most {MAX_SIZE}"),
    ("if true { } else { } else { }", 1, "must follow"),
    ("\x00", 1, "unknown token"),
    (";", 1, ""),
    ("}", 1, ""),
    ("if", 1, ""),
]


@pytest.mark.parametrize(("script", "line", "why"), MISTAKES)
def test_a_mistake_stops_the_start_with_file_and_line(tmp_path: Path, script: str, line: int, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugin(tmp_path, script)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (str(tmp_path / "site.sieve"), line), problem
    assert why in problem.found


def test_all_scripts_are_read_before_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        plugin(tmp_path, "bad;", {"a@b.test": "\nworse;"})
    assert [(Path(one.file).name, one.line) for one in caught.value.problems] == [("site.sieve", 1), ("own0.sieve", 2)]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.sieve").write_bytes(b"keep;\n# \xe4\n")
    context = cast("Context", FakeContext(base_directory=str(tmp_path)))
    for name, line, why in (("none.sieve", 1, "No such file"), ("latin.sieve", 2, "octets that are not UTF-8")):
        with pytest.raises(ConfigError) as caught:
            Sieve(Options(script=name), context=context)
        (problem,) = caught.value.problems
        assert (problem.line, why in problem.found) == (line, True)


@pytest.mark.parametrize("options", [{"boxes": {"a": "No Box"}}, {"junk_field": "YES"}, {"spam_score": 0}])
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(options)


# Bounds

TOO_MUCH = [
    ("\n".join(f'set "v{number}" "x";' for number in range(130)), "more than 128 variables"),
    (
        'set "a" "12345678901234567890";' + 'set "a" "${a}${a}";' * 20 + 'if string :matches "x" "${a}" { keep; }',
        "a pattern of 4000 characters",
    ),
    ('if string :matches "x" "' + "*" * 60 + '" { keep; }', "60 wildcards; allowed: 50"),
    ('addheader "X" "1";' * 101, "more than 100 header fields"),
    ('addheader "bad name" "1";', "is not a field name"),
    ('if body :contains "x" { }' * 60, "more than 50000000 characters to compare"),
]


@pytest.mark.parametrize(("commands", "why"), TOO_MUCH)
async def test_what_is_too_much_ends_the_script_and_the_message_is_kept(tmp_path: Path, commands: str, why: str) -> None:
    result = await run(tmp_path, REQUIRE + "discard;\n" + commands, a_message(body="y" * 900_000))
    assert fates(result) == {"bob@example.org": "none"}
    (label,) = result.findings
    assert isinstance(label, Label)
    assert why in label.evidence


def test_the_scripts_of_one_message_share_their_steps() -> None:
    script = read_script("discard;\nif true { keep; }", "a.sieve")
    about = About(a_message(), "a@b.test", "c@d.test", None)
    budget = Budget(steps=4)
    assert run_script(script, about, budget).action == "keep"
    assert budget.steps == 0
    assert run_script(script, about, budget).error == "a.sieve:1: more than 10000 commands and tests"


def test_patterns_take_time_that_is_linear() -> None:
    """Where each wildcard is tried at each place, this one takes years."""
    text = "a" * 100_000
    assert matches(":matches", "", "i;octet", [text], ["*a" * 40 + "b"]) == (False, None)
    assert matches(":matches", "", "i;ascii-casemap", ["xAy"], ["?a*"]) == (True, ("xAy", "x", "y"))
    assert matches(":matches", "", "i;octet", ["a*b\\"], ["a\\*?\\\\"]) == (True, ("a*b\\", "b"))
    assert matches(":matches", "", "i;ascii-casemap", ["ſ", "\u212a"], ["s", "k"]) == (False, None), "only ASCII has two cases"
    assert MAX_PATTERN == 1_000


async def test_hostile_messages_do_no_harm(tmp_path: Path) -> None:
    script = REQUIRE + (
        'if anyof (address :domain ["from", "to"] "x", header :matches ["subject", "x"] "*a*b*c*", body :content "" :contains "q", '
        'exists "\xff", size :over 1G, envelope "from" "") { fileinto "${0}"; }'
    )
    sieve = plugin(tmp_path, script)
    for octets in (b"", b"\r\n", b"From: " + b"<" * 10_000, b"\xff\x00: \xff\r\nSubject: =?x?q?=ff?=\r\n"):
        result = await run_plugin(sieve, message=a_message(octets), transaction=a_transaction(reverse_path="a@b.test"))
        assert not isinstance(result.verdict, Defer)


@pytest.mark.parametrize("seed", ["if", "require", 'header "a" "b"', "text:\n", '"', "[", "/*", "anyof (", ":is"])
def test_pieces_of_scripts_in_any_order_are_read_or_refused(seed: str) -> None:
    pieces = [seed, ";", "{", "}", "(", ")", "not", "true", "stop", ",", "]", '"x"', ":over 5", "elsif", "else", "keep;"]
    for first in pieces:
        for second in pieces:
            with contextlib.suppress(ScriptError):
                read_script(f"{seed} {first} {second}")
