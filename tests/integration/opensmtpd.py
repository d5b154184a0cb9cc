"""A real OpenSMTPD of the tests' own: it knows some mailboxes of `example.test` and refuses the others at RCPT.

It has no PIPELINING: what comes in one go gets an error. See `own_root` for how it runs beside the machine's own mail server.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.integration.own_root import UNPACKED, ServerInOwnRoot
from tests.integration.postfix import DOMAIN, MAILBOXES

PROGRAM = UNPACKED / "opensmtpd" / "usr" / "sbin" / "smtpd"

_CONFIG = """\
table mailboxes {{ {mailboxes} }}
listen on 127.0.0.1 port {port} hostname {host}
action "local" maildir "/var/mail/%{{rcpt.user}}" userbase <mailboxes>
match from any for domain "{domain}" action "local"
"""
_ONWARD = """\
table mailboxes {{ {mailboxes} }}
listen on 127.0.0.1 port {port} hostname {host}
action "onward" relay host "smtp://127.0.0.1:{onward}" helo {host}
match from any for any action "onward"
"""


class RealOpenSMTPD(ServerInOwnRoot):
    """`with RealOpenSMTPD() as opensmtpd: … opensmtpd.address …`; with `onward` it keeps no mail and sends all of it there."""

    name = "opensmtpd"

    def users(self) -> Mapping[str, tuple[int, str]]:
        return {"opensmtpd": (901, "/var/lib/opensmtpd/empty"), "opensmtpq": (902, "/var/lib/opensmtpd/empty")}

    def command(self) -> list[str]:
        return ["/usr/sbin/smtpd", "-d"]

    def prepare(self) -> None:
        self.directory("var/lib/opensmtpd/empty")
        self.directory("var/spool/smtpd", 0o711)
        self.write("etc/mailname", f"{self.host}\n")
        mailboxes = ", ".join(f'"{user}" = "{self.nobody.pw_uid}:{self.nobody.pw_gid}:/var/mail/{user}"' for user in MAILBOXES)
        facts = {"host": self.host, "port": self.port, "onward": self.onward, "domain": DOMAIN, "mailboxes": mailboxes}
        self.write("etc/smtpd.conf", (_ONWARD if self.onward else _CONFIG).format(**facts), 0o600)
