"""Plus-addressing (RFC 5233): `alice+lists@` goes to `alice@` where the next hop knows no subaddresses. Shows another forward-path."""

from __future__ import annotations

import re

from pydantic import Field

from gateway import Path, Plugin, PluginOptions, Recipient, UseForwardPath, hook, mailbox_key, use_forward_path

_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+)*")


class Options(PluginOptions):
    """Where subaddresses are cut off."""

    domains: tuple[str, ...] = Field(min_length=1)
    """Domains with subaddresses; all others are left alone."""
    separators: str = Field(default="+", min_length=1, max_length=4)
    """Characters that begin one."""
    keep: tuple[str, ...] = ()
    """Local parts that go on as they are, without their subaddress: `["bounces"]` keeps `bounces+7@` of a mailing list."""


class Subaddress(Plugin[Options]):
    """Sends mail for a subaddress to the mailbox in front of it."""

    @hook(cheap=True)
    def rcpt(self, recipient: Recipient) -> UseForwardPath | None:
        """The path without its subaddress."""
        path = recipient.forward_path
        domains = {domain.lower() for domain in self.options.domains}
        if mailbox_key(path).domain not in domains:
            return None
        plain = self._plain(path)
        if plain is None or plain.casefold() in {one.casefold() for one in self.options.keep}:
            return None
        return use_forward_path(f"{plain}@{path.domain}")

    def _plain(self, path: Path) -> str | None:
        """The local part without its subaddress; None when it has none, or would be no local part without quotes."""
        written = mailbox_key(path, case_sensitive=True).local_part
        plain = mailbox_key(path, case_sensitive=True, subaddress=self.options.separators).local_part
        return plain if plain != written and _ATOMS.fullmatch(plain) else None  # RFC 5321 4.1.2: Dot-string
