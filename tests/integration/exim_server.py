"""A real Exim of the tests' own as next hop: configuration, spool, mailboxes and log in one directory. `exim.py` has it as client."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.integration.exim import BINARY, USER
from tests.integration.postfix import DOMAIN, MAILBOXES

START_LIMIT = 10.0

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


class EximServer:
    """`with EximServer() as exim: … exim.address …`."""

    def __init__(self) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        self._directory = Path(tempfile.mkdtemp(prefix="mailgateway-exim-"))
        self._directory.chmod(0o755)  # it gives up root
        owner = pwd.getpwnam(USER)
        for name in ("spool", "log", "mail"):
            (self._directory / name).mkdir()
            os.chown(self._directory / name, owner.pw_uid, owner.pw_gid)
        facts = {"directory": self._directory, "port": self.port, "binary": BINARY, "user": USER}
        text = _CONFIG.format(domain=DOMAIN, mailboxes=" : ".join(MAILBOXES), **facts)
        (self._directory / "conf").write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

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

    def __enter__(self) -> Self:
        command = [str(BINARY), "-C", str(self._directory / "conf"), "-bdf", "-q1s"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + START_LIMIT
        while not self._greets():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = self.log()
                self.__exit__()
                raise TimeoutError(f"Exim does not answer\n{log}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)  # a group of its own: start_new_session
            self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.settimeout(2)
            if sock.recv(100).startswith(b"220 "):
                sock.sendall(b"QUIT\r\n")
                return True
        return False
