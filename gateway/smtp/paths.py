"""Commands, and paths and parameters of MAIL and RCPT, as values: RFC 5321 4.1.2. Octets are kept; nothing is looked up.

The strict parser is `grammar`; this module holds only what it makes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gateway.values import value


@dataclass(frozen=True, slots=True)
class Path:
    """A reverse-path or forward-path.

    Examples:
        >>> path = a_transaction(reverse_path="Alice@Client.Example").reverse_path
        >>> (path.mailbox, path.local_part, path.domain_key, path.is_null)
        ('Alice@Client.Example', 'Alice', 'client.example', False)
    """

    octets: bytes
    """As received, with the angle brackets: `<"a b"@example.org>`, `<>`, `<@relay:a@example.org>`."""
    local_part: str
    """Local part as received, quotes and all; `` for the null reverse-path."""
    domain: str
    """Domain or address literal as received; `` for `<>` and `<postmaster>`."""

    @property
    def is_null(self) -> bool:
        """The null reverse-path `<>` (RFC 5321 4.5.5)."""
        return not self.local_part and not self.domain

    @property
    def mailbox(self) -> str:
        """`local-part@domain` as received, without source route; `` for the null reverse-path."""
        return f"{self.local_part}@{self.domain}" if self.domain else self.local_part

    @property
    def domain_key(self) -> str:
        """The domain for comparing: lower case, no trailing dot."""
        return self.domain.lower().rstrip(".")

    def __str__(self) -> str:
        return self.octets.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Parameter:
    """An ESMTP parameter of MAIL or RCPT, octets kept (RFC 5321 4.1.2 esmtp-param).

    Examples:
        >>> parameter = Parameter(b"SIZE=1000")
        >>> (parameter.keyword, parameter.value)
        ('SIZE', '1000')
    """

    octets: bytes
    """As received: `NOTIFY=SUCCESS,failure`."""
    keyword: str = field(init=False, repr=False, compare=False)
    """In upper case, for comparing; made once, for a parameter is asked for it by everybody who looks for another one."""

    def __post_init__(self) -> None:
        """The keyword."""
        keyword = self.octets.partition(b"=")[0].decode("ascii", "replace").upper()
        object.__setattr__(self, "keyword", keyword)  # it is frozen for everybody else

    @property
    def value(self) -> str | None:
        """As received, None without `=`."""
        _, equals, value = self.octets.partition(b"=")
        return value.decode("utf-8", "replace") if equals else None


@value(frozen=True, slots=True)
class Command:
    """A command line."""

    verb: str
    """In upper case; `` when the line has no verb."""
    argument: bytes
    bare_lf: bool = False
    """The line ended in LF without CR."""
    path: Path | None = field(default=None, compare=False)
    """Of MAIL or RCPT, where reading the line told it; None: the argument is still to be read."""
    parameters: tuple[Parameter, ...] = field(default=(), compare=False)
    """Those that stand with such a path."""


NULL: Final = Path(b"<>", "", "")
