"""A real Sendmail of the tests' own: it knows some mailboxes of `example.test` and refuses the others at RCPT.

Its configuration is made by its own m4 sources, as on Debian. Its log is the dialogue of every connection, to it and from it.
See `own_root` for how it runs beside the machine's own mail server.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.integration.own_root import UNPACKED, ServerInOwnRoot
from tests.integration.postfix import DOMAIN

PROGRAM = UNPACKED / "sendmail" / "usr" / "libexec" / "sendmail" / "sendmail"

_CONFIG = """\
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`debian')dnl
define(`confDOMAIN_NAME', `{host}')dnl
LOCAL_DOMAIN(`{domains}')dnl
dnl However busy the machine is with the other tests.
define(`confQUEUE_LA', `10000')dnl
define(`confREFUSE_LA', `10000')dnl
define(`confDELAY_LA', `10000')dnl
define(`confTO_IDENT', `0')dnl
define(`confDONT_PROBE_INTERFACES', `True')dnl
undefine(`confHOST_STATUS_DIRECTORY')dnl
undefine(`ALIAS_FILE')dnl
define(`LOCAL_MAILER_PATH', `/etc/mail/deliver')dnl
define(`LOCAL_MAILER_ARGS', `deliver $u')dnl
MODIFY_MAILER_FLAGS(`LOCAL', `-S')dnl
{onward}
{more}
FEATURE(`no_default_msa')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
DAEMON_OPTIONS(`Name=MTA, Addr=127.0.0.1, Port={port}')dnl
MAILER(`local')dnl
MAILER(`smtp')dnl
"""
_ONWARD = """\
define(`SMART_HOST', `[127.0.0.1]')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {onward}')dnl
"""
_DELIVER = """\
#!/bin/sh
umask 022
cd "/var/mail/$1" && file=$(mktemp tmp/XXXXXXXX) && cat >"$file" && mv "$file" new/
"""


class RealSendmail(ServerInOwnRoot):
    """`with RealSendmail() as sendmail: … sendmail.address …`; with `onward` it keeps no mail and sends all of it there."""

    name = "sendmail"
    more = "dnl"
    """More of its configuration."""
    domains = DOMAIN

    def users(self) -> Mapping[str, tuple[int, str]]:
        return {"mail": (8, "/var/mail"), "smmta": (901, "/"), "smmsp": (902, "/")}

    def command(self) -> list[str]:
        daemon = "exec /usr/libexec/sendmail/sendmail -bD -q1s -X /var/log/mail"
        return ["sh", "-c", f"m4 /etc/mail/sendmail.mc >/etc/mail/sendmail.cf && {daemon}"]

    def prepare(self) -> None:
        self.directory("run/sendmail/mta")
        self.directory("var/lib/sendmail")
        self.directory("var/spool/mqueue", 0o700)
        self.write("etc/mail/service.switch", "hosts files\naliases files\n")
        for empty in ("local-host-names", "trusted-users", "relay-domains"):
            self.write(f"etc/mail/{empty}", "")
        self.write("etc/mail/deliver", _DELIVER, 0o755)
        facts = {"host": self.host, "port": self.port, "domains": "" if self.onward else self.domains}
        onward = _ONWARD.format(onward=self.onward) if self.onward else "dnl"
        self.write("etc/mail/sendmail.mc", _CONFIG.format(onward=onward, more=self.more, **facts))
