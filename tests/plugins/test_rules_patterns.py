"""Regular expressions of a group are looked for together, and find what each finds alone."""

from __future__ import annotations

from typing import Any

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Score
from gateway.plugins.rules import Options, Rules, searching
from gateway.plugins.rules.expressions import Expression
from gateway.plugins.rules.facts import Subject
from gateway.plugins.rules.searching import Patterns
from gateway.plugins.rules.syntax import parse
from gateway.plugins.rules.tree import Node
from gateway.plugins.rules.writing import write
from gateway.testing import a_message, a_session, a_transaction, run_plugin

MESSAGE = b"Subject: Cheap watches, 50 % off\r\nX-Mailer: Bulk 1.0\r\n\r\nBuy a ROLEX at http://shop.example/x\r\n"


def subject() -> Subject:
    return Subject(a_transaction(session=a_session(helo="h.example")), a_message(MESSAGE))


def test_patterns_of_one_fact_are_one_pass_for_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[str] = []
    found = searching._Search.found

    def count(self: Any, text: str) -> frozenset[int]:
        passes.append(text)
        return found(self, text)

    monkeypatch.setattr(searching._Search, "found", count)
    patterns = Patterns()
    expressions = [Expression(f'message.text.matches("(?i)word{n}|rolex{n or ""}")') for n in range(250)]
    expressions += [Expression(f'header("subject").matches("off$") && header("Subject").matches("^{letter}")') for letter in "AC"]
    for one in expressions:
        one.join(patterns)
    about = subject()
    assert [n for n, one in enumerate(expressions) if one.holds(about)] == [0, 251]
    assert len(passes) == 2


async def test_the_text_is_not_handed_to_the_language_where_only_patterns_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[dict[str, Any]] = []
    context = cel.Context

    def make(variables: dict[str, Any], functions: dict[str, Any]) -> cel.Context:
        contexts.append(variables)
        return context(variables=variables, functions=functions)

    monkeypatch.setattr(cel, "Context", make)
    tables = [
        {"name": "a", "when": 'message.text.matches("ROLEX") && message.size + 0 > 10', "then": {"score": 1.0}},
        {"name": "b", "when": 'message.text.contains("ROL" + "EX")', "then": {"score": 1.0}},
    ]
    for rules, handed_over in ((tables[:1], {"size"}), (tables, {"size", "text"})):
        contexts.clear()
        plugin = Rules(Options.model_validate({"rule": rules}), name="rules")
        result = await run_plugin(plugin, message=a_message(MESSAGE), transaction=a_transaction())
        assert sum(isinstance(one, Score) for one in result.findings) == len(rules)
        assert set().union(*(variables.get("message", {}) for variables in contexts)) == handed_over


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('message.urls.exists(message, message.matches("shop"))', True),
        ('["x", "Cheap y"].exists(u, u.matches("^Cheap"))', True),
        ('["x"].exists(u, u.matches("^Cheap") || client.helo.matches("^h"))', True),
        ('!matches_any(client.helo, ["^a", "e$"]) || lower(message.subject).matches("watches")', True),
        ('matches_any(header("X-Mailer"), ["a{1000}b{1000}", "Bulk"])', True),
        ('header_raw("x-mailer").matches("^ Bulk")', True),
        ('header("x-none").matches("^$")', True),
        ('(message.subject.matches("watch") ? client.helo : "").matches("example$")', True),
        ('{"a": message.subject.matches("off")}["a"] && [message.text.matches("nothing")][0]', False),
        ('size(b"\\xff") == 1 && message.subject.matches("off")', True),
        ('message.subject.matches("50 %")  // and a comment', True),
    ],
)
def test_what_holds_alone_holds_together(text: str, answer: bool) -> None:
    expression = Expression(text)
    patterns = Patterns()
    Expression('message.subject.matches("another") || client.helo.matches("another")').join(patterns)
    expression.join(patterns)
    assert expression.holds(subject()) is answer


async def test_a_recipients_own_facts_are_looked_at_for_each() -> None:
    table = {"name": "a", "when": 'recipient.mailbox.matches("^b")', "then": "discard"}
    transaction = a_transaction(recipients=["a@x.example", "b@x.example"])
    await run_plugin(
        Rules(Options.model_validate({"rule": [table]}), name="rules"), message=a_message(MESSAGE), transaction=transaction
    )
    assert [one.decision is not None for one in transaction.recipients] == [False, True]


def test_large_patterns_are_looked_for_by_themselves() -> None:
    search = searching._Search(["a.{800}ba.{800}b", "x", "y", "z" * 10])
    assert [number for number, _ in search._alone] == [0]
    assert search.found("a" + "." * 800 + "b" + "a" + "." * 800 + "by") == frozenset({0, 2})


TREES = [
    'a.b[0].c("x", 1.5, -2, null, true)',
    '!(a && b) || c ? [1, 2] : {"k": "v\\n\\"\\u2028\\x07\\U0001f600"}["k"]',
    "a + b * (c - 1) >= 1e30 && x in [r'\\d', '''a\nb''']",
]


@pytest.mark.parametrize("text", TREES)
def test_what_is_written_reads_the_same(text: str) -> None:
    once = write(parse(text))
    assert write(parse(once)) == once
    assert _shape(parse(once)) == _shape(parse(text))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_string_is_written_so_that_the_language_reads_it(value: str) -> None:
    from gateway.plugins.rules.tree import Literal

    assert cel.compile(write(Literal(0, "string", value))).execute({}) == value


def _shape(node: Node | tuple[Any, ...] | object) -> object:
    """The tree without places."""
    if isinstance(node, tuple):
        return tuple(map(_shape, node))
    fields = getattr(type(node), "__dataclass_fields__", None)
    if fields is None:
        return node
    return (type(node).__name__, *(_shape(getattr(node, name)) for name in fields if name != "at"))
