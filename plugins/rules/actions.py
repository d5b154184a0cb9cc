"""What a rule does: `then`. A word, a table with the action as its first key, or a list of these.

`then = "quarantine"` · `then = { reject = "No such mail here", code = 554, enhanced = "5.7.0" }` ·
`then = [{ add_header = "X-Bulk: yes" }, { score = 2.5 }]`.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from gateway import PluginOptions, Verdict, accept, defer, discard, quarantine, redirect, reject
from gateway.plugins.rules.attachments import StripAttachments
from gateway.plugins.rules.disclaimer import Disclaimer
from gateway.plugins.rules.envelope import AddTheRecipient, RemoveTheRecipient, UseTheRecipient
from gateway.plugins.rules.header import AddTheHeader, Junk, RemoveTheHeader, ReplaceTheHeader, TagTheSubject

TEXT = "Message refused by the policy of this site"


class Accept(PluginOptions):
    """`accept`: nobody further in the chain judges these recipients."""

    accept: Literal[True] = True

    def verdict(self, reason: str, evidence: str) -> Verdict:
        """The verdict with the rule's name in it."""
        return accept(reason, evidence=evidence)


class Reject(PluginOptions):
    """`reject`: refused for good."""

    reject: str = TEXT
    """Text for the peer, printable ASCII."""
    code: int = 550
    enhanced: str = "5.7.1"
    keep: bool = False
    """Keep a copy of the refused message for the operator."""

    @model_validator(mode="after")
    def _can_be(self) -> Reject:
        self.verdict("rule", "")
        return self

    def verdict(self, reason: str, evidence: str) -> Verdict:
        """The verdict with the rule's name in it."""
        return reject(self.reject, code=self.code, enhanced=self.enhanced, keep=self.keep, reason=reason, evidence=evidence)


class Defer(PluginOptions):
    """`defer`: refused for now, the peer tries again."""

    defer: str = TEXT
    """Text for the peer, printable ASCII."""
    code: int = 451
    enhanced: str = "4.7.1"

    @model_validator(mode="after")
    def _can_be(self) -> Defer:
        self.verdict("rule", "")
        return self

    def verdict(self, reason: str, evidence: str) -> Verdict:
        """The verdict with the rule's name in it."""
        return defer(self.defer, code=self.code, enhanced=self.enhanced, reason=reason, evidence=evidence)


class Quarantine(PluginOptions):
    """`quarantine`: accepted and held."""

    quarantine: str = "default"
    """Name of the box."""

    @field_validator("quarantine")
    @classmethod
    def _can_be(cls, value: str) -> str:
        quarantine("rule", box=value)
        return value

    def verdict(self, reason: str, evidence: str) -> Verdict:
        """The verdict with the rule's name in it."""
        return quarantine(reason, box=self.quarantine, evidence=evidence)


class Discard(PluginOptions):
    """`discard`: accepted and thrown away; the journal has its record."""

    discard: Literal[True] = True

    def verdict(self, reason: str, evidence: str) -> Verdict:
        """The verdict with the rule's name in it."""
        return discard(reason, evidence=evidence)


class RedirectTo(PluginOptions):
    """`redirect`: to another route."""

    redirect: str = Field(min_length=1)
    """Name of a `[[route]]`."""

    def verdict(self, reason: str, evidence: str) -> Verdict:
        """The verdict with the rule's name in it."""
        return redirect(self.redirect, reason=reason, evidence=evidence)


class Skip(PluginOptions):
    """`skip`: these plugins, later in the chain, do not judge this message."""

    skip: tuple[str, ...] = Field(min_length=1)
    """Names as in `plugins`."""


class GiveScore(PluginOptions):
    """`score`: a weight that `score.total` sums."""

    score: float = Field(allow_inf_nan=False)
    symbol: str = Field(default="", max_length=100)
    """Name of the score; default: the rule's."""


class PutLabel(PluginOptions):
    """`label`: a word on the message, that `labels` has for the rules below."""

    label: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")


Deciding: TypeAlias = Accept | Reject | Defer | Quarantine | Discard | RedirectTo
"""Actions that decide a recipient; a rule has at most one."""
Editing: TypeAlias = TagTheSubject | AddTheHeader | ReplaceTheHeader | RemoveTheHeader
"""Actions that are edits of the header section."""
Changing: TypeAlias = StripAttachments | Disclaimer
"""Actions that change the body, and may have to leave it as it is."""

ACTIONS: dict[str, type[PluginOptions]] = {
    "accept": Accept,
    "reject": Reject,
    "defer": Defer,
    "quarantine": Quarantine,
    "discard": Discard,
    "redirect": RedirectTo,
    "skip": Skip,
    "tag_subject": TagTheSubject,
    "add_header": AddTheHeader,
    "replace_header": ReplaceTheHeader,
    "remove_header": RemoveTheHeader,
    "strip": StripAttachments,
    "disclaimer": Disclaimer,
    "junk": Junk,
    "score": GiveScore,
    "label": PutLabel,
    "add_recipient": AddTheRecipient,
    "use_recipient": UseTheRecipient,
    "remove_recipient": RemoveTheRecipient,
}
WORDS = ("accept", "reject", "defer", "quarantine", "discard", "junk")
"""Actions that may stand as a word."""


def _from_word(value: Any) -> Any:
    """`"reject"` as the table it stands for."""
    if isinstance(value, str):
        if value not in WORDS:
            raise ValueError(_allowed(value))
        return ACTIONS[value]()
    return value


def _allowed(found: str) -> str:
    if found in ACTIONS and found not in WORDS:
        return f"{found} in a table with its value: {{ {found} = … }}"
    hint = next(iter(difflib.get_close_matches(found, ACTIONS, n=1)), "")
    suffix = f" (did you mean {hint!r}?)" if hint else ""
    return f"one of the words {', '.join(WORDS)}, or a table with one of the keys {', '.join(ACTIONS)}{suffix}"


def name_of(action: PluginOptions) -> str:
    """The key of an action."""
    return next(name for name, kind in ACTIONS.items() if type(action) is kind)


def _which(value: Any) -> str:
    """The action of a table: its one key that names an action."""
    if isinstance(value, PluginOptions):
        return name_of(value)
    named = [name for name in ACTIONS if isinstance(value, dict) and name in value]
    return named[0] if len(named) == 1 else ""


def _check_table(value: Any) -> Any:
    value = _from_word(value)
    if not _which(value):
        keys = list(value) if isinstance(value, dict) else []
        several = [str(key) for key in keys if key in ACTIONS]
        if len(several) > 1:
            tables = ", ".join(f"{{ {key} = … }}" for key in several)
            raise ValueError(f"one action in each table, several as a list of them: [{tables}]")
        raise ValueError(_allowed(str(keys[0]) if keys else ""))
    return value


Action = Annotated[
    Annotated[Accept, Tag("accept")]
    | Annotated[Reject, Tag("reject")]
    | Annotated[Defer, Tag("defer")]
    | Annotated[Quarantine, Tag("quarantine")]
    | Annotated[Discard, Tag("discard")]
    | Annotated[RedirectTo, Tag("redirect")]
    | Annotated[Skip, Tag("skip")]
    | Annotated[TagTheSubject, Tag("tag_subject")]
    | Annotated[AddTheHeader, Tag("add_header")]
    | Annotated[ReplaceTheHeader, Tag("replace_header")]
    | Annotated[RemoveTheHeader, Tag("remove_header")]
    | Annotated[StripAttachments, Tag("strip")]
    | Annotated[Disclaimer, Tag("disclaimer")]
    | Annotated[Junk, Tag("junk")]
    | Annotated[GiveScore, Tag("score")]
    | Annotated[PutLabel, Tag("label")]
    | Annotated[AddTheRecipient, Tag("add_recipient")]
    | Annotated[UseTheRecipient, Tag("use_recipient")]
    | Annotated[RemoveTheRecipient, Tag("remove_recipient")],
    Discriminator(_which),
    BeforeValidator(_check_table),
]
