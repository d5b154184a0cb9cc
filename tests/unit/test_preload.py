"""What is imported before the fork: the worker, and what this configuration uses."""

from __future__ import annotations

import subprocess
import sys

from gateway.config.models import Config
from gateway.server.preload import plugin_modules

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


def test_without_plugins_none_is_imported_and_no_reader_of_certificates() -> None:
    code = (
        "import sys\n"
        "from gateway.config.models import Config\n"
        "from gateway.server.preload import preload\n"
        f"preload(Config.model_validate({ROUTE!r}))\n"
        "print(*[name for name in ('gateway.server.worker', 'gateway.plugins.spf', 'cryptography.x509') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["gateway.server.worker"]
