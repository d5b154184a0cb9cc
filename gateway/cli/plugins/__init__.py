"""`mailgateway plugins`: which there are, what one can do, a new one begun, one tried, and what one costs."""

from __future__ import annotations

import os
from importlib.metadata import version as version_of_distribution
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import terminal
from gateway.cli.config import ConfigOption, load_or_exit
from gateway.cli.terminal import safe

if TYPE_CHECKING:
    from gateway.cli.plugins.cost import Cost
    from gateway.config.load import Loaded

app = typer.Typer(no_args_is_help=True, help="The plugins that are installed or in use; a new one; what one does and costs.")

SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the plugin, in TOML.")]
CountOption = Annotated[int, typer.Option(min=1, max=1_000_000, help="Messages to measure.")]


@app.callback()
def plugins() -> None:
    """The plugins that are installed or in use."""


@app.command("list")
def list_(config: ConfigOption = None) -> None:
    """Name, source, version, hooks, and whether the configuration uses it. A plugin that cannot be loaded is named with why."""
    from gateway.cli.plugins.sources import all_known, source_of, version_of
    from gateway.discovery import DiscoveryError, Origin, choose, load
    from gateway.registration import hook_names

    loaded = load_or_exit(config)
    known, wrong = all_known(loaded)
    for one in wrong:
        typer.echo(safe(one), err=True)
    in_use = _targets(loaded.config.plugins, loaded.config.plugin)
    for listener in loaded.config.listener:
        in_use |= _targets(listener.plugins or (), loaded.config.plugin)
    table = terminal.table("name", "source", "version", "hooks", "in use as")
    for name in sorted({*(one.name for one in known), *in_use}):
        origin: Origin | None = None
        where = version = ""
        try:
            origin = choose(name, known)
            where = source_of(origin)
            version = version_of(origin)
            kind = load(origin)
            version = version_of(origin, kind)
            hooks = ", ".join(hook_names(kind))
        except DiscoveryError as error:
            hooks = f"cannot be loaded: {error.found}"
        table.add_row(safe(name), safe(where), safe(version), safe(hooks), safe(", ".join(in_use.get(name, []))))
    terminal.console().print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(metavar="NAME")], config: ConfigOption = None) -> None:
    """One plugin: what it is, where it comes from, its hooks, findings and options with types, defaults and docs."""
    from gateway.cli.plugins.described import describe
    from gateway.cli.plugins.sources import NotFoundError, by_name

    try:
        found = by_name(name, load_or_exit(config))
    except NotFoundError as error:
        terminal.fail(str(error))
    describe(name, found)


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name in the configuration: a-z 0-9 _.")],
    single_file: Annotated[bool, typer.Option("--single-file", help="One file and its test, for plugin_path.")] = False,
    into: Annotated[Path, typer.Option(metavar="DIRECTORY", help="Where it goes; made where it is missing.")] = Path(),
) -> None:
    """Write a plugin that works, with tests: a package, or one file. Nothing that is there is written over."""
    from gateway.cli.plugins import making
    from gateway.cli.plugins.sources import source_of
    from gateway.discovery import entry_points

    taken = {one.name: f"a plugin ({source_of(one)})" for one in entry_points()}
    if (wrong := making.objection(name, taken, is_module=single_file)) is not None:
        terminal.fail(wrong)
    files = making.single_file(name) if single_file else making.package(name, version_of_distribution("mailgateway"))
    try:
        written = making.write(into, files)
    except making.NewPluginError as error:
        terminal.fail(error)
    for file in written:
        typer.echo(safe(str(file)))
    place = into / (f"{name}.py" if single_file else name)
    typer.echo(safe(f"next: mailgateway plugins check {place}"))
    if single_file:
        typer.echo(safe(f'to use it: plugin_path = ["{into}"], plugins = [ …, "{name}" ], options in [plugin.{name}]'))
    else:
        typer.echo(safe(f'to use it: pip install {place}, plugins = [ …, "{name}" ], options in [plugin.{name}]'))


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A plugin's file, or the directory of its package.")],
    set_: SetOption = None,
    count: CountOption = 300,
    config: ConfigOption = None,
) -> None:
    """Load a plugin, look at its hooks and options, run its tests, measure its cost on sample mail. 1 is returned when something is wrong.

    Its options are those of the configuration's table of its name, where there is one.
    """
    from gateway.cli.plugins.sources import NotFoundError, at_path
    from gateway.cli.plugins.trial import Trial

    given = _read_settings(set_)
    try:
        candidates = at_path(path)
    except NotFoundError as error:
        terminal.fail(str(error))
    is_right = True
    for candidate in candidates:
        table, where = _table_of(candidate.origin.name, config)
        trial = Trial(candidate, typer.echo, {**table, **given}, ("--set", None) if given else where, count)
        is_right = trial.run() and is_right
    if not is_right:
        raise typer.Exit(1)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    set_: SetOption = None,
    count: CountOption = 2_000,
    message: Annotated[list[Path] | None, typer.Option(help="A message to measure on; several times. Default: samples.")] = None,
    config: ConfigOption = None,
) -> None:
    """Measure CPU a message by hook, against an empty chain. DNS answers that nothing exists; the store is in memory."""
    from gateway.cli.plugins import options
    from gateway.cli.plugins.sources import NotFoundError, by_name
    from gateway.cli.plugins.trial import measured
    from gateway.errors import GatewayError

    given = _read_settings(set_)
    loaded = load_or_exit(config)
    try:
        kind = by_name(name, loaded).kind
    except NotFoundError as error:
        terminal.fail(str(error))
    table = loaded.config.plugin.get(name, {})
    if name == "rules":
        table = {"rule": list(loaded.config.rule), "files": list(loaded.config.rule_files), **table}
    made, mistakes = options.make(kind, name, {**table, **given}, loaded.locate(("plugin", name)))
    if made is None:
        terminal.fail("\n".join(map(str, mistakes)))
    files = {str(one): _read_message(one, loaded) for one in message or ()}
    try:
        cost = measured(kind, name, made, count, files=files, directory=loaded.directory)
    except (GatewayError, ImportError) as error:
        terminal.fail(f"{name} cannot be made: {error}")
    _print_cost(cost)


def _print_cost(cost: Cost) -> None:
    from gateway.cli.plugins.cost import told
    from gateway.cli.plugins.trial import summary

    typer.echo(summary(cost))
    told(cost, typer.echo)
    for fault in cost.faults:
        typer.echo(safe(f"WRONG at {fault}"), err=True)
    if cost.faults:
        raise typer.Exit(1)


def _read_settings(given: list[str] | None) -> dict[str, Any]:
    from gateway.cli.plugins.options import read_settings

    try:
        return read_settings(given or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from error


def _table_of(name: str, option: Path | None) -> tuple[dict[str, Any], tuple[str, int | None]]:
    """The plugin's table in the configuration and where it stands; empty without one. One that was named must be right."""
    from gateway.config.load import find_file

    if option is None and find_file(None, os.environ) is None:
        return {}, ("options", None)
    loaded = load_or_exit(option)
    return dict(loaded.config.plugin.get(name, {})), loaded.locate(("plugin", name))


def _read_message(file: Path, loaded: Loaded) -> bytes:
    from gateway.smtp.dotstream import normalised

    limit = loaded.config.limits.message_size
    try:
        with file.open("rb") as opened:
            octets = opened.read(limit + 1)
    except OSError as error:
        terminal.fail(f"{file}: {error.strerror}")
    if len(octets) > limit:
        terminal.fail(f"{file}: larger than limits.message_size ({limit} octets)")
    return normalised(octets)


def _targets(entries: tuple[object, ...], tables: dict[str, dict[str, object]]) -> dict[str, list[str]]:
    """Plugin → names it is used under."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        inline = entry if isinstance(entry, dict) else {"name": entry}
        name = str(inline["name"])
        target = str(inline.get("use") or tables.get(name, {}).get("use") or name)
        found.setdefault(target, []).append(name)
    return found
