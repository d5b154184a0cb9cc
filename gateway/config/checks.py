"""What no single key can tell: names that must agree, files that must be readable, settings that are probably not meant."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from gateway.config.addresses import UNIX, is_loopback, parse_bind, parse_mx, parse_server, socket_path
from gateway.config.lines import Key
from gateway.config.models import Config, ListenerConfig, RouteConfig
from gateway.config.problems import Locate, dotted, nearest, shown
from gateway.config.report_checks import report_mistakes, report_warnings
from gateway.config.route_checks import link_mistakes
from gateway.config.route_map import MapError, read_map
from gateway.errors import ConfigProblem
from gateway.smtp.extensions import EXTENSIONS

CLIENT_PATIENCE = 600.0
"""Seconds a client waits for the reply to its final dot."""
_NOT_DURABLE = frozenset({"overlay", "overlayfs", "aufs", "tmpfs", "ramfs"})
NOT_TO_BE_PASSED = frozenset(
    {"AUTH", "BINARYMIME", "BURL", "CHUNKING", "ETRN", "EXPN", "HELP", "PRDR", "STARTTLS", "VRFY", "XCLIENT", "XFORWARD"}
)
"""Extensions that change commands or content: passing the keyword on would promise what nobody keeps."""
_WIDE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
        "169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A mistake at a key, before its line is known."""

    key: Key
    found: str
    allowed: str
    hint: str = ""

    def problem(self, locate: Locate) -> ConfigProblem:
        """With file and line."""
        file, line = locate(self.key)
        return ConfigProblem(file=file, line=line, key=dotted(self.key), found=self.found, allowed=self.allowed, hint=self.hint)


def mistakes(data: Mapping[str, Any], *, directory: Path, needs_route: bool) -> Iterator[Mistake]:
    """Mistakes between keys of a raw configuration, which need not be valid: the rest is reported elsewhere."""
    yield from _double_names(data)
    yield from _any_domain(data)
    yield from _default_routes(data)
    yield from _server_name(data)
    yield from _lmtp_on_25(data)
    yield from _milter(data)
    yield from _known_extensions(data)
    yield from _tls(data, directory)
    yield from _route_map(data, directory)
    yield from _dns_backend(data)
    for place, route in _tables(data, "route"):
        for key, found, allowed in link_mistakes(route, directory):
            yield Mistake(key=("route", place, *key), found=found, allowed=allowed)
    yield from _reports(data)
    if needs_route and not data.get("route"):
        yield Mistake(
            key=("route",),
            found="no route",
            allowed="at least one [[route]] with domains and servers, or MAILGATEWAY__ROUTE__DEFAULT__DOMAINS and …__SERVERS",
        )


def _tables(data: Mapping[str, Any], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    array = data.get(name)
    if isinstance(array, list):
        for place, element in enumerate(array):
            if isinstance(element, dict):
                yield place, element


def _double_names(data: Mapping[str, Any]) -> Iterator[Mistake]:
    for section in ("listener", "route"):
        seen: set[str] = set()
        for place, table in _tables(data, section):
            name = table.get("name", "default")
            if not isinstance(name, str):
                continue
            if name in seen:
                yield Mistake(
                    key=(section, place, "name"), found=shown(name) + ", twice", allowed=f"a name of its own for each {section}"
                )
            seen.add(name)


def _any_domain(data: Mapping[str, Any]) -> Iterator[Mistake]:
    for place, route in _tables(data, "route"):
        domains = route.get("domains")
        if isinstance(domains, list) and "*" in domains and not route.get("next_hop_decides"):
            yield Mistake(
                key=("route", place, "domains"),
                found='"*" without next_hop_decides: an open relay',
                allowed="the domains that are yours; or next_hop_decides = true where the next hop itself refuses strangers",
            )


def _default_routes(data: Mapping[str, Any]) -> Iterator[Mistake]:
    names = [str(route.get("name", "default")) for _, route in _tables(data, "route")]
    by_domain = {route.get("name", "default") for _, route in _tables(data, "route") if route.get("servers") == ["mx:"]}
    for place, listener in _tables(data, "listener"):
        for key in ("default_route", "auth_route"):
            wanted = listener.get(key)
            if isinstance(wanted, str) and wanted and wanted not in names:
                yield Mistake(
                    key=("listener", place, key),
                    found=shown(wanted),
                    allowed="the name of a route: " + (", ".join(names) or "there is none"),
                    hint=nearest(wanted, names),
                )
            elif key == "auth_route" and wanted in by_domain:
                yield Mistake(
                    key=("listener", place, key),
                    found=f"{shown(wanted)}, where each domain has servers of its own",
                    allowed="a route with the server that knows the passwords",
                )


def _reports(data: Mapping[str, Any]) -> Iterator[Mistake]:
    section = data.get("dmarc_reports")
    names = [str(route.get("name", "default")) for _, route in _tables(data, "route")]
    for name, found, allowed, hint in report_mistakes(section if isinstance(section, dict) else {}, names):
        yield Mistake(key=("dmarc_reports", name), found=found, allowed=allowed, hint=hint)


def _server_name(data: Mapping[str, Any]) -> Iterator[Mistake]:
    server = data.get("server")
    name = server.get("name", "localhost") if isinstance(server, dict) else "localhost"
    if not isinstance(name, str) or "." in name.strip("."):
        return
    for place, listener in _tables(data, "listener"):
        bind = listener.get("bind", "127.0.0.1:2525")
        with suppress(ValueError):
            if isinstance(bind, str) and not is_loopback(bind):
                yield Mistake(
                    key=("server", "name") if isinstance(server, dict) and "name" in server else ("listener", place, "bind"),
                    found=f"server.name = {shown(name)} with a listener on {bind}",
                    allowed="a full server.name such as mx.example.org (RFC 5321 4.1.1.1), or a listener on loopback",
                )
                return


def _lmtp_on_25(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """RFC 2033 5: whoever connects to port 25 expects SMTP."""
    for place, listener in _tables(data, "listener"):
        bind = listener.get("bind", "")
        if listener.get("protocol") == "lmtp" and isinstance(bind, str) and bind.endswith(":25") and not bind.startswith("unix:"):
            yield Mistake(
                key=("listener", place, "bind"), found=f"LMTP on {bind}", allowed="another port than 25, which is SMTP's"
            )


def _milter(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """What an MTA in front does itself."""
    for place, listener in _tables(data, "listener"):
        if listener.get("protocol") == "milter":
            for key in ("tls", "auth_route", "trusted_proxies", "greeting_delay"):
                if listener.get(key):
                    yield Mistake(
                        key=("listener", place, key),
                        found=f'{key} with protocol = "milter"',
                        allowed="nothing: it is set at the MTA, which speaks to the clients",
                    )
        elif listener.get("mta_quarantine"):
            yield Mistake(
                key=("listener", place, "mta_quarantine"),
                found="mta_quarantine without an MTA in front",
                allowed='only with protocol = "milter"',
            )


def _known_extensions(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Keywords and parameters of `pass_extensions` that belong to an extension of the gateway's own."""
    listed = data.get("pass_extensions")
    keywords = {extension.keyword for extension in EXTENSIONS} | NOT_TO_BE_PASSED
    for keyword, passed in listed.items() if isinstance(listed, dict) else ():
        if str(keyword).upper() in keywords:
            yield Mistake(
                key=("pass_extensions", keyword),
                found=f"{keyword}, which the gateway itself offers where it can be kept",
                allowed="extensions that the gateway does not know",
            )
        for where in ("mail", "rcpt"):
            names = passed.get(where) if isinstance(passed, dict) else None
            taken = {name for extension in EXTENSIONS for name in getattr(extension, where)}
            for name in names if isinstance(names, list) else ():
                if str(name).upper() in taken:
                    yield Mistake(
                        key=("pass_extensions", keyword, where),
                        found=f"{name}, a parameter of another extension",
                        allowed="parameters that belong to this extension alone",
                    )


def _dns_backend(data: Mapping[str, Any]) -> Iterator[Mistake]:
    dns = data.get("dns")
    if isinstance(dns, dict) and dns.get("backend") == "aiodns" and find_spec("aiodns") is None:
        yield Mistake(
            key=("dns", "backend"),
            found='"aiodns", which is not installed',
            allowed='"dnspython"; or install the extra: pip install "mailgateway[aiodns]"',
        )


def _tls(data: Mapping[str, Any], directory: Path) -> Iterator[Mistake]:
    for place, listener in _tables(data, "listener"):
        tls = listener.get("tls")
        if not isinstance(tls, dict):
            continue
        key: Key = ("listener", place, "tls")
        yield from _pair(key, tls, directory)
        for number, entry in _tables(tls, "sni"):
            yield from _pair((*key, "sni", number), entry, directory)
        yield from _client_authorities(key, tls, directory)
        ciphers = tls.get("ciphers")
        if isinstance(ciphers, str) and ciphers:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(ciphers)
            except ssl.SSLError:
                yield Mistake(
                    key=(*key, "ciphers"),
                    found=shown(ciphers),
                    allowed="a list as `openssl ciphers` takes it, such as ECDHE+AESGCM",
                )


def _pair(key: Key, table: Mapping[str, Any], directory: Path) -> Iterator[Mistake]:
    """Certificate and private key of one table."""
    names = {name: table[name] for name in ("certificate", "key") if isinstance(table.get(name), str)}
    unreadable = [mistake for name, text in names.items() for mistake in _unreadable((*key, name), text, directory)]
    yield from unreadable
    if not unreadable and len(names) == 2:
        yield from _unusable_pair(key, directory / names["certificate"], directory / names["key"])


def _unreadable(key: Key, text: str, directory: Path) -> Iterator[Mistake]:
    try:
        (directory / text).open("rb").close()
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        yield Mistake(key=key, found=f"{shown(text)}, which cannot be read: {what}", allowed="a readable PEM file")


def _route_map(data: Mapping[str, Any], directory: Path) -> Iterator[Mistake]:
    relay = data.get("relay")
    written = relay.get("map") if isinstance(relay, dict) else None
    if not isinstance(written, str) or not written:
        return
    names = [str(route.get("name", "default")) for _, route in _tables(data, "route")]
    try:
        read_map(directory / written, names)
    except MapError as error:
        yield Mistake(
            key=("relay", "map"), found=str(error), allowed="a file of addresses or domains, each with a route or server"
        )


def _unusable_pair(key: Key, certificate: Path, private_key: Path) -> Iterator[Mistake]:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, private_key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        what = getattr(error, "reason", None) or str(error) or "not PEM"
        yield Mistake(
            key=key,
            found=f"{certificate.name} and {private_key.name}, which OpenSSL refuses: {what}",
            allowed="a PEM certificate with its chain and the private key that belongs to it, without a passphrase",
        )


def _client_authorities(key: Key, tls: Mapping[str, Any], directory: Path) -> Iterator[Mistake]:
    wanted, file = tls.get("client_certificates", "none"), tls.get("client_ca", "")
    if wanted in {"ask", "require"} and not file:
        yield Mistake(
            key=(*key, "client_certificates"),
            found=f"{shown(wanted)} without client_ca",
            allowed="client_ca, a PEM file with the authorities that clients' certificates are from",
        )
    if not isinstance(file, str) or not file:
        return
    unreadable = list(_unreadable((*key, "client_ca"), file, directory))
    yield from unreadable
    if not unreadable:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(directory / file)
        except (ssl.SSLError, ValueError):
            yield Mistake(key=(*key, "client_ca"), found=f"{shown(file)}, which has no certificate in it", allowed="a PEM file")


def warnings(config: Config) -> list[str]:
    """What `config check` warns of: allowed, and probably not meant."""
    found: list[str] = []
    for listener in config.listener:
        found += _wide_trust(listener)
        found += _socket_trust(listener)
        if listener.auth_route and listener.tls is None and not listener.bind.startswith("unix:"):
            found.append(
                f"listener {listener.name!r}: auth_route without tls: AUTH is offered to clients on this host only, "
                "since nobody else's password would be safe"
            )
        found += _wide_belief(listener)
        if listener.protocol == "milter" and not is_loopback(listener.bind) and not listener.trusted_xclient:
            found.append(
                f"listener {listener.name!r}: no MTA may connect to {listener.bind} but those of this host: trusted_xclient is empty"
            )
    limits = config.limits
    if limits.final_reply > CLIENT_PATIENCE:
        found.append(
            "limits.final_reply is more than the 10 minutes that a client waits for the reply to its final dot (RFC 5321 "
            "4.5.3.2.6): what arrives after them is sent again"
        )
    if limits.check_budget >= limits.final_reply:
        found.append("limits.check_budget leaves nothing of limits.final_reply for the next hop")
    found += [
        f'route {route.name!r}: next_hop_decides = "without client address": the next hop sees the gateway\'s address for every '
        "stranger; if it trusts that address, this is an open relay"
        for route in config.route
        if route.next_hop_decides == "without client address"
    ]
    for route in config.route:
        found += _ways_out(route, config)
    found += [
        f'route {route.name!r}: auth says the password to a server whose certificate is not checked; tls = "verified" would'
        for route in config.route
        if route.auth is not None
        and route.tls != "verified"
        and not all(parse_server(one.address).is_local for one in route.entries if parse_mx(one.address) is None)
    ]
    return [*found, *report_warnings(config)]


def _ways_out(route: RouteConfig, config: Config) -> Iterable[str]:
    """Mail to the world without a queue, and mail that comes back to us."""
    if route.is_by_domain and "*" in route.domains:
        yield (
            f'route {route.name!r}: "mx:" for every domain: mail to the world needs a queue, which the gateway has not; '
            "send it to a smart host"
        )
    if route.exchangers is not None:
        return
    for entry in route.entries:
        server = parse_server(entry.address)
        for listener in config.listener:
            if server.path and server.path == socket_path(listener.bind):
                yield f"route {route.name!r}: {entry.address} is the listener {listener.name!r} of this gateway: mail would go in a circle"
            with suppress(ValueError):
                host, port = parse_bind(listener.bind)
                if server.host and port == server.port and _is_same_host(server.host, host):
                    yield f"route {route.name!r}: {entry.address} is the listener {listener.name!r} of this gateway: mail would go in a circle"


def _is_same_host(server: str, bound: str) -> bool:
    """A connection to the server surely reaches what is bound there; names but localhost are not looked up."""
    if server.lower() == "localhost":
        server = "127.0.0.1"
    if bound == "localhost":
        bound = "127.0.0.1"
    try:
        address, here = ipaddress.ip_address(server), ipaddress.ip_address(bound)
    except ValueError:
        return False
    return address == here or (here.is_unspecified and address.is_loopback and address.version == here.version)


def _wide_trust(listener: ListenerConfig) -> Iterable[str]:
    if is_loopback(listener.bind):
        return
    for text in listener.trusted_networks:
        if text == UNIX:
            continue
        network = ipaddress.ip_network(text)
        if any(network.version == wide.version and network.overlaps(wide) for wide in _WIDE):
            yield (
                f"listener {listener.name!r}: trusted_networks has {text}, loopback or private, on {listener.bind}: behind a "
                "proxy or a container bridge every stranger arrives from such an address and could relay"
            )


def _socket_trust(listener: ListenerConfig) -> Iterable[str]:
    """What is said of a UNIX socket's clients, and who they can be."""
    named = [name for name in ("trusted_networks", "trusted_proxies", "trusted_xclient") if UNIX in getattr(listener, name)]
    if not socket_path(listener.bind):
        yield from (f'listener {listener.name!r}: {name} has "unix", and {listener.bind} is no UNIX socket' for name in named)
    elif int(listener.socket_mode, 8) & 0o002:
        yield from (
            f'listener {listener.name!r}: {name} has "unix", and socket_mode = "{listener.socket_mode}" lets every user of this host connect'
            for name in named
        )


def _wide_belief(listener: ListenerConfig) -> Iterable[str]:
    """Who may say that it is somebody else should be a few hosts."""
    for name, what in (("trusted_proxies", "a PROXY header"), ("trusted_xclient", "XCLIENT")):
        for text in getattr(listener, name):
            if text == UNIX:
                continue
            network = ipaddress.ip_network(text)
            if network.prefixlen < (8 if network.version == 4 else 32):
                yield (
                    f"listener {listener.name!r}: {name} has {text}: every host in it may claim any address by {what}, one of "
                    "trusted_networks too, and relay"
                )


def file_system(directory: Path, *, mountinfo: str | None = None) -> str:
    """Type of the file system a directory lies on, or `` when unknown. The directory need not exist yet."""
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        except OSError:
            return ""
    wanted = directory.resolve()
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after.split():
            continue
        point = Path(_unescape(fields[4]))
        # A later mount on the same point hides the earlier one.
        if wanted.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind


def _unescape(text: str) -> str:
    r"""proc(5): space, tab, newline and backslash are written \040, \011, \012, \134."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def state_is_durable(
    directory: Path, state: Literal["durable", "ephemeral"], *, mountinfo: str | None = None
) -> tuple[bool, str]:
    """Whether quarantine and discard may promise anything below `directory`, and why not.

    True with a text when losing the state was accepted. On overlay and tmpfs file systems, which go with their container,
    held mail would be lost: those verdicts answer 451 until a volume is mounted or `state = "ephemeral"` is set.
    """
    kind = file_system(directory, mountinfo=mountinfo)
    if kind not in _NOT_DURABLE:
        return True, ""
    where = f"{directory} is on {kind}, which does not outlive its container or host"
    if state == "ephemeral":
        return True, f'{where}; accepted by [server] state = "ephemeral"'
    return False, f'{where}: mount a volume there, or set [server] state = "ephemeral"'
