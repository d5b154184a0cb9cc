"""What a route wants of its links: TLS (RFC 3207, RFC 8314), a login (RFC 4954), who the client is. Values; nothing is opened here.

Links that were set up differently are never shared: a pool is for one server and one `LinkSetup`.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gateway.config.models import RouteAuth, RouteConfig
from gateway.config.secrets import read_secret
from gateway.errors import ConfigError, ConfigProblem
from gateway.relay.login import Credentials
from gateway.relay.routes import Server

Mode = Literal["off", "opportunistic", "required", "verified"]
_ELSEWHERE = Server("mx.invalid", 25)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSetup:
    """The link settings of a route, files read and defaults decided by `of`."""

    tls: Literal["auto", "off", "opportunistic", "required", "verified"] = "auto"
    tls_ca: str = ""
    tls_name: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    tls_minimum: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    client_address: Literal["received", "xforward", "xclient", "proxy"] = "received"
    credentials: Credentials | None = None
    _contexts: dict[Mode, ssl.SSLContext] = field(default_factory=dict, init=False, compare=False, repr=False)

    @classmethod
    def of(cls, route: RouteConfig, directory: Path | None = None) -> LinkSetup:
        """Of a route; file names are relative to `directory`."""

        def path(text: str) -> str:
            return str(directory / text) if text and directory is not None else text

        setup = cls(
            tls=route.tls,
            tls_ca=path(route.tls_ca),
            tls_name=route.tls_name,
            tls_certificate=path(route.tls_certificate),
            tls_key=path(route.tls_key),
            tls_minimum=route.tls_minimum,
            client_address=route.client_address,
            credentials=None if route.auth is None else _credentials(route.auth, path(route.auth.password_file)),
        )
        setup.context(_ELSEWHERE)  # whose mistakes are told at the start, also where servers are found later
        return setup

    def mode(self, server: Server) -> Mode:
        """How far TLS goes with this server; one with TLS from the first octet, or one elsewhere that we log in to, is never spoken to in
        the clear.
        """
        mode = self.tls
        if mode == "auto":
            mode = "off" if server.is_local else "opportunistic"
        if mode != "verified" and (server.implicit_tls or (self.credentials is not None and not server.is_local)):
            return "required"
        return mode

    def name(self, server: Server) -> str:
        """The name that the certificate must bear, and that is asked for (SNI); `` on a UNIX socket without one."""
        return (self.tls_name or server.mx_name or server.host).rstrip(".")

    def context(self, server: Server) -> ssl.SSLContext | None:
        """TLS towards this server, one context for all that are alike; None when there is none. ConfigError for an unusable file."""
        mode = self.mode(server)
        if mode == "off":
            return None
        found = self._contexts.get(mode)
        if found is None:
            found = self._contexts[mode] = self._context(mode)
        return found

    def _context(self, mode: Mode) -> ssl.SSLContext:
        try:
            if mode == "verified":
                context = ssl.create_default_context(cafile=self.tls_ca or None)
            else:  # nothing is checked, and the system's authorities are a megabyte and take their time
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            context.minimum_version = ssl.TLSVersion.TLSv1_3 if self.tls_minimum == "TLSv1.3" else ssl.TLSVersion.TLSv1_2
            if self.tls_certificate:
                context.load_cert_chain(self.tls_certificate, self.tls_key or None, password=lambda: "")
        except (OSError, ValueError) as error:
            problem = ConfigProblem(file="", line=None, key="route.tls_…", found=str(error), allowed="readable PEM files")
            raise ConfigError([problem]) from error
        return context


def _credentials(auth: RouteAuth, file: str) -> Credentials:
    password = auth.password
    if file:
        try:
            password = read_secret(Path(file))
        except (OSError, ValueError) as error:
            problem = ConfigProblem(
                file="", line=None, key="route.auth.password_file", found=str(error), allowed="a readable file"
            )
            raise ConfigError([problem]) from error
    return Credentials(user=auth.user, password=password, mechanisms=auth.mechanisms)


PLAIN = LinkSetup()
"""Where no route says anything."""
