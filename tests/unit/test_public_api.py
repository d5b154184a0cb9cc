"""`import gateway` is what a plugin pays for: it stays light, and names everything a plugin may use."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gateway
import gateway.mailauth
import gateway.testing
from gateway import Plugin, Recipient, Session, Transaction, hook, hookspecs
from gateway.answers import SPECIFICATIONS
from gateway.config.models import Config
from gateway.generation import Generation
from gateway.registration import deprecations
from gateway.testing import run_plugin
from tests.unit import public_surface

HEAVY = [
    "aiosmtpd",
    "aiosmtplib",
    "sqlalchemy",
    "dns",
    "prometheus_client",
    "structlog",
    "typer",
    "rich",
    "uvicorn",
    "starlette",
    "celpy",
]


def test_importing_the_public_api_pulls_in_nothing_heavy() -> None:
    code = f"import sys, gateway; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_pytest_plugin_pulls_in_nothing_until_it_is_used() -> None:
    code = (
        "import sys, gateway.testing.pytest_plugin as p; "
        "print([m for m in ('aiosmtpd', 'aiosmtplib', 'sqlalchemy', 'dns') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_public_api_exists_and_is_documented() -> None:
    for module in (gateway, gateway.mailauth, gateway.testing):
        assert sorted(set(module.__all__)) == sorted(module.__all__)
        for name in module.__all__:
            value = getattr(module, name)
            assert not callable(value) or value.__doc__, name


def test_the_surface_is_the_recorded_one() -> None:
    recorded = public_surface.RECORDED.read_text(encoding="utf-8")
    assert public_surface.render() == recorded, (
        "what plugins stand on has changed: if it is meant, see docs/api-stability.md for the version, and record it (make api)"
    )


def test_a_change_of_the_surface_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def tag_subject(tag: str, *, once: bool = True) -> object:
        raise NotImplementedError

    before = public_surface.render()
    monkeypatch.setattr(gateway, "tag_subject", tag_subject)
    changed = set(public_surface.render().splitlines()) ^ set(before.splitlines())
    assert changed == {"tag_subject(tag: str) -> TagSubject", "tag_subject(tag: str, *, once: bool = True) -> object"}


def test_everything_that_a_hook_is_handed_or_may_answer_is_public() -> None:
    """A plugin's annotations need the names."""
    named = {
        word for spec in SPECIFICATIONS.values() for text in spec.__annotations__.values() for word in re.findall(r"\w+", text)
    }
    assert named - set(gateway.__all__) == {"None", "Sequence", "Iterable", "Hashable", "str"}


@pytest.fixture
def deprecated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As gateway/hookspecs.py would say it, in `@hookspec(warn_on_impl=…, warn_on_impl_args=…)`."""
    helo: Any = hookspecs.helo
    rcpt: Any = hookspecs.rcpt
    monkeypatch.setitem(helo.mailgateway_spec, "warn_on_impl", DeprecationWarning("helo goes with API version 2.0: use connect"))
    goes = DeprecationWarning("the argument recipient of rcpt goes with API version 2.0: use transaction")
    monkeypatch.setitem(rcpt.mailgateway_spec, "warn_on_impl_args", {"recipient": goes})


class Older(Plugin):
    @hook
    async def helo(self, session: Session) -> None: ...

    @hook
    async def rcpt(self, recipient: Recipient) -> None: ...


class Newer(Plugin):
    @hook
    async def rcpt(self, transaction: Transaction) -> None: ...


@pytest.mark.usefixtures("deprecated")
async def test_an_author_sees_a_deprecation_in_the_tests(recwarn: pytest.WarningsRecorder) -> None:
    await run_plugin(Older())
    said = sorted((str(one.message), Path(str(one.filename)).name, one.category) for one in recwarn)
    assert said == [
        ("helo goes with API version 2.0: use connect", "test_public_api.py", DeprecationWarning),
        ("the argument recipient of rcpt goes with API version 2.0: use transaction", "test_public_api.py", DeprecationWarning),
    ]
    recwarn.clear()
    await run_plugin(Newer())
    assert not list(recwarn)


@pytest.mark.usefixtures("deprecated")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_an_operator_sees_a_deprecation_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    target = f"{__name__}:Older"
    config = Config.model_validate({"plugins": [{"name": "older", "use": target}], "listener": [{"name": "mx"}]})
    sys.modules.setdefault(__name__, sys.modules[Older.__module__])
    await Generation.load(config)
    lines = [line for line in capsys.readouterr().out.splitlines() if "plugin.deprecated" in line]
    assert len(lines) == 2
    assert "helo goes with API version 2.0: use connect" in lines[0]
    assert "plugin=older" in lines[0]


def test_nothing_is_deprecated_now() -> None:
    assert not deprecations(Older)
