"""The whole configuration by environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.errors import ConfigError, ConfigProblem


def problems(path: Path | None = None, **environ: str) -> list[ConfigProblem]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ)
    return caught.value.problems


def test_a_container_without_a_file() -> None:
    loaded = load(
        None,
        environ={
            "PATH": "/bin",
            "MAILGATEWAY_CONFIG": "",
            "MAILGATEWAY__PLUGINS": '["spf", "dkim"]',
            "MAILGATEWAY__SERVER__NAME": "mx.example.org",
            "MAILGATEWAY__LISTENER__MX__BIND": "0.0.0.0:25",
            "MAILGATEWAY__ROUTE__DEFAULT__SERVERS": '["postfix:25"]',
            "MAILGATEWAY__ROUTE__DEFAULT__DOMAINS": '["example.org"]',
            "mailgateway__plugin__spf__timeout": "2s",
            "MAILGATEWAY__PLUGIN__SPF__VERDICT": "reject",
            "MAILGATEWAY__LIMITS__MESSAGE_SIZE": "25MB",
            "MAILGATEWAY__DNS__ZONES": '{"a.test": {"A": ["192.0.2.1"]}}',
        },
        needs_route=True,
    )
    config = loaded.config
    assert config.plugins == ("spf", "dkim")
    assert [(listener.name, listener.bind) for listener in config.listener] == [("mx", "0.0.0.0:25")]
    assert [(route.name, route.servers) for route in config.route] == [("default", ("postfix:25",))]
    assert config.plugin == {"spf": {"timeout": "2s", "verdict": "reject"}}
    assert config.limits.message_size == 25_000_000
    assert config.dns.zones["a.test"]["A"] == ["192.0.2.1"]
    assert loaded.origins[("dns", "zones", "a.test", "A")] == "environment MAILGATEWAY__DNS__ZONES"


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        "[[route]]\nname = 'In-Side'\ndomains = ['a.test']\nservers = ['inbox:']\n[plugin.my-spf]\nx = [\n1,\n2]\n[server]\nworkers = 1\n"
    )
    loaded = load(
        file,
        environ={
            "MAILGATEWAY__ROUTE__IN_SIDE__SERVERS": '["b:25"]',
            "MAILGATEWAY__PLUGIN__MY_SPF__X": "[3]",
            "MAILGATEWAY__SERVER__WORKERS": "4",
        },
    )
    assert loaded.config.route[0].servers == ("b:25",)
    assert loaded.config.route[0].domains == ("a.test",)
    assert loaded.config.plugin == {"my-spf": {"x": [3]}}
    assert loaded.config.server.workers == 4
    assert loaded.locate(("plugin", "my-spf", "x", 1)) == ("environment MAILGATEWAY__PLUGIN__MY_SPF__X", None)


def test_a_string_stays_a_string() -> None:
    config = load(None, environ={"MAILGATEWAY__SERVER__NAME": "1234", "MAILGATEWAY__SERVER__STATE_DIRECTORY": '"/srv"'}).config
    assert config.server.name == "1234"
    assert config.server.state_directory == "/srv"


def test_tables_in_tables() -> None:
    environ = {"MAILGATEWAY__PLUGIN__TICKETS__SERVER__PORT": "8080", "MAILGATEWAY__PLUGIN__TICKETS__SERVER__HOST": "t.test"}
    assert load(None, environ=environ).config.plugin == {"tickets": {"server": {"port": 8080, "host": "t.test"}}}
    with pytest.raises(ConfigError, match=r"tls\.certificate: found \"/no\.pem\", which cannot be read"):
        load(
            None,
            environ={"MAILGATEWAY__LISTENER__MX__TLS__CERTIFICATE": "/no.pem", "MAILGATEWAY__LISTENER__MX__TLS__KEY": "/no.key"},
        )


@pytest.mark.parametrize(
    ("name", "value", "found", "hint"),
    [
        ("MAILGATEWAY__LIMTS__ERRORS", "3", "'LIMTS'", "LIMITS"),
        ("MAILGATEWAY__LIMITS__EROORS", "3", "'EROORS'", "ERRORS"),
        ("MAILGATEWAY__ROUTE__DEFAULT__SERVER", "[]", "'SERVER'", "SERVERS"),
        ("MAILGATEWAY__LISTENER__MX__TLS__CERT", "x", "'CERT'", "CERTIFICATE"),
        ("MAILGATEWAY__", "x", "empty part", ""),
        ("MAILGATEWAY__LIMITS", "x", "no JSON", ""),
        ("MAILGATEWAY__LIMITS__ERRORS__X", "3", "'X'", ""),
        ("MAILGATEWAY__RULE__A__WHEN", "true", "a part of a rule", ""),
        ("MAILGATEWAY__SERVER__NAME_FILE", "/nowhere/name", "cannot be read", ""),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, found: str, hint: str) -> None:
    [problem] = problems(None, **{name: value})
    assert problem.file == f"environment {name}"
    assert found in problem.found
    assert problem.hint == hint


def test_a_wrong_value_names_its_variable() -> None:
    [problem] = problems(MAILGATEWAY__LIMITS__ERRORS="many")
    assert (problem.file, problem.key) == ("environment MAILGATEWAY__LIMITS__ERRORS", "limits.errors")


def test_the_same_key_by_two_variables(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    found = problems(MAILGATEWAY__PLUGIN__A__TOKEN="x", MAILGATEWAY__PLUGIN__A__TOKEN_FILE=str(secret))
    assert [p.file for p in found] == ["environment MAILGATEWAY__PLUGIN__A__TOKEN_FILE"]


def test_secrets_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"12 34\n\n")
    environ = {"MAILGATEWAY__PLUGIN__TICKETS__TOKEN_FILE": str(secret), "MAILGATEWAY__SERVER__NAME_FILE": str(secret)}
    config = load(None, environ=environ).config
    assert config.plugin == {"tickets": {"token": "12 34\n"}}
    assert config.server.name == "12 34\n"
    secret.write_bytes(b"x" * 70_000)
    [problem] = problems(MAILGATEWAY__PLUGIN__A__TOKEN_FILE=str(secret))
    assert "65536" in problem.found
    secret.write_bytes(b"\xff")
    assert "cannot be read" in problems(MAILGATEWAY__PLUGIN__A__TOKEN_FILE=str(secret))[0].found


def test_a_section_that_is_no_array(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("route = 3\n")
    found = problems(file, MAILGATEWAY__ROUTE__DEFAULT__DOMAINS='["a.test"]')
    assert {p.key for p in found} == {"route", "MAILGATEWAY__ROUTE__DEFAULT__DOMAINS"}
