"""`mailgateway plugins check`: one plugin loaded, its hooks and options looked at, its tests run, its cost measured."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.plugins import options
from gateway.cli.plugins.cost import Cost, measure, told
from gateway.cli.plugins.samples import samples
from gateway.cli.plugins.sources import Candidate, Mistake, place_of
from gateway.cli.terminal import safe
from gateway.discovery import DiscoveryError, load
from gateway.errors import GatewayError
from gateway.registration import deprecations, hook_names, objections
from gateway.testing import FakeContext

if TYPE_CHECKING:
    from gateway.plugin import Plugin, PluginOptions

TESTS_LIMIT = 600.0
"""Seconds that a plugin's tests may take."""
_SHOWN = 60
"""Lines of failed tests that are printed."""
_NO_TESTS = 5
"""pytest's exit status where it collected none."""


@dataclass(slots=True)
class Trial:
    """The checks of one plugin in turn; each says what came of it."""

    candidate: Candidate
    say: Callable[[str], None]
    table: Mapping[str, Any] = field(default_factory=dict)
    """Its options."""
    where: tuple[str, int | None] = ("options", None)
    """Where they are written."""
    messages: int = 1_000
    failed: bool = False

    def run(self) -> bool:
        """All of them, as far as the ones before allow. True when nothing is wrong."""
        kind = self._loads()
        if kind is None or not self._hooks(kind):
            return False
        made = self._options(kind)
        self._tests()
        if made is not None:
            self._cost(kind, made)
        return not self.failed

    def _ok(self, what: str, text: str) -> None:
        self.say(safe(f"ok    {what:<10}{text}"))

    def _note(self, what: str, text: str) -> None:
        self.say(safe(f"note  {what:<10}{text}"))

    def _wrong(self, what: str, *mistakes: Mistake | str) -> None:
        self.failed = True
        for one in mistakes:
            self.say(safe(f"WRONG {what:<10}{one}", 2_000))

    def _loads(self) -> type[Plugin[Any]] | None:
        origin = self.candidate.origin
        try:
            kind = load(origin)
        except DiscoveryError as error:
            self._wrong("loads", Mistake(where="", found=error.found, allowed=error.allowed))
            return None
        self._ok("loads", f"{origin.name}: {kind.__name__} ({place_of(kind)})")
        return kind

    def _hooks(self, kind: type[Plugin[Any]]) -> bool:
        wrong = [
            Mistake(
                where=place_of(kind, what.split(maxsplit=1)[0].rpartition(".")[2]),
                found=what,
                allowed="hooks as in docs/plugins/hooks.md",
                hint=hint,
            )
            for what, hint in objections(kind)
        ]
        names = hook_names(kind)
        if not names and not wrong:
            wrong = [Mistake(where=place_of(kind), found="no hook", allowed="a method marked @hook at least")]
        if wrong:
            self._wrong("hooks", *wrong)
            return False
        self._ok("hooks", ", ".join(names))
        for hook, what in deprecations(kind):
            self._note("hooks", f"{place_of(kind, hook)}: {what}")
        return True

    def _options(self, kind: type[Plugin[Any]]) -> PluginOptions | None:
        if wrong := options.objections_to(kind):
            self._wrong("options", *wrong)
            return None
        made, mistakes = options.make(kind, self.candidate.origin.name, self.table, self.where)
        if made is None:
            self._wrong("options", *mistakes)
            return None
        names = ", ".join(f"{name} = {value!r}" if name in self.table else name for name, value in made)
        self._ok("options", names or "none")
        for name in options.undocumented(kind):
            self._note(
                "options", f"{place_of(kind.options_type)}: {name} has no docstring below it: nobody can read what it means"
            )
        return made

    def _tests(self) -> None:
        if not self.candidate.tests:
            self._note("tests", f"none; expected test_{self.candidate.origin.name}.py beside it or in tests/")
            return
        if importlib.util.find_spec("pytest") is None:
            self._note("tests", "not run: pytest is not installed (pip install 'mailgateway[testing]')")
            return
        files = [os.path.relpath(one, self.candidate.directory) for one in self.candidate.tests]
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--color=no", "-p", "no:cacheprovider", *files]
        path = os.pathsep.join(filter(None, [str(self.candidate.directory.absolute() / "src"), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if not self.candidate.origin.is_file:
            environment["PYTHONPATH"] = path
        try:
            done = subprocess.run(  # noqa: S603 - the tests of the plugin that was named, with our own interpreter
                command, cwd=self.candidate.directory, env=environment, capture_output=True, timeout=TESTS_LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            self._wrong("tests", f"no end after {TESTS_LIMIT:.0f} s")
            return
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        last = lines[-1].strip("= ") if lines else ""
        if done.returncode == 0:
            self._ok("tests", f"{last} ({', '.join(files)})")
        elif done.returncode == _NO_TESTS:
            self._note("tests", f"none in {', '.join(files)}")
        else:
            self._wrong("tests", f"{last} ({', '.join(files)})")
            for line in [*lines, *done.stderr.decode("utf-8", "replace").splitlines()][-_SHOWN:]:
                self.say(f"  {safe(line)}")

    def _cost(self, kind: type[Plugin[Any]], made: PluginOptions) -> None:
        try:
            cost = measured(kind, self.candidate.origin.name, made, self.messages)
        except (GatewayError, ImportError) as error:  # what a constructor says of its options, or of a library it lacks
            self._wrong("cost", f"{self.candidate.origin.name} cannot be made: {error}")
            return
        if cost.faults:
            self._wrong("cost", *(f"at {fault}" for fault in cost.faults))
        else:
            self._ok("cost", summary(cost))
        told(cost, self.say)


def summary(cost: Cost) -> str:
    """In one line."""
    return (
        f"{max(cost.cpu_us, 0.0):.1f} µs CPU a message more than the {cost.empty_us:.1f} µs of an empty chain "
        f"({cost.messages:,} messages)"
    )


def measured(
    kind: type[Plugin[Any]],
    name: str,
    made: PluginOptions,
    messages: int,
    *,
    files: Mapping[str, bytes] | None = None,
    directory: Path | None = None,
) -> Cost:
    """What this plugin costs with these options, on the sample messages or those of these files."""
    context = FakeContext(base_directory=str(directory or Path()))
    plugin = kind(made, name=name, context=context)
    return asyncio.run(measure(plugin, list((files or samples()).values()), messages))
