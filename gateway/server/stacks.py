"""The stack of a worker whose loop no thread of its own can look at: asked for by a signal, written to a file by `faulthandler`."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

ASK_FOR_STACK = signal.SIGUSR2
_FRAME = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')


def answer_with_stack(file: Path) -> None:
    """From here on the supervisor's signal makes this process write its main thread's stack to `file`, whatever it is doing."""
    import faulthandler

    out = file.open("w", encoding="utf-8")
    faulthandler.register(ASK_FOR_STACK, file=out, all_threads=False, chain=False)


def plugin_in_stack(stack: Path, modules: Path) -> tuple[str, str]:
    """Plugin and place in the stack that a blocked worker wrote; `` for what is not to be had."""
    try:
        text = stack.read_text(encoding="utf-8", errors="replace")[:20_000]
        named = json.loads(modules.read_text(encoding="utf-8")) if modules.exists() else {}
    except (OSError, ValueError):
        return "", ""
    frames = _FRAME.findall(text)
    place = "{}:{} {}".format(*frames[0]) if frames else ""
    for file, _line, _function in frames:
        if name := named.get(file):
            return str(name), place
        path = Path(file)
        for folder in path.parents:
            if folder.name == "plugins":
                return path.relative_to(folder).parts[0].removesuffix(".py"), place
    return "", place
