"""The plugin `icap` with a real c-icap: its virus scan, and its echo, which sends every message back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway import Fact, Label, PluginError, Reject
from gateway.plugins.icap import Icap, Options
from gateway.testing import Result, a_message, run_plugin
from tests.integration.c_icap import RealCIcap
from tests.integration.milters import EICAR

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def server(require: Callable[[str], str]) -> Iterator[RealCIcap]:
    """One for all tests here."""
    require("c-icap")
    require("clamd")
    with RealCIcap() as running:
        yield running


async def scanned(server: RealCIcap, text: dict[str, Any], **options: Any) -> Result:
    plugin = Icap(Options.model_validate({"server": server.address, "ping": 0, **options}), name="icap")
    return await run_plugin(plugin, message=a_message(**text))


def names(result: Result) -> list[str]:
    return [one.name for one in result.findings if isinstance(one, Label | Fact)]


SIZES = [1, 100, 3_000, 1_500_000]


@pytest.mark.parametrize("method", ["RESPMOD", "REQMOD"])
@pytest.mark.parametrize("preview", [None, 0, 10])
async def test_malware_is_found(server: RealCIcap, method: str, preview: int | None) -> None:
    attached = ("a.bin", EICAR, "application/octet-stream")
    result = await scanned(server, {"attach": attached}, method=method, preview=preview)
    assert isinstance(result.verdict, Reject)
    assert result.verdict.evidence == f"Test.EICAR.UNOFFICIAL by {server.address}"
    assert names(result) == ["icap.found", "icap.threat", "icap.then"]


@pytest.mark.parametrize("method", ["RESPMOD", "REQMOD"])
@pytest.mark.parametrize("service", ["avscan", "echo"])
async def test_clean_mail_passes(server: RealCIcap, service: str, method: str) -> None:
    for size in SIZES:
        for preview in (None, 0):
            result = await scanned(server, {"body": "x" * size}, service=service, method=method, preview=preview)
            assert names(result) == ["icap.clean"], (size, preview)


async def test_a_service_that_is_not_there(server: RealCIcap) -> None:
    with pytest.raises(PluginError, match="no such service: 404"):
        await scanned(server, {}, service="nothing")


async def test_a_ping(server: RealCIcap) -> None:
    plugin = Icap(Options.model_validate({"server": server.address, "ping": 0}), name="icap")
    assert await plugin.services[0].ping(plugin.ping, 5.0)
    await plugin.shutdown()
