"""Mistakes in `[dmarc_reports]`, beside `gateway.config.checks`: what it needs once it is enabled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
