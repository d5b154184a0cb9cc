"""`[dmarc_reports]`: what it needs, and what it does not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.checks import warnings
from gateway.config.load import load
from gateway.errors import ConfigError

ROUTE = '[[route]]\ndomains = ["here.test"]\nservers = ["127.0.0.1:2526"]\n'


@pytest.mark.parametrize(
    ("section", "key", "told"),
    [
        ("enabled = true", "dmarc_reports.enabled", "true without address"),
        ('enabled = true\naddress = "a@b.test"\nroute = "defualt"', "dmarc_reports.route", "default"),
        ('address = "a b@c.test"', "dmarc_reports.address", "a plain address"),
        ('address = "a@localhost"', "dmarc_reports.address", "a plain address"),
        ('reverse_path = "<>"', "dmarc_reports.reverse_path", "a plain address"),
        ('organization = "a\\nBcc: b@c.test"', "dmarc_reports.organization", ""),
        ('contact = "a\\u0000"', "dmarc_reports.contact", ""),
        ("max_destinations = 1", "dmarc_reports.max_destinations", ""),
        ('retention = "1d"', "dmarc_reports.retention", ""),
    ],
)
def test_mistakes(tmp_path: Path, section: str, key: str, told: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[dmarc_reports]\n{section}\n{ROUTE}")
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    [problem] = caught.value.problems
    assert problem.key == key
    assert told in str(problem)


def test_what_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[dmarc_reports]\nenabled = true\naddress = "dmarc-reports@here.test"\nroute = "default"\n{ROUTE}')
    reports = load(file, environ={}).config.dmarc_reports
    assert (reports.enabled, reports.reverse_path, reports.recipient_domains) == (True, "", False)
    assert not load(None, environ={}).config.dmarc_reports.enabled


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('plugins = ["spf", "dkim", "dmarc"]\n[server]\nname = "mx.here.test"', []),
        ('plugins = [{ name = "strict", use = "dmarc" }]\n[server]\nname = "mx.here.test"', []),
        ('plugins = ["strict"]\n[plugin.strict]\nuse = "dmarc"\n[server]\nname = "mx.here.test"', []),
        ('plugins = ["spf"]\n[server]\nname = "mx.here.test"', ["no chain has the plugin dmarc"]),
        ('plugins = ["dmarc"]\n[server]\nname = "gateway"', ["server.name 'gateway' stands in the reports"]),
    ],
)
def test_warnings(tmp_path: Path, text: str, told: list[str]) -> None:
    file = tmp_path / "config.toml"
    for enabled in (True, False):
        section = f'[dmarc_reports]\nenabled = {str(enabled).lower()}\naddress = "a@here.test"\n'
        file.write_text(f"{text}\n{section}{ROUTE}")
        found = [one for one in warnings(load(file, environ={}).config) if one.startswith("dmarc_reports")]
        assert len(found) == (len(told) if enabled else 0)
        assert all(words in one for words, one in zip(told, found, strict=False))
