"""Where named lists are read from besides files: a database by SQLAlchemy, a web service by httpx2. The text is written to a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gateway import Context, library, read_secret
from gateway.plugins.rules.building import MAX_FILE

if TYPE_CHECKING:
    from gateway.plugins.rules.lists import ListOptions

DRIVERS = {"asyncpg": "postgresql"}
"""Library → the extra that brings it."""
ROWS_AT_ONCE = 1_000


def is_web(url: str) -> bool:
    """Whether it is a web service's."""
    return urlsplit(url).scheme in {"http", "https"}


def check_url(url: str, query: str) -> None:
    """ValueError for a URL that cannot be asked, or a query at the wrong place."""
    if is_web(url):
        if not urlsplit(url).hostname:
            raise ValueError(f"found {url!r}; allowed: https://host/…")
        if query:
            raise ValueError("found query with a web service; allowed: query with the url of a database")
        return
    from sqlalchemy import make_url, text
    from sqlalchemy.exc import ArgumentError

    try:
        dialect = make_url(url).get_dialect()
    except (ArgumentError, ImportError, ValueError) as error:
        raise ValueError("found no URL; allowed: https://…, or postgresql+asyncpg://… and others of SQLAlchemy") from error
    if not dialect.is_async:
        raise ValueError(
            f"found the driver {dialect.driver}, which would block the gateway; allowed: postgresql+asyncpg://…, sqlite+aiosqlite:///…"
        )
    if not query:
        raise ValueError("found a database without query; allowed: query beside it, whose first column is the entries")
    if names := set(text(query).compile().params):
        raise ValueError(f"found the parameters {', '.join(sorted(names))} in query; allowed: none")


def check_library(url: str, key: tuple[str | int, ...]) -> None:
    """OptionError where the library is missing that asks there."""
    if is_web(url):
        library("httpx2", extra="http", key=key)
        return
    from sqlalchemy import make_url

    driver = make_url(url).get_dialect().driver
    library(driver, extra=DRIVERS.get(driver, driver), key=key)


async def fetch(options: ListOptions, file: Path, context: Context) -> None:
    """Ask, and write the entries to a file. Whatever the client or driver raises; ValueError for an answer that is none."""
    if is_web(options.url):
        await _from_web(options, file, context)
    else:
        await _from_database(options, file, context)


async def _from_web(options: ListOptions, file: Path, context: Context) -> None:
    httpx: Any = library("httpx2", extra="http")
    headers = {"Accept": "text/plain", "User-Agent": "mailgateway"}
    if options.token_file:
        headers["Authorization"] = f"Bearer {read_secret(options.token_file, context=context)}"
    client = httpx.AsyncClient(
        headers=headers,
        timeout=options.limit,
        follow_redirects=False,
        trust_env=False,
        verify=await asyncio.to_thread(_trust, options.ca_file, context),
    )
    total = 0
    async with client, client.stream("GET", options.url) as response:
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}")
        with file.open("wb") as opened:
            async for chunk in response.aiter_bytes(65_536):
                total += len(chunk)
                if total > MAX_FILE:
                    raise ValueError(f"an answer of more than {MAX_FILE} octets")
                opened.write(chunk)
    if not total:
        raise ValueError("an empty answer")


def _trust(ca_file: str, context: Context) -> Any:
    """What httpx takes as `verify`. In a thread: the system's certificates take a tenth of a second to read."""
    import ssl

    return ssl.create_default_context(cafile=str(Path(context.base_directory, ca_file)) if ca_file else None)


async def _from_database(options: ListOptions, file: Path, context: Context) -> None:
    from sqlalchemy import NullPool, make_url, text
    from sqlalchemy.ext.asyncio import create_async_engine

    url = make_url(options.url)
    if options.password_file:
        url = url.set(password=read_secret(options.password_file, context=context))
    engine = create_async_engine(url, poolclass=NullPool, hide_parameters=True)
    total = 0
    try:
        async with engine.connect() as connection, connection.stream(text(options.query)) as result:
            with file.open("w", encoding="utf-8") as opened:
                async for rows in result.partitions(ROWS_AT_ONCE):
                    lines = "".join(f"{' '.join(str(row[0]).split())}\n" for row in rows if row[0] is not None)
                    total += len(lines)
                    if total > MAX_FILE:
                        raise ValueError(f"an answer of more than {MAX_FILE} characters")
                    opened.write(lines)
    finally:
        await engine.dispose()
