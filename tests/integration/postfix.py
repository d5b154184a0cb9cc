"""A real Postfix of the tests' own: its configuration, queue, mailboxes and log in one directory, on a free port of loopback.

It is a next hop as they are in the field: it trusts loopback, knows some mailboxes of `example.test`, refuses the others at RCPT
and logs what it does. The system's Postfix, running or not, is not touched. Needs root, as every Postfix does.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.integration.real_server import RealServer

DOMAIN = "example.test"
MAILBOXES = ("alice", "bob", "postmaster")
DEFERRED = f"deferred@{DOMAIN}"
"""Answered 450 at RCPT."""

_MASTER_CF = """\
{address} inet n - n - 100 smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
"""
_QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "saved", "trace", "private")


class RealPostfix(RealServer):
    """`with RealPostfix() as postfix: … postfix.address …`. It may be stopped and started again at the same address."""

    def __init__(
        self,
        *,
        message_size_limit: int = 50_000_000,
        port: int = 0,
        settings: dict[str, str] | None = None,
        services: str = "",
    ) -> None:
        """`settings` over those of main.cf below, `services`: more lines of master.cf."""
        super().__init__("Postfix", port)
        self._config = self._directory / "config"
        self._mail = self._directory / "mail"
        self._log = self._directory / "log"
        self._prepare(message_size_limit, settings or {}, services)

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"{self.host}:{self.port}"

    @property
    def config(self) -> Path:
        """The directory of main.cf and master.cf."""
        return self._config

    @property
    def pid(self) -> int:
        """Of its master, which reads the configuration again at SIGHUP."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Started and not stopped; paused counts as running."""
        return self._process is not None

    def launch(self) -> subprocess.Popen[bytes]:
        """Its master; `-d`: in the foreground."""
        program = next(p for p in (Path("/usr/lib/postfix/sbin/master"), Path("/usr/libexec/postfix/master")) if p.exists())
        return self.in_own_group([program, "-c", self._config, "-d"])

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Paused or not, and until nobody listens at its port any more; its queue stays, too."""
        self.send_signal(process, signal.SIGCONT)
        super().end(process)
        deadline = time.monotonic() + 2
        while self._listens() and time.monotonic() < deadline:
            time.sleep(0.005)

    def pause(self) -> None:
        """SIGSTOP to every process: connections are made by the kernel, and nobody answers."""
        assert self._process is not None
        self.send_signal(self._process, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`; harmless otherwise."""
        if self._process is not None:
            self.send_signal(self._process, signal.SIGCONT)

    @contextlib.contextmanager
    def with_settings(self, **settings: str) -> Iterator[None]:
        """Other main.cf settings for a while: `with postfix.with_settings(smtpd_recipient_restrictions="defer"): …`.

        Starts it anew both times, so that no process of before answers.
        """
        file = self._config / "main.cf"
        before = file.read_text()
        lines = [line for line in before.splitlines() if line.partition(" =")[0] not in settings]
        self._restart_with("\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items())]) + "\n")
        try:
            yield
        finally:
            self._restart_with(before)

    def messages(self, user: str) -> list[bytes]:
        """What lies in a mailbox, oldest first, as Postfix wrote it: LF line ends, its own fields on top."""
        found = [file for part in ("new", "cur") for file in (self._mail / user / part).glob("*")]
        return [file.read_bytes() for file in sorted(found, key=lambda file: file.stat().st_mtime_ns)]

    def clear(self) -> None:
        """Empty every mailbox."""
        for file in self._mail.glob("*/*/*"):
            file.unlink(missing_ok=True)

    def wait_for(self, user: str, marker: bytes, limit: float = 15.0) -> bytes:
        """The message with these octets in it, once it lies in the mailbox. TimeoutError with the log when it does not come."""
        deadline = time.monotonic() + limit
        while True:
            for octets in self.messages(user):
                if marker in octets:
                    return octets
            if time.monotonic() > deadline:
                msg = f"{marker!r} did not reach {user}\n{self.log()}"
                raise TimeoutError(msg)
            time.sleep(0.02)

    def log(self) -> str:
        """Its mail log."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def _restart_with(self, main_cf: str) -> None:
        self.stop()
        self._write("main.cf", main_cf)
        self.start()

    def _write(self, name: str, text: str) -> None:
        """A file of the configuration, made an hour ago: Postfix waits two seconds for one that was changed just now."""
        file = self._config / name
        file.write_text(text)
        past = time.time() - 3600
        os.utime(file, (past, past))

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
            return True
        return False

    def _prepare(self, message_size_limit: int, settings: dict[str, str], services: str) -> None:
        owner, mail_owner = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
        for path in (self._config, self._directory / "queue", self._directory / "queue" / "pid"):
            path.mkdir()
            path.chmod(0o755)
        for name in _QUEUES:
            self._own(self._directory / "queue" / name, owner, 0o700)
        self._own(self._directory / "queue" / "public", owner, 0o755)
        self._own(self._directory / "queue" / "maildrop", owner, 0o730)
        self._own(self._directory / "data", owner, 0o700)
        self._own(self._mail, mail_owner, 0o755)
        self._write("mailboxes", "".join(f"{user}@{DOMAIN} {user}/\n" for user in MAILBOXES))
        self._write("access", f"{DEFERRED} 450 4.2.1 Mailbox is not available now\n")
        self._write("master.cf", _MASTER_CF.format(address=self.address) + services)
        main = {
            "compatibility_level": "3.6",
            "queue_directory": f"{self._directory}/queue",
            "data_directory": f"{self._directory}/data",
            "maillog_file": str(self._log),
            "maillog_file_prefixes": str(self._directory),
            "mail_owner": "postfix",
            "myhostname": "postfix.test",
            "mydomain": "test",
            "myorigin": DOMAIN,
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "alias_database": "",
            "virtual_mailbox_domains": DOMAIN,
            "virtual_mailbox_base": str(self._mail),
            "virtual_mailbox_maps": f"texthash:{self._config}/mailboxes",
            "virtual_uid_maps": f"static:{mail_owner.pw_uid}",
            "virtual_gid_maps": f"static:{mail_owner.pw_gid}",
            "virtual_mailbox_limit": "0",
            # Mail for elsewhere, such as delivery reports, ends here and is in the log: nothing leaves this host.
            "default_transport": "discard:nothing leaves the tests",
            "message_size_limit": str(message_size_limit),
            "smtpd_peername_lookup": "no",
            # Content stays as it comes: no fields of its own in the header but the trace fields on top.
            "local_header_rewrite_clients": "",
            "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
            "smtpd_recipient_restrictions": f"check_recipient_access texthash:{self._config}/access",
            "smtpd_client_event_limit_exceptions": "static:all",
            "smtpd_client_connection_count_limit": "0",
            "smtpd_error_sleep_time": "0",
            "default_process_limit": "200",
            "in_flow_delay": "0",
            "notify_classes": "",
        }
        self._write("main.cf", "".join(f"{name} = {value}\n" for name, value in (main | settings).items()))

    @staticmethod
    def _own(path: Path, owner: pwd.struct_passwd, mode: int) -> None:
        path.mkdir()
        path.chmod(mode)
        os.chown(path, owner.pw_uid, owner.pw_gid)
