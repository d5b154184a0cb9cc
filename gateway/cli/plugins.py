"""`mailgateway plugins`: which there are, where they come from, which hooks they have."""

from __future__ import annotations

import typer

from gateway.cli import terminal
from gateway.cli.config import ConfigOption, load_or_exit
from gateway.cli.terminal import safe

app = typer.Typer(no_args_is_help=True, help="The plugins that are installed or in use.")


@app.callback()
def plugins() -> None:
    """The plugins that are installed or in use."""


@app.command("list")
def list_(config: ConfigOption = None) -> None:
    """Name, origin, version, hooks, and whether the configuration uses it. A plugin that cannot be loaded is named with why."""
    from gateway.discovery import DiscoveryError, Origin, choose, entry_points, load, site_files
    from gateway.registration import hook_names

    loaded = load_or_exit(config)
    known = entry_points()
    for directory in loaded.config.plugin_path:
        try:
            known += site_files([loaded.path(directory)])
        except DiscoveryError as error:
            typer.echo(f"plugin_path: {safe(error.found)}", err=True)
    in_use = _targets(loaded.config.plugins, loaded.config.plugin)
    for listener in loaded.config.listener:
        in_use |= _targets(listener.plugins or (), loaded.config.plugin)
    table = terminal.table("name", "origin", "version", "hooks", "in use as")
    for name in sorted({*(one.name for one in known), *in_use}):
        origin: Origin | None = None
        try:
            origin = choose(name, known)
            hooks = ", ".join(hook_names(load(origin)))
        except DiscoveryError as error:
            hooks = f"cannot be loaded: {error.found}"
        where = "" if origin is None else (f"file {origin.target}" if origin.is_file else origin.target)
        version = "" if origin is None else f"{origin.distribution} {origin.version}".strip()
        table.add_row(safe(name), safe(where), safe(version), safe(hooks), safe(", ".join(in_use.get(name, []))))
    terminal.console().print(table)


def _targets(entries: tuple[object, ...], tables: dict[str, dict[str, object]]) -> dict[str, list[str]]:
    """Plugin → names it is used under."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        inline = entry if isinstance(entry, dict) else {"name": entry}
        name = str(inline["name"])
        target = str(inline.get("use") or tables.get(name, {}).get("use") or name)
        found.setdefault(target, []).append(name)
    return found
