"""The plugin `program`: what exit codes come to, what a program gets, and what one that misbehaves costs."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway import Defer, Discard, Fact, Label, Message, OptionError, PluginError, Quarantine, Reject, Score, Verdict
from gateway.content import Content
from gateway.plugins.program import Options, Program, running
from gateway.testing import FakeContext, Result, a_message, a_session, a_transaction, run_plugin


def a_plugin(script: str, *, name: str = "program", **options: Any) -> Program:
    """One that is a script of sh."""
    return Program(Options(command=("/bin/sh", "-c", script), **options), name=name)


def found(result: Result) -> dict[str, object]:
    return {
        one.name: one.evidence if isinstance(one, Label) else one.value
        for one in result.findings
        if isinstance(one, Label | Fact)
    }


def is_there(process: int) -> bool:
    """Running, or a zombie that waits for us; one that waits for init, whose parent went first, is init's."""
    try:
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return False
    return state != "Z" or int(parent) == os.getpid()


async def gone(process: int) -> bool:
    """It ends, and is waited for."""
    for _ in range(200):
        if not is_there(process):
            return True
        await asyncio.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("script", "options", "expected"),
    [
        ("exit 0", {}, None),
        ("exit 1", {}, Quarantine),
        ("exit 1", {"then": "reject"}, Reject),
        ("exit 1", {"then": "discard"}, Discard),
        ("exit 1", {"then": "pass"}, None),
        ("exit 75", {}, Defer),
        ("exit 3", {"exit_codes": {"3": "reject"}}, Reject),
        ("exit 3", {"other": "discard"}, Discard),
        ("exit 3", {"other": "clean"}, None),
    ],
)
async def test_exit_codes(script: str, options: dict[str, Any], expected: type[Verdict] | None) -> None:
    result = await run_plugin(a_plugin(script, **options))
    assert (None if result.verdict is None else type(result.verdict)) is expected
    if result.verdict is not None:
        assert result.verdict.reason == "program-found"


async def test_what_was_found_is_named() -> None:
    plugin = a_plugin(
        "echo 'stream: Eicar-Test FOUND'; echo 'score=7.5'; exit 1", found=r"(\S+) FOUND", score=r"score=(\S+)", box="virus"
    )
    result = await run_plugin(plugin)
    evidence = "Eicar-Test; exit code 1: stream: Eicar-Test FOUND score=7.5"
    assert found(result) == {"program.exit": 1, "program.found": evidence, "program.then": f"quarantine {evidence}"}
    assert [(one.symbol, one.weight) for one in result.findings if isinstance(one, Score)] == [("program", 7.5)]
    assert result.verdict == Quarantine(reason="program-found", evidence=evidence, box="virus")


@pytest.mark.parametrize("said", ["nothing", "score=", "score=nan", "score=1e99", "score=high"])
async def test_a_score_that_is_none(said: str) -> None:
    result = await run_plugin(a_plugin(f"echo {said}", score=r"score=(\S+)"))
    assert found(result) == {"program.exit": 0}
    assert len(result.findings) == 1


async def test_it_reads_the_message_as_it_came(tmp_path: Path) -> None:
    message = a_message(body="Grüße\n" * 1_000)
    await run_plugin(a_plugin(f"cat > {tmp_path}/got"), message=message)
    assert (tmp_path / "got").read_bytes() == message.octets


async def test_it_reads_from_the_spool_file(tmp_path: Path) -> None:
    octets = b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 200_000
    with tempfile.TemporaryFile() as spool:
        spool.write(octets)
        content = Content.from_file(spool)
        plugin = a_plugin(f"cat > {tmp_path}/got; exit 1")
        await run_plugin(plugin, message=Message(content), start=False)
        await run_plugin(plugin, message=Message(content), start=False)  # from its begin again
        assert (tmp_path / "got").read_bytes() == octets
        content.close()


async def test_one_that_does_not_read_is_as_good(tmp_path: Path) -> None:
    result = await run_plugin(a_plugin("exit 1"), message=a_message(body="x" * 3_000_000))
    assert isinstance(result.verdict, Quarantine)


async def test_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the gateway")
    session = a_session(client_address="192.0.2.7", helo="a\nb", identity="alice", client_name="mail.client.example")
    transaction = a_transaction(
        session=session, reverse_path="alice@client.example", recipients=["bob@example.org", "c@example.org"]
    )
    await run_plugin(
        a_plugin(f"env -0 > {tmp_path}/got", environment={"MODE": "quick"}), transaction=transaction, message=a_message()
    )
    got = dict(one.split("=", 1) for one in (tmp_path / "got").read_text().strip("\0").split("\0"))
    assert got["MAILGATEWAY_CLIENT_ADDRESS"] == "192.0.2.7"
    assert got["MAILGATEWAY_HELO"] == "a?b"
    assert got["MAILGATEWAY_IDENTITY"] == "alice"
    assert got["MAILGATEWAY_CLIENT_CLASS"] == "authenticated"
    assert got["MAILGATEWAY_REVERSE_PATH"] == "alice@client.example"
    assert got["MAILGATEWAY_RECIPIENTS"] == "bob@example.org\nc@example.org"
    assert got["MAILGATEWAY_RECIPIENT_COUNT"] == "2"
    assert got["MAILGATEWAY_ID"] == transaction.id
    assert got["MODE"] == "quick"
    assert "SECRET" not in got


async def test_its_environment_is_bounded(tmp_path: Path) -> None:
    session = a_session(helo="h" * 5_000)
    transaction = a_transaction(session=session, recipients=[f"user{number}@example.org" for number in range(1_000)])
    await run_plugin(a_plugin(f"env -0 > {tmp_path}/got"), transaction=transaction)
    got = dict(one.split("=", 1) for one in (tmp_path / "got").read_text().strip("\0").split("\0"))
    assert len(got["MAILGATEWAY_HELO"]) == 1_000
    assert got["MAILGATEWAY_RECIPIENTS"].count("\n") == 199
    assert got["MAILGATEWAY_RECIPIENT_COUNT"] == "1000"


async def test_no_shell_sees_the_command() -> None:
    plugin = Program(Options(command=("/bin/echo", "$HOME; exit 1"), found=".*", exit_codes={"0": "found"}), name="program")
    assert "$HOME; exit 1" in str(found(await run_plugin(plugin))["program.found"])


async def test_output_is_bounded_and_shown_as_plain_text() -> None:
    script = r"printf 'a\033[31mb\r\nc \377 '; head -c 5000000 /dev/zero | tr '\0' x; head -c 5000000 /dev/zero >&2; exit 1"
    evidence = str(found(await run_plugin(a_plugin(script, output=10_000)))["program.found"])
    assert evidence.startswith("exit code 1: a?[31mb c ? xxx")
    assert len(evidence) < 400
    assert evidence.isascii()
    assert evidence.isprintable()


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("echo broken >&2; exit 3", "exit code 3: broken"),
        ("kill -SEGV $$", "ended by SIGSEGV: it wrote nothing"),
        ("kill -40 $$", "ended by signal 40"),
    ],
)
async def test_any_other_end_is_a_fault(script: str, what: str) -> None:
    with pytest.raises(PluginError, match=what):
        await run_plugin(a_plugin(script))


async def test_the_circuit_opens_and_one_tries_again(tmp_path: Path) -> None:
    plugin = a_plugin(f"test -e {tmp_path}/ok || exit 9", failures=2, rest=0.2)
    for _ in range(2):
        with pytest.raises(PluginError, match="exit code 9"):
            await run_plugin(plugin, start=False)
    with pytest.raises(PluginError, match="after 2 failures, the last: exit code 9"):
        await run_plugin(plugin, start=False)
    (tmp_path / "ok").touch()
    await asyncio.sleep(0.25)
    assert (await run_plugin(plugin, start=False)).verdict is None
    assert (await run_plugin(plugin)).verdict is None


async def test_one_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plugin = a_plugin(f"trap '' TERM; sleep 60 & echo $! $$ > {tmp_path}/pids; cat; sleep 60")
    with pytest.raises(PluginError, match=r"no answer within 0\.45 s"):
        await run_plugin(plugin, timeout=0.5)
    child, itself = map(int, (tmp_path / "pids").read_text().split())
    assert await gone(itself)
    assert await gone(child)
    assert not [one for one in caplog.records if one.name == "asyncio"]  # the loop has seen its end


async def test_one_whose_client_leaves_is_killed(tmp_path: Path) -> None:
    task = asyncio.get_running_loop().create_task(run_plugin(a_plugin(f"echo $$ > {tmp_path}/pid; exec sleep 60")))
    for _ in range(1_000):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"):
            break
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_what_it_leaves_behind_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LINGER", 0.05)
    result = await run_plugin(a_plugin(f"sleep 60 & echo $! > {tmp_path}/pid; exit 1"))
    assert isinstance(result.verdict, Quarantine)
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_several_at_once_are_bounded(tmp_path: Path) -> None:
    script = f"mkdir {tmp_path}/busy || exit 9; sleep 0.05; rmdir {tmp_path}/busy"
    plugin = a_plugin(script, connections=1)
    await asyncio.gather(*(run_plugin(plugin, start=False) for _ in range(4)))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"command": ("sh",)}, "full path"),
        ({"command": ("/no/such/program",)}, "full path"),
        ({"command": ("/etc/passwd",)}, "full path"),
        ({"command": ("/bin/sh",), "directory": "/no/such"}, "a directory"),
    ],
)
def test_programs_that_are_none(options: dict[str, Any], what: str) -> None:
    with pytest.raises(OptionError, match=what):
        Program(Options(**options), name="program")


@pytest.mark.parametrize(
    "options",
    [
        {"command": ()},
        {"exit_codes": {"x": "clean"}},
        {"exit_codes": {"0": "maybe"}},
        {"found": "("},
        {"score": r"(?=x)"},
        {"environment": {"MAILGATEWAY_ID": "x"}},
        {"environment": {"A": "\0"}},
        {"environment": {"A=B": "x"}},
        {"text": "two\nlines"},
    ],
)
def test_options_that_are_wrong(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options(**{"command": ("/bin/true",), **options})


async def test_a_program_that_went_is_a_fault(tmp_path: Path) -> None:
    script = tmp_path / "scan"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    plugin = Program(Options(command=(str(script),)), name="program")
    script.unlink()
    with pytest.raises(PluginError, match="cannot be started: No such file"):
        await run_plugin(plugin)


async def test_a_message_too_large() -> None:
    result = await run_plugin(a_plugin("exit 1", max_size=10, oversize="quarantine"), message=a_message(body="x" * 100))
    assert isinstance(result.verdict, Quarantine)
    assert list(found(result)) == ["program.too_large"]


def a_run(script: str) -> tuple[running.Run, int]:
    file = os.open("/dev/null", os.O_RDONLY)
    command = ("/bin/sh", "-c", script)
    return running.Run(command, stdin=file, environment={"PATH": "/bin:/usr/bin"}, directory="/", keep=100), file


def test_one_that_is_killed_before_it_begins_never_does(tmp_path: Path) -> None:
    run, file = a_run(f"touch {tmp_path}/begun")
    run.kill()
    run.kill()
    with pytest.raises(ProcessLookupError):
        run()
    with pytest.raises(OSError):
        os.fstat(file)  # it is closed
    assert not (tmp_path / "begun").exists()


def test_where_the_system_has_no_descriptor_for_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    run, _ = a_run("echo said; echo wrong >&2; exit 3")
    assert run() == running.Ended(code=3, output=b"said\n", errors=b"wrong\n")
    run.kill()  # too late


async def test_no_descriptor_is_left() -> None:
    await run_plugin(a_plugin("cat > /dev/null"))
    await asyncio.sleep(0)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no iterator that is one itself
    for _ in range(3):
        await run_plugin(a_plugin("cat > /dev/null"), message=a_message(body="x" * 2_000_000), context=FakeContext())
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
