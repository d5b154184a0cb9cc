"""Mailboxes for comparing (RFC 5321 2.4, 4.1.2): what two spellings of one mailbox have in common. Nothing is looked up."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.idn import a_labels
from gateway.smtp.paths import Path

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MailboxKey:
    """A mailbox for comparing, as `mailbox_key` makes it.

    Examples:
        >>> MailboxKey("bob", "example.org").address
        'bob@example.org'
    """

    local_part: str
    """Without the quotes that it may have been written with; a file, query or filter must not take it for safe."""
    domain: str
    """Lower case, A-labels, no last dot; `` where there is none."""

    @property
    def address(self) -> str:
        """`local-part@domain`."""
        return f"{self.local_part}@{self.domain}" if self.domain else self.local_part

    @property
    def is_postmaster(self) -> bool:
        """Known everywhere (RFC 5321 4.5.1)."""
        return self.local_part.lower() == "postmaster"


def mailbox_key(path: Path, *, case_sensitive: bool = False, subaddress: str = "") -> MailboxKey:
    """A path for comparing.

    `subaddress`: characters that begin one, which is cut off (RFC 5233 4).

    Examples:
        >>> path = a_recipient('"Bob+lists"@Example.org').forward_path
        >>> mailbox_key(path, subaddress="+").address
        'bob@example.org'
    """
    local_part = path.local_part
    if len(local_part) >= 2 and local_part[0] == local_part[-1] == '"':  # RFC 5321 4.1.2
        local_part = _ESCAPED.sub(r"\1", local_part[1:-1])
    if not case_sensitive:
        local_part = local_part.casefold()
    ends = [at for character in subaddress if (at := local_part.find(character)) > 0]
    if ends:
        local_part = local_part[: min(ends)]
    return MailboxKey(local_part, (a_labels(path.domain) or path.domain.lower()).removesuffix("."))
