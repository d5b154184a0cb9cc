"""Other mail servers, each from its own directory: Postfix, as a proxy and with its filters, and Haraka.

Root on Debian; `benchmarks/install-peers` installs what they are made of. Trust in loopback, which all of them have by default and which
would spare them the checks, is moved to an address that nobody uses.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from benchmarks.ways import Failed, Way, free_port, program, running, wait_for

NOBODY = "192.0.2.1"
"""The only client that is trusted (RFC 5737)."""
NAME = "mx.test"
HARAKA_MODULES = Path(__file__).parent.parent / "build" / "haraka" / "node_modules"
"""Where npm has put it."""
LUA = "/usr/share/rspamd/plugins"

_MAIN_CF = """
compatibility_level = 3.6
queue_directory = {place}/queue
data_directory = {place}/data
mail_owner = postfix
myhostname = {name}
mydestination =
mynetworks = {nobody}/32
inet_protocols = ipv4
alias_maps =
relay_domains = sink.test
relay_transport = smtp:[127.0.0.1]:{sink}
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
smtpd_client_connection_count_limit = 0
default_process_limit = 200
default_destination_concurrency_limit = 20
initial_destination_concurrency = 20
message_size_limit = 50000000
in_flow_delay = 0
milter_default_action = tempfail
policyd-spf_time_limit = 3600
"""
_MASTER_CF = """
{host}:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
policyd-spf unix - n n - 0 spawn user=nobody argv={python} {place}/policyd-spf.conf
"""
_POLICYD = """
debugLevel = 0
HELO_reject = False
Mail_From_reject = Fail
PermError_reject = False
TempError_Defer = False
skip_addresses = {nobody}
Header_Type = AR
Authserv_Id = {name}
"""
_OPENDKIM = """
Mode v
Socket inet:{port}@127.0.0.1
AuthservID {name}
AlwaysAddARHeader yes
InternalHosts {nobody}
Nameservers 127.0.0.1
Syslog no
"""
_OPENDMARC = """
Socket inet:{port}@127.0.0.1
AuthservID {name}
TrustedAuthservIDs {name}
IgnoreHosts {place}/ignored
RejectFailures true
Syslog false
"""
_RSPAMD = """
options {{
  pidfile = "{place}/rspamd.pid";
  dns {{ nameserver = ["127.0.0.1:53:1"]; }}
  local_addrs = ["{nobody}"];
  filters = "dkim";
  cache_file = "{place}/symbols.cache";
  hs_cache_dir = "{place}";
  control_socket = "{place}/rspamd.sock";
}}
logging {{ type = "file"; filename = "{place}/rspamd.log"; level = "warning"; }}
modules {{ path = "{lua}/spf.lua"; path = "{lua}/dmarc.lua"; path = "{lua}/milter_headers.lua"; }}
spf {{ }}
dkim {{ check_local = true; }}
dmarc {{ }}
milter_headers {{ use = ["authentication-results"]; skip_local = false; authenticated_headers = ["authentication-results"]; }}
actions {{ reject = 100; }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{port}";
  milter = yes;
  timeout = 60s;
  count = {workers};
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
"""
_HARAKA = {
    "plugins": "rcpt_to.in_host_list\n{more}queue/smtp_proxy\n",
    "host_list": "sink.test\n",
    "me": f"{NAME}\n",
    "loglevel": "error\n",
    "log.ini": "[main]\nlevel=error\n",
    "dkim.ini": "[sign]\nenabled=false\n[verify]\nenabled=true\n",
}


def postfix(
    stack: contextlib.ExitStack,
    folder: Path,
    sink: int,
    *,
    name: str,
    host: str,
    settings: str = "",
    daemons: tuple[subprocess.Popen[bytes], ...] = (),
) -> Way:
    """A Postfix of its own that forwards to the sink."""
    place = folder / f"postfix-{free_port()}"
    if os.getuid() != 0:
        raise Failed("Postfix needs root: it changes users")
    owner = pwd.getpwnam("postfix").pw_uid
    queues = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")
    for one in ("config", "queue/pid", "data", "queue/public", "queue/maildrop", *(f"queue/{queue}" for queue in queues)):
        (place / one).mkdir(parents=True)
        if one not in {"config", "queue/pid"}:
            os.chown(place / one, owner, -1)
            (place / one).chmod(0o700)
    port = free_port()
    main = _MAIN_CF.format(place=place, name=NAME, nobody=NOBODY, sink=sink) + settings
    master = _MASTER_CF.format(host=host, port=port, place=place, python=program("policyd-spf"))
    policyd = _POLICYD.format(nobody=NOBODY, name=NAME)
    (place / "policyd-spf.conf").write_text(policyd, encoding="utf-8")
    for file, text in (("main.cf", main), ("master.cf", master)):
        (place / "config" / file).write_text(text, encoding="utf-8")
    process = stack.enter_context(running(["/usr/lib/postfix/sbin/master", "-c", str(place / "config"), "-d"]))
    wait_for(port, host=host)
    return Way(name, port, process, daemons, host=host, queue=place / "queue")


def postfix_with_milters(stack: contextlib.ExitStack, folder: Path, sink: int, *, name: str, host: str) -> Way:
    """Postfix with opendkim, opendmarc and postfix-policyd-spf-python."""
    place = folder / "milters"
    place.mkdir()
    (place / "ignored").write_text(f"{NOBODY}\n", encoding="utf-8")
    ports, daemons = [], []
    for daemon, config in (("opendkim", _OPENDKIM), ("opendmarc", _OPENDMARC)):
        ports.append(free_port())
        file = place / f"{daemon}.conf"
        file.write_text(config.format(port=ports[-1], name=NAME, nobody=NOBODY, place=place), encoding="utf-8")
        daemons.append(stack.enter_context(running([program(daemon), "-f", "-c" if daemon == "opendmarc" else "-x", str(file)])))
        wait_for(ports[-1], greets=False)
    milters = ", ".join(f"inet:127.0.0.1:{port}" for port in ports)
    settings = f"smtpd_milters = {milters}\nsmtpd_recipient_restrictions = check_policy_service unix:private/policyd-spf\n"
    return postfix(stack, folder, sink, name=name, host=host, settings=settings, daemons=tuple(daemons))


def postfix_with_rspamd(stack: contextlib.ExitStack, folder: Path, sink: int, *, name: str, host: str, workers: int) -> Way:
    """Postfix with rspamd as a milter that scans by itself; nothing but SPF, DKIM and DMARC is switched on."""
    place, port = folder / "rspamd", free_port()
    place.mkdir()
    config = _RSPAMD.format(place=place, nobody=NOBODY, port=port, workers=workers, lua=LUA)
    (place / "rspamd.conf").write_text(config, encoding="utf-8")
    daemon = stack.enter_context(running([program("rspamd"), "-f", "-i", "-c", str(place / "rspamd.conf")]))
    wait_for(port, greets=False)
    return postfix(
        stack, folder, sink, name=name, host=host, settings=f"smtpd_milters = inet:127.0.0.1:{port}\n", daemons=(daemon,)
    )


def postfix_proxy(stack: contextlib.ExitStack, folder: Path, sink: int, *, name: str) -> Way:
    """A Postfix whose smtpd hands everything on as it comes (smtpd_proxy_filter): no queue."""
    way = postfix(stack, folder, sink, name=name, host="127.0.0.1", settings=f"smtpd_proxy_filter = 127.0.0.1:{sink}\n")
    way.queue = None
    return way


def haraka(stack: contextlib.ExitStack, folder: Path, sink: int, *, name: str, host: str = "127.0.0.1", plugins: str = "") -> Way:
    """Haraka with smtp_proxy, and with these plugins: that for SPF spares addresses that are not public, there is none for DMARC."""
    place, port = folder / f"haraka-{free_port()}", free_port()
    if not (HARAKA_MODULES / "Haraka").is_dir():
        raise Failed(f"Haraka is not in {HARAKA_MODULES} (benchmarks/install-peers)")
    shutil.copytree(HARAKA_MODULES / "Haraka" / "config", place / "config")
    (place / "queue").mkdir()
    files = {
        **_HARAKA,
        "plugins": _HARAKA["plugins"].format(more=plugins),
        "smtp.ini": f"[main]\nlisten={host}:{port}\nnodes=0\n",
        "smtp_proxy.ini": f"[main]\nhost=127.0.0.1\nport={sink}\n",
    }
    for file, text in files.items():
        (place / "config" / file).write_text(text, encoding="utf-8")
    command = [program("node"), str(HARAKA_MODULES / "Haraka/bin/haraka"), "-c", str(place)]
    process = stack.enter_context(running(command, cwd=place))
    wait_for(port, host=host)
    return Way(name, port, process, host=host)
