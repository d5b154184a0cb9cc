"""A listener's TLS: certificates by name (RFC 6066 3), clients' certificates (RFC 8446 4.3.2), files read again when they change.

A context is never changed once it serves: a renewed file makes a new one for the connections that come, and one that cannot be
used leaves the old one in place.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

import structlog

from gateway.config.models import TlsConfig
from gateway.session import Tls

log = structlog.get_logger("mailgateway.smtp")

Context = ssl.SSLContext
_asked: WeakKeyDictionary[ssl.SSLObject, str] = WeakKeyDictionary()
"""The name that a client asked for: OpenSSL tells it during the handshake only."""


class ServerTls:
    """The TLS settings of a listener and the context made of them. OSError, ssl.SSLError or ValueError when that fails."""

    def __init__(self, config: TlsConfig, *, directory: Path | None = None) -> None:
        self.config = config
        self._directory = directory or Path()
        self._seen = self._signature()
        self._bad: tuple[object, ...] | None = None
        self.context = self._make()

    def refresh(self) -> str | None:
        """Read changed files. None: nothing happened; ``: a new context serves; else why the old one stays, told once."""
        signature = self._signature()
        if signature == self._seen:
            return None
        try:
            context = self._make()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            if signature == self._bad:
                return None
            self._bad = signature
            return str(error) or type(error).__name__
        self.context, self._seen, self._bad = context, signature, None
        return ""

    def _files(self) -> Iterator[Path]:
        config = self.config
        pairs = [(config.certificate, config.key), *((one.certificate, one.key) for one in config.sni)]
        for pair in pairs:
            yield from (self._directory / name for name in pair)
        if config.client_ca:
            yield self._directory / config.client_ca

    def _signature(self) -> tuple[object, ...]:
        """What changes with each file's content; a missing file is a signature of its own."""
        found: list[object] = []
        for file in self._files():
            try:
                status = file.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)

    def _make(self) -> Context:
        default = self._context(self.config.certificate, self.config.key)
        by_name: dict[str, Context] = {}
        for pair in self.config.sni:
            context = self._context(pair.certificate, pair.key)
            by_name |= {name.lower().rstrip("."): context for name in pair.names}

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: Context) -> None:
            """No certificate for the name: the default one, as RFC 6066 3 allows; the client decides."""
            if name is None or not isinstance(connection, ssl.SSLObject):
                return
            asked = _asked[connection] = name.lower()
            other = by_name.get(asked) or by_name.get("*." + asked.partition(".")[2])
            if other is not None:
                connection.context = other

        default.sni_callback = choose
        return default

    def _context(self, certificate: str, key: str) -> Context:
        config = self.config
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if config.minimum == "TLSv1.3" else ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._directory / certificate, self._directory / key, password=lambda: "")
        if config.ciphers:
            context.set_ciphers(config.ciphers)
        if config.client_certificates != "none":
            # Also where one is required: who has none is told so in SMTP, not by an alert that most logs do not show.
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(self._directory / config.client_ca)
        return context


def facts(connection: ssl.SSLObject | None) -> Tls:
    """What the handshake has settled."""
    if connection is None:
        return Tls(version="TLS", cipher="unknown")
    name, _, bits = connection.cipher() or ("unknown", "", 0)
    certificate = connection.getpeercert(binary_form=True)
    subject = issuer = ""
    if certificate is not None:
        from cryptography import x509  # late: 8 MB that only listeners with client certificates need; see server.preload

        read = x509.load_der_x509_certificate(certificate)
        subject, issuer = read.subject.rfc4514_string(), read.issuer.rfc4514_string()
    return Tls(
        version=connection.version() or "TLS",
        cipher=name,
        bits=bits,
        server_name=_asked.get(connection, ""),
        peer_subject=subject,
        peer_issuer=issuer,
        peer_fingerprint=hashlib.sha256(certificate).hexdigest() if certificate is not None else "",
    )


def handshake_failed(listener: str, client: str, error: BaseException) -> None:
    """A line where the peers could not agree, none for a probe that only connects."""
    problem = getattr(error, "reason", None) or str(error) or "it took too long"
    if not isinstance(error, ConnectionResetError):
        log.info("tls.handshake_failed", listener=listener, client=client, problem=problem)
