"""What came of a test that stands beside a plugin's options, for `mailgateway config check --test`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One test that was run.

    Examples:
        >>> Trial(name="rule 'executables', test 1", key=("rule", 0, "test", 0), problem="expected quarantine, got nothing").passed
        False
    """

    name: str
    """For people."""
    key: tuple[str | int, ...] = ()
    """Where it stands, below the plugin's table: `("rule", 0, "test", 1)`."""
    file: str = ""
    """The file it stands in, where that is one of the plugin's own."""
    line: int | None = None
    """Its line there."""
    problem: str = ""
    """How what came of it differs from what was expected, on one line; ``: it passed."""
    told: str = ""
    """More of it, on several lines: the trace."""

    @property
    def passed(self) -> bool:
        """True when nothing differs."""
        return not self.problem
