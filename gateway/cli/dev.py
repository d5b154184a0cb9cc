"""`mailgateway dev`: the gateway for whoever writes a plugin: a scripted next hop, DNS from a file, reload on save, sessions recorded."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import tempfile
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import terminal
from gateway.cli.config import ConfigOption, exit_with, load_or_exit
from gateway.cli.rehearsing import (
    AnswerOption,
    ContentOption,
    LogLevel,
    LogOption,
    MailOption,
    RcptOption,
    ScriptOption,
    ZoneOption,
    log_to_terminal,
    script_of,
    tell_of_route,
)

if TYPE_CHECKING:
    from gateway.testing.developing import Settings


class Form(StrEnum):
    """What a recorded session is written as."""

    DIALOGUE = "dialogue"
    PYTEST = "pytest"


def dev(
    *,
    bind: Annotated[str, typer.Option(help="Where the first listener is; default: its own port at 127.0.0.1.")] = "",
    ip: Annotated[str, typer.Option(help="Every client counts as coming from this address.")] = "",
    tls: Annotated[bool, typer.Option("--tls", help="Every session counts as TLS, without a handshake.")] = False,
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each session there, as a file that plays by itself.")
    ] = None,
    form: Annotated[Form, typer.Option("--as", help="As what.")] = Form.DIALOGUE,
    rcpt: RcptOption = None,
    mail: MailOption = "",
    content: ContentOption = None,
    answer: AnswerOption = None,
    script: ScriptOption = None,
    zone: ZoneOption = None,
    log: LogOption = LogLevel.INFO,
    config: ConfigOption = None,
) -> None:
    """Run the gateway until Ctrl-C in front of a scripted next hop, reload on each change, and show the decision on every transaction.

    Nothing is delivered, and the state (quarantine, store) is a temporary directory. Sessions are played back once when they are recorded.
    """
    from gateway.dns.zone_file import ZoneFileError
    from gateway.errors import ConfigError, PluginError
    from gateway.testing.developing import Settings

    loaded = load_or_exit(config)
    said = script_of(rcpt=rcpt, mail=mail, content=content, answer=answer, script=script)
    file = None if loaded.name == "environment" else Path(loaded.name)
    if record is not None:
        _writable(record, file)
    settings = Settings(
        file=file,
        script=said,
        script_file=script,
        zones=tuple(zone or ()),
        client=_address(ip),
        is_tls=tls,
        record=record,
        as_pytest=form is Form.PYTEST,
        print=terminal.console().print,
    )
    tell_of_route(loaded.config)
    log_to_terminal(loaded.config, log, "dev")
    try:
        sockets = {
            one.name: _listening(bind if not number and bind else one.bind) for number, one in enumerate(loaded.config.listener)
        }
        asyncio.run(_run(settings, sockets))
    except ZoneFileError as error:
        raise typer.BadParameter(str(error), param_hint="--zone") from error
    except ConfigError as error:
        exit_with(error)
    except PluginError as error:
        terminal.fail(error)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an IP address", param_hint="--ip") from error


def _writable(directory: Path, file: Path | None) -> None:
    if file is None:
        raise typer.BadParameter("a recorded session names its configuration file, and there is none", param_hint="--record")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{directory}: {error.strerror}", param_hint="--record") from error


def _listening(bind: str) -> socket.socket:
    """At loopback, whatever the configuration says; ports that need a privilege have 2500 added."""
    from gateway.config.addresses import parse_bind, socket_path

    try:
        port = 0 if socket_path(bind) else parse_bind(bind)[1]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--bind") from error
    port += 2500 if 0 < port < 1024 else 0
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        terminal.fail(f"127.0.0.1:{port}: {error.strerror}; another place: --bind 127.0.0.1:0")
    return listening


async def _run(settings: Settings, sockets: dict[str, socket.socket]) -> None:
    from gateway.testing.developing import Development

    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.set)
    with tempfile.TemporaryDirectory(prefix="mailgateway-dev-") as directory:
        async with AsyncExitStack() as stack:
            gateway = await stack.enter_async_context(Development(settings, Path(directory)))
            loop.add_signal_handler(signal.SIGHUP, gateway.reload_soon)
            servers = [await loop.create_server(gateway.protocols(name), sock=one) for name, one in sockets.items()]
            for name, one in sockets.items():
                print(f"{name} listens on 127.0.0.1:{one.getsockname()[1]}, next hop: scripted, Ctrl-C ends it", flush=True)
            if settings.client:
                print(f"every client counts as {settings.client}", flush=True)
            port = next(iter(sockets.values())).getsockname()[1]
            domain = gateway.domain
            print(f"try it: swaks --server 127.0.0.1:{port} --from you@client.example --to bob@{domain}", flush=True)
            watching = loop.create_task(gateway.watch())
            await ending.wait()
            watching.cancel()
            for server in servers:
                server.close()
