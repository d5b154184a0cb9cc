"""The state directory: made at the start, and this run's own place below it.

`<state_directory>/run/<pid>/` belongs to one supervisor for its life: files of the metrics, stacks of blocked workers. A lock that the
kernel drops with the last of its processes tells the living from the dead; what the dead left is removed at the next start.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from gateway.gateway_error import GatewayError

CONTROL = "control"
INBOX_FILE = "inbox.address"
"""In the run's own directory."""


class DirectoryError(GatewayError):
    """The state directory cannot be used: which one and why."""


def make_state_directory(path: Path) -> Path:
    """Make it where it is missing, for us alone; the absolute path. DirectoryError when it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o750)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DirectoryError(f"state directory {path}: {error.strerror or error}") from error
    return path.resolve()


class RunDirectory:
    """This run's place below the state directory. The lock is inherited by the workers."""

    def __init__(self, state: Path, *, lock: int | None = None) -> None:
        """`lock`: this process has it already, and with it the place."""
        parent = state / "run"
        if lock is not None:
            self.path = parent / str(os.getpid())
            self.metrics = self.path / "metrics"
            self.lock = lock
            return
        try:
            parent.mkdir(exist_ok=True, mode=0o750)
            _remove_dead(parent)
            self.path = parent / str(os.getpid())
            self.path.mkdir(exist_ok=True, mode=0o750)
            self.metrics = self.path / "metrics"
            self.metrics.mkdir(exist_ok=True)
            self.lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DirectoryError(f"state directory {state}: {error.strerror or error}") from error

    @property
    def control(self) -> Path:
        """Where the supervisor listens for commands: a UNIX socket for whoever may enter the directory."""
        return self.path / CONTROL

    def stack_file(self, worker: int) -> Path:
        """Where a blocked worker writes its stack when asked by a signal."""
        return self.path / f"worker-{worker}.stack"

    def modules_file(self, worker: int) -> Path:
        """Where a worker says which file belongs to which plugin (JSON)."""
        return self.path / f"worker-{worker}.plugins.json"

    def note_inbox(self, address: tuple[str, int]) -> None:
        """Write down where the development next hop listens: `quarantine release` finds it there, as `host:port`."""
        with suppress(OSError):
            (self.path / INBOX_FILE).write_text(f"{address[0]}:{address[1]}\n")

    def forget_gauges(self, pid: int) -> None:
        """A process ended: its gauges are no longer summed, its counters stay."""
        for file in self.metrics.glob(f"gauge_live*_{pid}.db"):
            file.unlink(missing_ok=True)

    def remove(self) -> None:
        """The end of the run."""
        with suppress(OSError):
            os.close(self.lock)
        _remove_tree(self.path)


def _remove_dead(parent: Path) -> None:
    for entry in parent.iterdir():
        if not entry.is_dir():
            continue
        try:
            lock = os.open(entry / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            if not Path(f"/proc/{entry.name}").exists():
                _remove_tree(entry)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its processes live
        else:
            _remove_tree(entry)
        finally:
            os.close(lock)


def _remove_tree(path: Path) -> None:
    import shutil  # brings the libraries of archives

    shutil.rmtree(path, ignore_errors=True)
