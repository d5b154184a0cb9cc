"""`mailgateway plugins show | check | bench`: what is wrong with a plugin is told with file, line and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.commands import app
from gateway.cli.plugins import options
from gateway.cli.plugins.samples import samples

PLUGIN = '''"""Tickets: holds mail without a number."""

from gateway import Message, Plugin, PluginOptions, Session, Verdict, hook, quarantine

__version__ = "2.1"


class Options(PluginOptions):
    """What `[plugin.tickets]` may say."""

    number: int
    """How many digits."""
    words: tuple[str, ...] = ("ticket",)


class Tickets(Plugin[Options]):
    """Hold mail without a number."""

    gives = ("fact.ticket",)

    @hook(cheap=True)
    def connect(self, session: Session) -> None:
        """Nothing."""

    @hook
    async def judge(self, message: Message) -> Verdict | None:
        """Hold."""
        return quarantine("no-ticket") if "17" not in message.subject else None
'''
CONFIG = 'plugins = ["tickets"]\nplugin_path = ["."]\n[plugin.tickets]\nnumber = 5\nmode = "monitor"\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MAILGATEWAY_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tickets.py").write_text(PLUGIN)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["plugins", *words])


def test_show(here: Path) -> None:
    (here / "config.toml").write_text(CONFIG)
    output = call("show", "tickets").output
    assert output.startswith("tickets: Tickets: holds mail without a number.\n")
    assert "source    file " in output
    assert re.search(
        r"mailgateway_site\.tickets(@\d+)?:Tickets \(tickets\.py:16\)", output
    )  # `@2` where another test has one still
    assert "version   2.1" in output
    assert "gives     fact.ticket" in output
    rows = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    assert [
        "connect",
        "a connection was accepted and its PROXY header, if any, read",
        "def marked cheap, on the event loop",
    ] in rows
    assert ["judge", "after every check", "async def, on the event loop"] in rows
    assert ["number", "number", "required", "How many digits."] in rows
    assert ["words", "list", '["ticket"]'] in rows


def test_show_bundled_and_unknown() -> None:
    output = call("show", "spf").output
    assert "source    bundled" in output
    assert "gives     auth.spf" in output
    assert "docs/plugins/spf.md" in output
    assert re.search(r"time_limit +duration +\"8s\" +For all look-ups", output)
    done = call("show", "dkm")
    assert (done.exit_code, "found the unknown plugin 'dkm'" in done.stderr, "did you mean 'dkim'?" in done.stderr) == (
        1,
        True,
        True,
    )


def test_check_takes_the_options_of_the_configuration(here: Path) -> None:
    done = call("check", "tickets.py", "--count", "10")
    assert done.exit_code == 1
    assert "WRONG options   options: found nothing for plugin.tickets.number; allowed: this key is required" in done.output
    (here / "config.toml").write_text(CONFIG)
    done = call("check", "tickets.py", "--count", "10")
    assert done.exit_code == 0, done.output
    assert "ok    options   number = 5, words" in done.output
    assert "note  options   tickets.py:8: words has no docstring below it" in done.output
    assert "note  tests     none; expected test_tickets.py beside it or in tests/" in done.output
    assert re.search(
        r"ok    cost +[\d.]+ µs CPU a message more than the [\d.]+ µs of an empty chain \(10 messages\)", done.output
    )
    assert re.search(r"\n  connect +[\d.]+ µs a message +10 calls  none 10\n", done.output)
    assert re.search(r"\n  judge +[\d.]+ µs a message +10 calls  verdict 10\n", done.output)
    done = call("check", "tickets.py", "--count", "10", "--set", "number=7", "--set", 'words=["a"]')
    assert "number = 7, words = ('a',)" in done.output
    (here / "config.toml").write_text(CONFIG.replace("number = 5", 'number = "five"'))
    assert 'config.toml:3: found "five" for plugin.tickets.number; allowed: a whole number' in call("check", "tickets.py").output


WRONG = {
    "def judge(": (
        "def juge(",
        "tickets.py:25: found Tickets.juge is marked @hook, and there is no hook of this name",
        "'judge'",
    ),
    "message: Message)": ("msg: Message)", "tickets.py:25: found Tickets.judge takes 'msg', and the arguments", "'message'"),
    "@hook\n": (
        "\n",
        "tickets.py:26: found Tickets.judge looks like a hook; add @hook",
        "allowed: hooks as in docs/plugins/hooks.md",
    ),
    "words: tuple": (
        "timeout: tuple",
        "tickets.py:8: found the option 'timeout', a key that every plugin's table has",
        "did you mean 'own_timeout'?",
    ),
    "import Message,": ("import Mesage,", "which cannot be imported: ImportError", "Mesage"),
    "class Tickets(Plugin[Options]):": ("class Tickets(Plugin[Options:", "SyntaxError", "tickets.py:16)"),
    'quarantine("no-ticket")': ("17", "at judge: judge answered int 17; it may answer", "allowed"),
    "Tickets(Plugin[Options])": (
        "Tickets(object)",
        "with 0 plugin classes (none)",
        "exactly one class derived from gateway.Plugin",
    ),
}


@pytest.mark.parametrize("right", WRONG)
def test_what_is_wrong_is_told(right: str, here: Path) -> None:
    wrong, said, more = WRONG[right]
    assert PLUGIN.count(right) == 1
    (here / "tickets.py").write_text(PLUGIN.replace(right, wrong))
    done = call("check", "tickets.py", "--count", "5", "--set", "number=1")
    assert done.exit_code == 1, done.output
    assert "WRONG" in done.output
    assert said in done.output
    assert more in done.output or more == "allowed"


def test_a_plugin_without_hooks(here: Path) -> None:
    (here / "none.py").write_text("from gateway import Plugin\n\n\nclass Nothing(Plugin):\n    pass\n")
    assert "none.py:4: found no hook; allowed: a method marked @hook at least" in call("check", "none.py").output


def test_tests_that_fail_are_shown(here: Path) -> None:
    (here / "test_tickets.py").write_text("def test_it() -> None:\n    assert 'gr\\x1b[31meen' == 'red'\n")
    done = call("check", "tickets.py", "--count", "5", "--set", "number=1")
    assert done.exit_code == 1
    assert "WRONG tests     1 failed" in done.output
    assert "  E   " in done.output
    assert "\x1b" not in done.output


PATHS = {
    "nowhere.py": "nowhere.py: found nothing of this name",
    "ticket.py": "did you mean 'tickets.py'?",
    "some-plugin.py": "found the file name 'some-plugin.py'; allowed: a name that is a Python word",
    "text.txt": "found no Python file",
    "folder": "folder: found a directory without pyproject.toml",
    "broken": "broken/pyproject.toml: found no TOML",
    "no_group": "no_group/pyproject.toml: found no entry point of a plugin",
    "misspelt": "did you mean 'mailgateway.plugins'?",
    "wrong_target": "found nowhere_at_all:X of acme 1, which cannot be imported: ModuleNotFoundError",
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_are_no_plugin(path: str, here: Path) -> None:
    (here / "some-plugin.py").write_text("")
    (here / "text.txt").write_text("")
    projects = {
        "folder": None,
        "broken": "[",
        "no_group": "[project]\nname = 'x'\n",
        "misspelt": "[project.entry-points.'mailgateway.plugin']\na = 'b:C'\n",
        "wrong_target": "[project]\nname = 'acme'\nversion = '1'\n[project.entry-points.'mailgateway.plugins']\na = 'nowhere_at_all:X'\n",
    }
    for name, text in projects.items():
        (here / name).mkdir()
        if text is not None:
            (here / name / "pyproject.toml").write_text(text)
    done = call("check", path)
    assert done.exit_code == 1
    assert PATHS[path] in done.output + done.stderr


def test_bench(here: Path) -> None:
    (here / "config.toml").write_text(CONFIG)
    done = call("bench", "tickets", "--count", "20")
    assert done.exit_code == 0
    assert "(20 messages)" in done.output
    assert re.search(r"\n  judge +[\d.]+ µs a message +20 calls  verdict 20", done.output)
    (here / "m.eml").write_bytes(b"Subject: 17\n\nHello\n")
    assert "none 20" in call("bench", "tickets", "--count", "20", "--message", "m.eml").output
    assert "m.em: No such file" in call("bench", "tickets", "--message", "m.em").stderr
    assert call("bench", "tickets", "--set", "number").exit_code == 2
    assert "did you mean 'tickets'?" in call("bench", "ticket").stderr
    assert re.search(r"\n  check +[\d.]+ µs a message +20 calls  finding 20", call("bench", "dkim", "--count", "20").output)


def test_bench_names_what_a_hook_does_wrong(here: Path) -> None:
    (here / "tickets.py").write_text(PLUGIN.replace('quarantine("no-ticket")', "1 / 0"))
    (here / "config.toml").write_text(CONFIG)
    done = call("bench", "tickets", "--count", "10")
    assert (done.exit_code, "WRONG at judge: ZeroDivisionError: division by zero at tickets.py:28" in done.stderr) == (1, True)


def test_samples_are_the_same_each_time_but_for_their_numbers() -> None:
    one, other = samples(), samples()
    assert list(one) == list(other)
    for name, octets in one.items():
        assert re.sub(rb"message-\d+@", b"", octets) == re.sub(rb"message-\d+@", b"", other[name])


@pytest.mark.parametrize("text", ["", "=", "=1", "a=", "a=b", "a", "a=1\nb=2"])
def test_a_setting_that_is_no_toml(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: an option and a TOML value"):
        options.read_settings([text])
