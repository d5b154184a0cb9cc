"""The content as it goes on, as content: what those are given who sign it. Nothing is put together before they look."""

from __future__ import annotations

from gateway.content import Content, Octets
from gateway.splice import Spliced


class SplicedContent(Content):
    """The content as it goes on, for those who sign it: put together when somebody looks at its octets, and not before."""

    __slots__ = ("_spliced", "_whole")
    _whole: Octets

    def __init__(self, spliced: Spliced, *, is_binary: bool) -> None:
        super().__init__(b"")
        self._spliced = spliced
        self.size = spliced.size
        self.arriving = spliced.arriving
        self.is_binary = is_binary

    @property
    def octets(self) -> Octets:
        """All of them, in memory."""
        if not self._whole:
            self._whole = b"".join(self._spliced.chunks())
        return self._whole

    @octets.setter
    def octets(self, octets: Octets) -> None:
        self._whole = octets
