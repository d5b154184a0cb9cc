"""What a call to an isolated plugin may come to, beside an answer."""

from __future__ import annotations


class IsolationError(Exception):
    """A call was lost, and why: for the trace. `fault` is the kind of outcome."""

    def __init__(self, text: str, *, fault: str = "error") -> None:
        super().__init__(text)
        self.fault = fault
