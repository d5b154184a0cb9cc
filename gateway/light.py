"""Whether this process supervises and does nothing else: then the public API is not loaded in it, which is 20 MB.

`mailgateway run` hands over to such a process (gateway/server/handing_over.py). What it forks loads the rest first of all.
"""

from __future__ import annotations

import importlib
import os
import sys

VARIABLE = "MAILGATEWAY_HANDED_OVER"
"""Environment variable with which a process is started anew to supervise: a descriptor with what there is."""

handed_over = os.environ.pop(VARIABLE, "")
"""That descriptor; `` in a process like any other."""


def load_all() -> None:
    """In a process that the supervisor has forked: from here on it is like any other."""
    global handed_over  # noqa: PLW0603 - a fact about the process
    if handed_over:
        handed_over = ""
        importlib.reload(sys.modules["gateway"])
