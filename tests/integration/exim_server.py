"""A real Exim of the tests' own as next hop: configuration, spool, mailboxes and log in one directory. `exim.py` has it as client."""

from __future__ import annotations

import os
import pwd
import subprocess

from tests.integration.exim import BINARY, USER
from tests.integration.postfix import DOMAIN, MAILBOXES
from tests.integration.real_server import RealServer

_CONFIG = """\
exim_path = {binary}
primary_hostname = exim.test
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/spool/pid
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
keep_environment =
host_lookup =
rfc1413_hosts =
tls_advertise_hosts =
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
prdr_enable = true
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
begin acl
rcpt:
  accept domains = {domain}
         local_parts = {mailboxes}
  deny message = no such mailbox here
begin routers
local:
  driver = accept
  local_parts = {mailboxes}
  transport = maildir
begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {directory}/mail/$local_part_data
  user = {user}
  delivery_date_add = false
  envelope_to_add = false
  return_path_add = false
begin retry
* * F,1h,1s
"""


class EximServer(RealServer):
    """`with EximServer() as exim: … exim.address …`."""

    def __init__(self) -> None:
        super().__init__("Exim")
        owner = pwd.getpwnam(USER)
        for name in ("spool", "log", "mail"):
            (self._directory / name).mkdir()
            os.chown(self._directory / name, owner.pw_uid, owner.pw_gid)
        facts = {"directory": self._directory, "port": self.port, "binary": BINARY, "user": USER}
        text = _CONFIG.format(domain=DOMAIN, mailboxes=" : ".join(MAILBOXES), **facts)
        (self._directory / "conf").write_text(text)

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"127.0.0.1:{self.port}"

    def messages(self, user: str) -> list[bytes]:
        """What lies in a mailbox, as Exim wrote it: LF line ends, its own fields on top."""
        return [file.read_bytes() for file in (self._directory / "mail" / user / "new").glob("*")]

    def log(self) -> str:
        """Its main log."""
        file = self._directory / "log" / "mainlog"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def launch(self) -> subprocess.Popen[bytes]:
        """Its daemon, which runs the queue too."""
        return self.in_own_group([BINARY, "-C", self._directory / "conf", "-bdf", "-q1s"])
