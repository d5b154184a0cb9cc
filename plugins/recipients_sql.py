"""Recipients known to a database: a query refuses the unknown ones at RCPT (RFC 5321 3.3). Shows `Lookup`: bounded, remembered."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator
from sqlalchemy import make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway import (
    Context,
    Duration,
    Lookup,
    MailboxKey,
    OptionError,
    OptionMistake,
    Plugin,
    PluginOptions,
    Recipient,
    Reject,
    hook,
    library,
    mailbox_key,
    read_secret,
    reject,
)

PARAMETERS = frozenset(["address", "local_part", "domain"])
DRIVERS = {"asyncpg": "postgresql"}
"""Library → the extra that brings it."""


class Options(PluginOptions):
    """Where to ask, what, and for whom."""

    url: str
    """Of SQLAlchemy, with an asynchronous driver: `postgresql+asyncpg://mail@db.example.org/mail`, `sqlite+aiosqlite:///recipients.db`."""
    password_file: str = ""
    """A file with the password for the URL; relative to the configuration file."""
    query: str
    """With `:address`, `:local_part` and `:domain` where they belong. A row whose first column is not false, 0 or empty: it is known."""
    domains: tuple[str, ...] = Field(min_length=1)
    """Domains whose recipients the database knows; those of all others are not looked up."""
    case_sensitive: bool = False
    """Whether the query gets the local part as written, or in lower case."""
    subaddress: str = Field(default="+", max_length=4)
    """Characters that begin a subaddress: `alice+lists` is known where `alice` is. `` turns it off."""
    connections: int = Field(default=5, ge=1, le=100)
    """To the database, of each worker; more queries wait."""
    query_limit: Duration = Field(default=3.0, gt=0)
    """Time for one look-up, the wait for a connection included."""
    remember: Duration = 300.0
    """How long a known recipient is not asked about again."""
    remember_unknown: Duration = 60.0
    """The same for an unknown one."""
    stale: Duration = 3600.0
    """How long an old answer serves while the database does not answer."""

    @field_validator("query")
    @classmethod
    def _has_known_parameters(cls, value: str) -> str:
        named = set(text(value).compile().params)
        if not named or named - PARAMETERS:
            found = ", ".join(sorted(f":{name}" for name in named - PARAMETERS)) or "none"
            raise ValueError(f"found the parameters {found}; allowed: :address, :local_part, :domain, one of them at least")
        return value


class RecipientsSql(Plugin[Options]):
    """Asks the database at RCPT."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError for a URL that cannot be, or a driver that is not installed."""
        super().__init__(options, name=name, context=context)
        try:
            self._url = make_url(self.options.url)
            driver = self._url.get_dialect().driver
        except (ArgumentError, ImportError, ValueError) as error:
            raise OptionError(OptionMistake(key=("url",), found="no URL of a database", allowed="dialect+driver://…")) from error
        if not self._url.get_dialect().is_async:
            found = f"the driver {driver}, which would block the gateway"
            raise OptionError(OptionMistake(key=("url",), found=found, allowed="postgresql+asyncpg://…, sqlite+aiosqlite:///…"))
        library(driver, extra=DRIVERS.get(driver, driver), key=("url",))
        self._domains = frozenset(domain.lower() for domain in self.options.domains)
        self._query = text(self.options.query)

    @hook
    async def startup(self, context: Context) -> None:
        """Make the pool. Nothing is asked yet: a database that is away must not stop the mail of other domains."""
        options = self.options
        url = self._url
        if options.password_file:
            url = url.set(password=read_secret(options.password_file, context=context))
        self._engine: AsyncEngine = create_async_engine(
            url, pool_size=options.connections, max_overflow=0, pool_pre_ping=True, pool_recycle=600, hide_parameters=True
        )
        self._known = Lookup(
            self._ask,
            clock=context.clock,
            keep=lambda known: options.remember if known else options.remember_unknown,
            limit=options.query_limit,
            at_once=options.connections,
            stale=options.stale,
        )

    @hook
    async def rcpt(self, recipient: Recipient) -> Reject | None:
        """550 5.1.1 for a recipient that the query does not know."""
        key = mailbox_key(recipient.onward_path, case_sensitive=self.options.case_sensitive)
        if key.domain not in self._domains or key.is_postmaster or await self._known(key):
            return None
        plain = mailbox_key(recipient.onward_path, case_sensitive=self.options.case_sensitive, subaddress=self.options.subaddress)
        if plain != key and await self._known(plain):
            return None
        return reject("No such recipient here", code=550, enhanced="5.1.1", reason="unknown-recipient")

    @hook
    async def shutdown(self) -> None:
        """Close the pool."""
        await self._known.close()
        await self._engine.dispose()

    async def _ask(self, key: MailboxKey) -> bool:
        values: dict[str, Any] = {"address": key.address, "local_part": key.local_part, "domain": key.domain}
        wanted = {name: values[name] for name in self._query.compile().params}
        async with self._engine.connect() as connection, connection.stream(self._query, wanted) as result:
            row = await result.first()
        return row is not None and bool(row[0])
