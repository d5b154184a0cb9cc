"""From the next hop's answers to the client's reply, each recipient's fate and what its retry must know. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gateway.outcome.values import ALONE, DONE, MAX_ROUNDS, NOBODY, SMTP, SUBMISSION, Ability, Fate, Plan, Settlement, Wish
from gateway.outcome.wording import merged, ours, split, taken
from gateway.smtp.replies import Reply, passed_on

_ONE_DELIVERED: Final = (Fate.DELIVERED,)


def settle(
    plan: Plan,
    answers: Sequence[Reply],
    *,
    is_ours: bool = False,
    lost: Mapping[int, Reply] = NOBODY,
    held: frozenset[int] = frozenset(),
    next_hop: str = "",
) -> Settlement:
    """How a carried-out plan ends. UTF-8 in the next hop's words stays: the client's side knows whether it may see it.

    `answers`: one reply, or one for each of `plan.forward` (LMTP); `is_ours`: they are ours, for a link that failed.
    `lost`: recipients whose copy could not be held, with the reply for it; `held`: those whose copy is held already, whatever
    the reply will be; `next_hop`: who took it, noted where all went well. ValueError when the number of answers fits neither.
    """
    if plan.verdict is not None:
        return plan.verdict
    count = len(plan.wishes)
    if (  # what most messages are: all of it went to the next hop, which took it, and one reply says so
        len(answers) == 1
        and answers[0].is_positive
        and not is_ours
        and not lost
        and len(plan.forward) == count
        and (plan.ability is SMTP or plan.ability is SUBMISSION)
    ):
        reply = answers[0] if answers[0].is_usual else passed_on(answers[0], utf8=True)
        # By position, as in the planner: entries, consume and hints are empty, it is not ours, there are no duplicates.
        return Settlement(reply, (), _ONE_DELIVERED * count, NOBODY, (), NOBODY, False, (), next_hop, tuple(answers))
    answered = _answers(plan, answers)
    theirs = () if is_ours else tuple(answers)
    results = {wish.index: _result(plan, wish, answered, lost) for wish in plan.wishes}
    if not plan.ability.has_single_reply:
        return _each(plan, results, theirs)
    named = [wish for wish in plan.wishes if not wish.added]
    refusals = [wish for wish in plan.wishes if _counts_as_refused(plan, wish, results)]
    if not refusals:
        return _accepted(plan, results, theirs, named)
    cannot_be_undone = {
        index: fate
        for index, (fate, _) in results.items()
        if index not in plan.past and (fate is Fate.DELIVERED or index in held)
    }
    classes = {results[wish.index][1].first for wish in refusals}
    if cannot_be_undone or plan.past or len(classes) > 1:
        return _split_after(plan, results, theirs, cannot_be_undone)
    # Refused as a whole: what would have been held or discarded is dropped, the client keeps all of it.
    told = merged([(wish.mailbox, results[wish.index][1]) for wish in refusals])
    fate = Fate.REJECTED if told.first == 5 else Fate.DEFERRED
    return Settlement(
        reply=told,
        fates=(fate,) * count,
        is_ours=is_ours or not any(wish.index in answered for wish in refusals),
        next_hop_replies=theirs,
    )


def failed(plan: Plan, answer: Reply, problem: str) -> Settlement:
    """Nothing was sent, and nothing is held or discarded: this 4xx of ours for every recipient."""
    named = sum(not wish.added for wish in plan.wishes)
    return Settlement(
        reply=answer,
        replies=() if plan.ability.has_single_reply else (answer,) * named,
        fates=(Fate.DEFERRED,) * len(plan.wishes),
        problems=(problem,),
    )


def split_up(plan: Plan) -> Settlement:
    """Our own verdicts differ: nothing is sent, and hints give each class its true answer at the retry."""
    hints = {}
    for wish in plan.wishes:
        if wish.added:
            continue
        if plan.rounds >= MAX_ROUNDS:
            hints[wish.index] = ALONE
        elif wish.index in plan.past:
            hints[wish.index] = DONE
        elif wish.index in plan.refused and wish.fate is not Fate.DELIVERED:
            hints[wish.index] = wish.fate.value
        elif wish.fate is Fate.DELIVERED and wish.next_route != wish.route:
            hints[wish.index] = f"to {wish.next_route}"[:64]
        else:
            hints[wish.index] = "accepted"
    fates = tuple(plan.past.get(wish.index, Fate.DEFERRED) for wish in plan.wishes)
    return Settlement(reply=split(plan.transaction_id), fates=fates, hints=MappingProxyType(hints))


def _answers(plan: Plan, answers: Sequence[Reply]) -> dict[int, Reply]:
    if not plan.forward:
        if answers:
            raise ValueError("answers of a next hop that got nothing")
        return {}
    if len(answers) == 1:
        return dict.fromkeys(plan.forward, passed_on(answers[0], utf8=True))
    return dict(zip(plan.forward, (passed_on(answer, utf8=True) for answer in answers), strict=True))


def _result(plan: Plan, wish: Wish, answered: Mapping[int, Reply], lost: Mapping[int, Reply]) -> tuple[Fate, Reply]:
    """Fate and reply of one recipient, seen by itself."""
    if wish.index in plan.past:
        return plan.past[wish.index], taken(plan.transaction_id)
    if wish.index in plan.refused:
        answer = plan.refused[wish.index]
        return (Fate.REJECTED if answer.first == 5 else Fate.DEFERRED), answer
    if wish.index in lost:
        return Fate.DEFERRED, lost[wish.index]
    if wish.index not in answered:
        return wish.fate, taken(plan.transaction_id)
    answer = answered[wish.index]
    match answer.first:
        case 2:
            return Fate.DELIVERED, answer
        case 5:
            return Fate.REJECTED, answer
        case 4:
            return Fate.DEFERRED, answer
        case _:  # RFC 5321 4.3.2: no such reply to the content; whose it is nobody knows
            return Fate.DEFERRED, ours(451, "4.3.5", "The next hop gave no usable answer", plan.transaction_id)


def _counts_as_refused(plan: Plan, wish: Wish, results: Mapping[int, tuple[Fate, Reply]]) -> bool:
    """A recipient that a plugin added is the client's business only as long as a retry may help it."""
    fate = results[wish.index][0]
    if wish.added:
        return fate is Fate.DEFERRED and wish.index not in plan.refused
    return not fate.is_accepted


def _accepted(
    plan: Plan, results: Mapping[int, tuple[Fate, Reply]], answers: tuple[Reply, ...], named: Sequence[Wish]
) -> Settlement:
    """2xx for everybody; the next hop's own words when it took the message for one whom the client named."""
    theirs = [wish.index for wish in named if wish.index in plan.forward]
    return Settlement(
        reply=results[theirs[0]][1] if theirs else taken(plan.transaction_id),
        fates=tuple(results[wish.index][0] for wish in plan.wishes),
        consume=tuple(plan.past),
        is_ours=not theirs,
        next_hop_replies=answers,
        problems=_left_out(plan, results),
    )


def _split_after(
    plan: Plan, results: Mapping[int, tuple[Fate, Reply]], answers: tuple[Reply, ...], entries: Mapping[int, Fate]
) -> Settlement:
    """The next hop's answers differ: a 451 of ours, the ledger for what is done, hints for the rest.

    What is done forms one class, each other recipient its own.
    """
    done = set(entries) | set(plan.past)
    hints, fates = {}, []
    for wish in plan.wishes:
        fate = results[wish.index][0]
        # Our holds and discards are taken back: the client is told 451 and sends them again.
        fates.append(fate if wish.index in done else Fate.DEFERRED)
        if not wish.added:
            is_alone = plan.rounds >= MAX_ROUNDS
            hints[wish.index] = ALONE if is_alone else DONE if wish.index in done else f"own {wish.index}"
    return Settlement(
        reply=split(plan.transaction_id),
        fates=tuple(fates),
        entries=MappingProxyType(dict(entries)),
        hints=MappingProxyType(hints),
        next_hop_replies=answers,
    )


def _each(plan: Plan, results: Mapping[int, tuple[Fate, Reply]], answers: tuple[Reply, ...]) -> Settlement:
    """RFC 2033 4.2: a reply for each recipient the client named, and for PRDR one more for the message."""
    named = [wish for wish in plan.wishes if not wish.added]
    replies = tuple(results[wish.index][1] for wish in named)
    accepted = [answer for answer in replies if answer.is_positive]
    if accepted:
        last = taken(plan.transaction_id) if plan.ability is Ability.PRDR else accepted[0]
    elif len({answer.first for answer in replies}) == 1:
        last = merged([(wish.mailbox, answer) for wish, answer in zip(named, replies, strict=True)])
    else:  # a negative last reply leaves the recipients' own refusals as they are
        last = ours(451, "4.5.3", "No recipient took the message", plan.transaction_id)
    return Settlement(
        reply=last,
        replies=replies,
        fates=tuple(results[wish.index][0] for wish in plan.wishes),
        consume=tuple(plan.past),
        next_hop_replies=answers,
        problems=_left_out(plan, results),
    )


def _left_out(plan: Plan, results: Mapping[int, tuple[Fate, Reply]]) -> tuple[str, ...]:
    """Recipients that a plugin added and that get nothing: nobody will try again for them."""
    return tuple(
        f"added recipient {wish.mailbox} gets nothing: {results[wish.index][1]}"
        for wish in plan.wishes
        if wish.added and not results[wish.index][0].is_accepted
    )


def take_back(plan: Plan, settlement: Settlement, answer: Reply, problem: str) -> Settlement:
    """The 2xx of a settlement cannot be said (its ledger entries could not be consumed): this 4xx of ours instead."""
    problems = (*settlement.problems, problem)
    if not plan.ability.has_single_reply:
        named = [wish for wish in plan.wishes if not wish.added]
        replies = tuple(
            answer if wish.index in plan.past else theirs for wish, theirs in zip(named, settlement.replies, strict=True)
        )
        return replace(settlement, replies=replies, consume=(), problems=problems)
    lasting = {Fate.DELIVERED, Fate.HELD}
    fates = tuple(fate if fate in lasting else Fate.DEFERRED for fate in settlement.fates)
    done = {wish.index: fates[place] for place, wish in enumerate(plan.wishes) if fates[place] in lasting}
    return replace(
        settlement,
        reply=answer,
        is_ours=True,
        fates=fates,
        consume=(),
        entries=MappingProxyType({index: fate for index, fate in done.items() if index not in plan.past}),
        problems=problems,
    )
