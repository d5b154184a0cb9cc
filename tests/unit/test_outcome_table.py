"""The planner's table: every combination of verdicts and next-hop answers for up to three recipients, all four abilities."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.outcome import ALONE, DONE, Ability, Fate, History, Plan, Settlement, Wish, plan, settle
from gateway.smtp.replies import Reply, reply
from gateway.verdict import Decision, Verdict, accept, defer, discard, quarantine, redirect, reject

OK, LATER, NEVER = (
    reply(250, "2.0.0", "queued as 4XyZ"),
    reply(450, "4.2.1", "mailbox busy"),
    reply(550, "5.7.0", "not this content"),
)
ANSWERS = (OK, LATER, NEVER)
VERDICTS: dict[str, Verdict | None] = {
    "forward": None,
    "reject": reject("no executables here"),
    "defer": defer("come back"),
    "hold": quarantine("executable"),
    "discard": discard("noise"),
}


def wish(index: int, verdict: Verdict | None, *, route: str = "r", added: bool = False) -> Wish:
    decision = Decision(verdict=verdict, plugin="p", hook="judge") if verdict else None
    return Wish(index=index, mailbox=f"u{index}@example.test", decision=decision, route=route, added=added)


def wishes(*names: str) -> list[Wish]:
    return [wish(index, VERDICTS[name]) for index, name in enumerate(names)]


def answers_for(planned: Plan) -> Iterator[tuple[Reply, ...]]:
    """Everything a next hop may say: one reply, or (LMTP) one for each recipient."""
    if not planned.forward:
        yield ()
        return
    for single in ANSWERS:
        yield (single,)
    if len(planned.forward) > 1:
        yield from itertools.product(ANSWERS, repeat=len(planned.forward))


def cases() -> Iterator[tuple[Ability, tuple[str, ...], Plan, tuple[Reply, ...], Settlement]]:
    for ability, number in itertools.product(Ability, (1, 2, 3)):
        for names in itertools.product(VERDICTS, repeat=number):
            planned = plan(wishes(*names), ability, transaction_id="T1")
            for answers in answers_for(planned):
                yield ability, names, planned, answers, settle(planned, answers)


def own_answer(name: str, index: int, planned: Plan, answers: Sequence[Reply]) -> int:
    """What this recipient would be told alone, as the first digit; written without the planner's code."""
    if name == "forward":
        if not planned.forward:
            return 2
        place = planned.forward.index(index)
        return (answers[0] if len(answers) == 1 else answers[place]).first
    return {"reject": 5, "defer": 4, "hold": 2, "discard": 2}[name]


def test_every_recipient_has_one_fate_that_its_reply_tells() -> None:
    wrong = []
    seen = 0
    for ability, names, planned, answers, done in cases():
        seen += 1
        where = f"{ability.value} {names} next hop {[a.code for a in answers]} -> {done.reply.code} {done.fates}"
        told = [a.first for a in done.replies] if done.replies else [done.reply.first] * len(names)
        if len(done.fates) != len(names) or len(told) != len(names):
            wrong.append(f"not one fate and one reply each: {where}")
            continue
        for index, name in enumerate(names):
            fate, first = done.fates[index], told[index]
            delivered = index in planned.forward and own_answer(name, index, planned, answers) == 2
            if first == 2 and not {
                Fate.DELIVERED: delivered,
                Fate.HELD: any(index in hold.recipients for hold in planned.holds),
                Fate.DISCARDED: index in planned.discards,
            }.get(fate, False):
                wrong.append(f"{index} is told 2xx for nothing: {where}")
            if first != 2 and fate in {Fate.HELD, Fate.DISCARDED}:
                wrong.append(f"{index} is held or discarded and told not to be: {where}")
            if delivered and first == 5:
                wrong.append(f"{index} is delivered and told 5xx: {where}")
            if delivered and first == 4 and index not in done.entries:
                wrong.append(f"{index} is delivered, deferred and not in the ledger: {where}")
            if (index in done.entries) != (delivered and first == 4):
                wrong.append(f"{index} has an entry without a 451 after a delivery: {where}")
            if fate is Fate.DELIVERED and not delivered:
                wrong.append(f"{index} is said to be delivered and is not: {where}")
    assert not wrong, f"{len(wrong)} of {seen} cases:\n" + "\n".join(wrong[:20])
    assert seen == 1472


def test_a_reply_for_each_is_the_recipients_own() -> None:
    wrong = []
    for ability, names, planned, answers, done in cases():
        if ability.has_single_reply:
            continue
        told = [a.first for a in done.replies]
        alone = [
            own_answer(name, index, planned, answers) if planned.forward or name != "forward" else 2
            for index, name in enumerate(names)
        ]
        if told != alone:
            wrong.append(f"{ability.value} {names} {[a.code for a in answers]}: told {told}, alone {alone}")
        if (done.reply.first == 2) != (2 in told):
            wrong.append(f"{ability.value} {names}: last reply {done.reply.code} over {told}")
    assert not wrong, "\n".join(wrong[:20])


def test_one_reply_is_everybodys_own_or_nothing_is_final() -> None:
    """A stranger is never told 5xx for a recipient that would be accepted or deferred alone, save a refusal as a whole."""
    wrong = []
    for ability, names, planned, answers, done in cases():
        if ability is not Ability.SMTP:
            continue
        if planned.forward:
            alone = {own_answer(name, index, planned, answers) for index, name in enumerate(names) if name == "forward"}
        else:
            alone = {{"reject": 5, "defer": 4, "hold": 2, "discard": 2, "forward": 2}[name] for name in names}
        expected = alone.pop() if len(alone) == 1 else 4
        if done.reply.first != expected:
            wrong.append(f"{names} {[a.code for a in answers]}: {done.reply.code}, expected {expected}xx")
        if alone and done.reply.code != 451:
            wrong.append(f"{names}: a split is told as {done.reply}")
        if alone and len(done.hints) != len(names):
            wrong.append(f"{names}: hints {dict(done.hints)}")
    assert not wrong, "\n".join(wrong[:20])


def test_submission_sends_nothing_when_one_is_refused() -> None:
    wrong = []
    for ability, names, planned, _answers, done in cases():
        refused = {"reject", "defer"} & set(names)
        if ability is not Ability.SUBMISSION or not refused:
            continue
        expected = 5 if "reject" in names else 4
        if planned.forward or planned.holds or planned.discards or done.reply.first != expected:
            wrong.append(f"{names}: {planned.forward} {done.reply}")
        worst = "reject" if expected == 5 else "defer"
        if len(set(names)) > 1:
            for index, name in enumerate(names):
                if (f"<u{index}@example.test>" in done.reply.text) != (name == worst):
                    wrong.append(f"{names}: {done.reply}")
    assert not wrong, "\n".join(wrong[:20])


def test_the_next_hops_words_are_kept() -> None:
    done = settle(plan(wishes("forward", "hold"), Ability.SMTP), (OK,))
    assert (done.reply, done.is_ours, done.fates) == (OK, False, (Fate.DELIVERED, Fate.HELD))
    done = settle(plan(wishes("forward", "hold"), Ability.SMTP), (NEVER,))
    assert (done.reply, done.is_ours, done.fates) == (NEVER, False, (Fate.REJECTED, Fate.REJECTED))


def test_different_rejects_are_one_reply_that_names_each() -> None:
    mixed = [wish(0, reject("no executables")), wish(1, reject("no such policy", code=554, enhanced="5.6.0"))]
    done = plan(mixed, Ability.SMTP, transaction_id="T1").verdict
    assert done is not None
    assert done.reply == Reply(
        550, (b"5.0.0 <u0@example.test>: no executables (T1)", b"5.0.0 <u1@example.test>: no such policy (T1)")
    )
    alike = plan(wishes("reject", "reject"), Ability.SMTP, transaction_id="T1").verdict
    assert alike is not None
    assert alike.reply == reply(550, "5.7.1", "no executables here (T1)")


def test_a_long_list_of_refusals_is_bounded() -> None:
    many = [wish(index, reject(f"reason {index}")) for index in range(1000)]
    done = plan(many, Ability.SUBMISSION).verdict
    assert done is not None
    assert len(done.reply.lines) == 21
    assert done.reply.lines[-1] == b"5.7.1 and 980 more"


def test_evidence_is_kept_only_of_what_is_really_refused() -> None:
    kept = reject("virus", keep=True)
    assert plan([wish(0, kept), wish(1, kept)], Ability.SMTP).keeps[0].recipients == (0, 1)
    assert plan([wish(0, kept), wish(1, None)], Ability.SMTP).keeps == ()
    assert plan([wish(0, kept), wish(1, None)], Ability.SUBMISSION).keeps[0].recipients == (0,)
    assert plan([wish(0, kept), wish(1, None)], Ability.LMTP).keeps[0].recipients == (0,)


def test_copies_of_one_verdict_are_one() -> None:
    both = plan([wish(0, quarantine("a")), wish(1, quarantine("a")), wish(2, quarantine("b", box="virus"))], Ability.SMTP)
    assert [(hold.box, hold.recipients) for hold in both.holds] == [("default", (0, 1)), ("virus", (2,))]


def test_redirect_for_all_changes_the_route() -> None:
    to_b = redirect("b")
    assert plan([wish(0, to_b), wish(1, to_b)], Ability.SMTP).route == "b"
    assert plan([wish(0, to_b), wish(1, discard("noise"))], Ability.SMTP).forward == (0,)
    for ability in (Ability.SMTP, Ability.SUBMISSION):
        some = plan([wish(0, to_b), wish(1, accept())], ability)
        assert some.verdict is not None
        assert some.verdict.reply.code == 451
        assert len(set(some.verdict.hints.values())) == 2
        assert not some.forward
    each = plan([wish(0, to_b), wish(1, None)], Ability.LMTP)
    done = settle(each, (OK,))
    assert [a.code for a in done.replies] == [250, 451]


def test_hints_are_classes_twice_and_then_one_recipient_each() -> None:
    mixed = wishes("forward", "reject", "hold", "defer")
    first = plan(mixed, Ability.SMTP, History(rounds=1)).verdict
    assert first is not None
    assert dict(first.hints) == {0: "accepted", 1: "rejected", 2: "accepted", 3: "deferred"}
    third = plan(mixed, Ability.SMTP, History(rounds=2)).verdict
    assert third is not None
    assert set(third.hints.values()) == {ALONE}


def test_next_hops_answers_differ_a_third_time() -> None:
    done = settle(plan(wishes("forward", "forward"), Ability.SMTP, History(rounds=2)), (OK, LATER))
    assert set(done.hints.values()) == {ALONE}
    done = settle(plan(wishes("forward", "forward"), Ability.SMTP, History(rounds=1)), (OK, LATER))
    assert dict(done.hints) == {0: DONE, 1: "own 1"}


def test_a_submission_that_was_delivered_to_some_is_never_told_5xx() -> None:
    planned = plan(wishes("forward", "reject"), Ability.SUBMISSION, History(past={0: Fate.DELIVERED}))
    assert planned.verdict is not None
    assert (planned.verdict.reply.code, planned.verdict.fates) == (451, (Fate.DELIVERED, Fate.DEFERRED))
    assert dict(planned.verdict.hints) == {0: DONE, 1: "rejected"}


def test_what_the_ledger_knows() -> None:
    """Delivered counts whatever the verdict is now, held only if it is again to hold, discarded never."""
    past = {0: Fate.DELIVERED, 1: Fate.HELD, 2: Fate.HELD, 3: Fate.DISCARDED}
    planned = plan(wishes("reject", "hold", "forward", "discard"), Ability.SMTP, History(past=past))
    assert dict(planned.past) == {0: Fate.DELIVERED, 1: Fate.HELD}
    assert (planned.forward, planned.discards) == ((2,), (3,))
    done = settle(planned, (OK,))
    assert (done.reply.code, set(done.consume)) == (250, {0, 1})


@pytest.mark.parametrize("answer", [LATER, NEVER])
def test_an_entry_outlives_a_refusal_of_the_rest(answer: Reply) -> None:
    done = settle(plan(wishes("forward", "forward"), Ability.SMTP, History(past={0: Fate.DELIVERED})), (answer,))
    assert (done.reply.code, done.consume, dict(done.entries)) == (451, (), {})
    assert done.fates == (Fate.DELIVERED, Fate.DEFERRED)
    assert done.hints[0] == DONE != done.hints[1]


def test_a_copy_that_cannot_be_held_is_deferred_and_the_delivery_remembered() -> None:
    lost = reply(451, "4.3.0", "Try again later")
    done = settle(plan(wishes("forward", "hold"), Ability.SMTP), (OK,), lost={1: lost})
    assert (done.reply.code, done.fates, dict(done.entries)) == (451, (Fate.DELIVERED, Fate.DEFERRED), {0: Fate.DELIVERED})
    alone = settle(plan(wishes("hold"), Ability.SMTP), (), lost={0: lost})
    assert (alone.reply, alone.fates) == (lost, (Fate.DEFERRED,))


def test_added_recipients_get_no_reply_and_ask_for_none() -> None:
    extra = wish(1, None, added=True)
    both = plan([wish(0, None), extra], Ability.LMTP)
    assert [a.code for a in settle(both, (OK, NEVER)).replies] == [250]
    one = plan([wish(0, None), extra], Ability.SMTP)
    assert settle(one, (OK, NEVER)).reply == OK
    assert settle(one, (OK, NEVER)).problems
    later = settle(one, (OK, LATER))
    assert (later.reply.code, dict(later.entries)) == (451, {0: Fate.DELIVERED})
    refused = settle(plan([wish(0, None), wish(1, defer("not now"), added=True)], Ability.SMTP), (OK,))
    assert (refused.reply, refused.fates) == (OK, (Fate.DELIVERED, Fate.DEFERRED))
    assert "u1@example.test" in refused.problems[0]
    assert plan([wish(0, reject("no")), extra], Ability.SMTP).forward == ()
    with pytest.raises(ValueError, match="at least one recipient"):
        plan([extra], Ability.SMTP)


def test_answers_must_fit() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        settle(plan(wishes("forward", "forward", "forward"), Ability.SMTP), (OK, OK))
    with pytest.raises(ValueError, match="got nothing"):
        settle(plan(wishes("hold"), Ability.SMTP), (OK,))


def test_an_answer_that_is_none_defers() -> None:
    done = settle(plan(wishes("forward"), Ability.SMTP), (Reply(354, (b"go on",)),))
    assert (done.reply.code, done.fates) == (451, (Fate.DEFERRED,))


# -- the table of docs/promises.md ---------------------------------------------------------------------------------------

DOC = Path(__file__).parents[2] / "docs" / "promises.md"
BEGIN, END = "<!-- table: tests/unit/test_outcome_table.py -->\n", "<!-- end of table -->\n"


def rendered() -> str:
    """One row for each pair of verdicts; the next hop, where it is asked, takes the message."""
    rows = ["| first | second | stranger (SMTP) | submission | LMTP, PRDR |", "|---|---|---|---|---|"]
    for names in itertools.combinations_with_replacement(VERDICTS, 2):
        cells = []
        for ability in (Ability.SMTP, Ability.SUBMISSION, Ability.LMTP):
            planned = plan(wishes(*names), ability)
            done = settle(planned, (OK,) if planned.forward else ())
            replies = [str(a.code) for a in (done.replies or (done.reply,))]
            hints = " + hints" if done.hints else ""
            cells.append(f"{' '.join(replies)}{hints}: {', '.join(fate.value for fate in done.fates)}")
        rows.append(f"| {names[0]} | {names[1]} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def test_the_table_in_the_docs_is_this_one() -> None:
    """`MAILGATEWAY_WRITE_DOCS=1` writes it."""
    text = DOC.read_text()
    head, rest = text.split(BEGIN)
    table, tail = rest.split(END)
    if os.environ.get("MAILGATEWAY_WRITE_DOCS"):
        DOC.write_text(head + BEGIN + rendered() + END + tail)
    else:
        assert table == rendered()
