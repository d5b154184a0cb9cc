"""What a process that the supervisor forks and the supervisor agree on."""

from __future__ import annotations

import os
import signal
import sys
import time

CLOSING_LIMIT = 2.0
"""After the drain limit, `serve` is cancelled and gets this long to say 421."""
EXIT_CONFIG = 2
"""Status of a worker that cannot use its configuration."""
_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """This process is killed when `parent`, which forked it, ends, however that ends. For every forked process, pools included."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        import threading

        threading.Thread(target=_watch_parent, args=(parent,), name="parent", daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)  # it ended before we asked


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
