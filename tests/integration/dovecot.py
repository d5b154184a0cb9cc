"""A real Dovecot LMTP server of the tests' own: its configuration, mailboxes and log in one directory, on loopback and a UNIX socket.

It knows some mailboxes of `dove.test`, refuses the others at RCPT, and one of them is full: that it says after the content only,
so that its answers for one message differ. Where Pigeonhole is installed, a Sieve script before all others files marked mail into Junk.
The system's Dovecot is not touched. Needs root, since it gives itself up.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from tests.integration.real_server import RealServer

DOMAIN = "dove.test"
MAILBOXES = ("alice", "bob", "carol", "dave")
FULL = f"full@{DOMAIN}"
"""Over quota after the dot: 552 5.2.2."""

SIEVE = Path("/usr/lib/dovecot/modules/lib90_sieve_plugin.so")
"""Pigeonhole."""
JUNK = """\
require ["fileinto", "mailbox"];
if header :is "X-Spam-Flag" "YES" {
  fileinto :create "Junk";
  stop;
}
"""
"""As docs/plugins/rules.md has it."""

_CONFIG = """\
base_dir = {directory}/run
state_dir = {directory}/run
log_path = {directory}/log
protocols = lmtp
listen = 127.0.0.1
ssl = no
default_process_limit = 20
first_valid_uid = 1
mail_location = maildir:{directory}/mail/%n
mail_plugins = quota
passdb {{
  driver = passwd-file
  args = {directory}/users
}}
userdb {{
  driver = passwd-file
  args = {directory}/users
}}
plugin {{
  quota = maildir:mailbox
  sieve_before = {directory}/junk.sieve
}}
protocol lmtp {{
  mail_plugins = quota {sieve}
}}
lmtp_add_received_header = yes
service lmtp {{
  unix_listener {directory}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


class RealDovecot(RealServer):
    """`with RealDovecot() as dovecot: … dovecot.address …`."""

    def __init__(self) -> None:
        super().__init__("Dovecot")
        self._mail = self._directory / "mail"
        self._log = self._directory / "log"
        self._prepare()

    @property
    def address(self) -> str:
        """As a route's `servers` has it, by TCP."""
        return f"lmtp://127.0.0.1:{self.port}"

    @property
    def socket_address(self) -> str:
        """The same by a UNIX socket."""
        return f"lmtp+unix:{self._directory}/lmtp"

    def launch(self) -> subprocess.Popen[bytes]:
        """Its master."""
        return self.in_own_group(["/usr/sbin/dovecot", "-F", "-c", self._directory / "dovecot.conf"])

    def messages(self, user: str) -> list[bytes]:
        """What lies in a mailbox, as Dovecot wrote it: its own fields on top."""
        return self._read(self._mail / user)

    def junk(self, user: str) -> list[bytes]:
        """The same of the folder Junk."""
        return self._read(self._mail / user / ".Junk")

    @staticmethod
    def _read(folder: Path) -> list[bytes]:
        return [file.read_bytes() for part in ("new", "cur") for file in (folder / part).glob("*")]

    def count(self, marker: str) -> dict[str, int]:
        """How often each mailbox has the message with this text in it; mailboxes without it are left out."""
        found = {user.name: sum(marker.encode() in one for one in self.messages(user.name)) for user in self._mail.iterdir()}
        return {user: number for user, number in found.items() if number}

    def log(self) -> str:
        """Its log."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def _prepare(self) -> None:
        owner = pwd.getpwnam("nobody")
        self._mail.mkdir()
        os.chown(self._mail, owner.pw_uid, owner.pw_gid)
        local, _, _ = FULL.partition("@")
        users = [
            f"{user}@{DOMAIN}:{{PLAIN}}x:{owner.pw_uid}:{owner.pw_gid}::{self._mail}/{user}::{extra}"
            for user, extra in [*((name, "") for name in MAILBOXES), (local, "userdb_quota_rule=*:bytes=10")]
        ]
        (self._directory / "users").write_text("\n".join(users) + "\n")
        has_sieve = SIEVE.exists()
        config = _CONFIG.format(directory=self._directory, port=self.port, sieve="sieve" if has_sieve else "")
        (self._directory / "dovecot.conf").write_text(config)
        (self._directory / "junk.sieve").write_text(JUNK)
        if has_sieve:
            subprocess.run(["sievec", self._directory / "junk.sieve"], check=True, capture_output=True, timeout=10)
