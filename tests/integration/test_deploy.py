"""What deploy/ promises: the image's steps in a clean virtual environment, the environment of compose.yaml, the systemd unit."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gateway.config.load import load
from tests.integration.gateway_process import COMMAND

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PYTHON = str(getattr(sys, "_base_executable", sys.executable))


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


class Image:
    """The steps of a Dockerfile, done below a directory instead of in a container."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = "/"
        self.environment: dict[str, str] = {}
        self.facts: dict[str, str] = {}

    def inside(self, text: str) -> str:
        """`text` with the image's own paths put below our directory."""
        return re.sub(r"(?<![\w.])/(opt|src|var/lib/mailgateway|etc/mailgateway)(?![\w-])", rf"{self.root}/\1", text)

    def at(self, path: str) -> Path:
        return self.root / (Path(self.directory) / path).as_posix().lstrip("/")

    def step(self, word: str, rest: str) -> None:
        match word:
            case "FROM":
                self.directory = "/"
            case "WORKDIR":
                self.directory = rest
                self.at(".").mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(rest)
            case "RUN":
                command = self.inside(rest).replace("python -m venv", f"{shlex.quote(PYTHON)} -m venv")
                environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
                subprocess.run(["sh", "-euc", command], cwd=self.at("."), env=environment, check=True, timeout=280)
            case "ENV":
                name, _, value = rest.partition("=")
                self.environment[name] = self.inside(value)
            case _:
                self.facts[word] = rest

    def _copy(self, rest: str) -> None:
        if rest.startswith("--from="):
            return  # both stages are below the same directory
        *sources, target = rest.split()
        for source in sources:
            if source.endswith("/"):
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(ROOT / source, self.at(target), symlinks=True, ignore=ignored)
            else:
                shutil.copy(ROOT / source, self.at(target))


def modules(package: Path) -> set[str]:
    return {file.relative_to(package).as_posix() for file in package.rglob("*.py") if "__pycache__" not in file.parts}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_steps_of_the_image_give_a_gateway_that_runs(tmp_path: Path, free_port: Callable[[], int]) -> None:
    image = Image(tmp_path)
    for word, rest in instructions():
        image.step(word, rest)
    (package,) = (tmp_path / "opt/mailgateway/lib").glob("python3*/site-packages/gateway")
    assert modules(package) == modules(ROOT / "gateway") | {f"plugins/{name}" for name in modules(ROOT / "plugins")}
    assert not (package.parent / "plugins").exists()

    smtp, admin = free_port(), free_port()
    environment = image.environment | {
        "HOME": "/nonexistent",
        "MAILGATEWAY__PLUGINS": "[]",
        "MAILGATEWAY__LISTENER__MX__BIND": f"127.0.0.1:{smtp}",
        "MAILGATEWAY__ROUTE__DEFAULT__DOMAINS": '["inbox.test"]',
        "MAILGATEWAY__ROUTE__DEFAULT__SERVERS": '["inbox:"]',
        "MAILGATEWAY__ADMIN__BIND": f"127.0.0.1:{admin}",
    }
    program = tmp_path / "opt/mailgateway/bin/mailgateway"
    entry = json.loads(image.facts["ENTRYPOINT"]) + json.loads(image.facts["CMD"])
    healthcheck = json.loads(image.facts["HEALTHCHECK"].partition("CMD ")[2])
    assert entry[0] == healthcheck[0] == program.name
    place = image.at(".")
    with subprocess.Popen([program, *entry[1:]], env=environment, cwd=place, stderr=subprocess.PIPE, text=True) as gateway:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and gateway.poll() is None:
                found = subprocess.run([program, *healthcheck[1:]], env=environment, cwd=place, capture_output=True, check=False)
                if found.returncode == 0:
                    break
                time.sleep(0.2)
            else:
                pytest.fail("not healthy")
        finally:
            gateway.send_signal(getattr(signal, image.facts["STOPSIGNAL"]))
            try:
                _, log = gateway.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                gateway.kill()
                raise
        assert gateway.returncode == 0, log
    assert (tmp_path / "var/lib/mailgateway/inbox").is_dir()


def test_the_image_runs_as_nobody_special_and_keeps_no_state() -> None:
    words = instructions()
    user = [rest for word, rest in words if word == "USER"]
    assert user
    assert "root" not in user[-1]
    assert not user[-1].startswith("0")
    assert "VOLUME" not in [word for word, _ in words]


def test_the_environment_of_compose_is_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gateway = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["gateway"]
    environment = dict(image_environment(), **gateway["environment"])
    loaded = load(None, environ=environment, needs_route=True)
    config = loaded.config
    assert loaded.warnings == []
    (listener,), (route,) = config.listener, config.route
    assert listener.trusted_networks == ()
    assert (route.domains, route.servers) == (("example.org",), ("postfix:25",))
    (published,) = gateway["ports"]
    assert listener.bind.rpartition(":")[2] == published.rpartition(":")[2]
    assert any(volume.partition(":")[2] == config.server.state_directory for volume in gateway["volumes"])
    assert float(gateway["stop_grace_period"].rstrip("s")) > config.server.drain_limit + 3


def image_environment() -> dict[str, str]:
    return dict(rest.split("=", 1) for word, rest in instructions() if word == "ENV")


def test_the_unit_is_what_systemd_understands(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "mailgateway.service").read_text()
    stop = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert stop
    assert int(stop[1]) > load(None, environ={}).config.server.drain_limit + 3
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "mailgateway.service"
    unit.write_text(re.sub(r"/opt/mailgateway/bin/mailgateway", sys.executable, text))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=50
    )
    told = [line for line in found.stderr.splitlines() if "mailgateway" in line]
    assert told == []


def test_the_timer_of_the_reports_runs_the_command(tmp_path: Path) -> None:
    service = (ROOT / "deploy" / "mailgateway-dmarc-report.service").read_text()
    command = re.search(r"^ExecStart=/opt/mailgateway/bin/mailgateway (.*)$", service, re.MULTILINE)
    assert command
    page = (ROOT / "docs" / "dmarc-reports.md").read_text()
    assert f"/opt/mailgateway/bin/mailgateway {command[1]}\n" in page.partition("```cron\n")[2]
    words = command[1].replace("/etc/mailgateway", str(tmp_path / "none.toml")).split()
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 2  # the words are understood, the configuration is not there
    assert "none.toml" in done.stderr
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in ("service", "timer"):
        text = (ROOT / "deploy" / f"mailgateway-dmarc-report.{name}").read_text()
        (tmp_path / f"mailgateway-dmarc-report.{name}").write_text(
            text.replace("/opt/mailgateway/bin/mailgateway", sys.executable)
        )
    units = [str(tmp_path / f"mailgateway-dmarc-report.{name}") for name in ("timer", "service")]
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False, timeout=50
    )
    assert [line for line in found.stderr.splitlines() if "mailgateway" in line] == []
