"""What may differ between a bare server and the gateway before it: each rule is a line of docs/differences.md, and there are few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.difference.playing import Answer, Exchange


@dataclass(frozen=True, slots=True)
class Pair:
    """One reply on both sides."""

    exchange: Exchange
    """The bare server's."""
    bare: Answer
    gate: Answer
    is_content: bool = False

    @property
    def verb(self) -> str:
        """Of the command."""
        return self.exchange.step.verb

    @property
    def is_well_formed(self) -> bool:
        """Content counts as such when its line ends are right and it has no NUL."""
        if self.is_content:
            content = self.exchange.step.content.replace(b"\r\n", b"")
            return not any(octet in content for octet in b"\r\n\0")
        return self.exchange.step.is_well_formed

    @property
    def is_same(self) -> bool:
        """Equal codes for what is well formed, the same first digit otherwise."""
        if self.is_well_formed:
            return (self.bare.code, self.bare.enhanced) == (self.gate.code, self.gate.enhanced)
        return self.bare.code // 100 == self.gate.code // 100

    @property
    def is_parting(self) -> bool:
        """One side took it and the other did not: what follows cannot be compared until both begin anew."""
        return (self.bare.code // 100 in {2, 3} and self.gate.code // 100 not in {2, 3}) or self._is_taken_here_only

    @property
    def _is_taken_here_only(self) -> bool:
        return self.gate.code // 100 in {2, 3} and self.bare.code // 100 not in {2, 3}


@dataclass(frozen=True, slots=True)
class Rule:
    """An intended difference."""

    name: str
    """As the first cell of its row in docs/differences.md begins."""
    reason: str
    applies: Callable[[Pair], bool]


def _refused_here(pair: Pair, code: int, enhanced: str) -> bool:
    return (pair.gate.code, pair.gate.enhanced) == (code, enhanced)


RULES = (
    Rule(
        "VRFY is 252, EXPN and ETRN 502",
        "users are not told to strangers (RFC 5321 3.5.3), and the verbs are the gateway's own",
        lambda pair: pair.verb in {"VRFY", "EXPN", "ETRN", "HELP"} and pair.gate.code in {252, 502, 503, 214, 501},
    ),
    Rule(
        "`x.0.0` in front of replies of a next hop",
        "RFC 2034 4 wants an enhanced code in every reply; Postfix has none in some (459)",
        lambda pair: not pair.bare.enhanced and _refused_here(pair, pair.bare.code, f"{pair.bare.code // 100}.0.0"),
    ),
    Rule(
        "A recipient that the server would relay",
        "the server trusts the gateway's address, so the gateway decides: 550 5.7.1 in its own words",
        lambda pair: pair.verb == "RCPT" and pair.bare.code // 100 == 5 and _refused_here(pair, 550, "5.7.1"),
    ),
    Rule(
        "MAIL before EHLO or HELO: `503`",
        "RFC 5321 4.1.4 asks for EHLO or HELO first; Postfix only with smtpd_helo_required",
        lambda pair: pair.verb == "MAIL" and pair.bare.code != 503 and _refused_here(pair, 503, "5.5.1"),
    ),
    Rule(
        "Parameters after HELO: `555`",
        "after HELO nothing was offered (RFC 5321 2.2.1): 555; Postfix takes them",
        lambda pair: pair.verb in {"MAIL", "RCPT"} and pair.is_well_formed and _refused_here(pair, 555, "5.5.4"),
    ),
    Rule(
        "DATA before any RCPT: `503`",
        "503, and 554 only where all were refused (RFC 5321 3.3 leaves the choice); Postfix says 554 for both",
        lambda pair: pair.verb in {"DATA", "BDAT"} and (pair.bare.code, pair.gate.code) == (554, 503),
    ),
    Rule(
        "SIZE is smaller by 16 KB",
        "the gateway adds fields: it takes 16 KB less than the server",
        lambda pair: pair.verb == "MAIL" and b"SIZE=49990000" in pair.exchange.step.octets and _refused_here(pair, 552, "5.3.4"),
    ),
    Rule(
        "Commands that the grammar does not have: `500`, `501`",
        "paths are judged here and go on octet for octet, so each must have one meaning; Postfix repairs what it can",
        lambda pair: (
            not pair.is_well_formed
            and not pair.is_content
            and pair.bare.code // 100 in {2, 3, 4}
            and pair.gate.code in {500, 501, 502, 553, 555}
        ),
    ),
    Rule(
        "A SIZE is forgotten with its MAIL",
        "RFC 1870 4: it is of this message; Postfix 3.7 keeps that of a refused MAIL with SMTPUTF8 for the next one",
        lambda pair: pair.verb == "MAIL" and b"SIZE=" not in pair.exchange.step.octets.upper() and pair.bare.code == 552,
    ),
    Rule(
        "UTF-8 in a path without SMTPUTF8: `553 5.6.7`",
        "RFC 6531 3.5: 553 5.6.7 where MAIL came without the parameter; Postfix looks the address up",
        lambda pair: pair.verb == "RCPT" and not pair.exchange.step.octets.isascii() and _refused_here(pair, 553, "5.6.7"),
    ),
    Rule(
        "A loop is found by 5 fields of our own",
        "found by 5 fields of the gateway's own or 100 of all: 554 5.4.6; Postfix says 5.4.0, and counts only all",
        lambda pair: pair.is_content and _refused_here(pair, 554, "5.4.6"),
    ),
    Rule(
        "Bare CR or LF in the content: `550 5.6.0`",
        "a second message can hide behind them (RFC 5321 2.3.8, 4.1.1.4)",
        lambda pair: (pair.is_content or pair.verb == "BDAT") and not pair.is_well_formed and _refused_here(pair, 550, "5.6.0"),
    ),
    Rule(
        "An empty chunk that is not the last: `250`",
        "RFC 3030 2 allows any size; Postfix takes it for abuse",
        lambda pair: pair.verb == "BDAT" and (pair.bare.code, pair.bare.enhanced) == (551, "5.7.1"),
    ),
    Rule(
        "Chunks behind a refused one: `503`",
        "a bad sequence is 503 (RFC 3030 2); Postfix says 551 5.0.0",
        lambda pair: pair.verb == "BDAT" and pair.bare.code == 551 and _refused_here(pair, 503, "5.5.1"),
    ),
)


@dataclass(slots=True)
class Tally:
    """What a comparison found."""

    sessions: int = 0
    replies: int = 0
    """Compared."""
    skipped: int = 0
    """Not compared, because an intended difference before them had parted the two sides."""
    applied: Counter[str] = field(default_factory=Counter)
    ruled: Counter[str] = field(default_factory=Counter)
    """The same, by verb."""
    again: int = 0
    """Sessions played once more, because the bare server hung up in the middle."""
    differences: list[tuple[str, str]] = field(default_factory=list)
    """What differs, and the session up to there."""

    def report(self) -> str:
        """For people."""
        lines = [f"{self.sessions} sessions, {self.replies} replies compared, {self.skipped} behind an intended difference"]
        lines += [f"  {self.applied[rule.name]:6} × {rule.name}: {rule.reason}" for rule in RULES]
        return "\n".join(lines)


def compare(bare: Sequence[Exchange], gate: Sequence[Exchange], tally: Tally) -> bool:
    """Hold one session against the other; False, and a line in the tally, at the first reply that differs without a rule."""
    tally.sessions += 1
    is_parted = False
    for number, (theirs, ours) in enumerate(zip(bare, gate, strict=True)):
        if is_parted:
            begins_anew = theirs.step.verb in {"EHLO", "HELO", "RSET"} and (theirs.answer.code, ours.answer.code) == (250, 250)
            is_parted = not begins_anew
            tally.skipped += is_parted
            continue
        pairs = [Pair(theirs, theirs.answer, ours.answer)]
        if theirs.content is not None and ours.content is not None:
            pairs.append(Pair(theirs, theirs.content, ours.content, is_content=True))
        for pair in pairs:
            tally.replies += 1
            if not pair.is_same:
                rule = next((rule for rule in RULES if rule.applies(pair)), None)
                if rule is None:
                    what = f"{pair.verb}: {pair.bare.code} {pair.bare.enhanced} is {pair.gate.code} {pair.gate.enhanced}"
                    tally.differences.append((what, _told(bare, gate, theirs)))
                    return False
                tally.applied[rule.name] += 1
                tally.ruled[pair.verb] += 1
            if pair.is_content and not pair.is_well_formed:  # where one of them sees two messages, replies do not belong together
                tally.skipped += len(bare) - number - 1
                return True
            is_parted = is_parted or (pair.is_parting and not pair.is_content)
    return True


def _told(bare: Sequence[Exchange], gate: Sequence[Exchange], at: Exchange) -> str:
    lines = []
    for theirs, ours in zip(bare, gate, strict=True):
        joined = "+" if theirs.step.joined else " "
        lines.append(f"{joined}C: {theirs.step.octets[:200]!r}")
        for told, one in (("bare   ", theirs), ("gateway", ours)):
            content = b"" if one.content is None else b" and then " + one.content.octets
            lines.append(f"    {told}: {(one.answer.octets + content)[-200:]!r}")
        if theirs is at:
            lines.append("  ^ differs")
            break
    return "\n".join(lines)
