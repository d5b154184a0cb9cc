"""Reading the configuration: every mistake at once, each where it stands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gateway.config.checks import warnings
from gateway.config.load import Loaded, find_file, load
from gateway.errors import ConfigError, ConfigProblem

ROUTE = '[[route]]\ndomains = ["example.org"]\nservers = ["127.0.0.1:2526"]\n'


def write(directory: Path, text: str, name: str = "config.toml") -> Path:
    file = directory / name
    file.write_text(text, encoding="utf-8")
    return file


def read(directory: Path, text: str, **environ: str) -> Loaded:
    return load(write(directory, text), environ=environ)


def problems(directory: Path, text: str, **environ: str) -> list[ConfigProblem]:
    with pytest.raises(ConfigError) as caught:
        read(directory, text, **environ)
    return caught.value.problems


def test_five_mistakes_are_five_messages_with_their_lines(tmp_path: Path) -> None:
    text = """\
plugins = ["spf"]
[server]
nane = "mx.example.org"
workers = "many"
[[listener]]
bind = "127.0.0.1:2525"
trusted_networks = [
    "192.0.2.0/24",
    "192.0.2.1/24",
]
[[route]]
domains = ["*"]
servers = ["http://localhost:24"]
[limits]
idle = "5 minutes"
"""
    found = problems(tmp_path, text)
    assert [(p.line, p.key) for p in found] == [
        (3, "server.nane"),
        (4, "server.workers"),
        (9, "listener[0].trusted_networks[1]"),
        (12, "route[0].domains"),
        (13, "route[0].servers[0]"),
        (15, "limits.idle"),
    ]
    assert {p.file for p in found} == {str(tmp_path / "config.toml")}
    assert found[0].hint == "name"
    assert found[1].found == '"many"'
    assert found[1].allowed == "a whole number"
    assert "open relay" in found[3].found
    assert '"unix:/path"' in found[4].allowed
    assert '"5m"' in found[5].allowed
    assert str(found[0]).startswith(f"{tmp_path}/config.toml:3: server.nane: found the unknown key 'nane'; allowed: name, ")


@pytest.mark.parametrize(
    ("text", "line", "key", "part"),
    [
        ("[sever]\nname = 'x'\n", 1, "sever", "server"),
        ("[server]\nstate = 'epheremal'\n", 2, "server.state", "ephemeral"),
        ("[[route]]\nname = 'a'\nservers = ['inbox:']\n", 1, "route[0].domains", "required"),
        ("[[route]]\ndomains = ['a.test']\nservers = []\n", 3, "route[0].servers", "at least 1"),
        ("server = 3\n", 1, "server", "a table"),
        ("[limits]\nrecipients = 5\n", 2, "limits.recipients", "at least 100"),
        (
            "[[route]]\ndomains = ['a.test']\nservers = ['inbox:']\nnext_hop_decides = 'maybe'\n",
            4,
            "route[0].next_hop_decides",
            "true",
        ),
        ("[[listener]]\nbind = '2525'\n", 2, "listener[0].bind", "127.0.0.1:25"),
        ("[[listener]]\nbind = '0.0.0.0:99999'\n", 2, "listener[0].bind", "65535"),
        ("[[listener]]\nbind = '127.0.0.1:25'\n[[listener]]\nbind = '127.0.0.1:26'\n", 3, "listener[1].name", "its own"),
        (f"[[listener]]\ndefault_route = 'defualt'\n{ROUTE}", 2, "listener[0].default_route", "default"),
        ("[[listener]]\nbind = '0.0.0.0:25'\n", 2, "listener[0].bind", "full server.name"),
        ("[server]\nname = 'mx'\n[[listener]]\nbind = '[::]:25'\n", 2, "server.name", "full server.name"),
        ("[[listener]]\nprotocol = 'imap'\n", 2, "listener[0].protocol", "smtp"),
        ("[[listener]]\nprotocol = 'lmtp'\nbind = '127.0.0.1:25'\n", 3, "listener[0].bind", "another port"),
        ("[dns]\nnameservers = ['ns.example.org:0']\n", 2, "dns.nameservers[0]", "65535"),
        ("plugins = ['spf', 3]\n", 1, "plugins[1]", "a plugin name"),
        ("[[route]]\ndomains = ['exa mple.org']\nservers = ['inbox:']\n", 2, "route[0].domains[0]", "*.example.org"),
        ("[[route]]\ndomains = ['a.test']\nservers = ['1.2.3.400:25']\n", 3, "route[0].servers[0]", "host:port"),
        (
            "[[route]]\ndomains = ['a.test']\nservers = [\n'a:25',\n{ address = 'b:0' },\n]\n",
            5,
            "route[0].servers[1].address",
            "65535",
        ),
        (
            "[[route]]\ndomains = ['a.test']\nservers = [{ address = 'a', wieght = 1 }]\n",
            3,
            "route[0].servers[0].wieght",
            "weight",
        ),
        (
            "[[route]]\ndomains = ['a.test']\nservers = [{ address = 'a', weight = 2 }]\n",
            3,
            "route[0].servers[0]",
            "with priority",
        ),
        (f"{ROUTE}source = ['192.0.2.1', '192.0.2.2']\n", 4, "route[0].source", "one IPv4"),
        (f"{ROUTE}source = ['mail.example.org']\n", 4, "route[0].source[0]", "an address such as"),
        (f"[relay]\nmap = 'nowhere.txt'\n{ROUTE}", 2, "relay.map", "a file of addresses"),
        ("[[route]]\ndomains = ['a.test']\nservers = ['mx:', 'a:25']\n", 3, "route[0].servers", "alone"),
        ("[[route]]\ndomains = ['a.test']\nservers = ['mx:a..b']\n", 3, "route[0].servers[0]", "mx:example.net:port"),
        ("[[route]]\ndomains = ['a.test']\nservers = ['mx::0']\n", 3, "route[0].servers[0]", "mx::port"),
        ("[[route]]\ndomains = ['a.test']\nservers = [3]\n", 3, "route[0].servers[0]", "a table"),
    ],
)
def test_a_mistake(tmp_path: Path, text: str, line: int, key: str, part: str) -> None:
    [problem] = problems(tmp_path, text)
    assert (problem.line, problem.key) == (line, key)
    assert part in f"{problem.allowed} {problem.hint}"


def test_broken_toml_names_its_line(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, "a = 1\nb = = 2\n")
    assert problem.line == 2
    assert "TOML" in problem.found
    [problem] = problems(tmp_path, "[server]\nname = 'a'\nname = 'b'\n")
    assert problem.line == 3
    [problem] = problems(tmp_path, "a = [\n1,\n")
    assert problem.line == 2


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "missing.toml", environ={})
    (tmp_path / "latin.toml").write_bytes(b"a = 1\nb = '\xe9'\n")
    with pytest.raises(ConfigError, match=r"latin\.toml:2: .*0xe9"):
        load(tmp_path / "latin.toml", environ={})
    (tmp_path / "big.toml").write_bytes(b"#" * 4_000_001)
    with pytest.raises(ConfigError, match="4000000 octets"):
        load(tmp_path / "big.toml", environ={})
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError, match="mistake in TOML"):
        load(tmp_path / "deep.toml", environ={})


def test_defaults_and_normal_forms(tmp_path: Path) -> None:
    config = read(
        tmp_path, "[server]\nname = 'mx.example.org'\n[[route]]\ndomains = ['Exämple.org', '*.B.test.']\nservers = ['h']\n"
    ).config
    assert config.server.authserv_id == "mx.example.org"
    assert config.route[0].domains == ("xn--exmple-cua.org", "*.b.test")
    assert config.listener[0].bind == "127.0.0.1:2525"
    assert read(tmp_path, "[server]\nauthserv_id = 'example.org'\n").config.server.authserv_id == "example.org"


def test_a_route_is_needed_to_run(tmp_path: Path) -> None:
    assert load(None, environ={}).config.route == ()
    with pytest.raises(ConfigError, match=r"environment: route: found no route"):
        load(None, environ={}, needs_route=True)
    assert load(write(tmp_path, ROUTE), environ={}, needs_route=True).config.route[0].name == "default"


def test_a_directory_adds_up(tmp_path: Path) -> None:
    write(tmp_path, "[limits]\nidle = '1m'\n[[route]]\nname = 'a'\ndomains = ['a.test']\nservers = ['inbox:']\n", "10.toml")
    write(tmp_path, "[limits]\nerrors = 3\n[[route]]\nname = 'b'\ndomains = ['b.test']\nservers = ['inbox:']\n", "20.toml")
    write(tmp_path, "nonsense", "ignored.txt")
    loaded = load(tmp_path, environ={})
    assert [route.name for route in loaded.config.route] == ["a", "b"]
    assert (loaded.config.limits.idle, loaded.config.limits.errors) == (60.0, 3)
    assert loaded.locate(("route", 1, "domains")) == (str(tmp_path / "20.toml"), 5)
    assert loaded.directory == tmp_path


def test_a_key_set_twice_in_a_directory(tmp_path: Path) -> None:
    write(tmp_path, "plugins = ['spf']\n[limits]\nidle = '1m'\n", "10.toml")
    write(tmp_path, "plugins = ['dkim']\n[limits]\n\nidle = '2m'\n", "20.toml")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ={})
    assert [(p.file, p.line, p.key) for p in caught.value.problems] == [
        (str(tmp_path / "20.toml"), 1, "plugins"),
        (str(tmp_path / "20.toml"), 4, "limits.idle"),
    ]
    assert f"{tmp_path}/10.toml:3" in caught.value.problems[1].found


def test_every_broken_file_of_a_directory_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a = \n", "10.toml")
    write(tmp_path, "\nb = \n", "20.toml")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ={})
    assert [(Path(p.file).name, p.line) for p in caught.value.problems] == [("10.toml", 1), ("20.toml", 2)]


def test_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"without \*.toml"):
        load(tmp_path, environ={})


def test_which_file_is_read(tmp_path: Path) -> None:
    assert find_file(Path("x"), {"MAILGATEWAY_CONFIG": "y"}) == Path("x")
    assert find_file(None, {"MAILGATEWAY_CONFIG": "y"}) == Path("y")
    assert find_file(None, {}, working_directory=tmp_path) is None
    write(tmp_path, "")
    assert find_file(None, {}, working_directory=tmp_path) == tmp_path / "config.toml"


def test_origins_and_locate(tmp_path: Path) -> None:
    text = (
        "plugins = [\n 'spf',\n 'dkim']\n[plugin.spf]\ntimeout = '2s'\n[[rule]]\nname = 'a'\n[[rule]]\nname = 'b'\nwhen = 'x'\n"
    )
    loaded = read(tmp_path, text, MAILGATEWAY__LIMITS__ERRORS="7")
    file = str(tmp_path / "config.toml")
    assert loaded.origins[("plugins",)] == f"{file}:1"
    assert loaded.origins[("plugin", "spf", "timeout")] == f"{file}:5"
    assert loaded.origins[("limits", "errors")] == "environment MAILGATEWAY__LIMITS__ERRORS"
    assert loaded.origins[("limits", "idle")] == "default"
    assert loaded.locate(("plugins", 1)) == (file, 3)
    assert loaded.locate(("rule", 1, "when")) == (file, 10)
    assert loaded.locate(("rule", 1, "then")) == (file, 8)
    assert loaded.locate(("nothing",)) == (file, None)
    assert loaded.locate(("limits", "errors")) == ("environment MAILGATEWAY__LIMITS__ERRORS", None)


def test_certificates_are_tried(tmp_path: Path) -> None:
    listener = "[[listener]]\ntls = { certificate = 'c.pem', key = 'k.pem' }\n"
    found = problems(tmp_path, listener)
    assert [(p.key, p.line) for p in found] == [("listener[0].tls.certificate", 2), ("listener[0].tls.key", 2)]
    assert "No such file" in found[0].found
    write(tmp_path, "nonsense", "c.pem")
    write(tmp_path, "nonsense", "k.pem")
    [problem] = problems(tmp_path, listener)
    assert "OpenSSL refuses" in problem.found
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=mx.test",
        "-keyout",
        "k.pem",
        "-out",
        "c.pem",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert read(tmp_path, listener).config.listener[0].tls is not None


def test_an_unreadable_certificate(tmp_path: Path) -> None:
    (tmp_path / "c.pem").mkdir()
    found = problems(tmp_path, "[[listener]]\ntls = { certificate = 'c.pem', key = 'k.pem' }\n")
    assert "which cannot be read: Is a directory" in found[0].found


def test_the_configuration_at_the_top_is_right() -> None:
    loaded = load(Path(__file__).parents[2] / "config.toml", environ={}, needs_route=True)
    assert loaded.warnings == []
    assert loaded.config.route[0].servers == ("inbox:",)


@pytest.mark.parametrize("depth", [50, 150, 300, 400, 500, 900])
def test_nesting_that_no_parser_follows(tmp_path: Path, depth: int) -> None:
    """Whatever the depth: read, or refused with a line; never a crash."""
    text = "plugins = []\n[plugin.x]\na = " + "[" * depth + "]" * depth + "\n"
    try:
        found = str(read(tmp_path, text).locate(("plugin", "x", "a")))
    except ConfigError as error:
        found = str(error)
    assert "config.toml" in found


def test_many_rules_in_several_files(tmp_path: Path) -> None:
    for name in ("1.toml", "2.toml"):
        write(tmp_path, "".join(f"[[rule]]\nname = 'r{n}'\nwhen = 'true'\n" for n in range(3000)), name)
    loaded = load(tmp_path, environ={})
    assert len(loaded.config.rule) == 6000
    assert loaded.locate(("rule", 3001, "when")) == (str(tmp_path / "2.toml"), 6)


def test_extensions_to_pass_are_none_of_our_own(tmp_path: Path) -> None:
    good = '[pass_extensions]\nx-site = { mail = ["xfoo"] }\n' + ROUTE
    assert list(read(tmp_path, good).config.pass_extensions) == ["X-SITE"]
    bad = '[pass_extensions]\nchunking = {}\nX-A = { mail = ["size"], rcpt = ["NOTIFY"] }\n"X A" = {}\n' + ROUTE
    found = problems(tmp_path, bad)
    assert [(p.line, p.key) for p in found[:3]] == [
        (2, "pass_extensions.chunking"),
        (3, "pass_extensions.X-A.mail"),
        (3, "pass_extensions.X-A.rcpt"),
    ]
    assert [p.line for p in found[3:]] == [4]


def test_the_route_for_auth_is_one(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, '[[listener]]\nauth_route = "defautl"\n' + ROUTE)
    assert (problem.line, problem.key, problem.hint) == (2, "listener[0].auth_route", "default")
    assert any(
        "auth_route without tls" in text
        for text in warnings(read(tmp_path, '[[listener]]\nauth_route = "default"\n' + ROUTE).config)
    )
