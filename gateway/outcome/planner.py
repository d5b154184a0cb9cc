"""From verdicts to a plan: what is forwarded, held, discarded, refused. RFC 5321 4.2.5, RFC 2033 4.2. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from gateway.outcome.settling import settle, split_up
from gateway.outcome.values import NOBODY, NOTHING, Ability, Fate, History, Hold, Keep, Plan, Settlement, Wish
from gateway.outcome.wording import merged, naming, ours, refusal
from gateway.smtp.replies import Reply
from gateway.verdict import Defer, Quarantine, Reject

_REFUSED: Final = frozenset({Fate.REJECTED, Fate.DEFERRED})


def plan(wishes: Sequence[Wish], ability: Ability, history: History = NOTHING, transaction_id: str = "") -> Plan:
    """What is to be done. ValueError when there is no recipient that the client named.

    A plan with `verdict` set does nothing but answer (and keep evidence copies).
    """
    if not history.past and _is_plain(wishes):
        # By position, as for every message: a class that is given names builds a dict of them first.
        everybody = (wishes[0].index,) if len(wishes) == 1 else tuple([wish.index for wish in wishes])
        return Plan(
            ability, tuple(wishes), transaction_id, history.rounds, wishes[0].route, everybody, (), (), (), NOBODY, NOBODY
        )
    if all(wish.added for wish in wishes):
        raise ValueError("a message has at least one recipient that the client named")
    past = {wish.index: history.past[wish.index] for wish in wishes if _is_past(wish, history)}
    open_wishes = [wish for wish in wishes if wish.index not in past]
    refused = {wish.index: _refusal(wish, transaction_id) for wish in open_wishes if wish.fate in _REFUSED}
    forward = [wish for wish in open_wishes if wish.fate is Fate.DELIVERED]
    route = forward[0].next_route if forward else ""
    astray = [wish for wish in forward if wish.next_route != route]
    draft = Plan(
        ability=ability,
        wishes=tuple(wishes),
        transaction_id=transaction_id,
        rounds=history.rounds,
        route=route,
        forward=tuple(wish.index for wish in forward if wish.next_route == route),
        holds=_holds(open_wishes),
        discards=tuple(wish.index for wish in open_wishes if wish.fate is Fate.DISCARDED),
        past=MappingProxyType(past),
        refused=MappingProxyType(refused | {wish.index: _astray(transaction_id) for wish in astray}),
    )
    return _decide(draft)


def _is_plain(wishes: Sequence[Wish]) -> bool:
    """What most messages are: no verdict on anybody, one route. Spares them everything below; the plan is the same."""
    is_named = False
    for wish in wishes:
        if wish.decision is not None or wish.route != wishes[0].route:
            return False
        if not wish.added:
            is_named = True
    return is_named


def _is_past(wish: Wish, history: History) -> bool:
    """*Delivered* counts whatever the verdict is now, *held* only if it is again to hold, nothing else ever."""
    match history.past.get(wish.index):
        case Fate.DELIVERED:
            return True
        case Fate.HELD:
            return wish.fate is Fate.HELD
        case _:
            return False


def _decide(draft: Plan) -> Plan:
    """Whether our verdicts can be carried out by the replies that this client can be given."""
    named = [wish for wish in draft.wishes if not wish.added]
    ours_refused = [wish for wish in named if wish.index in draft.refused]
    if len(ours_refused) == len(named):
        # Whatever a plugin added goes with those that it was added to.
        return _refuse_all(draft, named)
    if not draft.ability.has_single_reply:
        return _with(draft, keeps=_keeps(ours_refused))
    if not ours_refused:
        return draft
    by_verdict = [wish for wish in ours_refused if wish.fate in _REFUSED]
    if draft.ability is Ability.SUBMISSION and by_verdict and not draft.past:
        return _refuse_by_name(draft, by_verdict, len(named) - len(by_verdict))
    return _with(draft, idle=True, verdict=split_up(draft))


def _refuse_all(draft: Plan, named: list[Wish]) -> Plan:
    classes = {draft.refused[wish.index].first for wish in named}
    keeps = _keeps(named)
    if not draft.ability.has_single_reply:
        bare = _with(draft, idle=True, keeps=keeps)
        return _with(bare, verdict=settle(bare, ()))
    if len(classes) > 1:
        if draft.ability is Ability.SMTP:
            return _with(draft, idle=True, verdict=split_up(draft))
        return _refuse_by_name(draft, named, 0)
    told = merged([(wish.mailbox, draft.refused[wish.index]) for wish in named])
    return _with(draft, idle=True, keeps=keeps, verdict=_one_answer(draft, told))


def _refuse_by_name(draft: Plan, refused: list[Wish], others: int) -> Plan:
    """Submission: 5xx if there is any reject, else 4xx; the reply names the recipients and nothing is sent."""
    worst = max(draft.refused[wish.index].first for wish in refused)
    # With rejects among them the deferred ones count as those not sent to.
    told = [wish for wish in refused if draft.refused[wish.index].first == worst]
    named = [(wish.mailbox, draft.refused[wish.index]) for wish in told]
    answer = naming(named, others + len(refused) - len(told), draft.transaction_id)
    return _with(draft, idle=True, keeps=_keeps(told), verdict=_one_answer(draft, answer))


def _one_answer(draft: Plan, answer: Reply) -> Settlement:
    fate = Fate.REJECTED if answer.first == 5 else Fate.DEFERRED
    return Settlement(reply=answer, fates=(fate,) * len(draft.wishes))


def _with(draft: Plan, *, idle: bool = False, keeps: tuple[Keep, ...] | None = None, verdict: Settlement | None = None) -> Plan:
    """The draft with its decision; an idle plan sends, holds and discards nothing."""
    return Plan(
        ability=draft.ability,
        wishes=draft.wishes,
        transaction_id=draft.transaction_id,
        rounds=draft.rounds,
        route="" if idle else draft.route,
        forward=() if idle else draft.forward,
        holds=() if idle else draft.holds,
        discards=() if idle else draft.discards,
        keeps=draft.keeps if keeps is None else keeps,
        past=draft.past,
        refused=draft.refused,
        verdict=verdict,
    )


def _holds(wishes: Sequence[Wish]) -> tuple[Hold, ...]:
    """One copy for recipients whose verdicts are alike."""
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for wish in wishes:
        if wish.decision is not None and isinstance(wish.decision.verdict, Quarantine):
            verdict = wish.decision.verdict
            groups.setdefault((verdict.box, wish.decision.plugin, verdict.reason, verdict.evidence), []).append(wish.index)
    return tuple(
        Hold(box=box, plugin=plugin, reason=reason, evidence=evidence, recipients=tuple(indexes))
        for (box, plugin, reason, evidence), indexes in groups.items()
    )


def _keeps(wishes: Sequence[Wish]) -> tuple[Keep, ...]:
    """Evidence copies of rejects that asked for them; only when the refusal is really told."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for wish in wishes:
        if wish.decision is not None and isinstance(wish.decision.verdict, Reject) and wish.decision.verdict.keep:
            verdict = wish.decision.verdict
            groups.setdefault((wish.decision.plugin, verdict.reason, verdict.evidence), []).append(wish.index)
    return tuple(
        Keep(plugin=plugin, reason=reason, evidence=evidence, recipients=tuple(indexes))
        for (plugin, reason, evidence), indexes in groups.items()
    )


def _refusal(wish: Wish, transaction_id: str) -> Reply:
    verdict = wish.decision.verdict if wish.decision else None
    assert isinstance(verdict, Reject | Defer)
    return refusal(verdict, transaction_id)


def _astray(transaction_id: str) -> Reply:
    """One transaction is one delivery to one next hop: a redirect for some only sends them separately."""
    return ours(451, "4.5.3", "This recipient goes another way, send again", transaction_id)
