"""The plugin that stands in the chain for one in a process of its own: the same hooks, each a call over the channel.

Its module is never imported here. What the worker has to know of it, a process that ended again has told: `describe`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.answers import ARGUMENTS
from gateway.errors import ConfigError, ConfigProblem
from gateway.isolation.codec import GarbageError
from gateway.isolation.frames import Frames
from gateway.isolation.process import START_LIMIT, PluginProcess
from gateway.isolation.start import Start, launch
from gateway.plugin import Plugin, PluginOptions, hook

if TYPE_CHECKING:
    from gateway.context import Context
    from gateway.message import Message
    from gateway.session import Session
    from gateway.transaction import Outcome, Recipient, Transaction

Locate = Callable[[tuple[str | int, ...]], tuple[str, int | None]]


class IsolatedPlugin(Plugin):
    """One use of an isolated plugin."""

    described: Mapping[str, Any]

    def __init__(self, options: PluginOptions | None = None, *, name: str = "", context: Context | None = None) -> None:
        super().__init__(options, name=name, context=context)
        self._remote: PluginProcess | None = None

    def connect_to(self, start: Start) -> None:
        """This is how its process begins, when it is first called."""
        self._remote = PluginProcess(start, self.context)

    @property
    def remote(self) -> PluginProcess:
        """Its process."""
        assert self._remote is not None  # `connect_to` comes before the first call
        return self._remote

    async def _call(self, name: str, **facts: Any) -> Any:
        takes = self.described["hooks"].get(name, ())
        values = await self.remote.call(
            name, {one: facts[one] for one in takes if one in facts}, self.hook_limit, transaction=facts.get("transaction")
        )
        if not values:
            return None
        return values[0] if len(values) == 1 else list(values)

    @property
    def passes_over(self) -> Mapping[str, str]:
        """As it told."""
        found: Mapping[str, str] = self.described["passes_over"]
        return found

    @property
    def redirects_to(self) -> Mapping[str, str]:
        """As it told."""
        found: Mapping[str, str] = self.described["redirects_to"]
        return found

    @property
    def files_read(self) -> Sequence[str | Path]:
        """Its source and what it has read."""
        found: Sequence[str] = self.described["files"]
        return found


class _Hooks(IsolatedPlugin):
    """All hooks there are; a plugin's class gets those that it has."""

    @hook
    async def startup(self, context: Context) -> None:
        del context  # it has one of its own
        await self._call("startup")

    @hook
    async def connect(self, session: Session) -> Any:
        return await self._call("connect", session=session)

    @hook
    async def helo(self, session: Session) -> Any:
        return await self._call("helo", session=session)

    @hook
    async def authenticated(self, session: Session) -> Any:
        return await self._call("authenticated", session=session)

    @hook
    async def mail(self, transaction: Transaction) -> Any:
        return await self._call("mail", transaction=transaction)

    @hook
    async def rcpt(self, transaction: Transaction, recipient: Recipient) -> Any:
        return await self._call("rcpt", transaction=transaction, recipient=recipient)

    @hook
    async def route(self, transaction: Transaction, recipient: Recipient) -> Any:
        return await self._call("route", transaction=transaction, recipient=recipient)

    @hook
    async def policy_class(self, transaction: Transaction, recipient: Recipient) -> Any:
        return await self._call("policy_class", transaction=transaction, recipient=recipient)

    @hook
    async def data(self, transaction: Transaction) -> Any:
        return await self._call("data", transaction=transaction)

    @hook
    async def check(self, transaction: Transaction, message: Message) -> Any:
        return await self._call("check", transaction=transaction, message=message)

    @hook
    async def judge(self, transaction: Transaction, message: Message) -> Any:
        return await self._call("judge", transaction=transaction, message=message)

    @hook
    async def rewrite(self, transaction: Transaction, message: Message) -> Any:
        return await self._call("rewrite", transaction=transaction, message=message)

    @hook
    async def sign(self, transaction: Transaction, message: Message) -> Any:
        return await self._call("sign", transaction=transaction, message=message)

    @hook
    async def done(self, transaction: Transaction, outcome: Outcome) -> Any:
        return await self._call("done", transaction=transaction, outcome=outcome)

    @hook
    async def disconnect(self, session: Session) -> Any:
        return await self._call("disconnect", session=session)

    @hook
    async def shutdown(self) -> None:
        try:
            if "shutdown" in self.described["hooks"] and self.remote.pid:
                await self._call("shutdown")
        finally:
            await self.remote.close()


_ALWAYS = ("startup", "shutdown")
"""So that its process is there before the first message, and goes with the generation."""


def kind_for(described: Mapping[str, Any]) -> type[IsolatedPlugin]:
    """A class with the hooks that a plugin told."""
    members: dict[str, Any] = {name: vars(_Hooks)[name] for name in {*described["hooks"], *_ALWAYS}}
    members["described"] = described
    members["gives"], members["needs"] = tuple(described["gives"]), tuple(described["needs"])
    members["__module__"] = __name__
    return type("IsolatedPlugin", (IsolatedPlugin,), members)


def isolate(start: Start, locate: Locate) -> type[IsolatedPlugin]:
    """The class that stands for a plugin. ConfigError with what is wrong with it. Blocks: a process starts, loads it, and ends."""
    described = _described(start)
    problems = described.get("problems")
    if problems:
        raise ConfigError([_problem(one, locate) for one in problems])
    for name, takes in described["hooks"].items():
        if name not in ARGUMENTS or not set(takes) <= set(ARGUMENTS[name]):
            raise ConfigError([_wrong(start, locate, "it told nonsense about its hooks")])
    return kind_for(described)


def _described(start: Start) -> Mapping[str, Any]:
    process, end = launch(str(start.surroundings["base_directory"]))
    frames = Frames(end)
    try:
        frames.queue({"start": start.facts()})
        deadline = time.monotonic() + START_LIMIT
        end.settimeout(START_LIMIT)
        frames.send()
        while time.monotonic() < deadline and not frames.is_over:
            end.settimeout(max(0.01, deadline - time.monotonic()))
            for message in frames.receive():
                hello = message.get("hello")
                if isinstance(hello, dict):
                    return hello
        what = "told nothing"
    except (OSError, GarbageError) as error:
        what = f"told nonsense: {error}"
    finally:
        frames.close()
        with contextlib.suppress(OSError):
            process.kill() if process.poll() is None and not frames.is_over else None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    status = process.returncode
    how = f"ended by signal {-status}" if status is not None and status < 0 else what
    return {
        "problems": [
            {"file": json.dumps(list(start.key)), "found": f"a plugin whose process {how}", "allowed": "one that begins"}
        ]
    }


def _problem(facts: Mapping[str, Any], locate: Locate) -> ConfigProblem:
    """As the process told it; file and line are found here where it gave the key."""
    file, line, key = str(facts["file"]), facts.get("line"), str(facts.get("key", ""))
    with contextlib.suppress(ValueError):
        told = json.loads(file)
        if isinstance(told, list):
            place = tuple(one if isinstance(one, int) else str(one) for one in told)
            file, line = locate(place)
            key = key or ".".join(str(one) for one in place)
    return ConfigProblem(
        file=file,
        line=line if isinstance(line, int) else None,
        key=key,
        found=str(facts["found"])[:1000],
        allowed=str(facts["allowed"])[:1000],
        hint=str(facts.get("hint", ""))[:100],
    )


def _wrong(start: Start, locate: Locate, what: str) -> ConfigProblem:
    return _problem({"file": json.dumps(list(start.key)), "found": what, "allowed": "a plugin"}, locate)
