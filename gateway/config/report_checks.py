"""Mistakes in `[dmarc_reports]`, beside `gateway.config.checks`: what it needs once it is enabled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.config.models import Config
from gateway.config.problems import nearest, shown

Found = tuple[str, str, str, str]
"""Key below the section, what was found, what is allowed, a hint."""


def report_mistakes(reports: dict[str, Any], routes: list[str]) -> Iterator[Found]:
    """Of the raw section, which need not be valid: the rest is reported elsewhere."""
    if reports.get("enabled") is True and not reports.get("address"):
        yield "enabled", "true without address", 'address = "dmarc-reports@example.org", whom their readers may write to', ""
    wanted = reports.get("route")
    if isinstance(wanted, str) and wanted and wanted not in routes:
        yield "route", shown(wanted), "the name of a route: " + (", ".join(routes) or "there is none"), nearest(wanted, routes)


def report_warnings(config: Config) -> Iterator[str]:
    """What `config check` warns of, once they are enabled."""
    if not config.dmarc_reports.enabled:
        return
    chains = [config.plugins, *(listener.plugins or () for listener in config.listener)]
    used = {one if isinstance(one, str) else one.get("use") or one["name"] for chain in chains for one in chain}
    used |= {options["use"] for options in config.plugin.values() if isinstance(options.get("use"), str)}
    if "dmarc" not in used:
        yield "dmarc_reports: no chain has the plugin dmarc, whose findings the reports are made of"
    if "." not in config.server.name:
        yield f"dmarc_reports: server.name {config.server.name!r} stands in the reports as the submitter's domain (RFC 9990 2.5.2)"
