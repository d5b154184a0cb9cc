"""What the supervisor has to know of a configuration. The configuration itself is read by those who serve it (`channel.read_configuration`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.config.load import Loaded


class Facts(NamedTuple):
    """Plain values: they go from one process to another as JSON."""

    name: str
    """The file or directory that it was read from, or `environment`."""
    plugin_path: list[str]
    """Folders with single-file plugins."""
    rule_files: list[str]
    routes: list[str]
    log_format: str
    log_level: str
    drain_limit: float
    loop_limit: float
    restart_rest: float
    watch_files: float


def facts_of(loaded: Loaded) -> Facts:
    """Those of this configuration."""
    config, server = loaded.config, loaded.config.server
    return Facts(
        name=loaded.name,
        plugin_path=[str(loaded.path(name)) for name in config.plugin_path],
        rule_files=[str(loaded.path(name)) for name in config.rule_files],
        routes=[route.name for route in config.route],
        log_format=server.log_format,
        log_level=server.log_level,
        drain_limit=server.drain_limit,
        loop_limit=server.loop_limit,
        restart_rest=server.restart_rest,
        watch_files=server.watch_files,
    )
