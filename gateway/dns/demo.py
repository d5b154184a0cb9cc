"""Static answers for the domains of `mailgateway demo`, all below .test (RFC 6761 6.2); `[dns] demo = true` adds them."""

from __future__ import annotations

from typing import Any

SIGNING_SEED = b"mailgateway demo: not a secret!!"
"""Ed25519 seed that the demo signs with; whoever reads this may sign for signed.demo.test."""
_PUBLIC = "kRwZbzq1kSe56gFR75KTZpaGsnVp/u0jIZFSW9yQrUE="

ZONES: dict[str, dict[str, list[Any]]] = {
    "demo.test": {"A": ["127.0.0.1"]},
    "good.demo.test": {"A": ["127.0.0.1"], "TXT": ["v=spf1 ip4:127.0.0.0/8 ip6:::1 -all"]},
    "signed.demo.test": {"A": ["127.0.0.1"], "TXT": ["v=spf1 ip4:127.0.0.0/8 ip6:::1 -all"]},
    "key._domainkey.signed.demo.test": {"TXT": [f"v=DKIM1; k=ed25519; p={_PUBLIC}"]},
    "_dmarc.signed.demo.test": {"TXT": ["v=DMARC1; p=reject"]},
    "elsewhere.demo.test": {"A": ["192.0.2.1"], "TXT": ["v=spf1 ip4:192.0.2.1 -all"]},
    "bank.demo.test": {"A": ["192.0.2.2"], "TXT": ["v=spf1 ip4:192.0.2.2 -all"]},
    "_dmarc.bank.demo.test": {"TXT": ["v=DMARC1; p=reject"]},
    "shop.demo.test": {"A": ["192.0.2.3"], "TXT": ["v=spf1 ip4:192.0.2.3 -all"]},
    "_dmarc.shop.demo.test": {"TXT": ["v=DMARC1; p=quarantine"]},
    "partner.demo.test": {"A": ["192.0.2.4"], "TXT": ["v=spf1 ip4:192.0.2.4 -all"]},
    "_dmarc.partner.demo.test": {"TXT": ["v=DMARC1; p=reject"]},
}
