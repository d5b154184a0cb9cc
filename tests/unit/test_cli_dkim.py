"""`mailgateway dkim`: keys that nobody else reads, records as they are published, everything wrong with them told."""

from __future__ import annotations

import json
import re
import shutil
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.commands import app
from gateway.cli.dkim import _check, _sample
from gateway.mailauth import SigningKey, read_key_file
from gateway.testing import FakeResolver

CONFIG = """plugins = ["dkim_sign"]
[[route]]
domains = ["example.org"]
servers = ["127.0.0.1:2526"]
[[plugin.dkim_sign.key]]
domain = "example.org"
selector = "r"
file = "r.pem"
[[plugin.dkim_sign.key]]
domain = "example.org"
selector = "e"
file = "e.pem"
"""


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["dkim", *words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three keys, made once."""
    folder = tmp_path_factory.mktemp("keys")
    for selector, kind in (("r", "rsa"), ("e", "ed25519"), ("other", "rsa")):
        file = str(folder / f"{selector}.pem")
        done = call("keygen", "--domain", "example.org", "--selector", selector, "--type", kind, "--out", file)
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def directory(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The keys, and a configuration that signs with two of them."""
    monkeypatch.chdir(tmp_path)
    for file in made.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / "config.toml").write_text(CONFIG)
    return tmp_path


def publish(directory: Path, **zones: object) -> None:
    lines = [f"{json.dumps(f'{selector}._domainkey.example.org')} = {{ {value} }}" for selector, value in zones.items()]
    (directory / "config.toml").write_text("\n".join([CONFIG, "[dns]", 'nameservers = ["127.0.0.1:1"]', "[dns.zones]", *lines]))


def record(directory: Path, selector: str) -> str:
    return read_key_file(directory / f"{selector}.pem").record


def txt(*records: str) -> str:
    return f"TXT = {json.dumps(records)}"


def test_keygen(directory: Path) -> None:
    for name, algorithm, bits in (("r.pem", "rsa-sha256", 2048), ("e.pem", "ed25519-sha256", 256)):
        file = directory / name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        key = read_key_file(file)
        assert (key.algorithm, key.bits) == (algorithm, bits)
    before = (directory / "r.pem").read_bytes()
    done = call("keygen", "--domain", "example.org", "--selector", "r", "--out", "r.pem")
    assert done.exit_code == 1
    assert "is there already" in done.output
    assert (directory / "r.pem").read_bytes() == before
    (directory / "link.pem").symlink_to(directory / "elsewhere")
    assert call("keygen", "--domain", "example.org", "--selector", "r", "--out", "link.pem").exit_code == 1
    assert not (directory / "elsewhere").exists()
    done = call("keygen", "--domain", "example.org", "--selector", "r", "--out", "nowhere/r.pem")
    assert done.exit_code == 1
    assert "No such file" in done.output
    assert call("keygen", "--domain", "no name", "--selector", "r", "--out", "x.pem").exit_code == 2
    assert call("keygen", "--domain", "example.org", "--selector", "r", "--bits", "512", "--out", "x.pem").exit_code == 2
    assert not (directory / "x.pem").exists()


def test_the_record_is_printed_for_a_zone_file_and_for_a_form(directory: Path) -> None:
    shown = call("record").stdout
    for selector in ("r", "e"):
        text = record(directory, selector)
        assert f"{selector}._domainkey.example.org\nTXT\n{text}\n" in shown
        entry = shown.partition(f"{selector}._domainkey.example.org. IN TXT ")[2].partition("\n\n")[0]
        assert "".join(entry.split('"')[1::2]) == text
        assert all(len(one) <= 255 for one in entry.split('"')[1::2])
    only = call("record", "--selector", "e").stdout
    assert "ed25519" in only
    assert "rsa" not in only
    by_file = call("record", "--key", "r.pem", "--domain", "other.example", "--selector", "x")
    assert f"x._domainkey.other.example\nTXT\n{record(directory, 'r')}" in by_file.stdout
    assert call("record", "--key", "r.pem").exit_code == 2
    assert call("record", "--selector", "none").exit_code == 1
    assert "PRIVATE" not in shown
    (directory / "config.toml").write_text(CONFIG.partition("[[plugin")[0].replace('"dkim_sign"', ""))
    done = call("record")
    assert (done.exit_code, "no plugin of the configuration signs" in done.output) == (1, True)
    assert call("record", "--key", "config.toml", "--domain", "a.example", "--selector", "x").exit_code == 1


def test_check_when_all_is_well(directory: Path) -> None:
    publish(directory, r=txt(record(directory, "r")), e=txt(record(directory, "e")))
    done = call("check")
    assert done.exit_code == 0, done.output
    assert re.findall(r"^(\w+)\._domainkey", done.output, re.MULTILINE) == ["r", "e"]
    assert done.output.count("ok: the record belongs to the key") == 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (txt(), "error: there is no TXT record"),
        (txt("OTHER"), "error: p= is another key"),
        (txt("OWN", "OWN"), "error: there are 2 TXT records"),
        (txt("v=DKIM1; k=rsa; p="), "error: p= is empty: the key is revoked"),
        ('TXT = ["TEMPFAIL"]', "error: DNS gives no answer"),
        ('CNAME = ["alias._domainkey.example.org"]', "note: the name is an alias (CNAME) of alias._domainkey.example.org"),
    ],
)
def test_check_tells_what_is_wrong(directory: Path, value: str, said: str) -> None:
    value = value.replace("OWN", record(directory, "r")).replace("OTHER", record(directory, "other"))
    publish(directory, e=txt(record(directory, "e")), r=value, alias=txt("no key"))
    done = call("check")
    assert done.exit_code == 1, done.output
    assert said in done.output
    assert "1 of 2 keys cannot be used" in done.output
    assert call("check", "--selector", "e").exit_code == 0


def test_check_of_a_file_before_it_is_in_use(directory: Path) -> None:
    publish(directory, n=txt(record(directory, "e")).replace("v=DKIM1;", "v=DKIM1; t=y;"))
    done = call("check", "--key", "e.pem", "--domain", "example.org", "--selector", "n")
    assert done.exit_code == 0, done.output
    assert "warning: t=y says that you are testing" in done.output


def test_a_configuration_that_cannot_be_used(directory: Path) -> None:
    (directory / "r.pem").chmod(0o644)
    done = call("check")
    assert done.exit_code == 2
    assert "config.toml:8: plugin.dkim_sign.key[0].file" in done.output
    assert "everybody may read or write" in done.output


async def test_a_name_that_does_not_exist(directory: Path) -> None:
    key = SigningKey(domain="example.org", selector="e", key=read_key_file(directory / "e.pem"))
    [found] = await _check(key, FakeResolver({}))
    assert (found.weight.value, found.text[:23]) == ("error", "the name does not exist")


def test_samples(directory: Path) -> None:
    """Another verifier is asked too; where only that one refuses, it is a warning."""
    key = SigningKey(domain="example.org", selector="r", key=read_key_file(directory / "r.pem"))

    def said(text: str) -> list[str]:
        return [f"{one.weight.value}: {one.text}" for one in _sample(key, text.encode())]

    assert said(record(directory, "r")) == []
    assert said(record(directory, "other")) == ["error: a sample does not verify: the signature is not the key's"]
    assert said("p=x") == ["error: a sample does not verify: key is not base64"]
    [warning] = said(record(directory, "r").replace("k=rsa;", "k=rsa; s=*:email;"))
    assert warning.startswith("warning: dkimpy")
