"""Every configuration in README and docs loads, every plugin runs, every command does what the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway import quarantine
from gateway.cli.config import load_all
from gateway.config.load import load
from gateway.config.route_map import parse_map
from gateway.discovery import choose, site_files
from gateway.discovery import load as load_plugin
from gateway.testing import a_message, run_plugin
from gateway.testing.script import read_script
from tests.docs.blocks import TOP, Block, all_blocks, of_page
from tests.integration.gateway_process import COMMAND, Gateway

TUTORIAL = "first-plugin.md"
"""Has a test of its own: tests/docs/test_first_plugin.py."""
SCRIPT = "hop.toml"
"""No configuration: what a scripted next hop says."""
ROUTE = '\n[[route]]\ndomains = ["example.org"]\nservers = ["127.0.0.1:2526"]\n'
TOOLS = ("nc", "swaks", "smtp-source", "curl")
AN_ID = re.compile(r"\b(?:1[0-9A-Z]{13}-\d+|q[0-9a-f]{14})\b")
CHANGING = {
    r"\d{4}\\-\d\d\\-\d\d\\ \d\d:\d\d:\d\d": r"\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d",
    r"[\d.\\]+\\ ms": r"[\\d.]+ ms",
    r"generation\\ [0-9a-f]{10}": "generation [0-9a-f]{10}",
}
"""What is different each time, as it stands in an escaped pattern."""


def named(blocks: list[Block]) -> list[object]:
    return [pytest.param(block, id=block.where) for block in blocks]


# --- configurations


def completed(text: str) -> str:
    """A fragment with what every configuration needs: its plugins in use, a route."""
    data = tomllib.loads(text)
    head = ""
    if "plugins" not in data:
        head = f"plugins = {list(dict.fromkeys([*data.get('plugin', {}), *(['rules'] if 'rule' in data else [])]))}\n"
    return head + text + ("" if "route" in data else ROUTE)


def make_certificate(folder: Path, openssl: str) -> None:
    """`mx.pem` and `mx.key`."""
    request = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    where = ["-subj", "/CN=mx.example.org", "-keyout", str(folder / "mx.key"), "-out", str(folder / "mx.pem")]
    subprocess.run([*request, *where], check=True, capture_output=True)


def make_signing_key(file: Path, openssl: str) -> None:
    """A key of DKIM, as `openssl genpkey` makes it."""
    file.parent.mkdir(exist_ok=True)
    subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", str(file)], check=True, capture_output=True)
    file.chmod(0o600)


@pytest.mark.parametrize(
    "block", named([block for block in all_blocks("toml") if block.page.name != TUTORIAL and block.name != SCRIPT])
)
def test_every_configuration_loads_with_its_plugins(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Callable[[str], str]
) -> None:
    for name in [name for name in os.environ if name.upper().startswith("MAILGATEWAY")]:
        monkeypatch.delenv(name)
    file = tmp_path / "config.toml"
    text = completed(block.text)
    if "/etc/mailgateway/" in text:
        make_certificate(tmp_path, require("openssl"))
    for key in re.findall(r'^file = "(keys/[^"]+)"', text, re.MULTILINE):
        make_signing_key(tmp_path / key, require("openssl"))
    file.write_text(text.replace("/etc/mailgateway/", f"{tmp_path}/"), encoding="utf-8")
    (tmp_path / "routes.txt").write_text("")
    for name in re.findall(r'"([\w-]+\.sieve)"', text):
        (tmp_path / name).write_text("keep;\n")
    for beside in of_page(block.page):
        if beside.language == "text" and beside.name:
            (tmp_path / beside.name).parent.mkdir(exist_ok=True)
            (tmp_path / beside.name).write_text(beside.text, encoding="utf-8")
    loaded = load_all(file)
    assert loaded.config.route
    assert set(tomllib.loads(block.text)) <= set(type(loaded.config).model_fields)


def test_the_script_of_a_next_hop_is_one(tmp_path: Path) -> None:
    [block] = [block for block in all_blocks("toml") if block.name == SCRIPT]
    (tmp_path / SCRIPT).write_text(block.text)
    script = read_script(tmp_path / SCRIPT)
    assert script.keywords == ("PIPELINING", "8BITMIME")
    assert [len(line.answers) for line in script.lines] == [1, 3]


def test_the_route_map_is_one() -> None:
    [block] = [block for block in all_blocks("text") if block.page.name == "routes.md"]
    assert len(parse_map(block.text.splitlines(), "routes.md", ("default", "archive"))) == 3


@pytest.mark.parametrize("block", named([block for block in all_blocks("sh") if block.text.startswith("MAILGATEWAY__")]))
def test_every_environment_loads(block: Block, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    shown = subprocess.run(
        ["bash", "-c", f"set -a\n{block.text}\nenv -0"], env={"PATH": os.defpath}, capture_output=True, text=True, check=True
    ).stdout
    environ = dict(line.split("=", 1) for line in shown.split("\0") if line.startswith("MAILGATEWAY__"))
    assert len(environ) == len(block.text.splitlines())
    environ = {name: str(token) if name.endswith("_FILE") else value for name, value in environ.items()}
    config = load(None, environ=environ).config
    assert config.listener[0].bind == "0.0.0.0:25"
    assert config.plugin["tickets"]["token"] == "secret"


# --- plugins


@pytest.mark.parametrize("block", named([block for block in all_blocks("python") if block.page.name == "README.md"]))
async def test_the_plugin_of_the_readme_runs_and_is_short(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "no_executables.py"
    file.write_text(block.text, encoding="utf-8")
    plugin = load_plugin(choose("no_executables", site_files([tmp_path])))()
    held = await run_plugin(plugin, message=a_message(attach="invoice.EXE"))
    assert held.verdict == quarantine("executable attachment invoice.EXE")
    assert (await run_plugin(plugin, message=a_message(attach="notes.txt"))).verdict is None
    assert len(block.text.splitlines()) == 17


# --- commands


def runnable(block: Block) -> bool:
    return block.page.name != TUTORIAL and block.text.startswith("$ ") and not block.not_run


PAGES = sorted({block.page for block in all_blocks("console", "sh") if runnable(block)})


def steps(page: Path) -> Iterator[tuple[str, str, str]]:
    """Where, the command, and what it prints."""
    for block in of_page(page):
        if runnable(block):
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                yield block.where, command, output


@contextmanager
def newcomers_gateway(folder: Path, smtp: int, admin: int) -> Iterator[Gateway]:
    """`make run` on other ports."""
    text = (TOP / "config.toml").read_text(encoding="utf-8").replace('bind = "127.0.0.1:2525"', f'bind = "127.0.0.1:{smtp}"')
    config = folder / "config.toml"
    config.write_text(text + f'\n[admin]\nbind = "127.0.0.1:{admin}"\n', encoding="utf-8")
    environment = {**os.environ, "MAILGATEWAY__SERVER__WORKERS": "1"}
    log, out = folder / "log", folder / "out"
    with log.open("w") as stderr, out.open("w") as stdout:
        process = subprocess.Popen([*COMMAND, "run"], cwd=folder, stdout=stdout, stderr=stderr, env=environment, text=True)
    gateway = Gateway(process, config, smtp, admin, log, out, folder / "var")
    try:
        gateway.until(gateway.is_ready)
        yield gateway
    finally:
        process.terminate()
        process.wait(15)


def pattern(expected: str, identifiers: dict[str, str]) -> re.Pattern[str]:
    """What must be printed: `…` is anything in a line, alone any lines; identifiers are learnt and then the same."""
    lines = []
    for line in squeezed(expected).splitlines():
        if line == "…":
            lines.append(r"(?:.*\n)*?")
            continue
        escaped = re.escape(line).replace("…", ".*")
        for changing, instead in CHANGING.items():
            escaped = re.sub(changing, instead, escaped)
        for one in sorted(set(AN_ID.findall(line))):
            group = "id_" + re.sub(r"\W", "_", one)
            known = identifiers.get(one)
            seen = f"(?P={group})" if f"(?P<{group}>" in "".join(lines) else rf"(?P<{group}>[\w-]+)"
            escaped = escaped.replace(re.escape(one), re.escape(known) if known else seen)
        lines.append(escaped + r"\n")
    return re.compile("".join(lines))


def squeezed(text: str) -> str:
    """Without empty lines, and with single spaces: tables are as wide as what is in them."""
    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_command_prints_what_the_page_says(
    page: Path, tmp_path: Path, free_port: Callable[[], int], require: Callable[[str], str]
) -> None:
    for tool in TOOLS:
        if any(re.search(rf"(?:^|\| ){tool} ", command) for _, command, _ in steps(page)):
            require(tool)
    smtp, admin = free_port(), free_port()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"])
    environment = {**os.environ, "PATH": path, "MAILGATEWAY__SERVER__WORKERS": "1"}
    bash = shutil.which("bash")
    assert bash
    identifiers: dict[str, str] = {}
    with newcomers_gateway(tmp_path, smtp, admin):
        for where, command, expected in steps(page):
            line = command.replace("2525", str(smtp)).replace("8025", str(admin))
            for documented, real in identifiers.items():
                line = line.replace(documented, real)
            done = subprocess.run(
                [bash, "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30, check=False
            )
            output = squeezed(done.stdout + done.stderr)
            assert done.returncode == 0, f"{where}: {command}\n{output}"
            found = pattern(expected, identifiers).fullmatch(output)
            assert found, f"{where}: {command}\n{output}"
            for documented in AN_ID.findall(expected):
                group = "id_" + re.sub(r"\W", "_", documented)
                if group in found.re.groupindex:
                    identifiers[documented] = found[group]


def test_the_pattern_is_strict() -> None:
    identifiers: dict[str, str] = {}
    wanted = pattern("a  1M87A4P8QK2D9W-1 …\n…\nlast 2.5 ms\n", identifiers)
    found = wanted.fullmatch("a 1X87A4P8QK2D9W-7 x\nany\nlast 17.25 ms\n")
    assert found
    assert found["id_1M87A4P8QK2D9W_1"] == "1X87A4P8QK2D9W-7"
    assert not wanted.fullmatch("a 1X87A4P8QK2D9W-7 x\nany\nlost 17.25 ms\n")
    assert not wanted.fullmatch("a 1X87A4P8QK2D9W-7 x\nlast 17.25 ms\nmore\n")
    assert not pattern("1M87A4P8QK2D9W-1\n", {"1M87A4P8QK2D9W-1": "1X"}).fullmatch("1Y\n")
