"""Recipients and aliases known to a directory, LDAP or Active Directory (RFC 4511, 4515). Shows a library that blocks, in threads."""

from __future__ import annotations

import asyncio
import math
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, LifoQueue
from string import Formatter
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator

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
    UseForwardPath,
    hook,
    library,
    mailbox_key,
    read_secret,
    reject,
    use_forward_path,
)

PLACES = frozenset(["address", "local_part", "domain"])
MAX_ENTRIES = 2
"""That are asked for: one is enough, and with two it is no alias."""


class Options(PluginOptions):
    """Where to ask, what, and for whom."""

    servers: tuple[str, ...] = Field(min_length=1, max_length=10)
    """`ldaps://dc1.example.org`, `ldap://127.0.0.1:389`: the first that answers is asked."""
    base: str
    """Where the search begins: `ou=people,dc=example,dc=org`."""
    filter: str = "(|(mail={address})(proxyAddresses=smtp:{address}))"
    """With `{address}`, `{local_part}`, `{domain}`, which are escaped. An entry that fits: the recipient is known."""
    domains: tuple[str, ...] = Field(min_length=1)
    """Domains whose recipients the directory knows; those of all others are not looked up."""
    deliver_to: str = ""
    """An attribute with the mailbox that the next hop gets instead, such as `mail`; not used where an entry has several."""
    bind_dn: str = ""
    """Who asks; `` asks without a name."""
    password_file: str = ""
    """A file with the password for it; relative to the configuration file."""
    start_tls: bool = False
    """TLS on `ldap://` connections."""
    ca_file: str = ""
    """Certificates in PEM to believe instead of the system's."""
    case_sensitive: bool = False
    """Whether the filter gets the local part as written, or in lower case."""
    subaddress: str = Field(default="+", max_length=4)
    """Characters that begin a subaddress: `alice+lists` is known where `alice` is. `` turns it off."""
    connections: int = Field(default=4, ge=1, le=50)
    """To the directory, of each worker, each in a thread of its own; more searches wait."""
    query_limit: Duration = Field(default=4.0, gt=0)
    """Time for one look-up, its wait included."""
    remember: Duration = 300.0
    """How long a known recipient is not asked about again."""
    remember_unknown: Duration = 60.0
    """The same for an unknown one."""
    stale: Duration = 3600.0
    """How long an old answer serves while no server answers."""

    @field_validator("servers")
    @classmethod
    def _are_servers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            parts = urlsplit(one)
            if parts.scheme not in {"ldap", "ldaps"} or not parts.hostname or parts.path.strip("/"):
                raise ValueError(f"found {one!r}; allowed: ldap://host, ldaps://host, with or without :port")
        return value

    @field_validator("filter")
    @classmethod
    def _has_places(cls, value: str) -> str:
        try:
            named = {name for _, name, _, _ in Formatter().parse(value) if name is not None}
        except ValueError:
            named = set()
        if not named or named - PLACES:
            raise ValueError(f"found {value!r}; allowed: a filter with {{address}}, {{local_part}} or {{domain}}")
        return value


@dataclass(frozen=True, slots=True)
class Entry:
    """What the directory has of a recipient."""

    known: bool
    mailbox: str = ""
    """Where its mail belongs, as `deliver_to` has it."""


class RecipientsLdap(Plugin[Options]):
    """Asks the directory at RCPT."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError without the library, or for a filter that is none."""
        super().__init__(options, name=name, context=context)
        self._ldap: Any = library("ldap3", extra="ldap")
        try:
            library("ldap3.operation.search", extra="ldap").parse_filter(self._filter("x", "x"), None, True, True, None, False)
        except self._ldap.core.exceptions.LDAPExceptionError as error:
            found = f"{self.options.filter!r}: {error}"
            raise OptionError(OptionMistake(key=("filter",), found=found, allowed="a filter (RFC 4515)")) from error
        self._domains = frozenset(domain.lower() for domain in self.options.domains)

    @hook(cheap=True)
    def startup(self, context: Context) -> None:
        """Make the threads; nothing is asked yet. OSError or ValueError for a file that cannot be read."""
        options = self.options
        self._ca_file = str(Path(context.base_directory, options.ca_file)) if options.ca_file else None
        self._password = read_secret(options.password_file, context=context) if options.password_file else None
        self._idle: LifoQueue[Any] = LifoQueue()
        self._threads = ThreadPoolExecutor(options.connections, thread_name_prefix=f"{self.name}")
        self._entry = Lookup(
            self._ask,
            clock=context.clock,
            keep=lambda entry: options.remember if entry.known else options.remember_unknown,
            limit=options.query_limit,
            at_once=options.connections,
            stale=options.stale,
        )

    @hook
    async def rcpt(self, recipient: Recipient) -> Reject | UseForwardPath | None:
        """550 5.1.1 for a recipient that the directory does not know; another forward-path for an alias."""
        path, sensitive = recipient.onward_path, self.options.case_sensitive
        key = mailbox_key(path, case_sensitive=sensitive)
        if key.domain not in self._domains or key.is_postmaster:
            return None
        entry = await self._entry(key)
        plain = mailbox_key(path, case_sensitive=sensitive, subaddress=self.options.subaddress)
        if not entry.known and plain != key:
            entry = await self._entry(plain)
        if not entry.known:
            return reject("No such recipient here", code=550, enhanced="5.1.1", reason="unknown-recipient")
        if entry.mailbox and entry.mailbox.casefold() not in {key.address.casefold(), plain.address.casefold()}:
            return use_forward_path(entry.mailbox)
        return None

    @hook
    async def shutdown(self) -> None:
        """Leave the directory."""
        await self._entry.close()
        await asyncio.to_thread(self._leave)

    async def _ask(self, key: MailboxKey) -> Entry:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._search, key)

    def _search(self, key: MailboxKey) -> Entry:
        """In a thread: one search, on a connection that was left idle or on a new one. What it raises is a failed look-up."""
        while True:
            try:
                connection, is_new = self._idle.get_nowait(), False
            except Empty:
                connection, is_new = self._connect(), True
            try:
                entry = self._search_by(connection, key)
            except Exception as error:
                _close(connection)
                if is_new or not isinstance(error, self._ldap.core.exceptions.LDAPExceptionError):
                    raise
                continue  # the server may have closed it while nobody looked
            self._idle.put(connection)
            return entry

    def _search_by(self, connection: Any, key: MailboxKey) -> Entry:
        """RFC 4511 4.5."""
        wanted = self.options.deliver_to
        _, result, found, _ = connection.search(
            self.options.base,
            self._filter(key.local_part, key.domain),
            attributes=[wanted] if wanted else [self._ldap.NO_ATTRIBUTES],
            size_limit=MAX_ENTRIES,
            time_limit=math.ceil(self.options.query_limit),
        )
        if result["result"] not in {0, 4}:  # success, sizeLimitExceeded
            raise self._ldap.core.exceptions.LDAPOperationResult(
                result["result"], result["description"], message=result["message"]
            )
        entries = [one for one in found or () if one["type"] == "searchResEntry"]
        values = entries[0]["raw_attributes"].get(wanted, []) if len(entries) == 1 and wanted else []
        return Entry(bool(entries), values[0].decode("utf-8", "replace") if len(values) == 1 else "")

    def _filter(self, local_part: str, domain: str) -> str:
        """RFC 4515 3: whatever a client names is a value, never a part of the filter."""
        escape = library("ldap3.utils.conv", extra="ldap").escape_filter_chars
        places = {"address": f"{local_part}@{domain}", "local_part": local_part, "domain": domain}
        return self.options.filter.format_map({name: escape(value) for name, value in places.items()})

    def _connect(self) -> Any:
        failed: Exception | None = None
        tls = self._ldap.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=self._ca_file)
        for one in self.options.servers:
            # A new one each time: it would take a server that was away a moment ago for one that cannot be.
            server = self._ldap.Server(one, tls=tls, connect_timeout=self.options.query_limit, get_info=self._ldap.NONE)
            connection = self._ldap.Connection(
                server,
                self.options.bind_dn or None,
                self._password,
                client_strategy=self._ldap.SAFE_SYNC,
                receive_timeout=math.ceil(self.options.query_limit),
                read_only=True,
                auto_referrals=False,  # whom we ask is the site's choice
                raise_exceptions=False,
            )
            try:
                if self.options.start_tls and not server.ssl:
                    connection.open()
                    connection.start_tls()
                bound, result, _, _ = connection.bind()
                if bound:
                    return connection
                failed = PermissionError(f"{server.host}: {result['description']} {result['message']}")
            except (self._ldap.core.exceptions.LDAPExceptionError, OSError) as error:
                failed = error
            _close(connection)
        raise ConnectionError(f"no server can be asked: {failed}")

    def _leave(self) -> None:
        """Searches under way end first, within their limit: each puts its connection back."""
        self._threads.shutdown(cancel_futures=True)
        with suppress(Empty):
            while True:
                _close(self._idle.get_nowait())


def _close(connection: Any) -> None:
    """Whatever state it is in."""
    with suppress(Exception):
        connection.unbind()
    if connection.socket is not None:
        connection.socket.close()
