"""A real Exim of the tests' own as a client: it sends one message to the gateway, as a queue does, and its log says how it went.

Exim excludes Postfix in the package system, so `tests/install-servers` unpacks it beside it. Needs root, since it gives itself up.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

BINARY = Path("/opt/mailgateway-tests/exim/usr/sbin/exim4")
USER = "Debian-exim"
"""The user that Debian's Exim is built for."""

_CONFIG = """\
exim_path = {binary}
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
primary_hostname = exim.test
log_selector = +all
tls_advertise_hosts =
begin routers
out:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {port}
  hosts_try_prdr = *
  hosts_try_chunking = {chunking}
begin retry
* * F,1h,1s
"""


class RealExim:
    """`with RealExim() as exim: log = exim.send(port, …)`."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="mailgateway-exim-"))
        self._directory.chmod(0o755)  # Exim gives up root
        owner = pwd.getpwnam(USER)
        for name in ("spool", "log"):
            (self._directory / name).mkdir()
            os.chown(self._directory / name, owner.pw_uid, owner.pw_gid)

    def send(self, port: int, recipients: Sequence[str], content: bytes, *, chunking: bool = True) -> str:
        """One message without a sender, so that nothing bounces, tried once; Exim's log of it."""
        log = self._directory / "log" / "mainlog"
        log.unlink(missing_ok=True)
        config = self._directory / "exim.conf"
        config.write_text(_CONFIG.format(binary=BINARY, directory=self._directory, port=port, chunking="*" if chunking else ""))
        subprocess.run(
            [BINARY, "-C", config, "-odf", "-oi", "-f", "<>", *recipients],
            input=content,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return log.read_text("utf-8", "replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
