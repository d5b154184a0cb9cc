"""Mistakes in the link settings of routes: files, and settings that contradict each other. Beside `gateway.config.checks`."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.config.addresses import ServerAddress, parse_server
from gateway.config.lines import Key

Found = tuple[Key, str, str]
"""Key below the route, what was found, what is allowed."""


def link_mistakes(route: dict[str, Any], directory: Path) -> Iterator[Found]:
    """Of one raw `[[route]]`, which need not be valid: the rest is reported elsewhere."""
    yield from _tls_servers(route)
    yield from _tls_files(route, directory)
    if isinstance(route.get("auth"), dict):
        yield from _auth(route, route["auth"], directory)


def servers_of(route: dict[str, Any]) -> list[ServerAddress]:
    """Its servers, as far as they are any."""
    written = route.get("servers")
    found: list[ServerAddress] = []
    for entry in written if isinstance(written, list) else ():
        text = entry.get("address") if isinstance(entry, dict) else entry
        with suppress(ValueError):
            found.append(parse_server(str(text)))
    return found


def _tls_servers(route: dict[str, Any]) -> Iterator[Found]:
    for server in servers_of(route):
        if server.implicit_tls and route.get("tls") == "off":
            yield ("tls",), '"off" with a server that is smtps://', "another mode, or a server without smtps://"
            return
        if not server.host and not server.inbox and route.get("tls") == "verified" and not route.get("tls_name"):
            allowed = "tls_name, the name that the certificate must have: a UNIX socket has none"
            yield ("tls",), f'"verified" with unix:{server.path}', allowed
            return


def _tls_files(route: dict[str, Any], directory: Path) -> Iterator[Found]:
    texts = {name: route[name] for name in ("tls_ca", "tls_certificate", "tls_key") if isinstance(route.get(name), str)}
    files = {name: directory / text for name, text in texts.items() if text}
    if "tls_key" in files and "tls_certificate" not in files:
        yield ("tls_key",), "tls_key without tls_certificate", "both, or tls_certificate alone with the key in the same file"
    unreadable = {name: why for name, file in files.items() if (why := _unreadable(file))}
    if unreadable:
        for name, why in unreadable.items():
            yield (name,), f'"{texts[name]}", which cannot be read: {why}', "a readable PEM file"
        return
    if "tls_ca" in files:
        yield from _refused("tls_ca", texts["tls_ca"], lambda context: context.load_verify_locations(files["tls_ca"]))
    if "tls_certificate" in files:
        key = files.get("tls_key")
        yield from _refused(
            "tls_certificate",
            texts["tls_certificate"],
            lambda context: context.load_cert_chain(files["tls_certificate"], key, password=lambda: ""),
        )


def _auth(route: dict[str, Any], auth: dict[str, Any], directory: Path) -> Iterator[Found]:
    if bool(auth.get("password")) == bool(auth.get("password_file")):
        found = "both password and password_file" if auth.get("password") else "neither password nor password_file"
        yield ("auth",), found, "one of the two"
    file = auth.get("password_file")
    if isinstance(file, str) and file and (why := _unreadable(directory / file)):
        yield ("auth", "password_file"), f"a file that cannot be read: {why}", "a readable file with the password"
    if route.get("tls") == "off" and not all(server.is_local for server in servers_of(route)):
        yield ("tls",), '"off" with auth towards another host', "TLS: the password does not go there in the clear"
    if route.get("next_hop_decides"):
        yield (
            ("auth",),
            "auth with next_hop_decides",
            "one of the two: who has logged in may relay, so strangers could through us",
        )
    if route.get("client_address") in {"xclient", "proxy"}:
        allowed = '"received" or "xforward": XCLIENT and PROXY say that somebody else is there, and auth that we are'
        yield ("client_address",), f'"{route["client_address"]}" with auth', allowed


def _unreadable(file: Path) -> str:
    try:
        file.open("rb").close()
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else "") or str(error)
    return ""


def _refused(name: str, text: str, load: Callable[[ssl.SSLContext], None]) -> Iterator[Found]:
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except (ssl.SSLError, ValueError) as error:
        what = getattr(error, "reason", None) or str(error) or "not PEM"
        yield (name,), f'"{text}", which OpenSSL refuses: {what}', "PEM certificates; a private key without a passphrase"
