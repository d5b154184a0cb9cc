"""Instructions of pieces of work, under `valgrind --tool=callgrind`: `count` starts this module again there and reads what it says.

Each scenario runs in a process forked after the imports, so that none changes what another costs. Between its runs it calls
`getppid`, which is nobody else's call: callgrind writes down there what was counted since the last time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.curves import points
from benchmarks.in_memory import MemoryLoop
from benchmarks.scenarios import Scenario, scenarios
from gateway.config.models import ServerConfig
from gateway.server import logs

_MARK = "getppid"
_WARM, _ONCE, _THRICE = 1, 2, 3
"""The dumps: up to the end of the warming-up, the work, three times the work."""


def count(names: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Instructions a unit of each of these scenarios, as they are counted: as many at once as there are cores, which a count does not mind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        sys.exit("valgrind is not installed: sudo apt install valgrind")
    with tempfile.TemporaryDirectory() as folder:
        options = ["--tool=callgrind", f"--dump-before={_MARK}", f"--callgrind-out-file={folder}/out.%p", "--quiet"]
        command = [valgrind, *options, sys.executable, "-m", "benchmarks.counted"]
        # Interpreted, though a core may be there, unless it is asked for.
        environment = {"MAILGATEWAY_CORE": "0", **os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        cores = os.cpu_count() or 1
        with contextlib.ExitStack() as stack:
            started = [
                stack.enter_context(subprocess.Popen([*command, *part], env=environment, stdout=subprocess.PIPE, text=True))
                for at in range(cores)
                if (part := names[at::cores])
            ]
            for process in started:
                assert process.stdout is not None
                for line in process.stdout:
                    pid, divisor, name = line.rstrip("\n").split(" ", 2)
                    dumps = [_total(Path(folder) / f"out.{pid}.{dump}") for dump in (_ONCE, _THRICE)]
                    yield name, (dumps[1] - dumps[0] if dumps[1] else dumps[0]) / int(divisor)
                if process.wait():
                    sys.exit(f"counting ended with {process.returncode}")


def _total(dump: Path) -> int:
    if not dump.exists():
        return 0
    for line in dump.read_text("ascii", "replace").splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    sys.exit(f"{dump.name} has no total")


def _work(scenario: Scenario) -> None:
    """In the process of a scenario."""

    async def work() -> None:
        async with scenario.prepare() as run:
            await run(scenario.count)
            gc.collect()
            gc.freeze()  # as a worker does when it has started
            os.getppid()
            await run(scenario.count)
            os.getppid()
            if not scenario.is_long:
                await run(3 * scenario.count)
                os.getppid()

    logs.configure(ServerConfig(log_level="warning", log_format="json"), process="count", queued=False)
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        runner.run(work())


def main() -> None:
    """Under callgrind: a process for each name."""
    known = {**scenarios(), **points()}
    for name in sys.argv[1:]:
        scenario = known[name]
        pid = os.fork()
        if not pid:
            _work(scenario)
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            sys.exit(1)
        print(pid, (1 if scenario.is_long else 2) * scenario.count * scenario.units, name, flush=True)


if __name__ == "__main__":
    main()
