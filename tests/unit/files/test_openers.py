"""The processes that open files: what goes wrong in one is a finding of that message, and others do not notice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import Message, PluginError
from gateway.config.models import Config
from gateway.content import Content
from gateway.files import openers
from gateway.files.openers import Openers, _Process
from gateway.files.parts import wanted
from gateway.files.values import FileBounds, Opened
from gateway.plugin_context import PluginContexts
from gateway.testing import a_message
from tests.archives import EICAR, EICAR_SHA256, a_zip


@pytest.fixture(scope="module")
def processes() -> Iterator[Openers]:
    """One for all tests here: each process takes a while to start."""
    made = Openers()
    try:
        yield made
    finally:
        made.close()


def a_message_with_archive() -> Message:
    return a_message(attach=("a.zip", a_zip({"eicar.com": EICAR})))


async def opened(processes: Openers, message: Message, bounds: FileBounds | None = None) -> Opened:
    return await processes.open("x", message.content, bounds or FileBounds(), wanted(message))


async def test_in_memory_and_in_a_spool_file(processes: Openers, tmp_path: Path) -> None:
    message = a_message_with_archive()
    found = await opened(processes, message)
    assert found.files[1].sha256 == EICAR_SHA256
    spool = tmp_path / "spool"
    spool.write_bytes(bytes(message.octets))
    with spool.open("r+b") as file:
        spooled = Message(Content.from_file(file))
        assert await opened(processes, spooled) == found
        spooled.content.close()
    assert len(processes._all) == 1


async def the_process(processes: Openers) -> _Process:
    """The one that comes next, idle."""
    await opened(processes, a_message_with_archive())
    while processes._idle.qsize() > 1:
        processes._drop(processes._idle.get_nowait())
    found = processes._idle.get_nowait()
    processes._idle.put(found)
    return found


async def test_a_process_that_ends_is_a_finding_of_that_message(processes: Openers) -> None:
    process = await the_process(processes)

    def end(limit: float) -> Opened:
        os.kill(process._process.pid, signal.SIGKILL)
        process._process.wait()
        return type(process).result(process, limit)

    process.begin = lambda job, file: None  # type: ignore[method-assign] # as if it had been begun
    process.result = end  # type: ignore[method-assign]
    found = await opened(processes, a_message_with_archive())
    assert (found.limits_hit, found.unopened[0].word) == (("files-process",), "files-process")
    assert (await opened(processes, a_message_with_archive())).files[1].sha256 == EICAR_SHA256


async def test_a_process_that_ended_between_two_messages_is_replaced(processes: Openers) -> None:
    process = await the_process(processes)
    os.kill(process._process.pid, signal.SIGKILL)
    process._process.wait()
    assert (await opened(processes, a_message_with_archive())).limits_hit == ()


async def test_a_process_that_does_not_answer_is_ended(processes: Openers, monkeypatch: pytest.MonkeyPatch) -> None:
    process = await the_process(processes)
    monkeypatch.setattr(openers, "_PATIENCE", 0.05)

    def stop(job: dict[str, object], file: int) -> None:
        os.kill(process._process.pid, signal.SIGSTOP)
        del job, file

    process.begin = stop  # type: ignore[method-assign]
    found = await opened(processes, a_message_with_archive(), FileBounds(time=0.01))
    assert found.limits_hit == ("files-time",)
    assert process not in processes._all


async def test_two_at_once_and_no_more(processes: Openers) -> None:
    found = await asyncio.gather(*(opened(processes, a_message_with_archive()) for _ in range(6)))
    assert all(one.files[1].sha256 == EICAR_SHA256 for one in found)
    assert len(processes._all) <= openers.PROCESSES


async def test_too_many_waiting_is_a_fault_and_no_finding(processes: Openers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openers, "MAX_QUEUED", 0)
    with pytest.raises(PluginError):
        await opened(processes, a_message_with_archive())


async def test_no_process_to_be_had_is_a_fault(processes: Openers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.files.openers.sys.executable", "/nowhere/python")
    fresh = Openers()
    with pytest.raises(PluginError):
        await opened(fresh, a_message_with_archive())
    fresh.close()


async def test_time_and_memory_are_limited_in_the_process(processes: Openers) -> None:
    slow = a_message(attach=("a.zip", a_zip({"a": bytes(40_000_000)})))
    found = await opened(processes, slow, FileBounds(time=0.02, ratio=100_000))
    assert "files-time" in found.limits_hit
    assert found.files[0].name == "a.zip"
    found = await opened(processes, slow, FileBounds(memory=50_000_000, ratio=100_000))
    assert found.limits_hit == ("files-memory",)
    assert (await opened(processes, a_message_with_archive())).files[1].sha256 == EICAR_SHA256
    assert processes._idle.qsize() == len(processes._all)


async def test_a_worker_has_them_for_its_plugins(tmp_path: Path) -> None:
    contexts = PluginContexts(Config(), directory=tmp_path)
    try:
        message = a_message_with_archive()
        found = await contexts("one").open_files(message)
        assert found.files[1].sha256 == EICAR_SHA256
        assert await contexts("two").open_files(message) is found
    finally:
        await contexts.close()
