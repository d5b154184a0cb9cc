"""Warnings, durable state, and what is written down about the configuration."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, SecretStr, ValidationError
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.config.addresses import ServerAddress, is_loopback, parse_bind, parse_server
from gateway.config.checks import file_system, state_is_durable, warnings
from gateway.config.lines import index_lines
from gateway.config.load import load
from gateway.config.models import Config, PluginUse
from gateway.config.problems import nearest, problems_from_pydantic
from gateway.config.reference import render
from gateway.config.secrets import MASK, is_secret, masked
from gateway.config.show import format_duration, format_size, toml_text
from gateway.units import parse_duration, parse_size

MOUNTS = r"""22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/x
23 22 0:21 / /proc rw - proc proc rw
24 22 8:1 /v /var/lib/mailgateway rw shared:2 master:1 - ext4 /dev/sda1 rw
25 22 0:22 / /run\040time rw - tmpfs tmpfs rw
26 22 0:23 / /srv rw - ext4 /dev/sdb rw
27 22 0:24 / /srv rw - tmpfs tmpfs rw
broken line
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/var/lib/mailgateway/quarantine", "ext4"),
        ("/var/lib", "overlay"),
        ("/run time/x", "tmpfs"),
        ("/srv/state", "tmpfs"),
        ("/var/lib/mailgatewayx", "overlay"),
    ],
)
def test_the_file_system_of_a_directory(directory: str, kind: str) -> None:
    assert file_system(Path(directory), mountinfo=MOUNTS) == kind


def test_state_that_would_go_with_the_container() -> None:
    good, text = state_is_durable(Path("/var/lib/x"), "durable", mountinfo=MOUNTS)
    assert not good
    assert "overlay" in text
    assert 'state = "ephemeral"' in text
    assert state_is_durable(Path("/var/lib/mailgateway"), "durable", mountinfo=MOUNTS) == (True, "")
    good, text = state_is_durable(Path("/srv"), "ephemeral", mountinfo=MOUNTS)
    assert good
    assert "accepted" in text
    assert state_is_durable(Path("/"), "durable", mountinfo="") == (True, "")
    assert file_system(Path("/proc")) == "proc"


def warned(listener: str, route: str = "") -> list[str]:
    return warnings(Config.model_validate(tomllib.loads(f"[server]\nname = 'mx.example.org'\n[[listener]]\n{listener}\n{route}")))


@pytest.mark.parametrize(
    "network", ["127.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "172.20.0.0/16", "fd00::/8", "::/0", "100.64.0.0/10"]
)
def test_trust_in_private_networks_is_warned_of(network: str) -> None:
    [text] = warned(f"bind = '0.0.0.0:25'\ntrusted_networks = ['{network}']")
    assert "relay" in text
    assert warned(f"bind = '127.0.0.1:25'\ntrusted_networks = ['{network}']") == []
    assert warned("bind = '0.0.0.0:25'\ntrusted_networks = ['192.0.2.0/24', '2001:db8::/32']") == []


@pytest.mark.parametrize("key", ["trusted_networks", "trusted_proxies"])
def test_trust_in_the_clients_of_a_unix_socket_is_warned_of_where_it_goes_too_far(key: str) -> None:
    trust = f"{key} = ['unix']"
    assert warned(f"bind = 'unix:/run/x'\n{trust}") == []
    [text] = warned(f"bind = 'unix:/run/x'\nsocket_mode = '0666'\n{trust}")
    assert "every user of this host" in text
    [text] = warned(f"bind = '127.0.0.1:25'\n{trust}")
    assert "no UNIX socket" in text


def test_a_unix_socket_that_leads_back_to_us_is_warned_of() -> None:
    [text] = warned("bind = 'unix:/run/x'", "[[route]]\ndomains = ['a.test']\nservers = ['unix:/run/x']")
    assert "in a circle" in text


def test_a_next_hop_without_client_address_is_warned_of() -> None:
    route = "[[route]]\ndomains = ['*']\nservers = ['a:25']\nnext_hop_decides = 'without client address'"
    [text] = warned("bind = '127.0.0.1:25'", route)
    assert "open relay" in text


def test_mail_to_the_world_by_mx_is_warned_of() -> None:
    route = "[[route]]\ndomains = ['*']\nservers = ['mx:']\nnext_hop_decides = true"
    [text] = warned("bind = '127.0.0.1:25'", route)
    assert "smart host" in text
    assert warned("bind = '127.0.0.1:25'", route.replace("mx:", "mx:hub.example.org")) == []
    assert warned("bind = '127.0.0.1:25'", route.replace("['*']", "['example.org']")) == []


@pytest.mark.parametrize(
    ("bind", "server", "is_circle"),
    [
        ("127.0.0.1:25", "127.0.0.1", True),
        ("0.0.0.0:2525", "localhost:2525", True),
        ("localhost:25", "127.0.0.1:25", True),
        ("[::]:25", "[::1]:25", True),
        ("0.0.0.0:25", "[::1]:25", False),
        ("127.0.0.1:25", "127.0.0.2:25", False),
        ("127.0.0.1:25", "127.0.0.1:26", False),
        ("0.0.0.0:25", "mail.example.org:25", False),
        ("0.0.0.0:25", "unix:/run/x", False),
    ],
)
def test_a_route_to_our_own_listener_is_warned_of(bind: str, server: str, is_circle: bool) -> None:
    found = warned(f"bind = '{bind}'", f"[[route]]\ndomains = ['example.org']\nservers = ['192.0.2.1', '{server}']")
    assert [("in a circle" in text) for text in found] == [True] * is_circle


def test_times_that_leave_no_reply_are_warned_of() -> None:
    assert warned("", "[limits]\nfinal_reply = '10m'") == []
    [late] = warned("", "[limits]\nfinal_reply = '11m'")
    assert "sent again" in late
    [nothing] = warned("", "[limits]\ncheck_budget = '570s'")
    assert "nothing of limits.final_reply" in nothing


def test_addresses() -> None:
    assert parse_bind("[::1]:25") == ("::1", 25)
    assert is_loopback("[::1]:25")
    assert is_loopback("localhost:25")
    assert not is_loopback("0.0.0.0:25")
    assert parse_server("mx.example.org") == ServerAddress(host="mx.example.org", port=25)
    assert parse_server("[2001:db8::1]:2525") == ServerAddress(host="2001:db8::1", port=2525)
    assert parse_server("unix:/run/lmtp") == ServerAddress(path="/run/lmtp")
    assert parse_server("lmtp://localhost:24") == ServerAddress(host="localhost", port=24, lmtp=True)
    assert parse_server("lmtp+unix:/run/lmtp") == ServerAddress(path="/run/lmtp", lmtp=True)
    assert parse_server("inbox:").inbox
    for wrong in (
        "",
        "a b:25",
        "a:0",
        "unix:run",
        "mx:",
        "[::g]:25",
        "a..b",
        "lmtp://a:25",
        "lmtp://a",
        "lmtp+unix:x",
        "a\n:25",
        "é:25",
    ):
        with pytest.raises(ValueError, match=r"port|host"):
            parse_server(wrong)
    for wrong in ("127.0.0.1", "example.org:25", "unix:/x", "::1:25"):
        with pytest.raises(ValueError, match="localhost"):
            parse_bind(wrong)


def test_lines_of_every_form_of_toml() -> None:
    text = '''# comment [x]
a = "]#" # [y]
b . c."d.e" = [1, # ]
  "two",
  { q = 1, 'r s' = [ 2,
    3 ] },
]
[server] # x
text = """
[not.a.table]
k = 1"""
lit = \'\'\'
a = """ \'\'\'
[[route]]
n = 1979-05-27 07:32:00
[route.tls]
k = 1
[[route]]
m = true
[[route.sub]]
z = {}
'''
    tomllib.loads(text)
    found = index_lines(text)
    assert found.appended == {("route",), ("route", 1, "sub")}
    assert found.lines == {
        ("a",): 2,
        ("b",): 3,
        ("b", "c"): 3,
        ("b", "c", "d.e"): 3,
        ("b", "c", "d.e", 0): 3,
        ("b", "c", "d.e", 1): 4,
        ("b", "c", "d.e", 2): 5,
        ("b", "c", "d.e", 2, "q"): 5,
        ("b", "c", "d.e", 2, "r s"): 5,
        ("b", "c", "d.e", 2, "r s", 0): 5,
        ("b", "c", "d.e", 2, "r s", 1): 6,
        ("server",): 8,
        ("server", "text"): 9,
        ("server", "lit"): 12,
        ("route",): 14,
        ("route", 0): 14,
        ("route", 0, "n"): 15,
        ("route", 0, "tls"): 16,
        ("route", 0, "tls", "k"): 17,
        ("route", 1): 18,
        ("route", 1, "m"): 19,
        ("route", 1, "sub"): 20,
        ("route", 1, "sub", 0): 20,
        ("route", 1, "sub", 0, "z"): 21,
    }


class Options(BaseModel, extra="forbid"):
    limit: int = Field(default=3, ge=1)
    token: SecretStr = SecretStr("")
    modes: dict[str, int] = {}


def test_problems_of_plugin_options() -> None:
    with pytest.raises(ValidationError) as caught:
        Options.model_validate({"limt": 1, "limit": 0, "token": 5, "modes": {"a": "x"}})
    found = problems_from_pydantic(
        caught.value, prefix=("plugin", "x"), locate=lambda key: ("f", len(key)), models=(Options, PluginUse)
    )
    assert [(p.key, p.line, p.hint) for p in found] == [
        ("plugin.x.limit", 3, ""),
        ("plugin.x.token", 3, ""),
        ("plugin.x.modes.a", 4, ""),
        ("plugin.x.limt", 3, "limit"),
    ]
    assert found[1].found == MASK
    assert "timeout" in found[3].allowed
    with pytest.raises(ValidationError) as caught:
        PluginUse.model_validate({"on_error": "defre", "mode": "monitr"})
    found = problems_from_pydantic(caught.value, prefix=("plugin", "x"), locate=lambda _: ("f", 1), models=PluginUse)
    assert [(p.key, p.hint) for p in found] == [("plugin.x.mode", "monitor"), ("plugin.x.on_error", "defer")]


def test_nearest() -> None:
    assert nearest("Trusted_network", ["trusted_networks", "tls"]) == "trusted_networks"
    assert nearest("zzz", ["trusted_networks", "tls"]) == ""


def test_secrets_are_masked() -> None:
    assert is_secret("redis_password")
    assert is_secret("api-key")
    assert not is_secret("key")
    assert not is_secret("tokenizer")
    found = masked({"password": "x", "empty_token": "", "n": [{"secret": 1}], "url": "redis://u:pw@h/0", "key": "k.pem"})
    assert found == {"password": MASK, "empty_token": "", "n": [{"secret": MASK}], "url": f"redis://u:{MASK}@h/0", "key": "k.pem"}


@pytest.mark.parametrize("seconds", [0.0, 0.25, 1.0, 30.0, 90.0, 3600.0, 86400.0 * 30, 0.0015])
def test_durations_read_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize("octets", [0, 1, 4096, 1000, 25_000_000, 10**9])
def test_sizes_read_back(octets: int) -> None:
    assert parse_size(format_size(octets)) == octets


TEXT = """
plugins = ["spf", { name = "b", use = "spf" }]
[[route]]
domains = ["example.org"]
servers = ["inbox:"]
[plugin.tickets]
token = "hunter2"
"odd key" = "a\\u007f\\"b"
since = 2026-01-01
[[rule]]
name = "r"
weights = { a = 1.5, b = true }
[dns.zones."a.test"]
TXT = ["x"]
"""


def test_the_shown_configuration_reads_back(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(TEXT)
    first = load(file, environ={"MAILGATEWAY__LIMITS__ERRORS": "7"})
    file.write_text(toml_text(first.config))
    again = load(file, environ={})
    expected = first.config.model_dump()
    expected["plugin"]["tickets"]["token"] = MASK
    assert again.config.model_dump() == expected


def test_the_page_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert page.read_text(encoding="utf-8") == render(), "run: python -m gateway.config.reference"


def test_every_key_has_a_meaning() -> None:
    assert "|  |" not in render()


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAILGATEWAY_CONFIG", raising=False)
    file = tmp_path / "config.toml"
    file.write_text('[[route]]\ndomains = ["example.org"]\nservers = ["inbox:"]\n')
    return file


def test_check_says_ok(config_file: Path) -> None:
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 0, result.output
    assert "ok: config.toml: 1 listener(s), 1 route(s), 0 plugin(s), 0 rule(s)" in result.output


def test_check_prints_every_mistake(config_file: Path) -> None:
    config_file.write_text("[server]\nnane = 'x'\n[limits]\nerrors = 0\n")
    result = CliRunner().invoke(app, ["config", "check", "--config", str(config_file)])
    assert result.exit_code == 2
    lines = result.output.splitlines()
    assert lines[0].startswith(f"{config_file}: route: found no route")
    assert lines[1].startswith(f"{config_file}:2: server.nane:")
    assert lines[2].startswith(f"{config_file}:4: limits.errors: found 0; allowed: at least 1")
    assert lines[3] == "3 mistakes in the configuration"


def test_check_warns(config_file: Path) -> None:
    with config_file.open("a") as file:
        file.write("[server]\nname = 'mx.a.test'\n[[listener]]\nbind = '0.0.0.0:25'\ntrusted_networks = ['10.0.0.0/8']\n")
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 0, result.output
    assert "warning: listener 'default': trusted_networks has 10.0.0.0/8" in result.output


def test_check_knows_the_plugins(config_file: Path) -> None:
    config_file.write_text('plugins = [\n"smf"]\n' + config_file.read_text())
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 2, result.output
    assert "config.toml:2: plugins[0]" in result.output


def test_check_tells_mistakes_of_all_kinds_at_once(config_file: Path) -> None:
    config_file.write_text(
        'plugins = ["dmarc", "dkmi", "rules"]\n'
        '[[route]]\ndomains = ["example.org"]\nservers = ["lmtp://x"]\n'
        "[limits]\nerrors = 0\n"
        "[plugin.dmarc]\nverdict = 'polcy'\n"
        "[[rule]]\nname = 'r'\nwhen = 'sizee > 3'\nthen = 'quarantine'\n"
    )
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 2
    lines = [line for line in result.output.splitlines() if line.startswith("config.toml:")]
    assert [line.split(":")[1] for line in lines] == ["1", "4", "6", "8", "11"]
    assert "did you mean 'dkim'?" in lines[0]
    assert "5 mistakes in the configuration" in result.output


def test_show_with_origins(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILGATEWAY__LIMITS__ERRORS", "7")
    result = CliRunner().invoke(app, ["config", "show", "--origin"])
    assert result.exit_code == 0, result.output
    assert "errors = 7  # environment MAILGATEWAY__LIMITS__ERRORS" in result.output
    assert 'domains = ["example.org"]  # config.toml:2' in result.output
    assert 'idle = "5m"  # default' in result.output
    shown = CliRunner().invoke(app, ["config", "show"]).output
    assert tomllib.loads(shown)["limits"]["errors"] == 7
    assert "# " not in shown


def test_schema_is_a_json_schema() -> None:
    result = CliRunner().invoke(app, ["config", "schema"])
    schema = json.loads(result.output)
    assert schema["properties"]["route"]
    limits = schema["$defs"]["LimitsConfig"]
    assert limits["additionalProperties"] is False
    assert limits["properties"]["message_size"]["examples"] == ["25MB"]
    assert limits["properties"]["idle"]["type"] == ["string", "number"]


@pytest.mark.parametrize(
    ("name", "network"), [("trusted_proxies", "0.0.0.0/0"), ("trusted_xclient", "::/0"), ("trusted_proxies", "10.0.0.0/7")]
)
def test_belief_in_half_the_world_is_warned_of(name: str, network: str) -> None:
    [text] = warned(f"bind = '127.0.0.1:25'\n{name} = ['{network}']")
    assert f"{name} has {network}" in text
    assert warned(f"bind = '0.0.0.0:25'\n{name} = ['10.0.0.0/24', '2001:db8::5']") == []


def test_a_backend_of_dns_that_is_not_installed_is_a_mistake_of_its_line(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file.write_text('[[route]]\ndomains = ["a.test"]\nservers = ["inbox:"]\n[dns]\nbackend = "aiodns"\n')
    assert CliRunner().invoke(app, ["config", "check", "--config", str(config_file)]).exit_code == 0
    monkeypatch.setattr("gateway.config.checks.find_spec", lambda _: None)
    result = CliRunner().invoke(app, ["config", "check", "--config", str(config_file)])
    assert result.exit_code == 2
    assert 'config.toml:5: dns.backend: found "aiodns", which is not installed' in result.output
    assert "mailgateway[aiodns]" in result.output


TRIED = """
[[rule]]
name = "no"
when = "message.subject == 'no'"
then = "reject"

[[rule.test]]
message.subject = "no"
expect = "reject"
"""


def test_check_runs_the_tests_beside_rules(config_file: Path) -> None:
    config_file.write_text('plugins = ["rules"]\nrule_files = ["more.toml"]\n' + config_file.read_text() + TRIED)
    more = config_file.with_name("more.toml")
    more.write_text(TRIED.replace('"no"\nwhen', '"also"\nwhen', 1).replace('expect = "reject"', 'expect = "reject 554"'))
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 0, result.output
    assert "test" not in result.output, "they are not run unasked"
    result = CliRunner().invoke(app, ["config", "check", "--test"])
    assert result.exit_code == 1
    assert "more.toml:7: rule 'also', test 1: expected reject 554, got reject 550 5.7.1" in result.output
    assert result.output.splitlines()[-1] == "2 tests, 1 failed"
    more.write_text("")
    config_file.write_text(config_file.read_text().replace('expect = "reject"', 'expect = "nothing"'))
    result = CliRunner().invoke(app, ["config", "check", "--test"])
    assert result.exit_code == 1
    assert "config.toml:12: rule 'no', test 1: the rule holds, and should not" in result.output
    config_file.write_text(config_file.read_text().replace('expect = "nothing"', 'expect = "holds"'))
    result = CliRunner().invoke(app, ["config", "check", "--test"])
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "1 test, 0 failed")
