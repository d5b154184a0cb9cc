"""What `talk` and `dev` have in common: the options that script the next hop and DNS, logs that stay out of the way."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from gateway.config.models import Config
    from gateway.context import Resolver
    from gateway.testing.script import Script

T = TypeVar("T")


class LogLevel(StrEnum):
    """As `[server] log_level`."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LogOption = Annotated[
    LogLevel, typer.Option("--log", help="What is logged to standard error; plugins' own lines are mostly `info`.")
]

RcptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rcpt", metavar="MAILBOX=ANSWER", help="What the next hop says at RCPT: bob@example.test=550, '*=451 after 2s'."
    ),
]
MailOption = Annotated[str, typer.Option("--mail", metavar="ANSWER", help="What it says at MAIL: '550 5.1.8 Not you'.")]
ContentOption = Annotated[
    list[str] | None,
    typer.Option(
        "--content",
        metavar="ANSWER",
        help="What it says at the final dot: 451, '451 then 250', drop, hang; by LMTP bob@example.test=452.",
    ),
]
AnswerOption = Annotated[
    list[str] | None,
    typer.Option("--answer", metavar="WHEN=ANSWER", help="Anywhere else: greeting=554, 'DATA=451', 'RSET=drop'."),
]
ScriptOption = Annotated[
    Path | None,
    typer.Option("--script", metavar="FILE", help="A TOML file with more of that, and the keywords of EHLO (docs/trying.md)."),
]
ZoneOption = Annotated[
    list[str] | None,
    typer.Option(
        "--zone", metavar="FILE", help="A zone file that is all of DNS, or example.test=FILE; may be given several times."
    ),
]


def script_of(
    *, rcpt: list[str] | None, mail: str, content: list[str] | None, answer: list[str] | None, script: Path | None
) -> Script:
    """The script of all options together; what the options say counts before the file's. Bad parameter otherwise."""
    from gateway.testing.script import Script, ScriptError, parse_option, read_script

    def parsed(option: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except ScriptError as error:
            raise typer.BadParameter(str(error), param_hint=option) from error

    result = parsed("--script", lambda: read_script(script)) if script is not None else Script()
    given = (
        ("--rcpt", "RCPT", rcpt),
        ("--mail", "MAIL", [mail] if mail else None),
        ("--content", "CONTENT", content),
        ("--answer", "", answer),
    )
    lines = [parsed(option, partial(parse_option, text, verb)) for option, verb, texts in given for text in texts or ()]
    return result + Script(tuple(lines))


def resolver_of(config: Config, zones: list[str] | None) -> Resolver:
    """DNS as configured, or nothing but these zone files and `[dns.zones]`. Bad parameter for a file that is none."""
    from gateway.dns.zone_file import ZoneFileError
    from gateway.testing.developing import dns_of

    try:
        return dns_of(config, tuple(zones or ()))
    except ZoneFileError as error:
        raise typer.BadParameter(str(error), param_hint="--zone") from error


def log_to_terminal(config: Config, level: LogLevel, process: str) -> None:
    """What the gateway and its plugins log, from this level on, to standard error."""
    from gateway.server import logs

    settings = config.server.model_copy(update={"log_level": level.value, "log_format": "text"})
    logs.configure(settings, process=process, queued=False)


def tell_of_route(config: Config) -> None:
    """Where the configuration has no route, whom mail may be for all the same."""
    if not config.route:
        typer.echo("the configuration has no [[route]]: here, mail for example.test is taken", err=True)
