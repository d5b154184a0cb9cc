"""A real server of the tests' own in a root directory of its own: mount, process and host name spaces that nothing else sees.

OpenSMTPD and Sendmail want users of the system and fixed paths, and exclude Postfix as packages. `tests/install-servers` unpacks
them; here each sees its package's /usr laid over the machine's, read-only, and an /etc, /run and /var that are directories of the
tests: the machine has no new user, no new file and no new path. The network is the machine's loopback. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

from tests.integration.postfix import MAILBOXES
from tests.integration.real_server import RealServer

UNPACKED = Path("/opt/mailgateway-tests")
START_LIMIT = 15.0
_SPACES = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
_INSIDE = """
set -e
root=$1 lower=$2 host=$3
shift 3
hostname "$host"
mount -t overlay -o "ro,lowerdir=$lower" overlay "$root/usr"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"
"""


def why_not() -> str:
    """Why no server can have a root of its own on this machine; empty when it can."""
    laying = ["mount", "-t", "overlay", "-o", "ro,lowerdir=/etc:/usr", "overlay", "/usr"]
    done = subprocess.run([*_SPACES, *laying], capture_output=True, timeout=30, check=False)
    return done.stderr.decode("utf-8", "replace").strip()


class ServerInOwnRoot(RealServer):
    """`with RealSendmail() as sendmail: … sendmail.address …`."""

    name: str
    """Of its directory under `UNPACKED`."""
    start_limit = START_LIMIT

    def __init__(self, *, onward: int = 0) -> None:
        super().__init__(self.name)
        self.onward = onward
        """Port of loopback that it sends all mail to; 0: it keeps what is for its mailboxes."""
        self.host = f"{self.name}-onward.test" if onward else f"{self.name}.test"
        """Its name, which differs as client, since servers refuse to talk to one of their own name."""
        self.root = self._directory
        self._log = self.root / "var" / "log" / "mail"
        self._furnish()
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Write its configuration and make its directories."""

    @abstractmethod
    def command(self) -> list[str]:
        """What runs it in the foreground, in its root."""

    @abstractmethod
    def users(self) -> Mapping[str, tuple[int, str]]:
        """Users, and groups of the same names, that it wants beside root and nobody: number and home directory."""

    @property
    def nobody(self) -> pwd.struct_passwd:
        """Who owns the mailboxes."""
        return pwd.getpwnam("nobody")

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"127.0.0.1:{self.port}"

    def messages(self, user: str) -> list[bytes]:
        """What lies in a mailbox, as the server wrote it: LF line ends, its own fields on top."""
        return [file.read_bytes() for file in (self.root / "var" / "mail" / user / "new").glob("*")]

    def log(self) -> str:
        """What it logs."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file in its root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def directory(self, path: str, mode: int = 0o755) -> Path:
        """A directory in its root."""
        made = self.root / path
        made.mkdir(parents=True)
        made.chmod(mode)
        return made

    def launch(self) -> subprocess.Popen[bytes]:
        """In name spaces and a root of its own. It ends with the tests, however they end."""
        lower = f"{UNPACKED / self.name / 'usr'}:/usr"
        inside = ["sh", "-c", _INSIDE, "sh", str(self.root), lower, self.host, *self.command()]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *_SPACES, *inside], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """The kernel ends all its processes with the first one of their name space."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                os.kill(int(child), signal.SIGKILL)
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()

    def _furnish(self) -> None:
        """What every server has: mount points, users, names of hosts without a resolver, mailboxes."""
        for path in ("usr", "dev", "proc", "etc", "run", "var/log", "var/mail"):
            self.directory(path)
        self.directory("tmp", 0o1777)
        for link in ("bin", "sbin", "lib", "lib64"):
            (self.root / link).symlink_to(f"usr/{link}")
        (self.root / "var" / "run").symlink_to("../run")
        nobody = self.nobody
        passwd = {"root": (0, 0, "/"), "nobody": (nobody.pw_uid, nobody.pw_gid, "/")}
        passwd |= {user: (number, number, home) for user, (number, home) in self.users().items()}
        groups = {"root": 0, "nogroup": nobody.pw_gid} | {user: number for user, (number, _) in self.users().items()}
        for user in MAILBOXES:
            passwd[user] = (nobody.pw_uid, nobody.pw_gid, f"/var/mail/{user}")
            for part in ("", "/new", "/cur", "/tmp"):
                os.chown(self.directory(f"var/mail/{user}{part}"), nobody.pw_uid, nobody.pw_gid)
        lines = [f"{user}:x:{uid}:{gid}::{home}:/bin/sh\n" for user, (uid, gid, home) in passwd.items()]
        self.write("etc/passwd", "".join(lines))
        self.write("etc/group", "".join(f"{group}:x:{gid}:\n" for group, gid in groups.items()))
        self.write("etc/hosts", f"127.0.0.1 localhost\n127.0.0.2 {self.host}\n")
        self.write("etc/resolv.conf", "nameserver 127.255.255.254\n")  # where nobody answers
        self.write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
