"""Extensions that the site lists in `pass_extensions`: the keyword as the next hop has it, its parameters as they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from gateway.smtp.extensions.base import Extension

if TYPE_CHECKING:
    from gateway.config.models import PassedParameters


class Passed(Extension):
    """One of them; nothing of it is understood here."""

    has_values = True

    def __init__(self, keyword: str, *, mail: Iterable[str], rcpt: Iterable[str]) -> None:
        self.keyword = keyword.upper()
        self.mail = frozenset(name.upper() for name in mail)
        self.rcpt = frozenset(name.upper() for name in rcpt)


def passed(listed: Mapping[str, PassedParameters]) -> tuple[Passed, ...]:
    """Those of a configuration."""
    return tuple(Passed(keyword, mail=one.mail, rcpt=one.rcpt) for keyword, one in listed.items())
