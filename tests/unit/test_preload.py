"""What is imported before anything is served: the worker, and what this configuration uses."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config.models import Config
from gateway.server.preload import FOR_PLUGINS, modules, plugin_modules

ROUTE = {"route": [{"name": "default", "domains": ["a.test"], "servers": ["127.0.0.1:25"]}]}


def test_bundled_plugins_in_use_by_whatever_name() -> None:
    config = Config.model_validate(
        {
            **ROUTE,
            "plugins": ["spf", {"name": "second", "use": "dkim"}, "own.module:Plugin", "nobody_knows_it"],
            "listener": [{"name": "mx", "bind": "127.0.0.1:0", "plugins": [{"name": "authres"}]}],
        }
    )
    assert set(plugin_modules(config)) == {"gateway.plugins.spf", "gateway.plugins.dkim", "gateway.plugins.authres"}


def test_what_has_a_process_of_its_own_is_not_imported_here() -> None:
    config = Config.model_validate(
        {
            **ROUTE,
            "plugins": ["spf", {"name": "second", "use": "dkim", "process": True}, "authres"],
            "plugin": {"spf": {"process": True}},
        }
    )
    assert set(plugin_modules(config)) == {"gateway.plugins.authres"}


def imported(config: Mapping[str, object], *names: str) -> list[str]:
    """Those of the modules that are there after the preload, in a process of its own."""
    code = (
        "import sys\n"
        "from gateway.config.models import Config\n"
        "from gateway.server.preload import preload\n"
        f"preload(Config.model_validate({config!r}))\n"
        f"print(*[name for name in {names!r} if name in sys.modules])"
    )
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def test_without_plugins_none_is_imported_nor_what_they_ask_for_and_no_reader_of_certificates() -> None:
    names = ("gateway.server.worker", "gateway.plugins.spf", "cryptography.x509", *FOR_PLUGINS, "gateway.isolation.proxy")
    assert imported(ROUTE, *names) == ["gateway.server.worker"]


def test_no_message_waits_for_the_import_of_what_plugins_ask_for() -> None:
    own = [{"name": "own", "use": "own.module:Plugin"}]
    listener = [{"name": "mx", "bind": "127.0.0.1:0", "plugins": own}]
    for more in ({"plugins": own}, {"listener": listener}):
        assert set(FOR_PLUGINS) <= set(modules(Config.model_validate({**ROUTE, **more})))
    for name in FOR_PLUGINS:
        importlib.import_module(name)  # none of them is misspelt: `preload` would pass over it


@pytest.mark.parametrize(
    ("words", "found"),
    [("run --config /nowhere.toml", []), ("run", []), ("run --config=/nowhere.toml", ["gateway.cli.run", "typer"])],
)
def test_the_gateway_does_not_carry_the_other_commands(words: str, found: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from gateway.cli import main\n"
        f"sys.argv = ['mailgateway', *{words!r}.split()]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2\n"
        "names = ('gateway.cli.run', 'gateway.cli.commands', 'gateway.cli.dkim', 'typer')\n"
        "print(*[name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == found
