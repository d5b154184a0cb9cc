"""The scenario of the quarantine's fault tests, the injection of faults into disk and database, and the check of integrity.

Run as a script it is the driver of the kill -9 test: it forks a child for each n, which dies at its n-th call.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gateway import places as places_module
from gateway.content import Content, Form
from gateway.errors import StorageError
from gateway.quarantine import Copy, Quarantine, Query, State, collect, expire
from gateway.quarantine import blobs as blobs_module
from gateway.quarantine.release import release
from gateway.smtp.replies import Reply, reply
from gateway.trace import Record

LEASE = 10.0


class Clock:
    def __init__(self, now: float = 4_000_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Counter:
    """Calls `strike` at the n-th call, and with `for_good` at every later one."""

    def __init__(self, n: int, strike: Callable[[str], None], *, for_good: bool = False) -> None:
        self.n = n
        self.calls = 0
        self.struck = False
        self.log: list[str] = []
        self._strike = strike
        self._for_good = for_good

    def hit(self, what: str) -> None:
        self.calls += 1
        self.log.append(what)
        if self.calls == self.n or (self._for_good and self.calls > self.n):
            self.struck = True
            self._strike(what)


class FaultyOs:
    """`os` as the blobs see it."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name not in {"open", "write", "fsync"}:
            return found

        def call(*arguments: Any) -> Any:
            self._counter.hit(name)
            result = found(*arguments)
            self._counter.hit(f"after {name}")
            return result

        return call


class FaultyConnection:
    """A transaction of the writer."""

    def __init__(self, connection: Any, counter: Counter) -> None:
        self._connection = connection
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        if name in {"execute", "executemany"}:
            self._counter.hit("database execute")
        return getattr(self._connection, name)

    def commit(self) -> None:
        self._counter.hit("database commit")
        self._connection.commit()
        self._counter.hit("database after commit")


def fail_disk(what: str) -> None:
    if what.startswith("database"):
        raise sqlite3.OperationalError("disk I/O error")
    raise OSError(5, "Input/output error")


def kill(_what: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def inject(quarantine: Quarantine, counter: Counter, patch: Callable[[object, str, object], object]) -> None:
    """Faults into every call of the disk and every statement and commit of the writer."""
    for module in (blobs_module, places_module):
        patch(module, "os", FaultyOs(counter))
    remove = quarantine.blobs.remove

    def removing(name: str) -> None:
        counter.hit("unlink")
        remove(name)
        counter.hit("after unlink")

    patch(quarantine.blobs, "remove", removing)
    database = quarantine.database
    begin = database._begin
    patch(database, "_begin", lambda: FaultyConnection(begin(), counter))


class NextHop:
    """Takes everything; `delivered` is what a mailbox would show."""

    next_hop = "next"

    def __init__(self, delivered: Callable[[str], None]) -> None:
        self._delivered = delivered

    async def _ok(self) -> Reply:
        return reply(250, "2.0.0", "Ok")

    def mail(self, path: bytes, parameters: Sequence[bytes], *, needs: Iterable[str] = ()) -> Awaitable[Reply]:
        return self._ok()

    def rcpt(self, path: bytes, parameters: Sequence[bytes]) -> Awaitable[Reply]:
        return self._ok()

    async def send(self, chunks: Iterable[bytes], *, size: int, form: Form = Form.LINES) -> list[Reply]:
        octets = b"".join(chunks)
        self._delivered(octets.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode())
        return [await self._ok()]

    def abandon(self) -> None:
        return


def a_copy(name: str) -> Copy:
    content = Content(f"Subject: {name}\r\n\r\n".encode() + name.encode() * 200)
    return Copy(transaction_id=name, content=content, recipients=((b"<a@inbox.test>", (), "r"),), facts={"subject": name})


async def scenario(quarantine: Quarantine, note: Callable[[str], None]) -> None:
    """Every move a copy can make. `note` is told of each one that was promised to somebody, after it was."""

    async def step(work: Awaitable[Any]) -> Any:
        try:
            return await work
        except StorageError:
            return None

    ticket = await step(quarantine.write_pending(a_copy("to-hold")))
    if ticket and await step(quarantine.hold(ticket)):
        note("held to-hold")
    if await step(quarantine.write_held(a_copy("at-once"))):
        note("held at-once")
    content = a_copy("shared").content
    pair = [Copy(transaction_id=n, content=content, recipients=(), facts={"subject": n}) for n in ("pair-1", "pair-2")]
    tickets = await step(quarantine.write_all(pair, State.PENDING))
    if tickets and await step(quarantine.hold(*tickets)):
        note("held pair-1")
        note("held pair-2")
    ticket = await step(quarantine.write_pending(a_copy("to-drop")))
    if ticket:
        await step(quarantine.drop(ticket))
    await step(quarantine.write_kept(a_copy("evidence")))
    ticket = await step(quarantine.write_held(a_copy("to-delete")))
    if ticket:
        await step(quarantine.delete(ticket.id))
    ticket = await step(quarantine.write_held(a_copy("to-release")))
    if ticket:
        way = NextHop(lambda name: note(f"delivered {name}"))
        report = await step(release(quarantine, ticket.id, lambda _route, _entry: way, server_name="mx.test"))
        if report is not None:
            note(f"reported {report.released}")


async def check(directory: Path, notes: list[str], *, certain: bool) -> None:
    """What was promised is there, with its octets; nothing else is held (when no outcome was in doubt); nothing is left over."""
    clock = Clock()
    quarantine = await Quarantine.open(directory, retention=1e9, lease=LEASE, clock=clock)
    try:
        clock.now += LEASE + 1  # longer than any lease: whoever owned something is gone
        await quarantine.sweep()
        entries = await quarantine.search(Query())
        assert {entry.state for entry in entries} <= {State.HELD, State.KEPT}, entries
        for entry in entries:
            stored = await quarantine.content(entry)
            assert hashlib.sha256(stored.octets[:]).hexdigest() == entry.digest, entry
            stored.close()
        held = [entry.transaction_id for entry in entries if entry.state is State.HELD]
        assert len(held) == len(set(held)), held
        promised = {note.removeprefix("held ") for note in notes if note.startswith("held ")}
        assert promised <= set(held), (promised, held)
        if certain:
            assert set(held) - {"to-delete", "to-release"} == promised, (promised, held)
        if "reported True" in notes:
            assert "to-release" not in held
            assert "delivered to-release" in notes
        await _nothing_left_over(quarantine, clock, directory)
    finally:
        await quarantine.close()


async def _nothing_left_over(quarantine: Quarantine, clock: Clock, directory: Path) -> None:
    def files() -> list[Path]:
        return [Path(where, name) for where, _, names in os.walk(directory / "blobs") for name in names]

    def named() -> set[str]:
        return {f"{file.parent.name}/{file.name}" for file in files()}

    for file in files():
        os.utime(file, (clock.now - 90_000, clock.now - 90_000))
    await collect(quarantine)
    assert named() == {entry.blob for entry in await quarantine.search(Query())}

    async def commit(_record: Record) -> None:
        return

    clock.now += 2e9
    await expire(quarantine, commit)
    assert named() == set()


def die_at(n: int, directory: Path, notes: Path) -> None:
    """In a child of its own: the scenario, and kill -9 at the n-th call. Leaves with 0 when n was past the last."""

    async def run() -> None:
        quarantine = await Quarantine.open(directory, retention=1e9, lease=LEASE, clock=Clock())
        with notes.open("a", buffering=1) as file:
            inject(quarantine, Counter(n, kill), setattr)
            await scenario(quarantine, lambda note: print(note, file=file, flush=True))

    asyncio.run(run())


def in_child(work: Callable[[], object]) -> int:
    """Fork, run, wait; the status of the child."""
    pid = os.fork()
    if not pid:
        try:
            work()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 1
        os._exit(status)
    return os.waitpid(pid, 0)[1]


def killed_at(n: int, directory: Path, notes: Path) -> bool:
    """One child that dies at its n-th call, and one that checks what it left. False: there is no n-th call any more."""
    status = in_child(lambda: die_at(n, directory, notes))
    said = notes.read_text().splitlines() if notes.exists() else []
    if in_child(lambda: asyncio.run(check(directory, said, certain=False))):
        sys.exit(f"after kill at call {n}: {said}")
    if status and not os.WIFSIGNALED(status):
        sys.exit(f"the child of call {n} ended with {status}")
    return bool(status)


def main() -> None:
    """Kill at 1, 2, 3 … until the scenario ends by itself; how often it was killed is printed."""
    n = 1
    made = Path(sys.argv[1])
    while killed_at(n, made / f"q{n}", made / f"notes{n}"):
        n += 1
    sys.stdout.write(f"{n - 1}\n")


if __name__ == "__main__":
    main()
