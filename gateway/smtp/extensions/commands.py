"""VRFY, EXPN (RFC 5321 3.5.2) and ETRN (RFC 1985): listed where the site has them answered, by the next hop or by itself."""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension, Terms


class _Answered(Extension):
    def __init__(self, keyword: str) -> None:
        self.keyword = keyword

    def offer(self, terms: Terms) -> str | None:
        if self.keyword in terms.own_commands:
            return self.keyword
        return super().offer(terms) if self.keyword in terms.passed_commands else None


VRFY = _Answered("VRFY")
EXPN = _Answered("EXPN")
ETRN = _Answered("ETRN")
