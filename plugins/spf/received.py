"""The Received-SPF field (RFC 7208 9.1): result, comment, key-value pairs. Octets of strangers are quoted, cut and folded."""

from __future__ import annotations

import re

from gateway.plugins.spf.evaluation import SpfResult

NAME = "Received-SPF"
MAX_VALUE = 255
"""Characters of one value."""
_RESULTS = {
    "pass": "Pass",
    "fail": "Fail",
    "softfail": "SoftFail",
    "neutral": "Neutral",
    "none": "None",
    "temperror": "TempError",
    "permerror": "PermError",
}
_SAYS = {
    "pass": "domain of {who} designates {client} as permitted sender",
    "fail": "domain of {who} does not designate {client} as permitted sender",
    "softfail": "domain of transitioning {who} does not designate {client} as permitted sender",
    "neutral": "{client} is neither permitted nor denied by domain of {who}",
    "none": "domain of {who} does not designate permitted sender hosts",
    "temperror": "temporary error in processing during lookup of {who}",
    "permerror": "permanent error in processing domain of {who}",
}
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_ATOM = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")  # RFC 5322 3.2.3


def render(found: SpfResult, *, identity: str, who: str, client: str, helo: str, receiver: str, is_null: bool = False) -> str:
    """The field body, folded. `identity` is `mailfrom` or `helo`, `who` the mailbox or the name that was checked.

    `is_null`: the mailbox is only what stands for the null reverse-path.
    """
    comment = f"{receiver}: {_SAYS[found.result].format(who=who, client=client)}"
    lines = [f"{_RESULTS[found.result]} ({_escaped(comment, '()')})"]
    pairs = {
        "client-ip": client,
        "envelope-from": who if identity == "mailfrom" and not is_null else "",
        "helo": helo,
        "receiver": receiver,
    }
    pairs |= {"identity": identity, "mechanism": found.mechanism}
    if found.result in {"temperror", "permerror"}:
        pairs["problem"] = found.problem
    lines += [f"{key}={_value(value)};" for key, value in pairs.items() if value]
    return "\r\n\t".join(lines).removesuffix(";")


def _value(value: str) -> str:
    """A dot-atom or a quoted-string."""
    if len(value) <= MAX_VALUE and _DOT_ATOM.fullmatch(value):
        return value
    return f'"{_escaped(value, chr(34))}"'


def _escaped(text: str, special: str) -> str:
    """Printable ASCII, nothing in it ends the comment or the string."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text[:MAX_VALUE])
    return "".join(f"\\{c}" if c in special or c == "\\" else c for c in plain)
