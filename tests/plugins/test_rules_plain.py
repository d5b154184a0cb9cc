"""Conditions that need no library say what the library says of them."""

from __future__ import annotations

import pytest

from gateway import AuthResult, ClientClass, Score
from gateway.plugins.rules.expressions import Expression
from gateway.plugins.rules.facts import Subject
from gateway.plugins.rules.searching import Patterns
from gateway.testing import a_message, a_session, a_transaction

CONDITIONS = (
    'auth.dmarc == "fail" && reverse_path.domain == "partner.example"',
    'auth.spf == "fail" || auth.spf == "softfail"',
    'auth.dkim != "pass" && has_header("List-Unsubscribe")',
    "!client.is_authenticated",
    "client.is_trusted == tls.is_on && true",
    "client.port != 4242 || false",
    '"a" == client.helo || "client.example" == client.helo',
    'message.subject.contains("invoice") || message.subject.contains("")',
    'message.subject.contains(client.helo) || message.subject.startsWith("Grüße")',
    'message.subject.matches(r"(?i)urgent|rechnung")',
    'lower(message.subject).matches("^gr.ß")',
    'in_network(client.address, "192.0.2.0/24")',
    'in_network(client.address, ["198.51.100.0/24", "192.0.2.0/25"])',
    'in_network(client.helo, "192.0.2.0/24")',
    'in_domain(client.helo, ["example", "test"]) && !in_domain(reverse_path.domain, "example.org")',
    'domain_of(header("From")) == domain_of("x@client.example>")',
    'header("x-none") == "" && header_raw("Subject") != ""',
    "reverse_path.is_null && size(recipients) > 1",
    "recipients.size() == 2",
    "size(message.author_domains) >= 1 && size(message.field_names) < 100",
    "message.size > 20000000",
    "message.size <= 20000000 && 1 < message.size",
    "score.total >= 6.0",
    "score.total > 1 && score.total < 2",
    'attachments.exists(a, a.extension in [".exe", ".js", ".scr"])',
    "attachments.all(a, a.size > 3 && !a.is_encrypted)",
    "recipients.all(recipient, recipient.domain == reverse_path.domain)",
    'recipients.exists(one, message.author_domains.exists(one, one == "client.example"))',
    "recipients.exists(r, recipients.all(s, s.local_part.startsWith(r.local_part)))",
    'message.field_names.exists(client, client.endsWith("-id"))',
    "!(reverse_path.domain in message.author_domains)",
    'client.helo in [] || client.helo in ["client.example", "x"]',
    'reverse_path.local_part.startsWith("bounce")',
    'client.helo.endsWith(".invalid")',
)
LIBRARYS = (
    "message.size + 1 > 2",
    "message.size == 2.0",
    "size(message.subject) > 2",
    '"a" < client.helo',
    'fact("x") == null',
    'attachments[0].name == "x"',
    'int(client.helo) > 1 || client.helo == "x"',
    'client.helo == "x" ? true : false',
    'message.subject in {"a": 1}',
    "client.helo in message.author_domains + message.to",
    '["a"].exists_one(a, a == "a")',
    "9007199254740993 > score.total",
)


def subjects() -> list[Subject]:
    """A full message, and a bare one."""
    full = a_transaction(
        session=a_session(helo="client.example", client_address="192.0.2.7", client_class=ClientClass.TRUSTED),
        reverse_path="bounce-1@partner.example",
        recipients=["b@partner.example", "bob@partner.example"],
    )
    for found in (
        AuthResult(method="spf", result="softfail"),
        AuthResult(method="dkim", result="none"),
        AuthResult(method="dmarc", result="fail"),
        Score(symbol="A", weight=1.5),
    ):
        full.findings.add("x", found)
    mail = a_message(
        subject="Grüße: urgent invoice", headers=[("List-Unsubscribe", "<x>"), ("Message-ID", "<a@b>")], attach="run.exe"
    )
    bare = a_transaction(session=a_session(helo="", client_address=""), reverse_path="", recipients=["x@y.example"])
    return [Subject(full, mail), Subject(bare, a_message(b"\r\n"))]


@pytest.mark.parametrize("text", CONDITIONS)
def test_both_say_the_same(text: str) -> None:
    for joins in (False, True):
        expression = Expression(text)
        if joins:
            patterns = Patterns()
            expression.join(patterns)
        ours = expression.plain
        assert ours is not None or (not joins and ".matches(" in text)
        for subject in subjects():
            theirs = expression._program.execute(expression.needs.context(subject))
            if ours is not None:
                assert ours(subject) is theirs


@pytest.mark.parametrize("text", LIBRARYS)
def test_what_may_fail_or_count_otherwise_is_the_librarys(text: str) -> None:
    assert Expression(text).plain is None


def test_what_may_change_is_read_anew_and_the_rest_once() -> None:
    subject = subjects()[0]
    expression = Expression('score.total > 3.0 && client.helo == "client.example"')
    assert not expression.holds(subject)
    subject.score = 2.0
    assert expression.holds(subject)
    subject.transaction.session.helo = "other.example"
    assert expression.holds(subject)


def test_it_is_looked_where_the_library_would_have_been_told() -> None:
    subject = subjects()[0]
    assert not Expression('client.helo == "x" && attachments.exists(a, a.name == "y")').holds(subject)
    assert "_structure" in subject.message.__dict__
