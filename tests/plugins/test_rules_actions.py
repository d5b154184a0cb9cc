"""What rules do: fields, junk, labels, other routes, recipients that are added and removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from pydantic import ValidationError

from gateway import (
    AddHeader,
    Defer,
    Label,
    Plugin,
    Recipient,
    Redirect,
    RemoveHeader,
    ReplaceHeader,
    Transaction,
    Verdict,
    accept,
    hook,
    quarantine,
)
from gateway.plugins.rules import Options, Rule, Rules
from gateway.testing import Result, a_message, a_session, a_transaction, run_chain, run_plugin


def rules(*tables: Mapping[str, object], name: str = "rules", **options: object) -> Rules:
    numbered = [{"name": f"r{number}", "when": "true", **table} for number, table in enumerate(tables)]
    return Rules(Options.model_validate({"rule": numbered, **options}), name=name)


def refusal(**table: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Rule.model_validate({"name": "x", "when": "true", **table})
    return str(caught.value)


def fates(result: Result) -> dict[str, str]:
    return {mailbox: type(one.verdict).__name__ if one else "none" for mailbox, one in result.decisions.items()}


# Header fields


async def test_a_field_is_replaced_and_its_further_copies_go() -> None:
    message = a_message(headers=[("Reply-To", "a@x.test"), ("X-B", "1"), ("Reply-To", "b@x.test"), ("Reply-To", "c@x.test")])
    result = await run_plugin(rules({"then": {"replace_header": "Reply-To: desk@example.org"}}), message=message)
    assert result.edits == (
        ReplaceHeader(name="Reply-To", value="desk@example.org"),
        RemoveHeader(name="Reply-To", occurrence=1),
        RemoveHeader(name="Reply-To", occurrence=2),
    )


async def test_a_field_with_very_many_copies_is_replaced_all_the_same() -> None:
    message = a_message(headers=[("Reply-To", f"{number}@x.test") for number in range(60)])
    result = await run_plugin(rules({"then": {"replace_header": "Reply-To: desk@example.org"}}), message=message)
    assert result.edits == (RemoveHeader(name="Reply-To"), AddHeader(name="Reply-To", value="desk@example.org"))


async def test_fields_are_removed_where_they_are() -> None:
    message = a_message(headers=[("X-Internal", "1")])
    result = await run_plugin(rules({"then": {"remove_header": ["X-Internal", "X-Other"]}}), message=message)
    assert result.edits == (RemoveHeader(name="X-Internal"),)


# Labels


async def test_a_label_is_seen_by_rules_below_and_by_plugins_behind() -> None:
    class Behind(Plugin):
        @hook
        async def judge(self, transaction: Transaction) -> Verdict:
            found = transaction.findings.of(Label)
            return quarantine("seen", evidence=",".join(one.name for one in found))

    below = {"when": '"bulk" in labels', "then": {"add_header": "X-Bulk: yes"}}
    result = await run_chain([rules({"then": {"label": "bulk"}}, below), Behind()])
    assert result.edits == (AddHeader(name="X-Bulk", value="yes"),)
    assert result.verdict is not None
    assert result.verdict.evidence == "bulk"
    assert [step["outcome"] for step in result.trace if step["plugin"] == "rules"][:2] == ["finding", "edit"]
    assert "pattern" in refusal(then={"label": "Two Words"})


# Junk


@pytest.mark.parametrize("client_class", ["stranger", "authenticated", "trusted"])
@pytest.mark.parametrize("is_junk", [True, False])
async def test_the_mark_of_junk_is_ours_alone(client_class: str, is_junk: bool) -> None:
    rule = {"when": 'message.subject == "spam"', "then": "junk"}
    message = a_message(subject="spam" if is_junk else "ham", headers=[("x-spam-flag", "NO"), ("X-Spam-Flag", "YES")])
    result = await run_plugin(rules(rule), message=message, session=a_session(client_class=client_class))
    removed = () if client_class == "trusted" and not is_junk else (RemoveHeader(name="X-Spam-Flag"),)
    added = (AddHeader(name="X-Spam-Flag", value="YES"),) if is_junk else ()
    assert result.edits == (*removed, *added)


async def test_the_mark_is_configured() -> None:
    result = await run_plugin(rules({"then": {"junk": True}}, junk_field="X-Junk: certainly"))
    assert result.edits == (AddHeader(name="X-Junk", value="certainly"),)
    with pytest.raises(ValidationError, match="Name: value"):
        Options.model_validate({"junk_field": "YES"})


async def test_without_a_rule_that_marks_nothing_is_removed() -> None:
    message = a_message(headers=[("X-Spam-Flag", "YES")])
    for table in ({"then": "accept"}, {"then": "junk", "mode": "monitor"}):
        assert (await run_plugin(rules(table), message=message)).edits == ()


async def test_what_is_only_held_has_no_mark() -> None:
    held = await run_plugin(rules({"then": ["junk", "quarantine"]}))
    assert (fates(held), held.edits) == ({"bob@example.org": "Quarantine"}, ())
    two = a_transaction(recipients=["bob@example.org", "carol@example.org"])
    mixed = await run_plugin(
        rules({"then": "junk"}, {"when": 'recipient.local_part == "bob"', "then": "quarantine"}), transaction=two
    )
    assert mixed.edits == (AddHeader(name="X-Spam-Flag", value="YES"),)


# Other routes


async def test_a_redirect_is_for_all_recipients() -> None:
    two = a_transaction(recipients=["bob@example.org", "carol@example.org"])
    result = await run_plugin(rules({"then": {"redirect": "scan"}}), transaction=two)
    assert fates(result) == {"bob@example.org": "Redirect", "carol@example.org": "Redirect"}
    assert isinstance(result.verdict, Redirect)
    assert (result.verdict.next_hop, result.verdict.reason) == ("scan", "rule-r0")


async def test_where_another_recipient_is_decided_the_others_are_deferred_and_come_apart() -> None:
    class Partner(Plugin):
        @hook
        async def rcpt(self, recipient: Recipient) -> Verdict | None:
            return accept("partner") if recipient.mailbox == "bob@example.org" else None

    two = a_transaction(recipients=["bob@example.org", "carol@example.org"])
    result = await run_chain([Partner(), rules({"then": {"redirect": "scan"}})], transaction=two)
    assert fates(result) == {"bob@example.org": "Accept", "carol@example.org": "Defer"}
    decision = result.decisions["carol@example.org"]
    assert decision is not None
    assert isinstance(decision.verdict, Defer)
    assert (decision.verdict.code, decision.verdict.enhanced) == (451, "4.5.3")
    assert "redirect to 'scan' is for all recipients at once" in decision.verdict.evidence


def test_a_redirect_of_some_recipients_is_refused_when_it_is_read() -> None:
    why = refusal(when='recipient.domain == "a.test"', then={"redirect": "scan"})
    assert 'redirect is for all recipients at once: at = "rcpt", or recipients.all(…) instead of recipient' in why


# At RCPT


async def test_rules_at_rcpt_refuse_there() -> None:
    two = a_transaction(recipients=["bob@example.org", "former@example.org"])
    gone = {"when": 'recipient.local_part == "former"', "then": {"reject": "No longer here", "enhanced": "5.1.6"}, "at": "rcpt"}
    result = await run_plugin(rules(gone), transaction=two)
    assert fates(result) == {"bob@example.org": "none", "former@example.org": "Reject"}
    assert [recipient.mailbox for recipient in result.transaction.recipients] == ["bob@example.org"]


async def test_recipients_are_added_changed_and_left_out() -> None:
    three = a_transaction(recipients=["bob@example.org", "alias@example.org", "noreply@example.org"])
    plugin = rules(
        {"when": 'recipient.local_part == "noreply"', "then": "discard", "at": "rcpt"},
        {"then": {"add_recipient": ["journal@example.org", "BOB@example.org"]}, "at": "rcpt"},
        {"when": 'recipient.local_part == "alias"', "then": {"use_recipient": "carol@example.org"}, "at": "rcpt"},
    )
    result = await run_plugin(plugin, transaction=three)
    assert [(one.mailbox, one.sent_path, one.added) for one in result.transaction.recipients] == [
        ("bob@example.org", b"<bob@example.org>", False),
        ("journal@example.org", b"<journal@example.org>", True),
        ("alias@example.org", b"<carol@example.org>", False),
        ("noreply@example.org", b"<noreply@example.org>", False),
    ]
    assert fates(result)["noreply@example.org"] == "Discard"


async def test_a_redirect_at_rcpt_is_for_that_recipient() -> None:
    plugin = rules({"when": 'recipient.domain == "b.test"', "then": {"redirect": "b"}, "at": "rcpt"})
    result = await run_plugin(plugin, transaction=a_transaction(recipients=["x@b.test"]))
    assert [one.route for one in result.recipients] == ["b"]


async def test_monitor_mode_at_rcpt_writes_down_and_does_nothing() -> None:
    plugin = rules(
        {"then": "reject", "at": "rcpt", "mode": "monitor"},
        {"then": {"add_recipient": "j@example.org"}, "at": "rcpt", "mode": "monitor"},
    )
    result = await run_plugin(plugin)
    assert fates(result) == {"bob@example.org": "none"}
    assert [(step["stage"], step["outcome"], step["recipient"]) for step in result.trace] == [
        ("rcpt", "would", "bob@example.org")
    ] * 2
    assert plugin.unused_hooks == {"judge", "rewrite", "done"}


async def test_a_group_without_rules_at_rcpt_has_no_such_hook() -> None:
    assert rules({"then": "junk"}).unused_hooks == {"rcpt"}
    result = await run_plugin(rules({"then": "accept"}))
    assert [step["stage"] for step in result.trace] == ["judge"]


WRONG_AT_RCPT = [
    ({"when": 'message.subject == "x"', "then": "reject"}, "found message.subject in a rule at RCPT"),
    ({"when": "size(recipients) > 1", "then": "reject"}, "found recipients in a rule at RCPT"),
    ({"when": 'auth.spf == "fail"', "then": "reject"}, "found auth.spf in a rule at RCPT"),
    ({"when": 'has_header("X")', "then": "reject"}, "found has_header() in a rule at RCPT"),
    ({"then": {"tag_subject": "[X]"}}, "found tag_subject in a rule at RCPT; allowed: accept, reject"),
    ({"then": "quarantine"}, "found quarantine in a rule at RCPT"),
]


@pytest.mark.parametrize(("table", "why"), WRONG_AT_RCPT)
def test_what_is_not_known_or_possible_at_rcpt_is_refused(table: Mapping[str, object], why: str) -> None:
    assert why in refusal(**{"at": "rcpt", **table})


@pytest.mark.parametrize("mailbox", ["", "bob", "bob@", "@example.org", "a b@example.org", "<a@example.org>"])
def test_a_mailbox_that_cannot_be_is_refused(mailbox: str) -> None:
    for action in ("add_recipient", "use_recipient"):
        assert "1 validation error" in refusal(then={action: mailbox}, at="rcpt")


def test_recipients_come_at_rcpt_only() -> None:
    assert 'found add_recipient in a rule about the content; allowed: at = "rcpt"' in refusal(then={"add_recipient": "a@b.test"})


async def test_a_recipient_is_removed_once_the_content_is_known() -> None:
    def two() -> Sequence[str]:
        return ["Bob@Example.org", "carol@example.org"]

    remove = {"then": [{"remove_recipient": "bob@example.org"}, {"add_header": "X-Less: one"}]}
    result = await run_plugin(rules(remove, {"then": "quarantine"}), transaction=a_transaction(recipients=two()))
    assert fates(result) == {"Bob@Example.org": "Discard", "carol@example.org": "Quarantine"}
    assert result.edits == (AddHeader(name="X-Less", value="one"),)
    watched = await run_plugin(rules({**remove, "mode": "monitor"}), transaction=a_transaction(recipients=two()))
    assert [(type(one).__name__, one.recipients) for one in watched.would] == [("Discard", frozenset(["Bob@Example.org"]))]


async def test_others_go_on_as_the_same_rule_says() -> None:
    both = {"then": [{"remove_recipient": "bob@example.org"}, "quarantine"]}
    result = await run_plugin(rules(both), transaction=a_transaction(recipients=["bob@example.org", "carol@example.org"]))
    assert fates(result) == {"bob@example.org": "Discard", "carol@example.org": "Quarantine"}
