"""`mailgateway plugins new`: what it writes is clean, tested, and loads; hostile names write nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.commands import app
from gateway.cli.plugins import making
from tests.unit.test_wheel import _has_setuptools

TOP = Path(__file__).parents[2]
CONFIG = """plugins = ["no_executables", "tickets"]
plugin_path = ["site"]
[plugin.no_executables]
words = ["nothing"]
[plugin.tickets]
words = ["invoice"]
[[route]]
domains = ["example.org"]
servers = ["127.0.0.1:2526"]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.upper().startswith("MAILGATEWAY")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both kinds, as a user would have them made."""
    directory = tmp_path_factory.mktemp("made")
    for words in (["no_executables", "--single-file", "--into", str(directory / "site")], ["tickets", "--into", str(directory)]):
        done = call("plugins", "new", *words)
        assert done.exit_code == 0, done.output
    return directory


def test_what_is_written_is_clean(made: Path) -> None:
    project = made / "tickets"
    tool = [sys.executable, "-m"]
    run(*tool, "ruff", "check", "--no-cache", ".", cwd=project)
    run(*tool, "ruff", "format", "--no-cache", "--check", ".", "../site", cwd=project)
    single = ["--isolated", "--line-length", "100", "--config", 'src=["."]', "--select", "ALL"]
    run(
        *tool,
        "ruff",
        "check",
        "--no-cache",
        *single,
        "--ignore",
        "INP001,S101,D103,D203,D213,COM812,CPY,TC",
        ".",
        cwd=made / "site",
    )
    # The cache of `make types` has what they import already.
    paths = [made / "site", project / "src", project / "tests"]
    path = os.pathsep.join(map(str, paths[:2]))
    run(*tool, "mypy", *map(str, paths), cwd=TOP, MYPYPATH=path)


def test_a_package_is_installed_and_a_file_is_found(made: Path, here: Path) -> None:
    """pip installs it, `plugins check` finds nothing wrong, and the gateway loads both and decides with them."""
    site = here / "site-packages"
    isolation = ["--no-build-isolation"] if _has_setuptools() else []
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--disable-pip-version-check", *isolation]
    run(*pip, "--target", str(site), str(made / "tickets"), cwd=here)
    (here / "config.toml").write_text(CONFIG.replace('"site"', f'"{made / "site"}"'), encoding="utf-8")
    (here / "m.eml").write_bytes(b"From: <a@client.example>\r\nSubject: An Invoice\r\n\r\nHello\r\n")
    command = [sys.executable, "-c", "from gateway.cli import main; main()"]
    output = run(*command, "check", "m.eml", "--to", "b@example.org", cwd=here, PYTHONPATH=str(site))
    assert "held by tickets: subject-word" in output
    assert "the subject has 'invoice'" in output
    assert "no_executables  none" in output
    listed = run(*command, "plugins", "list", cwd=here, PYTHONPATH=str(site))
    rows = {line.split()[0]: line for line in listed.splitlines() if line.strip()}
    assert "package mailgateway-tickets" in rows["tickets"]
    assert "0.1.0" in rows["tickets"]
    assert "bundled" in rows["spf"]
    assert not any(name.startswith("test_") for name in rows)


@pytest.mark.parametrize("path", ["tickets", "site/no_executables.py"])
def test_check_finds_nothing_wrong_with_them(made: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setattr(sys, "path", [*sys.path])
    output = call("plugins", "check", path, "--count", "50").output
    assert [line.split()[:2] for line in output.splitlines() if not line.startswith(" ")] == [
        ["ok", word] for word in ("loads", "hooks", "options", "tests", "cost")
    ], output
    assert "5 passed" in output


REFUSED = {
    "../x": "found the path '../x'; allowed: a name of at most 40 of a-z 0-9 _ that begins with a letter; --into names the directory "
    "(did you mean 'x'?)",
    "/etc/passwd": "did you mean 'etc_passwd'?",
    "..": "found the path '..'",
    "": "found the name ''",
    "No-Executables": "did you mean 'no_executables'?",
    "no_executables.py": "did you mean 'no_executables'?",
    "x" * 41: "at most 40",
    "1st": "did you mean 'st'?",
    "class": "a word of Python's grammar",
    "match": "a word of Python's grammar",
    "test_mine": "did you mean 'mine_mail'?",
    "conftest": "which plugin_path takes for no plugin",
    "spf": "found the name 'spf', which a plugin (bundled) has; allowed: each name once (did you mean 'own_spf'?)",
    "a\x1b[31mb": "found the name 'a\\x1b[31mb'",
    "naïve": "found the name 'naïve'",
}


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
@pytest.mark.parametrize("way", [[], ["--single-file"]], ids=["package", "file"])
def test_a_name_that_cannot_be(name: str, way: list[str], here: Path) -> None:
    done = call("plugins", "new", *way, "--", name)
    assert done.exit_code == 1
    assert REFUSED[name] in done.stderr
    assert not list(here.iterdir())


def test_a_single_file_does_not_hide_a_module(here: Path) -> None:
    done = call("plugins", "new", "json", "--single-file")
    assert (done.exit_code, list(here.iterdir())) == (1, [])
    assert "found 'json', a module that is installed" in done.stderr
    assert call("plugins", "new", "json").exit_code == 0


def test_nothing_is_written_over(here: Path) -> None:
    (here / "mine.py").write_text("mine")
    (here / "other").symlink_to(here / "nowhere")
    (here / "test_third.py").write_text("mine")
    for words in (["mine", "--single-file"], ["other"], ["third", "--single-file"]):
        done = call("plugins", "new", *words)
        assert done.exit_code == 1
        assert "which is there already; allowed: a new file: nothing is written over" in done.stderr
    assert sorted(one.name for one in here.iterdir()) == ["mine.py", "other", "test_third.py"]
    assert (here / "mine.py").read_text() == "mine"


def test_where_it_cannot_be_written_nothing_stays(here: Path) -> None:
    (here / "file").write_text("")
    done = call("plugins", "new", "mine", "--single-file", "--into", "file")
    assert (done.exit_code, "allowed: a directory that can be written to" in done.stderr) == (1, True)

    files = {"mine/a/b.py": "", "mine/a": "a file where a directory is"}
    with pytest.raises(making.NewPluginError):
        making.write(here, files)
    assert sorted(one.name for one in here.iterdir()) == ["file"]


@pytest.mark.parametrize("name", ["message", "plugin", "options", "verdict", "a", "x" * 40])
def test_any_right_name_gives_a_plugin_that_runs(name: str, here: Path) -> None:
    """Names that the API has too."""
    assert call("plugins", "new", name, "--single-file").exit_code == 0
    scope: dict[str, Any] = {"__name__": name}
    exec(compile((here / f"{name}.py").read_text(), name, "exec", dont_inherit=True), scope)
    assert scope[making.class_name(name)]().options.words == ()
    assert (
        f"from {name} import {', '.join(sorted(['Options', making.class_name(name)]))}" in (here / f"test_{name}.py").read_text()
    )
