"""XCLIENT and XFORWARD (Postfix): offered to the hosts that are believed, with the attributes that they may say."""

from __future__ import annotations

from gateway.smtp.client_attributes import XCLIENT as XCLIENT_ATTRIBUTES
from gateway.smtp.client_attributes import XFORWARD as XFORWARD_ATTRIBUTES
from gateway.smtp.extensions.base import Extension, Terms


class _Introducing(Extension):
    def __init__(self, keyword: str, attributes: tuple[str, ...]) -> None:
        self.keyword = keyword
        self._line = " ".join((keyword, *attributes))

    def offer(self, terms: Terms) -> str | None:
        return self._line if terms.may_introduce else None


XCLIENT = _Introducing("XCLIENT", XCLIENT_ATTRIBUTES)
XFORWARD = _Introducing("XFORWARD", XFORWARD_ATTRIBUTES)
