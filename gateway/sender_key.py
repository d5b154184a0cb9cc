"""Reverse-paths for comparing over many messages: what SRS, BATV, VERP and mailing services make anew each time is taken out.

For counting and remembering only: several senders may share a key, and a key is no address.
"""

from __future__ import annotations

import re

from gateway.mailbox_key import MailboxKey, mailbox_key
from gateway.smtp.paths import Path

MAX_LOCAL_PART = 512
_SRS0 = re.compile(r"srs0[=+-][^=]*=[^=]*=(?P<domain>[^=]+)=(?P<local>.+)", re.DOTALL)  # the signature and the day go
_SRS1 = re.compile(r"srs1[=+-][^=]*=(?P<forwarder>[^=]+)=[=+-][^=]*=[^=]*=(?P<domain>[^=]+)=(?P<local>.+)", re.DOTALL)
_TAG = re.compile(r"(?:(?:ms)?prvs1?=[^=]*=|btv1==[^=]*==)(?P<local>.+)", re.DOTALL)  # BATV (draft-levine-smtp-batv) and its kin
_OLD_TAG = re.compile(r"prvs=(?P<local>[^=/]+)/[0-9a-f]{10}", re.DOTALL)  # its first drafts
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_WORDS = re.compile(r"[a-z0-9]+")
_TURNS = re.compile(r"[0-9](?=[a-z])|[a-z](?=[0-9])")
_MADE = 3
"""Turns between letters and digits in a word that no person has for a name."""
_MOST = 5
"""Layers of tags that are taken off."""


def sender_key(path: Path, *, recipient: Path | None = None, exact: bool = False) -> MailboxKey:
    """A reverse-path for comparing, the same for all messages of one sender; `` for the null reverse-path.

    `recipient`: whose address a mailing list may have written into it. `exact`: take out signatures and subaddresses only, no numbers, so
    that `user-1` and `user-2` are two.

    Examples:
        >>> def key(mailbox):
        ...     return sender_key(a_transaction(reverse_path=mailbox).reverse_path, recipient=a_recipient("bob@example.org").forward_path).address
        >>> key("bounce-8127-bob=example.org@List.Example"), key("prvs=4713a8c3d1=Alice@client.example")
        ('bounce-#-#@list.example', 'alice@client.example')
        >>> key("SRS0=x7Qa=JP=client.example=alice@fwd.example"), key("news+a8f3b2@shop.example")
        ('alice=client.example@fwd.example', 'news@shop.example')
    """
    key = mailbox_key(path)
    if not key.domain:
        return key
    local = _untagged(key.local_part[:MAX_LOCAL_PART])
    if recipient is not None:
        local = _without(local, mailbox_key(recipient))
    front, plus, _ = local.partition("+")
    if plus and front:  # RFC 5233
        local = front
    return MailboxKey(local if exact else _steady(local), key.domain)


def _untagged(local: str) -> str:
    for _ in range(_MOST):
        if (found := _TAG.fullmatch(local)) or (found := _OLD_TAG.fullmatch(local)):
            local = found["local"]
        elif found := _SRS0.fullmatch(local):
            local = f"{found['local']}={found['domain']}"
        elif found := _SRS1.fullmatch(local):
            local = f"{found['local']}={found['domain']}={found['forwarder']}"
        else:
            break
    return local


def _without(local: str, recipient: MailboxKey) -> str:
    """VERP: the recipient's address in whatever place, `@` written as `=`."""
    for sign in ("=", "#", "_at_"):
        written = f"{recipient.local_part}{sign}{recipient.domain}"
        if recipient.domain and written in local:
            return local.replace(written, "#")
    return local


def _steady(local: str) -> str:
    """Numbers and words that a program made as `#`; a mailbox that is nothing but a number stays."""
    return local if _WORDS.fullmatch(local) else _WORDS.sub(_word, _UUID.sub("#", local))


def _word(found: re.Match[str]) -> str:
    return "#" if found[0].isdigit() or len(_TURNS.findall(found[0])) >= _MADE else found[0]
