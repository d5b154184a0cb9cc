"""ESMTP extensions, one small module each: what is offered, which parameters belong to it, what they may say.

The session knows none by name: it asks all of `EXTENSIONS`. A new one is one file and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.smtp.extensions.auth import AUTH
from gateway.smtp.extensions.base import Extension, Terms
from gateway.smtp.extensions.binarymime import BINARYMIME
from gateway.smtp.extensions.chunking import CHUNKING
from gateway.smtp.extensions.commands import ETRN, EXPN, VRFY
from gateway.smtp.extensions.deliverby import DELIVERBY
from gateway.smtp.extensions.dsn import DSN
from gateway.smtp.extensions.eightbitmime import EIGHTBITMIME
from gateway.smtp.extensions.enhancedstatuscodes import ENHANCEDSTATUSCODES
from gateway.smtp.extensions.futurerelease import FUTURERELEASE
from gateway.smtp.extensions.introducing import XCLIENT, XFORWARD
from gateway.smtp.extensions.limits import LIMITS
from gateway.smtp.extensions.mtpriority import MT_PRIORITY
from gateway.smtp.extensions.nosoliciting import NO_SOLICITING
from gateway.smtp.extensions.passed import passed
from gateway.smtp.extensions.pipelining import PIPELINING
from gateway.smtp.extensions.prdr import PRDR
from gateway.smtp.extensions.requiretls import REQUIRETLS
from gateway.smtp.extensions.size import SIZE
from gateway.smtp.extensions.smtputf8 import SMTPUTF8
from gateway.smtp.extensions.starttls import STARTTLS

if TYPE_CHECKING:
    from gateway.config.models import PassedParameters
    from gateway.relay.protocol import Capabilities

EXTENSIONS: tuple[Extension, ...] = (
    PIPELINING,
    SIZE,
    EIGHTBITMIME,
    SMTPUTF8,
    ENHANCEDSTATUSCODES,
    DSN,
    CHUNKING,
    BINARYMIME,
    PRDR,
    DELIVERBY,
    FUTURERELEASE,
    MT_PRIORITY,
    LIMITS,
    NO_SOLICITING,
    REQUIRETLS,
    AUTH,
    VRFY,
    EXPN,
    ETRN,
    STARTTLS,
    XCLIENT,
    XFORWARD,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The extensions of a site, and whose each parameter is."""

    all: tuple[Extension, ...]
    mail: Mapping[str, Extension]
    rcpt: Mapping[str, Extension]

    @classmethod
    def of(cls, listed: Mapping[str, PassedParameters]) -> Known:
        """Ours, and those the site lists; a listed one takes no name from ours."""
        every = (*EXTENSIONS, *passed(listed))
        mail: dict[str, Extension] = {}
        rcpt: dict[str, Extension] = {}
        for extension in every:
            for owners, names in ((mail, extension.mail), (rcpt, extension.rcpt)):
                for name in names:
                    owners.setdefault(name, extension)
        return cls(all=every, mail=mail, rcpt=rcpt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is offered on these terms. Sessions on equal terms have it in common: most clients of a door."""

    terms: Terms
    own: Capabilities | None
    """Of the next hop that knows who may authenticate, where there is one."""
    extensions: Mapping[str, Extension]
    """By keyword."""
    lines: tuple[bytes, ...]
    """Of the reply to EHLO, behind the first."""


__all__ = ["EXTENSIONS", "Extension", "Known", "Offer", "Terms"]
