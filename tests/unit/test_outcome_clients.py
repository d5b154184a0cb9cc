"""Retrying clients against the planner: whatever they do, each recipient ends with exactly one fate and none is lost."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.outcome import Ability, Admission, Arrival, Fate, History, Settlement, Wish, plan, settle
from gateway.smtp.replies import Reply, reply
from gateway.verdict import Decision, Verdict, defer, discard, quarantine, reject

REPLIES = {250: reply(250, "2.0.0", "ok"), 450: reply(450, "4.2.1", "later"), 550: reply(550, "5.7.0", "never")}
VERDICTS: dict[str, Verdict | None] = {
    "forward": None,
    "reject": reject("no"),
    "defer": defer("later"),
    "hold": quarantine("odd"),
    "discard": discard("noise"),
}
CLIENTS = ("postfix", "elsewhere", "reordered", "date", "never")
TRIES = 14


@dataclass
class Wanted:
    """What one recipient is in for: our verdict, and what the next hop says if it is asked."""

    mailbox: str
    verdict: str
    answer: int = 250
    policy_class: str = ""


@dataclass
class Memory:
    """The ledger and the store of one gateway, or of several that share them."""

    hints: dict[str, str] = field(default_factory=dict)
    rounds: Counter[frozenset[str]] = field(default_factory=Counter)
    entries: dict[tuple[str, str], Fate] = field(default_factory=dict)


@dataclass
class World:
    """One message of one client, tried again until nobody is left or the client gives up."""

    wanted: list[Wanted]
    ability: Ability
    client: str
    answers_differ: bool
    """The next hop speaks LMTP: an answer for each recipient; else its first recipient's stands for all."""
    max_classes: int = 4
    most_tries: int = TRIES
    memory: Memory = field(default_factory=Memory)
    delivered: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    discarded: Counter[str] = field(default_factory=Counter)
    told: dict[str, int] = field(default_factory=dict)
    """The final reply, by recipient; absent while the client still has it."""
    tries: int = 0

    def run(self) -> World:
        waiting = list(self.wanted)
        for number in range(1 if self.client == "never" else self.most_tries):
            if not waiting:
                break
            if self.client == "elsewhere":
                self.memory = Memory()
            if self.client == "reordered":
                waiting = waiting[1:] + waiting[:1]
            self.tries += 1
            self.one_try(waiting, "late" if self.client == "date" and number else "same", number)
            waiting = [one for one in waiting if one.mailbox not in self.told]
        return self

    def one_try(self, waiting: Sequence[Wanted], content: str, number: int) -> None:
        if self.client == "date":
            content = f"{content} {number}"
        admission = Admission(self.ability, max_classes=self.max_classes)
        joined = []
        for one in waiting:
            hint = self.memory.hints.get(one.mailbox, "")
            arrival = Arrival(mailbox=one.mailbox, route="r", policy_class=(one.policy_class,), hint=hint)
            if arrival.waits:
                self.memory.hints[one.mailbox] = arrival.next_hint
            refused = admission.admit(arrival)
            if refused is None:
                joined.append(one)
            else:
                assert refused.code == 452
        if not joined:
            return
        names = frozenset(one.mailbox for one in joined)
        wishes = [
            Wish(
                index=index,
                mailbox=one.mailbox,
                route="r",
                decision=Decision(verdict=verdict, plugin="p", hook="judge") if (verdict := VERDICTS[one.verdict]) else None,
            )
            for index, one in enumerate(joined)
        ]
        known = {
            i: self.memory.entries[content, one.mailbox]
            for i, one in enumerate(joined)
            if (content, one.mailbox) in self.memory.entries
        }
        planned = plan(wishes, self.ability, History(past=known, rounds=self.memory.rounds[names]))
        answers: list[Reply] = []
        if planned.forward:
            codes = [joined[index].answer for index in planned.forward]
            answers = [REPLIES[code] for code in (codes if self.answers_differ else codes[:1])]
            for index, code in zip(planned.forward, codes if self.answers_differ else codes[:1] * len(codes), strict=True):
                if code == 250:
                    self.delivered[joined[index].mailbox] += 1
        done = settle(planned, answers)
        self.tell(joined, done, content, names)
        if not done.hints:
            self.memory.hints.update(admission.postponed(done.deferred(planned)))

    def tell(self, joined: Sequence[Wanted], done: Settlement, content: str, names: frozenset[str]) -> None:
        for index, fate in done.entries.items():
            self.memory.entries[content, joined[index].mailbox] = fate
        for index in done.consume:
            del self.memory.entries[content, joined[index].mailbox]
        for index, group in done.hints.items():
            self.memory.hints[joined[index].mailbox] = group
        if done.hints:
            self.memory.rounds[names] += 1
        for index, one in enumerate(joined):
            first = (done.replies[index] if done.replies else done.reply).first
            if first != 4:
                assert one.mailbox not in self.told
                self.told[one.mailbox] = first
            if first == 2:
                self.held[one.mailbox] += done.fates[index] is Fate.HELD
                self.discarded[one.mailbox] += done.fates[index] is Fate.DISCARDED

    def wrongs(self) -> Iterator[str]:
        """Everything in which this ended other than promised."""
        for one in self.wanted:
            name = one.mailbox
            kinds = [kind for kind in ("delivered", "held", "discarded") if getattr(self, kind)[name]]
            told = self.told.get(name)
            if told == 2 and len(kinds) != 1:
                yield f"{name}: told 2xx and is {kinds or 'lost'}"
            if told == 5 and kinds:
                yield f"{name}: told 5xx and is {kinds}"
            if len(kinds) > 1:
                yield f"{name}: {kinds}"
            if told is None and self.held[name] + self.discarded[name]:
                yield f"{name}: with the client and {kinds}"
            shared = self.client in {"postfix", "reordered"}
            if shared and self.delivered[name] > 1:
                yield f"{name}: delivered {self.delivered[name]} times"
            if self.held[name] > 1 or self.discarded[name] > 1:
                yield f"{name}: held {self.held[name]}, discarded {self.discarded[name]}"
            if shared and self.delivered[name] and told is None:
                yield f"{name}: delivered and never acknowledged"
            if shared:
                yield from self.unfinished(one, told)

    def unfinished(self, one: Wanted, told: int | None) -> Iterator[str]:
        """A client that retries gets everybody's true answer in the end, unless it never retries or all was refused as one."""
        alone = {"forward": one.answer // 100, "reject": 5, "defer": 4, "hold": 2, "discard": 2}[one.verdict]
        found = told or 4
        if found == alone:
            return
        others = {other.answer // 100 for other in self.wanted if other.verdict == "forward"}
        if self.ability is Ability.SUBMISSION and {other.verdict for other in self.wanted} & {"reject", "defer"}:
            return  # nothing was sent, the reply names those it is for
        if one.verdict in {"hold", "discard"} and found in others:
            return  # the next hop refused the message of which this was a part
        if one.verdict == "forward" and not self.answers_differ and found in others:
            return  # the next hop's one answer stood for all
        yield f"{one.mailbox} ({one.verdict} {one.answer}): told {found}xx, alone it would be {alone}xx"


def every_recipient(number: int, *, answers_differ: bool) -> Iterator[list[Wanted]]:
    kinds = [("forward", code) for code in REPLIES] + [(name, 250) for name in VERDICTS if name != "forward"]
    for combination in itertools.product(kinds, repeat=number):
        if not answers_differ and len({code for name, code in combination if name == "forward"}) > 1:
            continue
        yield [Wanted(f"u{index}@x.test", name, code) for index, (name, code) in enumerate(combination)]


@pytest.mark.parametrize("answers_differ", [False, True], ids=["next hop SMTP", "next hop LMTP"])
@pytest.mark.parametrize("client", CLIENTS)
def test_every_combination_for_up_to_three(client: str, answers_differ: bool) -> None:
    wrong: list[str] = []
    seen = duplicates = 0
    for ability, number in itertools.product(Ability, (1, 2, 3)):
        for wanted in every_recipient(number, answers_differ=answers_differ):
            world = World(wanted, ability, client, answers_differ).run()
            seen += 1
            duplicates += sum(max(0, count - 1) for count in world.delivered.values())
            wrong += [f"{ability.value} {[(one.verdict, one.answer) for one in wanted]}: {what}" for what in world.wrongs()]
    assert not wrong, f"{len(wrong)} wrong in {seen} runs:\n" + "\n".join(wrong[:25])
    assert seen > 1000
    # Duplicates come where the ledger cannot know the message again, and nowhere else.
    assert bool(duplicates) == (answers_differ and client in {"elsewhere", "date"}), duplicates


wanted_lists = st.lists(
    st.builds(
        Wanted,
        mailbox=st.sampled_from([f"u{n}@x.test" for n in range(8)]),
        verdict=st.sampled_from(sorted(VERDICTS)),
        answer=st.sampled_from(sorted(REPLIES)),
        policy_class=st.sampled_from(["", "strict", "loose"]),
    ),
    min_size=1,
    max_size=7,
    unique_by=lambda one: one.mailbox,
)


@settings(max_examples=300, deadline=None)
@given(wanted_lists, st.sampled_from(list(Ability)), st.sampled_from(CLIENTS), st.booleans(), st.integers(1, 5))
def test_nobody_is_without_exactly_one_fate(
    wanted: list[Wanted], ability: Ability, client: str, answers_differ: bool, max_classes: int
) -> None:
    world = World(wanted, ability, client, answers_differ, max_classes, most_tries=60).run()
    wrong = [what for what in world.wrongs() if answers_differ or "alone it would be" not in what]
    assert not wrong, wrong


def test_postfix_gets_each_answer_in_three_tries() -> None:
    wanted = [Wanted("a@x.test", "forward"), Wanted("b@x.test", "reject"), Wanted("c@x.test", "hold")]
    world = World(wanted, Ability.SMTP, "postfix", answers_differ=False).run()
    assert (world.tries, world.told) == (3, {"a@x.test": 2, "c@x.test": 2, "b@x.test": 5})


def test_a_stream_of_verdicts_that_changes_every_time_ends_with_one_recipient_a_transaction() -> None:
    """Hints that do not help are given up after two rounds."""
    memory = Memory()
    swap = [["forward", "reject"], ["reject", "forward"]]
    for number in range(3):
        wanted = [Wanted(f"u{n}@x.test", name) for n, name in enumerate(swap[number % 2])]
        world = World(wanted, Ability.SMTP, "never", answers_differ=False, memory=memory)
        # A client that ignores classes: both recipients in one transaction although they were told to part.
        if number < 2:
            memory.hints.clear()
        world.run()
    assert set(memory.hints.values()) <= {"alone", "accepted", "rejected"}
    assert memory.rounds[frozenset({"u0@x.test", "u1@x.test"})] >= 2


def test_classes_part_and_the_fifth_joins_the_first() -> None:
    admission = Admission(Ability.SMTP, max_classes=4)
    told = [admission.admit(Arrival(mailbox=f"u{n}@x.test", route="r", policy_class=(n,))) for n in range(6)]
    assert [answer.code if answer else 250 for answer in told] == [250, 452, 452, 452, 250, 250]
    again = admission.admit(Arrival(mailbox="v@x.test", route="r", policy_class=(2,)))
    assert again is not None


def test_another_route_never_joins() -> None:
    for ability in Ability:
        admission = Admission(ability, max_classes=1)
        assert admission.admit(Arrival(mailbox="a@x.test", route="r")) is None
        assert admission.admit(Arrival(mailbox="b@x.test", route="s")) is not None


def test_only_strangers_are_parted_by_policy() -> None:
    for ability in (Ability.SUBMISSION, Ability.LMTP, Ability.PRDR):
        admission = Admission(ability)
        for n in range(3):
            assert admission.admit(Arrival(mailbox=f"u{n}@x.test", route="r", policy_class=(n,))) is None


def test_submission_is_parted_by_hints_however_many() -> None:
    admission = Admission(Ability.SUBMISSION, max_classes=1)
    assert admission.admit(Arrival(mailbox="a@x.test", route="r", hint="done")) is None
    assert admission.admit(Arrival(mailbox="b@x.test", route="r", hint="own 1")) is not None


def test_a_refused_first_recipient_no_longer_counts() -> None:
    admission = Admission(Ability.SMTP)
    assert admission.admit(Arrival(mailbox="a@x.test", route="r", policy_class=(1,))) is None
    admission.withdraw("a@x.test")
    assert admission.admit(Arrival(mailbox="b@x.test", route="r", policy_class=(2,))) is None
    admission.withdraw("nobody@x.test")
    assert admission.admit(Arrival(mailbox="c@x.test", route="r", policy_class=(1,))) is not None
    assert admission.postponed({"a@x.test", "b@x.test"}) == {"b@x.test": "later 1 "}


def test_who_was_first_and_deferred_lets_the_others_go_first() -> None:
    """A queue that keeps its order would else ask for ever only for the one that is deferred."""
    admission = Admission(Ability.SMTP)
    first = Arrival(mailbox="a@x.test", route="r", hint="later 2 deferred")
    assert admission.admit(first) is not None
    assert first.next_hint == "later 1 deferred"
    assert Arrival(mailbox="a@x.test", route="r", hint=first.next_hint).next_hint == "deferred"
    assert admission.admit(Arrival(mailbox="b@x.test", route="r", hint="accepted")) is None
    assert admission.postponed({"b@x.test"}) == {"b@x.test": "later 1 accepted"}


def test_alone_means_alone() -> None:
    admission = Admission(Ability.SMTP, max_classes=1)
    assert admission.admit(Arrival(mailbox="a@x.test", route="r", hint="alone")) is None
    assert admission.admit(Arrival(mailbox="b@x.test", route="r", hint="alone")) is not None
    assert admission.admit(Arrival(mailbox="c@x.test", route="r")) is not None
    assert admission.admit(Arrival(mailbox="a@x.test", route="r", hint="alone")) is None  # named twice
