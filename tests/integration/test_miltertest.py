"""miltertest, the tool that milters are tested with, against the milter server: scripts of our own, and those of OpenDKIM where they are.

`MAILGATEWAY_OPENDKIM=directory` names the `opendkim/tests` of OpenDKIM's sources (`apt-get source opendkim`).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config.models import Config
from gateway.quarantine.rows import Query
from gateway.testing.in_process import InProcessGateway

pytestmark = [pytest.mark.real, pytest.mark.slow]
HERE = Path(__file__).parent
OPENDKIM = os.environ.get("MAILGATEWAY_OPENDKIM", "")
VERIFYING = ("t-verify-ss", "t-verify-unspec", "t-verify-ss-header-fields", "t-verify-ss-ar-bad")
"""Those that ask for a result of DKIM; the others are about settings and policies of OpenDKIM's own."""


def configured(tmp_path: Path, *plugins: str) -> Config:
    return Config.model_validate(
        {
            "plugins": list(plugins),
            "plugin_path": [str(tmp_path / "site")],
            "listener": [{"name": "milter", "bind": "127.0.0.1:0", "protocol": "milter", "lenient_networks": []}],
            "route": [{"name": "default", "domains": ["example.test"], "servers": ["127.0.0.1:1"]}],
        }
    )


async def miltertest(program: str, socket: str, script: Path, cwd: Path) -> str:
    """What it prints; a failure is an assertion."""
    process = await asyncio.create_subprocess_exec(
        *(program, "-D", f"SOCKET={socket}", "-D", f"TESTSOCKET={socket}", "-w", "-s", str(script)),
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        said, _ = await process.communicate()
    text = said.decode("utf-8", "replace")
    assert process.returncode == 0, text
    return text


async def test_our_script(require: Callable[[str], str], tmp_path: Path) -> None:
    program = require("miltertest")
    (tmp_path / "site").mkdir()
    shutil.copy(HERE.parent / "milter_says.py", tmp_path / "site" / "says.py")
    async with InProcessGateway(configured(tmp_path, "says"), directory=tmp_path) as gateway:
        script = HERE / "miltertest" / "verdicts.lua"
        said = await miltertest(program, f"inet:{gateway.port()}@127.0.0.1", script, tmp_path)
        await gateway.quiet()
        assert said.count("***") == 8
        assert len(await gateway.quarantine.search(Query())) == 1
        told = [(record["verdict"], record["client"]) for record in gateway.records]
    first = ["delivered", "discarded", "delivered", "held", "vanished", "rejected"]
    assert [verdict for verdict, _ in told][: len(first)] == first
    assert ("held", "192.0.2.1") in told
    assert ("vanished", "") in told, "of no known family"


@pytest.mark.skipif(not OPENDKIM, reason="MAILGATEWAY_OPENDKIM names no directory of OpenDKIM's tests")
@pytest.mark.parametrize("name", VERIFYING)
async def test_scripts_of_opendkim(require: Callable[[str], str], tmp_path: Path, name: str) -> None:
    """They start a filter beside their directory: a stand-in that does nothing; they speak with the gateway."""
    program = require("miltertest")
    (tmp_path / "site").mkdir()
    (tmp_path / "tests").mkdir()
    filter_ = tmp_path / "opendkim"
    filter_.write_text("#!/bin/sh\nexec sleep 20\n")
    filter_.chmod(0o755)
    zones = _zones(Path(OPENDKIM, "pubkeys"))
    async with InProcessGateway(configured(tmp_path, "dkim", "authres"), directory=tmp_path, zones=zones) as gateway:
        await miltertest(program, f"inet:{gateway.port()}@127.0.0.1", Path(OPENDKIM, f"{name}.lua"), tmp_path / "tests")


def _zones(keys: Path) -> dict[str, Any]:
    """OpenDKIM's table of TXT records."""
    return {
        found[1]: {"TXT": ["".join(re.findall(r'"([^"]*)"', found[2])) or found[2]]}
        for found in re.finditer(r"^([^#\s]\S*)\s+(.*)$", keys.read_text(), re.MULTILINE)
    }
