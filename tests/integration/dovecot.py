"""A real Dovecot LMTP server of the tests' own: its configuration, mailboxes and log in one directory, on loopback and a UNIX socket.

It knows some mailboxes of `dove.test`, refuses the others at RCPT, and one of them is full: that it says after the content only,
so that its answers for one message differ. The system's Dovecot is not touched. Needs root, since it gives itself up.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

DOMAIN = "dove.test"
MAILBOXES = ("alice", "bob", "carol", "dave")
FULL = f"full@{DOMAIN}"
"""Over quota after the dot: 552 5.2.2."""
START_LIMIT = 10.0

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


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RealDovecot:
    """`with RealDovecot() as dovecot: … dovecot.address …`."""

    def __init__(self) -> None:
        self.port = _free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="mailgateway-dovecot-"))
        self._directory.chmod(0o755)  # Dovecot's own users look for their files in it
        self._mail = self._directory / "mail"
        self._log = self._directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._prepare()

    @property
    def address(self) -> str:
        """As a route's `servers` has it, by TCP."""
        return f"lmtp://127.0.0.1:{self.port}"

    @property
    def socket_address(self) -> str:
        """The same by a UNIX socket."""
        return f"lmtp+unix:{self._directory}/lmtp"

    def start(self) -> None:
        """Start it, and return when it greets. TimeoutError with its log when it does not."""
        with (self._directory / "stderr").open("ab") as stderr:
            self._process = subprocess.Popen(
                ["/usr/sbin/dovecot", "-F", "-c", self._directory / "dovecot.conf"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_LIMIT
        while not self._greets():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                msg = f"Dovecot does not answer\n{self.log()}\n{(self._directory / 'stderr').read_text()}"
                raise TimeoutError(msg)
            time.sleep(0.02)

    def stop(self) -> None:
        """End it with all its processes; the mailboxes stay."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a group of its own: start_new_session
            process.wait()

    def messages(self, user: str) -> list[bytes]:
        """What lies in a mailbox, as Dovecot wrote it: its own fields on top."""
        return [file.read_bytes() for part in ("new", "cur") for file in (self._mail / user / part).glob("*")]

    def count(self, marker: str) -> dict[str, int]:
        """How often each mailbox has the message with this text in it; mailboxes without it are left out."""
        found = {user.name: sum(marker.encode() in one for one in self.messages(user.name)) for user in self._mail.iterdir()}
        return {user: number for user, number in found.items() if number}

    def log(self) -> str:
        """Its log."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def close(self) -> None:
        """Stop it and remove everything."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.settimeout(2)
            if sock.recv(100).startswith(b"220 "):
                sock.sendall(b"QUIT\r\n")
                return True
        return False

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
        (self._directory / "dovecot.conf").write_text(_CONFIG.format(directory=self._directory, port=self.port))
